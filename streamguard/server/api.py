"""``/api/v1``: streams, segments with their evidence, labels, operating points, and events as they come.

``openapi.yaml`` beside this file says what every route takes and gives; a test holds the two together. Handlers run
in the server's loop and reach the Guard through :class:`~streamguard.server.streams.StreamDesk` alone.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamguard.access import ApiSettings
from streamguard.config import stream_name
from streamguard.delivery.events import Event, rfc3339
from streamguard.frames import State
from streamguard.pipeline import Guard
from streamguard.server.auth import Role, Token
from streamguard.server.doors import EVENTS, TOKEN, read_json
from streamguard.server.evidence import TYPES, EvidenceFolder
from streamguard.server.feed import EventFeed
from streamguard.server.fleet import FleetView
from streamguard.server.labels import LabelFile, LabelLost
from streamguard.server.pictures import Pictures
from streamguard.server.problems import Problem
from streamguard.server.segments import SegmentStore
from streamguard.server.shown import openapi, point_json, stream_json
from streamguard.server.streams import NewStream, StreamDesk
from streamguard.server.wall import Wall

ROOT: Final = "/api/v1"
_BEAT: Final = 15.0  # seconds between signs of life in a quiet feed: proxies cut what is silent for longer
_MOST: Final = 500  # segments or labels a page

Refused = Callable[[str], None]


class Body(BaseModel):
    """A request's body: exact types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class StreamBody(Body):
    name: Annotated[str, AfterValidator(stream_name)]
    uri: Annotated[str, Field(min_length=1, max_length=2048)]


class ChangeBody(Body):
    name: Annotated[str, AfterValidator(stream_name)] | None = None
    operating_point: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    threshold: Annotated[float, Field(ge=0.02, le=0.98)] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.name is None and self.operating_point is None and self.threshold is None:
            raise ValueError("expected at least one of name, operating_point, threshold")
        if self.operating_point is not None and self.threshold is not None:
            raise ValueError("operating_point and threshold exclude each other")
        return self


class LabelBody(Body):
    segment_id: Annotated[str, Field(min_length=1, max_length=128)]
    label: Literal["manipulated", "authentic", "unsure"]
    note: Annotated[str, Field(max_length=2000)] = ""


_B = TypeVar("_B", bound=Body)


class Api:
    """The handlers, and what they show. Make it, hand :meth:`take` every event, and give it to the server."""

    def __init__(
        self,
        settings: ApiSettings,
        guard: Callable[[], Guard | None],
        evidence: EvidenceFolder | None = None,
        desk: StreamDesk | None = None,
    ) -> None:
        """Raises: UsageError: ``settings.labels`` can't be written."""
        self.feed = EventFeed()
        self.segments = SegmentStore()
        self._guard = guard
        self.settings = settings
        self.desk = desk or StreamDesk(settings, guard)
        self.sends: Callable[[Token, str | None], bool] = lambda token, stream: False
        """Whether a token sends a stream: a sender hears of that stream alone."""
        self._evidence = evidence
        self._labels = None if settings.labels is None else LabelFile(settings.labels)
        self._labelling = asyncio.Lock()
        self._refused: Refused = lambda reason: None
        self._watchers = 0

    def take(self, event: Event) -> None:
        """Accept an event, from any thread, without waiting."""
        self.segments.take(event)
        self.feed.take(event)

    def attach(self, app: web.Application, refused: Refused) -> None:
        """Add the routes; ``refused`` counts a refusal by reason."""
        self._refused = refused
        Wall(self._guard, self.settings.limits.patience, refused).attach(app)
        Pictures(self._guard, self.settings.limits.patience, refused).attach(app)
        segment = f"{ROOT}/segments/{{segment}}"
        app.add_routes(
            [
                web.get(f"{ROOT}/openapi.json", self._openapi),
                web.get(f"{ROOT}/streams", self._list_streams),
                web.post(f"{ROOT}/streams", self._add_stream),
                web.get(f"{ROOT}/streams/{{stream}}", self._show_stream),
                web.patch(f"{ROOT}/streams/{{stream}}", self._change_stream),
                web.delete(f"{ROOT}/streams/{{stream}}", self._remove_stream),
                web.get(f"{ROOT}/segments", self._list_segments),
                web.get(segment, self._show_segment),
                web.get(f"{segment}/evidence", self._list_evidence),
                web.get(f"{segment}/evidence/{{file}}", self._show_evidence),
                web.get(f"{ROOT}/operating-points", self._list_points),
                web.get(f"{ROOT}/labels", self._list_labels),
                web.post(f"{ROOT}/labels", self._add_label),
                web.get(EVENTS, self._listen),
            ]
        )
        FleetView().attach(app, refused)
        app.on_startup.append(self._begin)
        app.on_shutdown.append(self._end)

    async def _begin(self, app: web.Application) -> None:
        self.feed.attach(asyncio.get_running_loop())

    async def _end(self, app: web.Application) -> None:
        self.feed.detach()
        self.desk.close()

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.json_response(openapi())

    # Streams.

    async def _list_streams(self, request: web.Request) -> web.Response:
        shown = [stream_json(stream) for stream in self.desk.streams()]
        return web.json_response({"at": rfc3339(time.time()), "streams": shown})

    async def _show_stream(self, request: web.Request) -> web.Response:
        return web.json_response(stream_json(self.desk.stream(request.match_info["stream"])))

    async def _add_stream(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, StreamBody)
        stream = await self.desk.add(NewStream(wanted.name, wanted.uri))
        headers = {"Location": f"{ROOT}/streams/{wanted.name}"}
        return web.json_response(stream_json(stream), status=201, headers=headers)

    async def _change_stream(self, request: web.Request) -> web.Response:
        wanted = await self._body(request, ChangeBody)
        stream = self.desk.stream(request.match_info["stream"])
        held = wanted.operating_point or wanted.threshold
        point = None if held is None else self.desk.point(held)  # before anything is changed
        if wanted.name is not None:
            stream = await self.desk.rename(stream.source.name, wanted.name)
        if point is not None:
            stream = await self.desk.retune(stream.source.name, point)
        name = stream.source.name
        return web.json_response(stream_json(stream), headers={"Content-Location": f"{ROOT}/streams/{name}"})

    async def _remove_stream(self, request: web.Request) -> web.Response:
        await self.desk.remove(request.match_info["stream"])
        return web.Response(status=204)

    # Segments.

    async def _list_segments(self, request: web.Request) -> web.Response:
        query = _known(request, "limit", "before", "stream", "state")
        limit = _whole(query.get("limit", "100"), "limit", 1, _MOST)
        state = query.get("state")
        if state is not None and state not in {each.value for each in State}:
            raise Problem(400, "query", f"state: expected one of {', '.join(State)}")
        found, following = self.segments.newest(
            limit, query.get("before"), query.get("stream"), None if state is None else State(state)
        )
        return web.json_response({"segments": [dict(entry) for entry in found], "before": following})

    async def _show_segment(self, request: web.Request) -> web.Response:
        name = request.match_info["segment"]
        entry = self.segments.get(name)
        if entry is None:
            raise _no_segment(name)
        return web.json_response(dict(entry))

    async def _list_evidence(self, request: web.Request) -> web.Response:
        name = request.match_info["segment"]
        found = await asyncio.to_thread(self._folder().files, name)
        if found is None:
            raise Problem(404, "no-evidence", f"there is no evidence of a segment '{name}'")
        href = f"{ROOT}/segments/{name}/evidence"
        listed = [{"name": file.name, "size": file.size, "href": f"{href}/{file.name}"} for file in found]
        return web.json_response({"segment_id": name, "files": listed})

    async def _show_evidence(self, request: web.Request) -> web.StreamResponse:
        name, wanted = request.match_info["segment"], request.match_info["file"]
        file = await asyncio.to_thread(self._folder().file, name, wanted)
        if file is None:
            raise Problem(404, "no-evidence", f"segment '{name}' has no evidence '{wanted}'")
        headers = {
            "Content-Type": TYPES[file.path.suffix],
            "Content-Disposition": f'inline; filename="{name}-{file.name}"',
        }
        return web.FileResponse(file.path, headers=headers)

    def _folder(self) -> EvidenceFolder:
        if self._evidence is None:
            raise Problem(
                404, "no-evidence", "no evidence is kept here; the configuration's evidence says where it would be"
            )
        return self._evidence

    # Operating points and labels.

    async def _list_points(self, request: web.Request) -> web.Response:
        default, points = self.desk.points()
        return web.json_response({"default": default.name, "operating_points": [point_json(point) for point in points]})

    async def _list_labels(self, request: web.Request) -> web.Response:
        query = _known(request, "limit", "before", "segment")
        limit = _whole(query.get("limit", "100"), "limit", 1, _MOST)
        found, following = self._kept().newest(limit, query.get("before"), query.get("segment"))
        return web.json_response({"labels": [dict(label) for label in found], "before": following})

    def _kept(self) -> LabelFile:
        if self._labels is None:
            raise Problem(409, "no-labels", "no labels are kept here; api.labels names the file for them")
        return self._labels

    async def _add_label(self, request: web.Request) -> web.Response:
        labels = self._kept()
        wanted = await self._body(request, LabelBody)
        name = wanted.segment_id
        entry = self.segments.get(name)
        if entry is None and not await self._has_evidence(name):
            raise _no_segment(name)
        label = {
            "id": uuid.uuid4().hex,
            "segment_id": name,
            "label": wanted.label,
            "note": wanted.note,
            "by": request[TOKEN].name,
            "at": rfc3339(time.time()),
            # As it was judged: what calibrates later needs no other file.
            "segment": None if entry is None else {key: entry[key] for key in entry if key not in ("open", "label")},
        }
        try:
            async with self._labelling:
                await asyncio.to_thread(labels.append, label)
        except LabelLost as lost:
            raise Problem(507, "label-lost", str(lost)) from None
        self.segments.label(name, {key: label[key] for key in label if key != "segment"})
        return web.json_response(label, status=201)

    async def _has_evidence(self, segment: str) -> bool:
        return self._evidence is not None and await asyncio.to_thread(self._evidence.files, segment) is not None

    # Events.

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events (WHATWG HTML, 9.2). A listener too slow for them is let go: told if it still reads."""
        stream, token = _known(request, "stream").get("stream"), request[TOKEN]
        if token.role is Role.SENDER and not self.sends(token, stream):
            self._refused("role")
            raise Problem(403, "role", f"token '{token.name}' is a sender's; it hears of the stream that it sends")
        if self._watchers >= self.settings.limits.watchers:
            self._refused("watchers")
            raise Problem(503, "watchers", "too many clients listen to events", {"Retry-After": "30"})
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._watchers += 1
        try:
            await answer.prepare(request)
            await self._tell(answer, request.headers.get("Last-Event-ID"), stream)
        except TimeoutError:
            self._refused("slow reader")
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # it left
        finally:
            self._watchers -= 1
        return answer

    async def _tell(self, answer: web.StreamResponse, last: str | None, stream: str | None) -> None:
        at = self.feed.last if last is None else self.feed.place(last)
        await self._send(answer, "retry: 3000\n\n")
        if at is None:  # an id of another run: what came in between is not known here
            at = 0
            await self._send(answer, _block("gap", {"missed": None}))
        elif missed := self.feed.after(at).missed:
            await self._send(answer, _block("gap", {"missed": missed}))
        at = max(at, self.feed.oldest - 1)
        while await self.feed.wait(at, _BEAT):
            missed, events = self.feed.after(at)
            if missed:
                self._refused("slow reader")
                await self._send(answer, _block("dropped", {"missed": missed}))
                return
            for number, event in events:
                at = number
                if stream is None or event["data"]["stream"] == stream:
                    await self._send(answer, f"id: {self.feed.name(number)}\ndata: {json.dumps(event)}\n\n")
            if not events:
                await self._send(answer, ": quiet\n\n")

    async def _send(self, answer: web.StreamResponse, text: str) -> None:
        async with asyncio.timeout(self.settings.limits.patience):
            await answer.write(text.encode())

    async def _body(self, request: web.Request, kind: type[_B]) -> _B:
        return fitted(await read_json(request, self.settings.limits.idle), kind)


def fitted(data: dict[str, Any], kind: type[_B]) -> _B:
    """A body as ``kind`` has it.

    Raises:
        Problem: it is something else; what was sent is not repeated, since it may hold a password.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        errors = [
            {"field": ".".join(map(str, each["loc"])), "message": each["msg"].removeprefix("Value error, ")}
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise Problem(422, "body", "the body is not what this takes", fields={"errors": errors}) from None


def _known(request: web.Request, *names: str) -> dict[str, str]:
    """The query, if it has nothing but ``names``, each once."""
    query = dict(request.query)
    strange = sorted(query.keys() - set(names))
    if strange or len(query) != len(request.query):
        what = f"'{strange[0]}' is not known" if strange else "a key is given twice"
        raise Problem(400, "query", f"{what}; known here: {', '.join(names)}")
    return query


def _whole(text: str, name: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise Problem(400, "query", f"{name}: expected a whole number of {least} to {most}")
    return int(text)


def _block(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def _no_segment(name: str) -> Problem:
    return Problem(404, "no-segment", f"no segment '{name}' is known here")
