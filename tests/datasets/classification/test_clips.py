"""Sampling of frames, crops in time, and decoding: the right frames, none of zeros, and faults that name the file."""

import math

import numpy as np
import pytest

from datasets.classification.clips import (
    LEAST_SHARE,
    WHOLE,
    cropped,
    draw_crop,
    frame_size,
    read_frames,
    segment_frames,
)
from tests.datasets.made_clips import DARK, numbers_of, real_data, write_numbered_video
from utils.errors import UserError


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    """103 frames, as the real clip has."""
    return str(write_numbered_video(tmp_path_factory.mktemp("clips") / "numbered_rgb.avi", 103))


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize("num", [1, 8, 32])
def test_a_frame_of_each_segment(num, seed):
    for count in (1, 2, 7, 8, 9, 31, 32, 33, 100, 103):
        frames = range(5, 5 + count)
        chosen = segment_frames(frames, num, seed)
        assert len(chosen) == num
        assert set(chosen) <= set(frames)
        for place, frame in enumerate(chosen):
            assert math.floor(place * count / num) <= frame - 5 < math.ceil((place + 1) * count / num)


def test_the_middle_of_a_segment_without_a_seed():
    assert segment_frames(range(80), 8, None) == [5, 15, 25, 35, 45, 55, 65, 75]
    assert segment_frames(range(3), 6, None) == [0, 0, 1, 1, 2, 2]


def test_frames_are_drawn_from_the_seed():
    drawn = [tuple(segment_frames(range(1000), 8, seed)) for seed in (*range(20), 0)]
    assert drawn[0] == drawn[-1]
    assert len(set(drawn)) == 20


def test_crops():
    assert draw_crop(None) == WHOLE
    crops = [draw_crop(seed) for seed in range(200)]
    assert all(begin >= 0 and LEAST_SHARE <= end - begin <= 1 and end <= 1 + 1e-9 for begin, end in crops)
    assert max(begin for begin, _ in crops) > 0.05
    assert len(set(crops)) == 200
    for count in (1, 2, 5, 103):
        assert cropped(count, WHOLE) == range(count)
        for crop in crops:
            frames = cropped(count, crop)
            assert len(frames) >= max(1, LEAST_SHARE * count)
            assert set(frames) <= set(range(count))


@pytest.mark.parametrize("numbers", [[102], [0], [0, 0, 5, 50, 50, 102], list(range(103))])
def test_the_frames_that_were_asked_for(video, numbers):
    frames = read_frames(video, lambda num: numbers)
    assert frames.dtype.is_floating_point is False
    assert frames.shape == (3, len(numbers), 64, 64)
    assert numbers_of(frames) == numbers


def test_the_last_frame_is_not_of_zeros(video):
    for seed in (None, 0, 1, 2):
        frames = read_frames(video, lambda num, seed=seed: segment_frames(range(num), 8, seed))
        assert frames.amin() > DARK / 2
        assert numbers_of(frames)[-1] >= 7 * 103 // 8


def test_frame_size(tmp_path):
    assert frame_size(str(write_numbered_video(tmp_path / "a.avi", 2, (48, 80)))) == (48, 80)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6])
def test_a_cut_video_is_refused(video, tmp_path, share):
    path = tmp_path / "cut_rgb.avi"
    with open(video, "rb") as file:
        content = file.read()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"cut_rgb.avi: expected a video") as error:
        read_frames(str(path), lambda num: segment_frames(range(num), 8, None))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", ["missing", "text", "folder"])
def test_what_is_no_video_is_refused(tmp_path, what):
    path = tmp_path / "a_rgb.avi"
    if what == "text":
        path.write_text("no video")
    elif what == "folder":
        path.mkdir()
    with pytest.raises(UserError, match="a_rgb.avi: expected a video"):
        read_frames(str(path), range)
    with pytest.raises(UserError, match="a_rgb.avi: expected a video"):
        frame_size(str(path))


def test_real_clip():
    path = str(real_data("videos") / "videos" / "S001C001P001R001A001_rgb.avi")
    frames = read_frames(path, lambda num: segment_frames(range(num), 8, None))
    assert frames.shape == (3, 8, 1080, 1920)
    assert frame_size(path) == (1080, 1920)
    assert np.all(frames.float().mean(dim=(0, 2, 3)).numpy() > 30)
