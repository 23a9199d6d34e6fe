"""Webhook: signed, in order, each event acknowledged by a 2xx; what a hostile or tired receiver can do."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from streamguard.delivery.events import Event
from streamguard.delivery.sinks import SinkError, SinkRejected
from streamguard.delivery.sinks.webhook import Unverified, WebhookSettings, WebhookSink, retry_after, sign, verify
from streamguard.errors import UsageError
from tests.delivery.sinks.made import delivered, made_events, names, run
from tests.rtsp_server import free_port
from tests.servers.proxy import Proxy

KEY = "whsec_bm90IGEgc2VjcmV0LCBhbiBleGFtcGxl"  # "not a secret, an example"
PLAIN = "a made up key, long enough"
NAME = "/streamguard/studio/door/r1/0"


@dataclass
class Receiver:
    """Keeps what it is sent; ``answer`` makes the answer to request number n."""

    answer: Callable[[int, web.Request], Awaitable[web.StreamResponse]] | None = None
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)
    url: str = ""

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append(dict(request.headers))
        self.peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        if self.answer is None:
            return web.Response(status=204)
        return await self.answer(len(self.bodies) - 1, request)

    @property
    def ids(self) -> list[str]:
        return names([json.loads(body) for body in self.bodies])

    @asynccontextmanager
    async def serving(self, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/hook", self.take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/hook"
        try:
            yield
        finally:
            await runner.cleanup()


def made(url: str, secrets: dict[str, str] | None = None, timeout: float = 10.0) -> WebhookSink:
    return WebhookSettings("hook", "webhook", url, timeout=timeout).make(secrets or {})


async def fails(sink: WebhookSink, events: list[Event]) -> SinkError:
    """The error that a delivery ends with; the sink is closed after it."""
    await sink.open()
    try:
        with pytest.raises(SinkError) as caught:
            await sink.deliver(events)
    finally:
        await sink.close()
    return caught.value


def answering(status: int, headers: dict[str, str] | None = None) -> Receiver:
    async def answer(number: int, request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, text="a made up token was: abc")

    return Receiver(answer)


def test_every_event_arrives_in_order_signed_and_named() -> None:
    events = made_events(25)

    async def main() -> Receiver:
        receiver = Receiver()
        async with receiver.serving():
            sink = made(receiver.url, {"secret": KEY, "token": "made up"})
            assert await delivered(sink, events) == 0
            await sink.close()
        return receiver

    receiver = run(main)
    assert [json.loads(body) for body in receiver.bodies] == events
    assert len(receiver.peers) == 1  # one connection carried them all
    for event, headers, body in zip(events, receiver.headers, receiver.bodies, strict=True):
        name = names([event])[0]
        assert headers["Content-Type"] == "application/cloudevents+json"
        assert headers["idempotency-key"] == headers["webhook-id"] == name
        assert headers["Authorization"] == "Bearer made up"
        assert verify(KEY, headers, body) == name
        assert Webhook(KEY).verify(body, headers) == event


def test_without_a_key_nothing_is_signed() -> None:
    async def main() -> Receiver:
        receiver = Receiver()
        async with receiver.serving():
            sink = made(receiver.url)
            await delivered(sink, made_events(1))
            await sink.close()
        return receiver

    headers = run(main).headers[0]
    assert "webhook-id" in headers
    assert not {"webhook-signature", "webhook-timestamp", "Authorization"} & set(headers)


@pytest.mark.parametrize("key", [KEY, PLAIN])
def test_what_is_signed_here_others_verify_and_the_reverse(key: str) -> None:
    body = '{"stream":"Tür"}'.encode()
    theirs = Webhook(key if key is KEY else key.encode())
    headers = sign(key, NAME, body)
    assert theirs.verify(body, headers) == {"stream": "Tür"}
    assert verify(key, {name.upper(): value for name, value in headers.items()}, body) == NAME


def test_two_keys_while_one_is_changed() -> None:
    old, new = sign(PLAIN, NAME, b"x", now=1000), sign(KEY, NAME, b"x", now=1000)
    both = old | {"webhook-signature": f"v2,else {old['webhook-signature']} {new['webhook-signature']}"}
    assert verify(KEY, both, b"x", now=1000) == verify(PLAIN, both, b"x", now=1000) == NAME


@pytest.mark.parametrize(
    ("change", "body", "now", "message"),
    [
        ({}, b"y", 1000.0, "No signature fits"),
        ({"webhook-id": NAME + "1"}, b"x", 1000.0, "No signature fits"),
        ({"webhook-timestamp": "1001"}, b"x", 1000.0, "No signature fits"),
        ({"webhook-signature": "v1,AAAA"}, b"x", 1000.0, "No signature fits"),
        ({"webhook-signature": "v1,Ä"}, b"x", 1000.0, "No signature fits"),
        ({"webhook-signature": ""}, b"x", 1000.0, "No signature fits"),
        ({}, b"x", 1301.0, "a replay"),
        ({}, b"x", 699.0, "a replay"),
        ({"webhook-timestamp": "soon"}, b"x", 1000.0, "a replay"),
        ({"webhook-timestamp": "²"}, b"x", 1000.0, "a replay"),
        ({"webhook-timestamp": "-1000"}, b"x", 1000.0, "a replay"),
    ],
)
def test_what_does_not_verify(change: dict[str, str], body: bytes, now: float, message: str) -> None:
    headers = sign(PLAIN, NAME, b"x", now=1000.0) | change
    with pytest.raises(Unverified, match=message):
        verify(PLAIN, headers, body, now=now)


def test_a_missing_header_is_named() -> None:
    headers = sign(PLAIN, NAME, b"x")
    del headers["webhook-timestamp"]
    with pytest.raises(Unverified, match="webhook-timestamp"):
        verify(PLAIN, headers, b"x")


def test_an_old_request_is_refused_by_others_too() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(KEY).verify(b"{}", sign(KEY, NAME, b"{}", now=time.time() - 400))


def test_the_example_for_receivers() -> None:
    """What docs/sinks.md shows takes what comes from here, and nothing else."""
    text = (Path(__file__).parents[3] / "docs" / "sinks.md").read_text(encoding="utf-8")
    code = next(block for block in text.split("```python\n")[1:] if "def checked" in block).partition("```")[0]
    scope: dict[str, Callable[..., bool]] = {}
    exec(code, scope)
    checked = scope["checked"]
    headers = sign(PLAIN, NAME, b"x")
    assert checked(PLAIN.encode(), headers, b"x")
    assert not checked(PLAIN.encode(), headers, b"y")
    assert not checked(b"another", headers, b"x")
    assert not checked(PLAIN.encode(), sign(PLAIN, NAME, b"x", now=time.time() - 301), b"x")


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_an_event_that_is_refused_is_told_apart(status: int) -> None:
    events = made_events(5)

    async def main() -> SinkError:
        async def answer(number: int, request: web.Request) -> web.Response:
            return web.Response(status=status if number == 2 else 200)

        receiver = Receiver(answer)
        async with receiver.serving():
            sink = made(receiver.url)
            error = await fails(sink, events)
            assert isinstance(error, SinkRejected)
            await delivered(sink, events[error.taken + 1 :])
            await sink.close()
        assert receiver.ids == names(events)
        return error

    error = run(main)
    assert isinstance(error, SinkRejected)
    assert error.taken == 2
    assert f"refuses event '{events[2]['id']}': {status}" in str(error)


@pytest.mark.parametrize("status", [401, 403, 404, 408, 409, 410, 425, 429, 500, 502, 503, 504, 599])
def test_any_other_refusal_keeps_the_event(status: int) -> None:
    async def main() -> SinkError:
        receiver = answering(status)
        async with receiver.serving():
            return await fails(made(receiver.url, {"token": "made up"}), made_events(1))

    error = run(main)
    assert not isinstance(error, SinkRejected)
    assert error.retry_after is None
    assert f"answers {status}" in str(error)
    assert "made up" not in str(error)  # the receiver echoed it
    assert "/hook" not in str(error)


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_asks_for_time_gets_it(status: int) -> None:
    async def main() -> SinkError:
        receiver = answering(status, {"Retry-After": "17"})
        async with receiver.serving():
            return await fails(made(receiver.url), made_events(1))

    assert run(main).retry_after == 17.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("999999999999", 3600.0),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("-5", None),
        ("1e3", None),
        ("٣", None),
        ("", None),
        (None, None),
    ],
)
def test_what_retry_after_may_say(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, 1000.0) == seconds


def test_a_redirect_is_not_followed() -> None:
    async def main() -> SinkError:
        elsewhere = Receiver()
        async with elsewhere.serving():
            receiver = answering(301, {"Location": elsewhere.url})
            async with receiver.serving():
                error = await fails(made(receiver.url, {"token": "made up"}), made_events(1))
        assert elsewhere.bodies == []
        return error

    assert "answers 301 Moved Permanently. Redirects are not followed" in str(run(main))


@pytest.mark.parametrize("status", [200, 500])
def test_an_endless_answer_is_not_read(status: int) -> None:
    """10 GB would take a minute and memory; here the answer never ends at all."""
    sent = 0

    async def answer(number: int, request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    async def main() -> None:
        receiver = Receiver(answer)
        async with receiver.serving():
            sink = made(receiver.url)
            if status == 200:
                assert await delivered(sink, made_events(2)) == 0
                await sink.close()
                assert receiver.ids == names(made_events(2))
            else:
                assert "answers 500" in str(await fails(sink, made_events(1)))

    run(main)
    assert sent < 64 * 1024 * 1024


def test_a_bomb_is_not_unpacked() -> None:
    async def main() -> int:
        receiver = answering(200, {"Content-Encoding": "gzip"})  # what follows is no gzip
        async with receiver.serving():
            sink = made(receiver.url)
            failures = await delivered(sink, made_events(3))
            await sink.close()
        return failures

    assert run(main) == 0


def test_an_answer_that_breaks_off_after_its_status_is_an_acknowledgement() -> None:
    async def answer(number: int, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def main() -> list[str]:
        receiver = Receiver(answer)
        async with receiver.serving():
            sink = made(receiver.url)
            assert await delivered(sink, made_events(3)) == 0
            await sink.close()
        return receiver.ids

    assert run(main) == names(made_events(3))


def test_a_receiver_that_never_answers() -> None:
    async def main() -> SinkError:
        receiver = Receiver()
        async with receiver.serving():
            with Proxy(int(receiver.url.split(":")[2].split("/")[0])) as proxy:
                proxy.silence()
                return await fails(made(f"http://127.0.0.1:{proxy.port}/hook", timeout=0.5), made_events(1))

    assert "gave no answer for 0.5 s" in str(run(main))


def test_nobody_listens() -> None:
    async def main() -> SinkError:
        return await fails(made(f"http://127.0.0.1:{free_port()}/secret-path"), made_events(1))

    error = str(run(main))
    assert "can't be reached" in error
    assert "secret-path" not in error


def test_what_was_acknowledged_is_not_sent_again_after_a_failure() -> None:
    events = made_events(8)

    async def answer(number: int, request: web.Request) -> web.Response:
        return web.Response(status=503 if number == 5 else 200)

    async def main() -> list[str]:
        receiver = Receiver(answer)
        async with receiver.serving():
            sink = made(receiver.url)
            assert await delivered(sink, events) == 1
            await sink.close()
        return receiver.ids

    sent = names(events)
    assert run(main) == sent[:6] + sent[5:]


def test_lost_answers_make_doubles_of_one_event_at_most() -> None:
    events = made_events(20)

    async def main() -> tuple[list[str], int]:
        receiver = Receiver()
        async with receiver.serving():
            with Proxy(int(receiver.url.split(":")[2].split("/")[0])) as proxy:
                sink = made(f"http://127.0.0.1:{proxy.port}/hook", timeout=0.5)
                await sink.open()
                await sink.deliver(events[:10])
                proxy.deafen()
                with pytest.raises(SinkError):
                    await sink.deliver(events[10:])
                proxy.open()
                failures = await delivered(sink, events[10:])
                await sink.close()
        return receiver.ids, failures

    ids, _ = run(main)
    assert list(dict.fromkeys(ids)) == names(events)
    assert set(ids[10:]) - set(names(events)[10:]) == set()
    assert len(ids) <= 22


def test_tls_is_verified_against_the_given_authority(tmp_path: Path) -> None:
    ca = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    pem = ca.cert_pem.bytes().decode()

    async def main() -> tuple[int, SinkError, SinkError]:
        receiver = Receiver()
        async with receiver.serving(tls=context):
            sink = made(receiver.url, {"ca": pem, "token": "made up"})
            failures = await delivered(sink, made_events(2))
            await sink.close()
            strange = await fails(made(receiver.url), made_events(1))
            other = await fails(made(receiver.url.replace("127.0.0.1", "localhost"), {"ca": pem}), made_events(1))
        return failures, strange, other

    failures, strange, other = run(main)
    assert failures == 0
    assert "certificate verify failed" in str(strange)
    assert "can't be reached" in str(other)  # a certificate of another name


@pytest.mark.parametrize(
    ("settings", "secrets", "message"),
    [
        ({"url": "ftp://a/b"}, {}, "expected https://HOST, or http://HOST"),
        ({"url": "https://"}, {}, "expected https://HOST"),
        ({"url": "https://a:0/"}, {}, "expected https://HOST"),
        ({"url": "https://a:b/"}, {}, "expected https://HOST"),
        ({"url": "https://bob:hunter2@a/b"}, {}, "holds a user or a password"),
        ({"url": "https://a", "timeout": 0.0}, {}, "timeout is 0; expected more than 0"),
        ({"url": "https://a", "timeout": float("nan")}, {}, "timeout is nan"),
        ({"url": "https://a"}, {"secret": "short"}, "its secret has 5 bytes, expected 16 or more"),
        ({"url": "https://a"}, {"secret": "whsec_!!!"}, "not base64"),
        ({"url": "https://a"}, {"ca": "made up"}, "ca_file holds no certificate"),
        ({"url": "http://a"}, {"token": "made up"}, "would travel in the clear"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], secrets: dict[str, str], message: str) -> None:
    with pytest.raises((ValueError, UsageError), match=message) as caught:
        WebhookSettings("hook", "webhook", **settings).make(secrets)  # type: ignore[arg-type]
    assert not {"hunter2", "made up"} & set(str(caught.value).split())


def test_a_url_is_not_in_the_settings_text() -> None:
    assert "hidden" not in repr(WebhookSettings("hook", "webhook", "https://a/hidden"))


def test_closing_twice_or_before_opening_is_fine() -> None:
    async def main() -> None:
        sink = made("http://127.0.0.1:1/")
        await sink.close()
        await sink.open()
        await sink.open()
        await sink.close()
        await sink.close()
        with pytest.raises(SinkError, match="not open"):
            await sink.deliver(made_events(1))
        await asyncio.sleep(0)

    run(main)
