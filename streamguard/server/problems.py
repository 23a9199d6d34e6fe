"""Refusals as problem details (RFC 9457): ``{"type", "title", "status", "detail"}`` in ``application/problem+json``."""

from __future__ import annotations

import http
import json
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from streamguard.errors import StreamGuardError, redact

CONTENT_TYPE: Final = "application/problem+json"
CLOSE: Final = {"Connection": "close"}  # what is left of the request is not waited for


class Problem(StreamGuardError):
    """A request that is refused. ``name`` is its type, ``urn:streamguard:problem:<name>``; ``fields`` are added."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.headers = dict(headers or {})
        self.fields = dict(fields or {})

    def response(self) -> web.Response:
        """The answer that says so."""
        return answer(self.status, self.name, str(self), self.headers, self.fields)


def answer(
    status: int, name: str, detail: str, headers: Mapping[str, str], fields: Mapping[str, object] | None = None
) -> web.Response:
    """A problem as a response; URLs in ``detail`` are redacted."""
    body = {
        "type": f"urn:streamguard:problem:{name}",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": redact(detail),
        **(fields or {}),
    }
    return web.Response(text=json.dumps(body), status=status, content_type=CONTENT_TYPE, headers=dict(headers))


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every refusal into a problem. What nobody foresaw aiohttp logs, and answers with a bare 500."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPMethodNotAllowed as refused:
        allowed: Sequence[str] = sorted(refused.allowed_methods)
        detail = f"{request.method} is not served at {request.path}; use {', '.join(allowed)}"
        return answer(405, "method", detail, {"Allow": ", ".join(allowed)})
    except web.HTTPNotFound:
        return answer(404, "not-found", f"nothing is served at {request.path}", {})
    except web.HTTPRequestEntityTooLarge:
        return answer(413, "too-large", f"a body of more than {request.client_max_size} bytes is not taken", CLOSE)
    except web.HTTPException as refused:
        if refused.status < 400:
            raise
        return answer(refused.status, "refused", refused.reason, {})
