"""The renderer of road scenes: drawing against brute force, sensors that fail where they should, files read back."""

import json

import numpy as np
import pytest

from datasets import road_scenes
from datasets.detection.dataset import load_images
from datasets.detection.opening import open_data_set
from datasets.detection.sources import CHANNELS
from datasets.scenes import scenes_hash
from datasets.scenes.canvas import MARGIN, ON_THE_GROUND, SUBPIXELS, Camera, Canvas
from datasets.scenes.conditions import CONDITIONS
from datasets.scenes.scene import CLASSES, conditions, render_scene
from datasets.scenes.sensors import _shifted, blur, crop

COUNTS = {"train": 8, "val": 7, "test": 7}
CAMERA_FAILS, THERMAL_FAILS = ("night", "glare", "fog"), ("rain", "noon", "thermal_noise")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "new"
    road_scenes.write_road_scenes(folder, 3, COUNTS, 96)
    return folder


def annotations(folder, name):
    return json.loads((folder / f"images_thermal_{name}" / "flir.json").read_text())


@pytest.mark.parametrize("width", [64, 192, 640])
def test_a_pair_has_the_size_asked_for_and_boxes_inside(width):
    for number, name in enumerate(conditions()):
        scene = render_scene((1, number), width, name)
        height = round(0.8 * width)
        assert scene.rgb.shape == (height, width, 3)
        assert scene.thermal.shape == (height, width)
        assert scene.rgb.dtype == scene.thermal.dtype == np.uint8
        assert len(scene.boxes_xyxy) == len(scene.labels) == len(scene.crowd)
        x1, y1, x2, y2 = scene.boxes_xyxy.T
        assert np.all((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height))
        assert set(scene.labels) <= set(range(len(CLASSES)))


def test_the_seed_decides_everything():
    first, again, other = (render_scene(seed, 96, "day") for seed in ((1, 2), (1, 2), (1, 3)))
    for name in ("rgb", "thermal", "boxes_xyxy", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.rgb, other.rgb)


def test_maps_are_the_table_averaged_over_sub_pixels():
    canvas = Canvas(Camera(16, 12, 16.0, 5.0, 8.0, 1.5))
    rows = [canvas.part((i / 9, 0.2, 0.3), 10.0 + i, 3.0 * i + 1) for i in range(3)]
    canvas.polygon([(-9, -9), (30, -9), (30, 30), (-9, 30)], rows[0])
    canvas.polygon([(2, 2), (9.3, 2.4), (8, 10)], rows[1])
    canvas.ellipse((10, 6), 3.0, 2.0, rows[2])
    parts = canvas.parts_map()
    maps = canvas.maps(parts)
    for row in range(parts.shape[0] // SUBPIXELS):
        for column in range(parts.shape[1] // SUBPIXELS):
            inside = parts[row * SUBPIXELS : (row + 1) * SUBPIXELS, column * SUBPIXELS : (column + 1) * SUBPIXELS]
            assert maps["temperature"][row, column] == pytest.approx(np.mean([10.0 + p for p in inside.flat]))
            assert maps["depth"][row, column] == pytest.approx(np.mean([3.0 * p + 1 for p in inside.flat]))


def test_the_ground_has_the_distance_at_which_the_camera_sees_it():
    camera = Camera(64, 48, 60.0, 20.0, 32.0, 1.4)
    canvas = Canvas(camera)
    canvas.polygon([(-9, -9), (99, -9), (99, 99), (-9, 99)], canvas.part((0.5, 0.5, 0.5), 10.0, ON_THE_GROUND))
    depth = crop(canvas.maps(canvas.parts_map())["depth"], camera)
    for z in (3.0, 5.0, 9.0):
        row = camera.project(0.0, 0.0, z)[1]
        assert np.interp(row, np.arange(48) + 0.5, depth[:, 5]) == pytest.approx(z, rel=0.03)


def test_boxes_go_around_what_is_visible_and_little_of_it_makes_a_crowd():
    """Every box against the pixels of its object, found by painting the scene's parts with owners by hand."""
    from datasets.scenes import scene as module
    from datasets.scenes.surroundings import Street

    random = np.random.RandomState(0)
    camera = Camera(40, 32, 40.0, 10.0, 20.0, 1.5)
    stage = module._Stage(Canvas(camera), Street(random), None, random)

    def square(x, y, side):
        part = stage.canvas.part((0.5, 0.5, 0.5), 20.0, 5.0)
        stage.canvas.polygon([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], part)

    stage.canvas.part((0, 0, 0), 0.0, 9.0)
    stage.things = [
        (9.0, "car", lambda: square(4, 4, 10)),
        (8.0, "person", lambda: square(20, 4, 8)),
        (3.0, "bike", lambda: square(21, 4, 9)),
        (5.0, None, lambda: square(4, 10, 10)),
        (4.0, "car", lambda: square(36, 20, 10)),
    ]
    module._paint(stage)
    boxes, labels, crowd = module._boxes(stage, stage.canvas.parts_map())
    found = {CLASSES[label]: (box, hidden) for box, label, hidden in zip(boxes[:3], labels[:3], crowd[:3])}
    assert labels.tolist() == [2, 0, 2, 1]  # as painted, far to near
    np.testing.assert_allclose(boxes[0], [4, 4, 14.5, 10], atol=0.5)  # its lower part is behind scenery
    np.testing.assert_allclose(boxes[2], [36, 20, 40, 30.5], atol=0.5)  # cut by the picture's edge
    np.testing.assert_allclose(boxes[3], [21, 4, 30.5, 13.5], atol=0.5)
    assert not found["car"][1]
    assert crowd.tolist() == [False, True, False, False]  # one column of the person is left


def test_a_shift_is_bilinear():
    camera = Camera(20, 16, 20.0, 8.0, 10.0, 1.5)
    image = np.random.RandomState(0).rand(16 + 2 * MARGIN, 20 + 2 * MARGIN, 3)
    for x, y in ((0.0, 0.0), (2.0, -3.0), (-2.25, 1.5), (2.99, -2.99)):
        moved = _shifted(image, camera, (x, y))
        for row, column in ((0, 0), (7, 11), (15, 19)):
            r, c = row + MARGIN + y, column + MARGIN + x
            r0, c0 = int(np.floor(r)), int(np.floor(c))
            near = image[r0 : r0 + 2, c0 : c0 + 2]
            weights = np.outer([1 - r + r0, r - r0], [1 - c + c0, c - c0])
            np.testing.assert_allclose(moved[row, column], (near * weights[..., None]).sum((0, 1)))


@pytest.mark.parametrize("pixels", [0.4, 1.3])
def test_blur_spreads_a_point_by_its_deviation_and_keeps_the_sum(pixels):
    image = np.zeros((31, 31))
    image[15, 15] = 1.0
    spread = blur(image, pixels)
    assert spread.sum() == pytest.approx(1.0)
    assert (spread.sum(0) * (np.arange(31) - 15) ** 2).sum() == pytest.approx(pixels**2, rel=0.01)


def clarity(picture, boxes_xyxy):
    """How far objects stand out: difference of mean to the surroundings, in deviations of the surroundings."""
    values = []
    grey = picture.mean(-1) if picture.ndim == 3 else picture.astype(float)
    for x1, y1, x2, y2 in boxes_xyxy.astype(int):
        ring = np.ones(grey.shape, bool)
        ring[y1:y2, x1:x2] = False
        margin = max(x2 - x1, 4)
        ring[: max(y1 - margin, 0)] = ring[y2 + margin :] = False
        ring[:, : max(x1 - margin, 0)] = ring[:, x2 + margin :] = False
        inside = grey[y1:y2, x1:x2]
        values.append(abs(inside.mean() - grey[ring].mean()) / (grey[ring].std() + 4))
    return values


def test_each_sensor_fails_where_the_other_does_not():
    """The same streets and people under every condition."""
    rgb, thermal = ({name: [] for name in CONDITIONS} for _ in range(2))
    for number in range(40):
        for name in CONDITIONS:
            scene = render_scene((9, number), 96, name)
            people = scene.boxes_xyxy[(scene.labels == 0) & ~scene.crowd]
            rgb[name] += clarity(scene.rgb, people)
            thermal[name] += clarity(scene.thermal, people)
    rgb, thermal = ({name: np.median(v) for name, v in values.items()} for values in (rgb, thermal))
    assert max(thermal[name] for name in THERMAL_FAILS) < min(thermal[name] for name in CAMERA_FAILS)
    assert max(rgb[name] for name in ("glare", "fog")) < rgb["day"]


def test_at_night_the_camera_is_noisy_and_the_thermal_sensor_is_not():
    def noise(picture):
        grey = picture.astype(float).reshape(*picture.shape[:2], -1).mean(-1)
        return np.median(np.abs(np.diff(grey, axis=1))) / grey.mean()

    day, night = ([render_scene((9, i), 96, name) for i in range(12)] for name in ("day", "night"))
    assert np.median([noise(s.rgb) for s in night]) > 2 * np.median([noise(s.rgb) for s in day])
    assert np.median([noise(s.thermal) for s in night]) < 2 * np.median([noise(s.thermal) for s in day])


def test_local_failures_are_named_and_happen():
    scenes = [render_scene((4, number), 64, name) for number in range(12) for name in CONDITIONS]
    failures = {failure for scene in scenes for failure in scene.local_failures}
    assert failures == {"bloom", "warm_wall", "shadow"}
    assert any(not scene.local_failures for scene in scenes)


def test_written_scenes_are_read_as_flir_aligned(written):
    data = open_data_set(written)
    assert {part: len(records) for part, records in data.records.items()} == COUNTS
    assert data.classes == list(CLASSES)
    for part in COUNTS:
        assert data.info[part]["hash"] == scenes_hash()
        scenes = [image["scene"] for image in data.ground_truth[part]["images"]]
        assert set(scenes) == set(conditions())
    rgb, thermal = load_images(data.records["test"][4], CHANNELS).values()
    rendered = render_scene((3, 2, 4), 96, conditions()[4])
    assert np.abs(rgb.numpy().transpose(1, 2, 0).astype(int) - rendered.rgb).mean() < 8  # but for JPEG
    assert np.abs(thermal.numpy()[0].astype(int) - rendered.thermal).mean() < 8
    kept = rendered.boxes_xyxy[~rendered.crowd]
    np.testing.assert_allclose(data.records["test"][4].boxes_xyxy, kept)


def test_a_longer_list_begins_with_the_shorter_whatever_the_number_of_processes(written, tmp_path):
    longer = {"train": 10, "val": 7, "test": 7}
    road_scenes.write_road_scenes(tmp_path / "more", 3, longer, 96, workers=2)
    ours, theirs = (annotations(folder, "train_train") for folder in (written, tmp_path / "more"))
    assert theirs["images"][:8] == ours["images"]
    assert theirs["annotations"][: len(ours["annotations"])] == ours["annotations"]
    for path in written.rglob("*.jp*g"):
        assert (tmp_path / "more" / path.relative_to(written)).read_bytes() == path.read_bytes()


def test_parts_and_seeds_show_different_streets(written, tmp_path):
    road_scenes.write_road_scenes(tmp_path / "other", 4, COUNTS, 96)
    ours, other = (annotations(folder, "val") for folder in (written, tmp_path / "other"))
    assert ours["annotations"] != other["annotations"]
    boxes = [[a["bbox"] for a in annotations(written, name)["annotations"]] for name in road_scenes.PARTS.values()]
    assert boxes[0] != boxes[1] != boxes[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--width", "1000"], "--width: expected 64 to 640 pixels, found 1000"),
        (["--train", "0"], "--train: expected a whole number from 1, found 0"),
        (["--seed", "-1"], "--seed: expected a whole number from 0, found -1"),
    ],
)
def test_wrong_numbers_are_refused_and_nothing_is_written(tmp_path, capsys, options, said):
    assert road_scenes.main([str(tmp_path / "new"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_folder_with_files_is_left_alone(written, capsys):
    before = sorted(written.rglob("*"))
    assert road_scenes.main([str(written), "--train", "1", "--val", "1", "--test", "1"]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert sorted(written.rglob("*")) == before


def test_the_command_writes_and_names_the_hash(tmp_path, capsys):
    options = ["--seed", "5", "--train", "2", "--val", "1", "--test", "1", "--width", "64", "--workers", "1"]
    assert road_scenes.main([str(tmp_path / "new"), *options]) == 0
    assert f"hash {scenes_hash()}, seed 5" in capsys.readouterr().out
    assert annotations(tmp_path / "new", "val")["info"]["seed"] == 5
