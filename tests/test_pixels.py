"""pixels: colours come back, geometry is exact, views stay views."""

import av
import cv2
import numpy as np
import pytest
from skimage import data

from streamguard.errors import PictureSize
from streamguard.frames import Box
from streamguard.pixels import check_size, crop, crop_square, letterbox, picture_of, picture_of_rgb, rgb_of, shrink

PATCHES = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [90, 140, 200]], np.uint8)


def bars(colours=PATCHES, size=32):
    """(size, size * n, 3): one square of each colour."""
    return np.repeat(np.repeat(colours[None], size, 0), size, 1)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full_range", [False, True])
def test_rgb_survives_the_round_through_yuv(matrix, full_range):
    picture = picture_of_rgb(bars(), matrix=matrix, full_range=full_range)
    assert (picture.matrix, picture.full_range) == (matrix, full_range)
    centres = rgb_of(picture)[16, 16::32]
    assert np.abs(centres.astype(int) - PATCHES).max() <= 3


def test_limited_range_black_and_white_are_16_and_235():
    picture = picture_of_rgb(bars(np.array([[0, 0, 0], [255, 255, 255]], np.uint8)))
    assert (picture.y[0, 0], picture.y[0, -1]) == (16, 235)
    assert set(np.unique(picture.u)) | set(np.unique(picture.v)) == {128}


def test_agrees_with_ffmpeg_on_a_photograph():
    rgb = data.astronaut()
    ours = picture_of_rgb(rgb)
    theirs = picture_of(av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p"))
    assert np.abs(ours.y.astype(int) - theirs.y).mean() < 0.6
    assert np.abs(ours.u.astype(int) - theirs.u).mean() < 0.6


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj444p", "yuv420p10le", "nv12"]
)
def test_every_layout_gives_the_same_colours(pixel_format):
    frame = av.VideoFrame.from_ndarray(bars(), format="rgb24").reformat(format=pixel_format)
    centres = rgb_of(picture_of(frame))[16, 16::32]
    assert np.abs(centres.astype(int) - PATCHES).max() <= 4


def test_tags_decide_the_matrix():
    frame = av.VideoFrame.from_ndarray(bars(), format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
    frame.colorspace = 1
    picture = picture_of(frame)
    assert picture.matrix == "bt709"
    assert np.abs(rgb_of(picture)[16, 16::32].astype(int) - PATCHES).max() <= 4


def test_grey_and_rgb_frames_are_taken():
    grey = av.VideoFrame.from_ndarray(np.full((32, 48), 77, np.uint8), format="gray")
    assert np.abs(rgb_of(picture_of(grey)).astype(int) - 77).max() <= 1


def test_planes_are_read_only_views_that_ignore_padding():
    frame = av.VideoFrame(50, 34, "yuv420p")
    assert frame.planes[0].line_size > 50, "this test needs a padded line"
    picture = picture_of(frame)
    assert picture.y.shape == (34, 50)
    assert picture.u.shape == (17, 25)
    assert not picture.y.flags.writeable
    assert picture.copy().y.flags.owndata


def test_odd_sides_keep_their_last_row_and_column():
    picture = picture_of_rgb(bars(size=33)[:31])
    assert picture.y.shape == (31, 198)
    assert picture.u.shape == (16, 99)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (16_000, 16_000), (15, 200), (200, 8193)])
def test_sizes_nobody_can_judge_are_refused_by_name(width, height):
    with pytest.raises(PictureSize, match=rf"'photo.png' is {width}x{height} pixels"):
        check_size(width, height, "photo.png")


def test_shrink_by_powers_of_two_is_the_plain_mean():
    plane = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
    expected = plane.reshape(16, 4, 16, 4).mean((1, 3))
    assert np.abs(shrink(plane, 16, 16) - expected).max() <= 1.0


def test_shrink_does_not_alias_a_fine_pattern():
    """A one-pixel checkerboard is grey from afar; plain bilinear keeps black or white of it."""
    board = (np.indices((400, 400)).sum(0) % 2 * 255).astype(np.uint8)
    assert shrink(board, 90, 90).std() < 5
    assert cv2.resize(board, (90, 90), interpolation=cv2.INTER_NEAREST).std() > 100


def test_letterbox_keeps_the_aspect_and_maps_boxes_back():
    canvas, box = letterbox(picture_of_rgb(np.full((180, 320, 3), 255, np.uint8)), 160, 160, pad=114)
    assert canvas.shape == (160, 160, 3)
    assert (box.left, box.top, box.scale) == (0, 35, 0.5)
    assert (canvas[:35] == 114).all()
    assert (canvas[125:] == 114).all()
    assert (canvas[36:124] > 250).all()
    back = box.to_picture(np.array([[0, 35, 160, 125]], np.float32))
    assert back.tolist() == [[0, 0, 320, 180]]


def test_crop_takes_what_the_box_names():
    rgb = np.zeros((200, 200, 3), np.uint8)
    rgb[60:140, 80:160] = (200, 40, 90)
    face = crop(picture_of_rgb(rgb), Box(80, 60, 160, 140), 40, margin=0.0)
    assert face.shape == (40, 40, 3)
    assert np.abs(face[2:-2, 2:-2].astype(int) - (200, 40, 90)).max() <= 4
    wider = crop(picture_of_rgb(rgb), Box(80, 60, 160, 140), 40, margin=0.25)
    assert wider[0].max() <= 4
    assert np.abs(wider[20, 20].astype(int) - (200, 40, 90)).max() <= 4


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(0, 0, 40, 60), (0, 0, 72)),  # moved inside
        (Box(170, 170, 200, 200), (164, 164, 36)),
        (Box(50, 40, 90, 100), (34, 34, 72)),  # where the box is
        (Box(0, 0, 200, 240), (-44, -44, 288)),  # larger than the picture: centred on it
    ],
)
def test_crop_square_is_even_and_inside_where_it_fits(box, expected):
    x, y, side = crop_square(200, 200, box, 0.1)
    assert (x, y, side) == expected
    assert x % 2 == y % 2 == side % 2 == 0


def test_crop_beyond_the_picture_is_mirrored_not_flat():
    ramp = np.repeat(np.repeat(np.arange(0, 256, 4, np.uint8)[:, None, None], 64, 1), 3, 2)
    face = crop(picture_of_rgb(ramp), Box(0, 0, 64, 64), 96, margin=0.25)
    column = face[:, 48, 1].astype(int)
    above, below = column[15:0:-1], column[17:32]
    assert np.abs(above - below).max() <= 6
    assert above[-1] - above[0] > 40
