"""What is drawn: where, in which colour, and what is said when nothing is known."""

import cv2
import numpy as np
import pytest

from streamguard.delivery.overlay import BEHIND, LOOKS, NO_FRAMES, NOT_ANALYSED, Canvas, Shown, draw, said, verdict
from streamguard.delivery.stills import jpeg_of
from streamguard.frames import Box, Picture, State, StreamSnapshot, Track
from streamguard.pixels import picture_of_rgb, rgb_of, yuv_of

FACE = Track(7, 1, Box(200, 120, 320, 260), 0.9, 0.0, 10.0)
GREY = np.full((360, 640, 3), 128, np.uint8)


def canvas_of(rgb=GREY, **form):
    picture = picture_of_rgb(rgb, **form)
    return Canvas(picture.y, picture.u, picture.v, picture.matrix, picture.full_range)


class Colours:
    """RGB of a pixel, with the chroma that it was given rather than a mean with its neighbours'."""

    def __init__(self, canvas):
        self._canvas = canvas

    def __getitem__(self, at):
        c, (y, x) = self._canvas, at
        planes = [np.full((16, 16), c.y[y, x], np.uint8)]
        planes += [np.full((8, 8), plane[y // 2, x // 2], np.uint8) for plane in (c.u, c.v)]
        return rgb_of(Picture(*planes, c.matrix, c.full_range))[8, 8].astype(int)


def standing(state, *, tracks=(FACE,), pts=10.0, session=1, reason=None, reasons=()):
    states = tuple((track.id, state) for track in tracks)
    return StreamSnapshot("cam", session, pts, state, reason, tracks, states, reasons=reasons)


def near(pixel, state):
    return abs(pixel - LOOKS[state].ground).max() <= 6


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("form", [{}, {"matrix": "bt709"}, {"matrix": "bt709", "full_range": True}])
def test_a_face_has_a_frame_in_the_colour_of_its_state(state, form):
    canvas = canvas_of(**form)
    draw(canvas, Shown(1, 10.0), standing(state))
    drawn = Colours(canvas)
    for x, y in ((201, 200), (318, 200), (260, 121), (260, 258)):
        assert near(drawn[y, x], state), (x, y, drawn[y, x])
    assert abs(drawn[200, 260] - 128).max() <= 2, "the face itself stays as it is"
    assert abs(drawn[50, 500] - 128).max() <= 2
    assert near(drawn[358, 2], state), "the stream's verdict, in the lower left"


def test_words_stand_out_from_their_ground():
    for look in LOOKS.values():
        light, dark = sorted((_luminance(look.ground), _luminance(look.ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def _luminance(colour):
    """Relative luminance (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("width", "height"), [(640, 360), (1280, 720), (1920, 1080)])
def test_the_label_above_a_face_can_be_read_at_any_size(width, height):
    canvas = canvas_of(np.full((height, width, 3), 128, np.uint8))
    scale = height / 360
    draw(canvas, Shown(1, 10.0, scale=scale), standing(State.FLAGGED))
    ink = yuv_of(LOOKS[State.FLAGGED].ink, "bt601", full_range=False)[0]
    top, left = round(120 * scale), round(200 * scale)
    label = canvas.y[top - round(20 * scale) : top, left : left + round(90 * scale)]
    rows = np.flatnonzero((label > ink - 40).any(axis=1))
    assert rows[-1] - rows[0] + 1 >= max(8, height / 55), "capitals of eight pixels and more"


def test_a_track_is_moved_to_where_its_face_is_by_now():
    moving = Track(7, 1, Box(200, 120, 320, 260), 0.9, 0.0, 10.0, motion=(100.0, -40.0))
    assert moving.at(10.2) == pytest.approx(Box(220, 112, 340, 252))
    assert moving.at(12.0) == moving.at(10.5), "a motion is not believed in for longer"
    late = Track(7, 1, Box(210, 116, 330, 256), 0.9, 0.0, 10.0, missed=0.1, motion=(100.0, -40.0))
    assert late.at(10.2) == pytest.approx(Box(220, 112, 340, 252))
    canvas = canvas_of()
    draw(canvas, Shown(1, 10.2), standing(State.CLEAR, tracks=(moving,)))
    drawn = Colours(canvas)
    assert near(drawn[200, 221], State.CLEAR)
    assert not near(drawn[200, 201], State.CLEAR)


def test_a_face_at_any_border_is_drawn_as_far_as_it_is_in_the_picture():
    for box in (Box(-50, -50, 60, 60), Box(600, 300, 700, 400), Box(-100, -100, 800, 500), Box(700, 0, 800, 50)):
        track = Track(7, 1, box, 0.9, 0.0, 10.0)
        draw(canvas_of(), Shown(1, 10.0), standing(State.FLAGGED, tracks=(track,)))


def test_the_reason_of_a_track_is_written():
    plain, reasoned = canvas_of(), canvas_of()
    draw(plain, Shown(1, 10.0), standing(State.INCONCLUSIVE))
    draw(reasoned, Shown(1, 10.0), standing(State.INCONCLUSIVE, reasons=((7, "too small"),)))
    ground = yuv_of(LOOKS[State.INCONCLUSIVE].ground, "bt601", full_range=False)[0]
    widths = [int((abs(c.y[104].astype(int) - ground) < 8)[200:].sum()) for c in (plain, reasoned)]
    assert widths[1] > widths[0] + 30


def test_a_state_in_words():
    assert said(State.CLEAR, None) == "clear"
    assert said(State.FLAGGED, None) == "FLAGGED"
    assert len(said(State.INCONCLUSIVE, "x" * 500)) <= 60


def test_what_is_said_when_the_analysis_says_nothing():
    clear = standing(State.CLEAR)
    assert verdict(Shown(1, 10.0), clear) == (State.CLEAR, None)
    assert verdict(Shown(1, 10.0 + BEHIND), clear) == (State.CLEAR, None)
    silent = (State.INCONCLUSIVE, NOT_ANALYSED)
    assert verdict(Shown(1, 10.1 + BEHIND), clear) == silent, "the analysis has stopped"
    assert verdict(Shown(2, 10.0), clear) == silent, "it spoke of another session"
    assert verdict(Shown(1, 0.0), None) == silent
    assert verdict(Shown(1, 10.0, still=True), clear) == (State.INCONCLUSIVE, NO_FRAMES)
    small = standing(State.INCONCLUSIVE, reason="too small")
    assert verdict(Shown(1, 10.0), small) == (State.INCONCLUSIVE, "too small")
    assert verdict(Shown(1, 20.0), small) == silent
    gone = standing(State.INCONCLUSIVE, reason="frozen picture")
    assert verdict(Shown(1, 20.0, still=True), gone) == (State.INCONCLUSIVE, "frozen picture")


def test_no_frame_is_drawn_round_a_face_nobody_knows_of_any_more():
    for shown in (Shown(1, 20.0), Shown(1, 10.0, still=True), Shown(2, 10.0)):
        canvas = canvas_of()
        draw(canvas, shown, standing(State.CLEAR))
        assert abs(Colours(canvas)[200, 201] - 128).max() <= 2


def test_a_small_still_is_drawn_on_in_its_own_size():
    picture = picture_of_rgb(GREY)
    before = picture.copy()
    small = jpeg_of(picture, Shown(1, 10.0), standing(State.FLAGGED), 180, 90)
    own = jpeg_of(picture, Shown(1, 10.0), standing(State.FLAGGED), 1080, 90)
    assert (picture.y == before.y).all()
    assert (picture.u == before.u).all()
    for jpeg, size, at in ((small, (180, 320), (100, 100)), (own, (360, 640), (200, 201))):
        decoded = _decoded(jpeg)
        assert decoded.shape[:2] == size
        assert abs(decoded[at].astype(int) - LOOKS[State.FLAGGED].ground).max() < 60


def _decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
