"""Own sets by YAML: each field is read, and each wrong one is a line that names it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from datasets.data_module import LoaderOptions
from datasets.detection.dataset import load_images
from datasets.detection.detection_data import ImageOptions
from datasets.detection.opening import open_data, open_data_set
from datasets.detection.sources import CHANNELS
from tests.tiny_sets import make_tiny_own
from utils.errors import UserError

OPTIONS = ImageOptions((64, 80)), LoaderOptions(batch_size=2)


def open_own(folder: Path, **changes):
    """Open the set with some fields of its description replaced, or taken out where the new value is None."""
    data = yaml.safe_load((folder / "my_set.yaml").read_text()) | changes
    (folder / "my_set.yaml").write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}))
    return open_data_set(folder, str(folder / "my_set.yaml"))


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_defaults(tmp_path):
    make_tiny_own(tmp_path)
    data = open_own(tmp_path)
    assert (data.name, data.classes) == (str(tmp_path / "my_set.yaml"), ["person", "car"])
    assert data.category_ids == [1, 3]
    assert data.thermal_counts is None
    assert data.normalization["rgb"] == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert data.normalization["thermal"] == ((0.519,) * 3, (0.225,) * 3)


def test_all_fields(tmp_path):
    make_tiny_own(tmp_path, "voc", per_list=False)
    for path in (tmp_path / "rgb").iterdir():
        path.rename(path.with_name(f"v{path.name}"))
    data = open_own(
        tmp_path,
        classes=["human", "car"],
        aliases={"person": "human"},
        names={"rgb": ["0000", "v0000"]},
        normalization={"thermal": {"mean": [0.3, 0.3, 0.3], "std": [0.1, 0.1, 0.1]}},
        thermal_counts=[7000, 9000],
    )
    assert data.classes == ["human", "car"]
    assert data.notes["train"]["boxes"] > 0
    assert not any(key.startswith("dropped") for note in data.notes.values() for key in note)
    assert data.normalization["thermal"] == ((0.3,) * 3, (0.1,) * 3)
    assert data.normalization["rgb"][0][0] == 0.485
    assert data.thermal_counts == (7000.0, 9000.0)
    assert Path(data.records["train"][0].paths["rgb"]).name == "v000001.jpg"


def test_an_own_val_list(tmp_path):
    make_tiny_own(tmp_path, numbers={"train": 9, "val": 3, "test": 2})
    lists = {origin: f"annotations/{origin}.json" for origin in ("train", "val", "test")}
    data = open_own(tmp_path, annotations=lists)
    assert {origin: len(records) for origin, records in data.records.items()} == {"train": 9, "val": 3, "test": 2}


def test_a_folder_for_each_list(tmp_path):
    make_tiny_own(tmp_path)
    (tmp_path / "rgb" / "test").rename(tmp_path / "colour")
    images = {"thermal": "thermal/{list}", "rgb": {"train": "rgb/train", "test": "colour"}}
    assert open_own(tmp_path, images=images).records["test"][0].paths["rgb"] == str(tmp_path / "colour" / "000013.jpg")


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_folders_below_the_image_folder(tmp_path, form):
    """As in KAIST: set00/V000/lwir/I00001.jpg, set00/V000/visible/I00001.jpg, the same numbers in each video."""
    make_tiny_own(tmp_path, form, per_list=False)
    moved = {f"{n:06d}": f"set{n % 2:02d}/V000/lwir/I{n // 2:05d}" for n in range(1, 17)}
    for old, new in moved.items():
        for modality, folder in (("thermal", "lwir"), ("rgb", "visible")):
            target = tmp_path / "videos" / f"{new.replace('lwir', folder)}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / modality / f"{old}.jpg").rename(target)
        if form == "voc":
            target = tmp_path / "xml" / f"{new}.xml"
            target.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "xml" / f"{old}.xml").rename(target)
    for split in ("train", "test"):
        path = tmp_path / "lists" / f"{split}.txt"
        path.write_text("".join(f"{moved[name]}\n" for name in path.read_text().split()))

        def rename(content):
            for image in content["images"]:
                image["file_name"] = f"{moved[image['file_name'][:6]]}.jpg"

        edit_json(tmp_path / "annotations" / f"{split}.json", rename)
    names = {"rgb": ["lwir", "visible"]}
    data = open_own(tmp_path, images={"thermal": "videos", "rgb": "videos"}, names=names)
    assert {origin: len(records) for origin, records in data.records.items()} == {"train": 12, "test": 4}
    first = data.records["train"][0]
    assert first.paths["thermal"] == str(tmp_path / "videos/set01/V000/lwir/I00000.jpg")
    assert first.paths["rgb"] == str(tmp_path / "videos/set01/V000/visible/I00000.jpg")
    assert first.file_name == "set01/V000/lwir/I00000.jpg"
    assert len({record.paths["thermal"] for records in data.records.values() for record in records}) == 16
    load_images(first, CHANNELS)


def rename_first(folder: Path, new: str) -> None:
    """Rename the first training pair in files and annotations."""
    edit_json(folder / "annotations/train.json", lambda content: content["images"][0].update(file_name=f"{new}.jpg"))
    for modality in ("thermal", "rgb"):
        path = folder / modality / "train" / "000001.jpg"
        path.rename(path.with_name(f"{new}.jpg"))


def test_names_with_dots(tmp_path):
    make_tiny_own(tmp_path)
    rename_first(tmp_path, "2024.05.01_12.30")
    record = open_own(tmp_path).records["train"][0]
    assert Path(record.paths["rgb"]).name == Path(record.paths["thermal"]).name == "2024.05.01_12.30.jpg"


def test_two_images_with_one_stem_are_told_apart_by_the_whole_name(tmp_path):
    make_tiny_own(tmp_path)
    for modality in ("thermal", "rgb"):
        folder = tmp_path / modality / "train"
        (folder / "000002.jpg").rename(folder / "000001.png")
    edit_json(tmp_path / "annotations/train.json", lambda c: c["images"][1].update(file_name="000001.png"))
    paths = [record.paths["thermal"] for record in open_own(tmp_path).records["train"][:2]]
    assert [Path(path).name for path in paths] == ["000001.jpg", "000001.png"]
    (tmp_path / "rgb" / "train" / "000001.png").unlink()
    with pytest.raises(
        UserError, match="000001.jpg: expected one RGB image per pair, found it for 000001.jpg and 0000"
    ):
        open_own(tmp_path)
    (tmp_path / "rgb" / "train" / "000001.jpg").rename(tmp_path / "rgb" / "train" / "000001.tif")
    shutil.copy(tmp_path / "rgb/train/000001.tif", tmp_path / "rgb/train/000001.jpeg")
    with pytest.raises(UserError, match=r"000001\{.*\} of 000001.jpg, found 000001.jpeg, 000001.tif .and 1 more"):
        open_own(tmp_path)


def test_images_that_two_annotated_names_find_are_refused(tmp_path):
    """Folders in the names that are not there are passed over; then two videos must not become one."""
    make_tiny_own(tmp_path)
    names = iter(["set00/000001.jpg", "set01/000001.jpg"])

    def rename(content):
        for image in content["images"][:2]:
            image["file_name"] = next(names)

    edit_json(tmp_path / "annotations/train.json", rename)
    with pytest.raises(
        UserError, match="expected one thermal image per pair, found it for set00/000001.jpg and set01/"
    ):
        open_own(tmp_path)


@pytest.mark.parametrize("per_list", [True, False])
def test_one_name_in_two_lists(tmp_path, per_list):
    make_tiny_own(tmp_path, per_list=per_list)
    edit_json(tmp_path / "annotations/test.json", lambda c: c["images"][0].update(file_name="000001.jpg"))
    args = str(tmp_path), str(tmp_path / "my_set.yaml"), *OPTIONS
    if not per_list:
        with pytest.raises(
            UserError, match=r"expected disjoint train and test lists, found 1 pairs in both: 000001.jpg"
        ):
            open_data(*args)
        return
    for modality in ("thermal", "rgb"):
        folder = tmp_path / modality / "test"
        (folder / "000013.jpg").rename(folder / "000001.jpg")
    data = open_data(*args).data
    first = data.records["train"][0], data.records["test"][0]
    assert [record.file_name for record in first] == ["train/000001.jpg", "test/000001.jpg"]
    assert first[0].paths["thermal"] != first[1].paths["thermal"]


@pytest.mark.parametrize("mark", ["{}.xml", "{}.jpg", " {} "])
def test_lists_may_name_files(tmp_path, mark):
    make_tiny_own(tmp_path, "voc")
    path = tmp_path / "lists/train.txt"
    names = path.read_text().split()
    path.write_text("".join(f"{mark.format(name)}\n" for name in names))
    assert [Path(record.file_name).stem for record in open_own(tmp_path).records["train"]] == names
    path.write_text(path.read_text() + f"{names[0]}\n")
    with pytest.raises(UserError, match=f"{path}: line 13: expected each name once, found 000001 of line 1 again"):
        open_own(tmp_path)


MEAN = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
FAULTS = {
    "unknown field": ({"class": ["a"]}, r"expected the fields classes,.*, found class \(did you mean classes\?\)"),
    "no classes": ({"classes": None}, r"classes: expected this field, found only annotations, images"),
    "no images": ({"images": None}, r"images: expected this field, found only"),
    "no annotations": ({"annotations": None}, r"annotations: expected this field, found only"),
    "classes of no names": ({"classes": [1, 2]}, r"classes: expected a list of different names, found \[1, 2\]"),
    "classes twice": ({"classes": ["car", "car"]}, r"classes: expected a list of different names, found \['car', 'c"),
    "one class as text": ({"classes": "car"}, r"classes: expected a list of different names, found 'car'"),
    "images no mapping": ({"images": "x"}, r"images: expected thermal, rgb with a value each, found 'x'"),
    "images of another": (
        {"images": {"termal": "t", "rgb": "r"}},
        r"images: expected thermal, rgb, found termal \(did",
    ),
    "images of one": ({"images": {"rgb": "rgb"}}, r"images.thermal: expected this field, found rgb"),
    "image folder no path": ({"images": {"rgb": 3, "thermal": "t"}}, r"images.rgb: expected a path, found 3"),
    "no folder of a list": (
        {"images": {"rgb": {"train": "rgb"}, "thermal": "thermal"}},
        r"images.rgb.test: expected this field, found train",
    ),
    "annotations no mapping": ({"annotations": ["a"]}, r"annotations: expected train, val, test with a value each, f"),
    "no train": ({"annotations": {"test": "annotations/test.json"}}, r"annotations.train: expected this field, found"),
    "another list": (
        {"annotations": {"training": "a"}},
        r"annotations: expected train, val, test, found training \(di",
    ),
    "annotations no path": (
        {"annotations": {"train": None, "test": "annotations/test.json"}},
        r"annotations.train: expected a path, fou",
    ),
    "names no mapping": ({"names": ["a", "b"]}, r"names: expected thermal, rgb with a value each, found \['a', 'b'\]"),
    "names of one text": ({"names": {"rgb": ["a"]}}, r"names.rgb: expected two texts, .*, found \['a'\]"),
    "names of nothing": ({"names": {"rgb": ["", "b"]}}, r"names.rgb: expected two texts, .*, found \['', 'b'\]"),
    "aliases no mapping": ({"aliases": ["a"]}, r"aliases: expected other names with their class, found \['a'\]"),
    "alias of no class": ({"aliases": {"van": "lorry"}}, r"aliases.van: expected one of person, car, found 'lorry'"),
    "xml for nothing": ({"xml": "xml"}, r"xml: expected only beside a list of names, found 'xml' without one"),
    "normalization no mapping": ({"normalization": 1}, r"normalization: expected thermal, rgb with a value each, foun"),
    "no std": (
        {"normalization": {"rgb": {"mean": [0, 0, 0]}}},
        r"normalization.rgb.std: expected this field, found me",
    ),
    "mean of one": ({"normalization": {"rgb": MEAN | {"mean": [0.5]}}}, r"normalization.rgb.mean: expected three num"),
    "mean of 255": (
        {"normalization": {"rgb": MEAN | {"mean": [99, 99, 99]}}},
        r"rgb.mean: expected three numbers in 0",
    ),
    "std 0": (
        {"normalization": {"rgb": MEAN | {"std": [0, 1, 1]}}},
        r"rgb.std: expected numbers above 0, found \[0, 1",
    ),
    "one count": (
        {"thermal_counts": 7000},
        r"thermal_counts: expected \[dark, bright\] with dark < bright, found 7000",
    ),
    "counts turned": ({"thermal_counts": [9, 7]}, r"thermal_counts: expected \[dark, bright\] .*, found \[9, 7\]"),
    "counts NaN": ({"thermal_counts": [float("nan"), 7]}, r"thermal_counts: expected \[dark, bright\] .*, found \[nan"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_fields(tmp_path, fault):
    changes, words = FAULTS[fault]
    make_tiny_own(tmp_path)
    with pytest.raises(UserError, match=words) as error:
        open_own(tmp_path, **changes)
    assert str(error.value).startswith(f"{tmp_path / 'my_set.yaml'}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected the fields classes, .*, found None"),
        ("- a\n", r"expected the fields classes, .*, found \['a'\]"),
        ("a: [1\nb: 2\n", "expected a readable YAML file, found: while parsing"),
        (None, "expected a readable YAML file, found: .*No such file"),
    ],
)
def test_wrong_description(tmp_path, text, words):
    path = tmp_path / "my.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=f"--dataset {path}: {words}") as error:
        open_data_set(tmp_path, str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("none.json", r"none.json: expected a COCO annotation file, found none to read"),
        ("none.txt", r"none.txt: expected a COCO file, a list of names or a folder of XML files, found nothing$"),
        ("rgb", r"rgb: expected Pascal VOC files \(\*.xml\) directly in it, found none;"),
        ("lists/train.txt", r"my_set.yaml: xml: expected the folder of the XML files that .*, found no such field$"),
    ],
)
def test_annotations_that_are_not_there(tmp_path, train, words):
    make_tiny_own(tmp_path)
    with pytest.raises(UserError, match=words):
        open_own(tmp_path, annotations={"train": train, "test": "annotations/test.json"})
