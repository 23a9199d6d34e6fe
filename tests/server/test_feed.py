"""The ring of events, driven by hand and from another thread."""

import asyncio
import threading

from streamguard.server.feed import EventFeed


def numbers(missed):
    return [entry.number for entry in missed.events]


def test_each_listener_reads_at_its_own_pace():
    feed = EventFeed(bound=3, run="r")
    assert (feed.last, feed.oldest) == (0, 1)
    for name in "abcde":
        feed.take({"id": name})
    assert (feed.last, feed.oldest) == (5, 3)
    assert (feed.after(4).missed, numbers(feed.after(4))) == (0, [5])
    assert (feed.after(2).missed, numbers(feed.after(2))) == (0, [3, 4, 5])
    assert (feed.after(0).missed, numbers(feed.after(0))) == (2, [3, 4, 5])
    assert (feed.after(5).missed, numbers(feed.after(5))) == (0, [])


def test_ids_of_this_run_and_others():
    feed = EventFeed(run="r")
    feed.take({})
    assert [feed.place(text) for text in ("r.0", "r.1", "r.99")] == [0, 1, 1]
    assert [feed.place(text) for text in ("q.1", "r", "r.", "r.-1", "r.x", "", "r.²", "r." + "9" * 99)] == [None] * 8
    assert feed.place(feed.name(1)) == 1


def test_a_listener_is_woken_from_another_thread():
    feed = EventFeed()

    async def listen():
        feed.attach(asyncio.get_running_loop())
        threading.Thread(target=lambda: [feed.take({}) for _ in range(100)]).start()
        at = 0
        while at < 100:
            assert await feed.wait(at, 60)
            at = max([at, *numbers(feed.after(at))])
        feed.detach()
        return await feed.wait(at, 60)

    assert asyncio.run(listen()) is False
    feed.take({})
    assert feed.last == 101


def test_a_quiet_feed_lets_go_after_a_while():
    async def listen():
        feed = EventFeed()
        feed.attach(asyncio.get_running_loop())
        return await feed.wait(0, 0.01)

    assert asyncio.run(listen()) is True
