"""The packet ring, slot by slot: packets are their own numbers, one a second, a keyframe every fourth."""

from streamguard.ingest.packet_ring import PacketRing


def filled(count, *, seconds=100.0, size=10_000, gop=4, packet=100):
    ring = PacketRing(seconds, size)
    for i in range(count):
        ring.append(i, float(i), keyframe=i % gop == 0, size=packet)
    return ring


def test_an_empty_ring_has_nothing():
    ring = PacketRing(10.0, 1000)
    assert ring.since(0.0) == []
    assert ring.span is None
    assert ring.held_bytes == 0


def test_nothing_is_kept_before_the_first_keyframe():
    ring = PacketRing(10.0, 1000)
    ring.append("p", 0.0, keyframe=False, size=1)
    assert ring.span is None
    ring.append("k", 1.0, keyframe=True, size=1)
    ring.append("p", 2.0, keyframe=False, size=1)
    assert ring.since(0.0) == ["k", "p"]


def test_a_clip_starts_at_the_keyframe_before():
    ring = filled(12)
    assert ring.since(9.0) == [8, 9, 10, 11]
    assert ring.since(8.0) == [8, 9, 10, 11]
    assert ring.since(7.9) == [4, 5, 6, 7, 8, 9, 10, 11]


def test_a_clip_of_what_is_gone_or_not_yet_there():
    ring = filled(12, seconds=5.0)
    assert ring.span == (4.0, 11.0)
    assert ring.since(0.0) == list(range(4, 12)), "half of it forgotten: what is left"
    assert ring.since(20.0) == [8, 9, 10, 11], "not yet there: the group it will lie in"


def test_whole_groups_are_forgotten_once_the_next_covers_the_time():
    ring = filled(9, seconds=4.0)
    assert ring.span == (4.0, 8.0), "group 0-3 is over 4 s old and 4-7 reaches back that far"
    assert ring.since(4.0) == [4, 5, 6, 7, 8]
    assert filled(8, seconds=4.0).span == (0.0, 7.0), "second 3 still lies in the first group"


def test_bytes_bound_it_too():
    ring = filled(12, size=850)
    assert ring.held_bytes == 800
    assert ring.span == (4.0, 11.0)


def test_a_group_that_alone_is_too_large_is_given_up_until_the_next_keyframe():
    ring = filled(3, size=250)
    assert ring.held_bytes == 0
    ring.append(3, 3.0, keyframe=False, size=100)
    assert ring.held_bytes == 0
    ring.append(4, 4.0, keyframe=True, size=100)
    assert ring.since(0.0) == [4]


def test_the_newest_group_stays_however_old_its_keyframe_is():
    ring = filled(50, seconds=3.0, gop=1000)
    assert ring.span == (0.0, 49.0)


def test_pictures_shown_out_of_order_come_in_decoding_order():
    ring = PacketRing(10.0, 1000)
    for name, shown in (("I0", 0.0), ("P3", 3.0), ("B1", 1.0), ("B2", 2.0), ("P6", 6.0), ("B4", 4.0)):
        ring.append(name, shown, keyframe=name == "I0", size=1)
    assert ring.since(2.0) == ["I0", "P3", "B1", "B2", "P6", "B4"]
    assert ring.span == (0.0, 6.0)


def test_clear_forgets_everything_and_waits_for_a_keyframe():
    ring = filled(6)
    ring.clear()
    ring.append(6, 6.0, keyframe=False, size=100)
    assert ring.span is None
    assert ring.held_bytes == 0
