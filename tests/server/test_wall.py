"""Pictures of many streams over one connection, from a real Guard over real sockets."""

import cv2
import numpy as np
import pytest

from streamguard.server.wall import MOST, PATH, WALLS
from tests.looped import Looped
from tests.media import pattern
from tests.serving import until
from tests.visiting import room


@pytest.fixture(scope="module")
def hall(tmp_path_factory):
    pictures = [pattern(number, 320, 180) for number in range(4)]
    with room(tmp_path_factory.mktemp("hall"), [Looped(name, pictures, fps=4.0) for name in ("a", "b")]) as running:
        yield running


class Watching:
    """A client that reads part by part."""

    def __init__(self, hall, query):
        self.connection = hall.served.connect()
        self.connection.request("GET", f"{PATH}?{query}", headers={"Authorization": f"Bearer {hall.served.viewer}"})
        self.answer = self.connection.getresponse()

    def part(self):
        """The next picture: of which stream, and (H, W, 3) uint8; None at the end."""
        headers = {}
        while line := self.answer.readline():
            name, colon, value = line.decode().strip().partition(": ")
            if colon:
                headers[name] = value
            elif not name and "Content-Length" in headers:
                break
        if not headers:
            return None
        jpeg = np.frombuffer(self.answer.read(int(headers["Content-Length"])), np.uint8)
        assert headers["Content-Type"] == "image/jpeg"
        return headers["X-Stream"], cv2.imdecode(jpeg, cv2.IMREAD_COLOR)

    def close(self):
        self.connection.close()


def test_the_pictures_of_all_come_by_one_answer(hall):
    watching = Watching(hall, "stream=a&stream=b&stream=gone&height=120")
    assert watching.answer.status == 200
    assert watching.answer.headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=")
    parts = [watching.part() for _ in range(12)]
    watching.close()
    assert {name for name, _ in parts} == {"a", "b"}
    for _, picture in parts:
        assert picture.shape[0] <= 120
    first, last = (next(p for name, p in each if name == "a") for each in (parts, reversed(parts)))
    assert np.abs(first.astype(int) - last).max() > 20, "they move"


def test_a_stream_that_goes_leaves_the_others_and_the_last_ends_it(hall):
    for name in ("c", "d"):
        hall.guard.add(Looped(name, [pattern(number, 320, 180) for number in range(4)], fps=4.0))
    watching = Watching(hall, "stream=c&stream=d")
    while watching.part()[0] != "d":
        pass
    hall.guard.remove("d")
    rest = [watching.part()[0] for _ in range(8)]
    assert rest[-4:] == ["c"] * 4
    hall.guard.remove("c")
    while watching.part() is not None:
        pass
    watching.close()


@pytest.mark.parametrize(
    ("query", "status", "problem"),
    [
        ("", 400, "query"),
        ("height=120", 400, "query"),
        ("stream=a&height=9000", 400, "query"),
        ("stream=a&height=x", 400, "query"),
        ("stream=a&width=5", 400, "query"),
        ("&".join(f"stream=s{number}" for number in range(MOST + 1)), 400, "query"),
        ("stream=gone", 404, "no-stream"),
    ],
)
def test_what_is_not_shown(hall, query, status, problem):
    answer = hall.served.ask("GET", f"{PATH}?{query}", hall.served.viewer)
    assert (answer.status, answer.problem) == (status, problem)


def test_nobody_looks_in_without_a_token(hall):
    assert hall.served.ask("GET", f"{PATH}?stream=a").problem == "token"


def test_walls_are_bounded_and_who_leaves_makes_room(hall):
    walls = [Watching(hall, "stream=a") for _ in range(WALLS)]
    assert [wall.part()[0] for wall in walls] == ["a"] * WALLS
    refused = hall.served.ask("GET", f"{PATH}?stream=a", hall.served.viewer)
    assert (refused.status, refused.problem) == (503, "walls")
    for wall in walls:
        wall.close()
    again = []

    def admitted():
        again.append(Watching(hall, "stream=a"))
        return again[-1].answer.status == 200

    until(admitted)
    assert again[-1].part()[0] == "a"
    for wall in again:
        wall.close()
