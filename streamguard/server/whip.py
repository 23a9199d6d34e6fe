"""``/whip/{stream}`` and ``/whep/{stream}``: streams in and pictures out by WebRTC.

WHIP is RFC 9725, WHEP the Internet-Draft draft-ietf-wish-whep. Both open with a POST of an offer, answered by 201 with
the session's address, its entity tag and the ICE servers; further addresses of the peer come by PATCH, DELETE ends.

A stream that comes so is a stream like any other: added when its session opens, removed when that ends, by whatever
way. A session that is over is told apart by its reason (``webrtc_sessions_total{outcome}``).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from streamguard.access import WebRtcSettings
from streamguard.config import stream_name
from streamguard.delivery.viewing import Viewing
from streamguard.errors import StreamGuardError
from streamguard.ingest.webrtc import Inlet, WebRtcSource
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard
from streamguard.server.api import Api
from streamguard.server.auth import Role, Token
from streamguard.server.doors import TOKEN, WHEP, WHIP, Doors, peer_of, read_body
from streamguard.server.peers import GIVES_WAY, Kind, PeerSession, PeerSessions, Vitals
from streamguard.server.problems import Problem
from streamguard.server.sdp import Offer, check_sender, check_viewer, read_fragment, read_offer
from streamguard.server.webrtc import STRANGE, Ice, Peer, SendingPeer, Teller, ViewingPeer

log = logging.getLogger(__name__)

SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
_EVERY: Final = 1.0  # seconds from one look at all peers to the next
_LEFT: Final = "left"


class Calls:
    """The peers that send and watch. Everything here runs in the server's loop."""

    def __init__(
        self,
        settings: WebRtcSettings,
        servers: Sequence[Ice],
        api: Api,
        guard: Callable[[], Guard | None],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._servers = servers
        self._api = api
        self._guard = guard
        self._metrics = metrics
        self._clock = clock
        self._sessions = PeerSessions(settings, clock)
        self._doors: Doors | None = None
        self._tending: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        api.sends = self.sends

    def attach(self, app: web.Application, doors: Doors) -> None:
        """Add the routes."""
        self._doors = doors
        app.add_routes(
            [
                web.post(f"{WHIP}{{stream}}", self._open_sender),
                web.post(f"{WHEP}{{stream}}", self._open_viewer),
                web.patch("/{kind:whip|whep}/{stream}/{session}", self._trickle),
                web.delete("/{kind:whip|whep}/{stream}/{session}", self._close),
            ]
        )
        app.on_startup.append(self._begin)
        app.on_shutdown.append(self._stop)

    def sends(self, token: Token, stream: str | None) -> bool:
        """Whether a token sends that stream now."""
        session = None if stream is None else self._sessions.sender(stream)
        return session is not None and session.token.id == token.id

    async def _begin(self, app: web.Application) -> None:
        self._tending = asyncio.create_task(self._tend())

    async def _stop(self, app: web.Application) -> None:
        if self._tending is not None:
            self._tending.cancel()
        # The Guard ends with its streams by itself.
        await asyncio.gather(*(self._end(session, "stopped", drop=False) for session in self._sessions))

    # What peers ask for.

    async def _open_sender(self, request: web.Request) -> web.Response:
        session = await self._new(request, "whip", check_sender)
        await self._make_way(session)
        stream = session.stream
        dropped = self._metrics.frames_dropped.labels(stream, "unread")
        inlet = Inlet(dropped.inc)
        source = WebRtcSource(stream, inlet, recorded=self._settings.record)

        async def answer() -> str:
            teller = Teller(self._api.feed, stream, self._api.feed.last)
            session.peer = SendingPeer(self._settings, self._servers, inlet, teller)
            said = await session.peer.answer(session.offer)
            await self._api.desk.bring(source)
            session.source = source
            return said

        return await self._opened(session, answer)

    async def _open_viewer(self, request: web.Request) -> web.Response:
        session = await self._new(request, "whep", check_viewer)

        async def answer() -> str:
            session.peer = ViewingPeer(self._settings, self._servers, self._viewing(session.stream))
            return await session.peer.answer(session.offer)

        return await self._opened(session, answer)

    def _viewing(self, stream: str) -> Viewing:
        guard = self._guard()
        if guard is None or guard.snapshot(stream) is None:
            raise _nothing_sent(stream)
        try:
            return guard.broadcast(stream).subscribe()
        except StreamGuardError:  # it has gone meanwhile
            raise _nothing_sent(stream) from None

    async def _new(self, request: web.Request, kind: Kind, check: Callable[[Offer], None]) -> PeerSession:
        """A session for an offer that can be answered; it is in the book from when it is opened."""
        stream, client, token = request.match_info["stream"], peer_of(request), request[TOKEN]
        try:
            stream_name(stream)
        except ValueError as error:
            raise Problem(400, "name", f"the stream's name: {error}") from None
        try:
            self._sessions.admit(client)
        except Problem as refused:
            self._refuse(refused.name)
            raise
        offer = read_offer(await read_body(request, SDP, self._idle))
        check(offer)
        vitals = Vitals(kind, self._settings, self._clock())
        return PeerSession(
            secrets.token_urlsafe(16), kind, stream, client, token, f'"{secrets.token_hex(8)}"', offer, vitals
        )

    async def _make_way(self, session: PeerSession) -> None:
        """Give a stream's name to its next session, if the one before is silent and of the same token."""
        before = self._sessions.sender(session.stream)
        if before is None:
            return
        if before.token.id != session.token.id or before.vitals.silent_for(self._clock()) < GIVES_WAY:
            raise Problem(
                409,
                "name-taken",
                f"a stream '{session.stream}' is being sent already; end that session, or choose another name",
                {"Retry-After": str(round(GIVES_WAY))},
            )
        await self._end(before, "replaced")

    async def _opened(self, session: PeerSession, answer: Callable[[], Awaitable[str]]) -> web.Response:
        self._sessions.add(session)
        self._count()
        try:
            text = await answer()
        except BaseException:
            await self._end(session, "refused")
            raise
        headers = CIMultiDict({"Content-Type": SDP, "Location": session.path, "ETag": session.etag})
        for server in self._servers:
            for url in server.urls:
                headers.add("Link", _link(url, server))
        log.info("session %s %s opened", session.kind, session.stream)
        return web.Response(status=201, body=text.encode(), headers=headers)

    async def _trickle(self, request: web.Request) -> web.Response:
        """Further addresses of a peer (RFC 9725, 4.3); an ICE restart is not served."""
        session = self._session(request)
        fragment = read_fragment(await read_body(request, FRAGMENT, self._idle))
        match = request.headers.get("If-Match")
        if match is None:
            raise Problem(428, "if-match", "If-Match has to name the session's entity tag")
        known = (session.offer.ufrag, session.offer.pwd)
        if match.strip('" ') == "*" or (fragment.ufrag or known[0], fragment.pwd or known[1]) != known:
            raise Problem(422, "restart", "ICE is not restarted here; open a new session")
        if match != session.etag:
            raise Problem(412, "if-match", "this is not the session's entity tag")
        if session.peer is not None:
            mid = session.offer.sections[0].values("mid")[0]
            await session.peer.trickle(fragment, fragment.mid or mid)
        return web.Response(status=204)

    async def _close(self, request: web.Request) -> web.Response:
        await self._end(self._session(request), _LEFT)
        return web.Response(status=200)

    def _session(self, request: web.Request) -> PeerSession:
        """The session that a request is about, if it is its token's, or an operator asks."""
        names, token = request.match_info, request[TOKEN]
        session = self._sessions.get(names["session"])
        if session is None or (session.kind, session.stream) != (names["kind"], names["stream"]):
            raise Problem(404, "no-session", "there is no such session, or it is over")
        if token.id != session.token.id and token.role is not Role.OPERATOR:
            self._refuse("role")
            raise Problem(403, "role", f"this session is not of token '{token.name}'")
        return session

    # What becomes of them.

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            for session in self._sessions:
                if session.peer is None:
                    continue
                try:
                    reason = await self._trouble(session, session.peer)
                except STRANGE as error:  # one peer, and not those behind it
                    log.error("session %s %s can't be looked at", session.kind, session.stream, exc_info=error)
                    reason = "error"
                if reason is not None:
                    log.info("session %s %s ends: %s", session.kind, session.stream, reason)
                    task = asyncio.create_task(self._end(session, reason))
                    self._ending.add(task)
                    task.add_done_callback(self._ending.discard)

    async def _trouble(self, session: PeerSession, peer: Peer) -> str | None:
        """Why a session is over, or None."""
        reason = session.vitals.look(self._clock(), peer.state, await peer.traffic())
        if reason is not None or (reason := peer.over) is not None:
            return reason
        if session.source is not None and not self._api.desk.watches(session.source):
            return "removed"
        return None if self._doors is None or self._doors.stands(session.token) else "token"

    async def _end(self, session: PeerSession, reason: str, *, drop: bool = True) -> None:
        """Free what a session holds; once."""
        if not self._sessions.remove(session):
            return
        self._metrics.webrtc_sessions.labels(session.kind, reason).inc()
        self._count()
        if session.peer is not None:
            await session.peer.close()
        if session.source is not None:
            if drop:
                await self._api.desk.drop(session.source)
            session.source.close()

    def _count(self) -> None:
        for kind in ("whip", "whep"):
            self._metrics.webrtc_peers.labels(kind).set(self._sessions.count(kind))

    def _refuse(self, reason: str) -> None:
        if self._doors is not None:
            self._doors.refused(reason)

    @property
    def _idle(self) -> float:
        return self._api.settings.limits.idle


def _nothing_sent(stream: str) -> Problem:
    return Problem(409, "no-stream", f"no stream '{stream}' is being watched; come again later", {"Retry-After": "5"})


def _link(url: str, server: Ice) -> str:
    """One ICE server as WHIP tells of it (RFC 9725, 4.6)."""
    parameters = [f"<{url}>", 'rel="ice-server"']
    if url.startswith("turn") and server.username is not None and server.credential is not None:
        parameters += [
            f"username={_quoted(server.username)}",
            f"credential={_quoted(server.credential)}",
            'credential-type="password"',
        ]
    return "; ".join(parameters)


def _quoted(text: str) -> str:
    """A quoted string (RFC 9110, 5.6.4)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
