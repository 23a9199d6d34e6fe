"""Backlog: bounded by whole groups. Viewing: the same from an event loop and from a thread."""

import asyncio
import threading
from fractions import Fraction

import av
import pytest

from streamguard.delivery.viewing import Backlog, Encoded, Heard, Viewing
from streamguard.media import MediaPacket


def picture(number, key=False):
    return Encoded(av.Packet(b"x"), number / 25, key, (320, 240))


def sound(number):
    packet = MediaPacket(False, number, number, number, 1, Fraction(1, 50), True, av.Packet(b"s"))
    return Heard(packet, number / 50, None)


def numbers(backlog):
    found = []
    while (item := backlog.take()) is not None:
        found.append(round(item.pts * 25) if isinstance(item, Encoded) else f"s{round(item.pts * 50)}")
    return found


def test_it_begins_at_a_key_frame():
    backlog = Backlog(4)
    assert backlog.blind
    assert [backlog.offer(picture(n, n == 2)) for n in range(4)] == [0, 0, 0, 0]
    assert not backlog.blind
    assert numbers(backlog) == [2, 3]


def test_a_full_backlog_loses_what_lies_before_its_newest_key_frame():
    backlog = Backlog(4)
    for number in range(4):
        backlog.offer(picture(number, number in (0, 2)))
    assert backlog.offer(picture(4)) == 2
    assert len(backlog) == 3
    assert numbers(backlog) == [2, 3, 4]


def test_a_full_backlog_of_one_group_loses_it_all_and_waits_for_the_next_key_frame():
    backlog = Backlog(3)
    for number in range(3):
        backlog.offer(picture(number, number == 0))
    assert backlog.offer(picture(3)) == 4
    assert backlog.blind
    assert len(backlog) == 0
    assert backlog.offer(picture(4)) == 0
    assert backlog.offer(picture(5, key=True)) == 0
    assert numbers(backlog) == [5]


def test_a_full_backlog_whose_key_frame_was_taken_loses_it_all():
    backlog = Backlog(2)
    for number in range(3):
        backlog.offer(picture(number, number == 0))
        if number == 0:
            backlog.take()
    assert backlog.offer(picture(3)) == 3
    assert backlog.blind


def test_a_key_frame_takes_the_place_of_a_full_backlog():
    backlog = Backlog(3)
    for number in range(3):
        backlog.offer(picture(number, number == 0))
    assert backlog.offer(picture(3, key=True)) == 3
    assert not backlog.blind
    assert numbers(backlog) == [3]


def test_sound_goes_with_its_pictures_and_is_bounded():
    backlog = Backlog(2)
    backlog.offer(sound(0))
    assert backlog.empty
    backlog.offer(picture(0, key=True))
    for number in range(1, 100):
        backlog.offer(sound(number))
    assert len(backlog) == 1
    assert numbers(backlog) == [0, *(f"s{n}" for n in range(1, 17))]
    for item in (picture(1, key=True), sound(2), picture(2, key=True), sound(3), picture(3)):
        backlog.offer(item)
    assert numbers(backlog) == [2, "s3", 3]


def test_a_loop_gets_pictures_until_the_end():
    viewing = Viewing(10)

    async def watch():
        asyncio.get_running_loop().call_later(0.05, threading.Thread(target=send).start)
        return [round(item.pts * 25) async for item in viewing]

    def send():
        for number in range(5):
            viewing.put(picture(number, number == 0))
        viewing.end()

    assert asyncio.run(watch()) == [0, 1, 2, 3, 4]


def test_next_says_when_it_is_over():
    viewing = Viewing(10)
    viewing.end()

    async def ask():
        with pytest.raises(StopAsyncIteration):
            await viewing.next()

    asyncio.run(ask())
    assert viewing.over


def test_a_viewer_that_is_cancelled_misses_nothing():
    viewing = Viewing(10)

    async def watch():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await viewing.next()
        viewing.put(picture(0, key=True))
        return (await viewing.next()).key

    assert asyncio.run(watch())


def test_a_thread_takes_with_patience():
    viewing = Viewing(10, sound=True)
    assert viewing.take(0.01) is None
    threading.Timer(0.05, lambda: viewing.put(picture(0, key=True))).start()
    assert viewing.take(30).key
    viewing.put(sound(1))
    assert isinstance(viewing.take(0), Heard)
    viewing.end()
    assert viewing.take(30) is None


def test_losses_are_told_and_a_closed_viewing_holds_nothing():
    lost, left, asked = [], [], []
    viewing = Viewing(2, lost=lost.append, left=left.append, ask=lambda: asked.append(1))
    for number in range(3):
        viewing.put(picture(number, number == 0))
    assert lost == [3]
    viewing.put(picture(3, key=True))
    viewing.put(sound(1))
    viewing.refresh()
    viewing.close()
    viewing.put(picture(4, key=True))
    assert (viewing.take(0), left, asked) == (None, [viewing], [1])
    assert viewing.over


def test_a_loop_that_is_gone_holds_nobody():
    viewing = Viewing(2)

    async def leave():
        waiting = asyncio.ensure_future(viewing.next())
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(leave())
    viewing.put(picture(0, key=True))
    assert viewing.take(0).key
