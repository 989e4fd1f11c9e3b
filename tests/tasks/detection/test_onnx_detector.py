"""ONNX detectors of many forms: pictures in, boxes out, against boxes by hand, white pixels and torchvision."""

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("onnx", reason="requirements-export.txt is not installed")
pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")

from models.detection.onnx_detector import OnnxDetector
from tasks.detection.onnx_description import FIELDS, read_description
from tasks.detection.onnx_file import open_onnx
from tasks.detection.onnx_inputs import extra_inputs, picture_input
from tasks.detection.onnx_outputs import outputs_of
from tests.tasks.detection.onnx_files import BYTE, FLOAT, constant_detector, white_box_detector, whole_picture_detector
from utils.errors import UserError

CLASSES = ["person", "bike", "car"]


def detector(path: Path, description: str, classes: list[str] = CLASSES) -> OnnxDetector:
    """Return the detector of a file with this description beside it."""
    path.with_suffix(".yaml").write_text(description)
    file = open_onnx(str(path))
    fields, source = read_description(file, None)
    picture, extra = picture_input(file, fields, source), extra_inputs(file, fields, source)
    return OnnxDetector(file.run, "rgb", picture, extra, outputs_of(file, fields, classes, source))


def detect(model: OnnxDetector, picture: torch.Tensor) -> dict:
    (found,) = model.head.detect(model({"rgb": picture[None]}), {})
    return {name: values.tolist() for name, values in found.items()}


RESIZES = ("letterbox", "letterbox_centre", "stretch")


@pytest.mark.parametrize(("resize", "dtype"), [*product(RESIZES, (FLOAT,)), ("letterbox_centre", BYTE)])
def test_white_pixels_are_found_in_pixels_of_the_picture(tmp_path, resize, dtype):
    """Of pictures that are larger, smaller, wide and high; the last column and row are white in one of them."""
    model = detector(
        white_box_detector(tmp_path / "white.onnx", [1, 3, 96, 64], dtype), f"names: [car]\nresize: {resize}"
    )
    for (height, width), (x1, y1, x2, y2) in {
        (192, 320): (80, 32, 192, 128),
        (48, 32): (4, 8, 20, 33),
        (30, 200): (150, 6, 200, 30),
        (96, 64): (1, 2, 3, 5),
    }.items():
        picture = torch.zeros(3, height, width, dtype=torch.uint8)
        picture[:, y1:y2, x1:x2] = 255
        found = detect(model, picture)
        assert found["labels"] == [2]
        # A resize mixes pixels: up to one of the input, or half of one of the picture, at each edge.
        fit = model.picture.fit(height, width)
        px = [max(1.6 / scale, 0.6) for scale in (fit.scale_x, fit.scale_y)] * 2
        px = px if (height, width) != (96, 64) else [1e-4] * 4
        for value, expected, tolerance in zip(found["boxes_xyxy"][0], (x1, y1, x2, y2), px):
            assert abs(value - expected) <= tolerance, (height, width, found)


def test_boxes_come_back_from_each_resize_as_they_went():
    """A box of the picture, placed as the picture is, comes back as it was."""
    from models.detection.onnx_input import PictureInput

    for resize, (height, width) in product(RESIZES, [(480, 640), (33, 777), (512, 512), (900, 31)]):
        fit = PictureInput("x", "float32", "nchw", resize=resize, size=(320, 416)).fit(height, width)
        box = torch.tensor([[0.25 * width, 0.5 * height, width, height]], dtype=torch.float64)
        offset = torch.tensor([fit.left, fit.top] * 2)
        inside = box * torch.tensor([fit.scale_x, fit.scale_y] * 2) + offset
        assert (inside[:, 2:] <= torch.tensor(fit.input[::-1]) + 0.5).all()
        torch.testing.assert_close(fit.to_picture(inside), box)
        assert fit.top == (fit.input[0] - fit.resized[0]) // 2 * (resize == "letterbox_centre")


# 64x32 pictures in an input of 128x64, so that boxes are halved; two boxes in every form.
SHAPE = [1, 3, 128, 64]
XYXY = np.float32([[8, 16, 40, 64], [0, 0, 64, 128]])
CXCYWH = np.float32([[24, 40, 32, 48], [32, 64, 64, 128]])
EXPECTED = {"boxes_xyxy": [[4, 8, 20, 32], [0, 0, 32, 64]], "scores": [0.75, 0.5], "labels": [0, 2]}
SCORES, LABELS = np.float32([0.75, 0.5]), np.array([0, 1])
NAMES = "names: [person, car]\n"
BLACK = torch.zeros(3, 64, 32, dtype=torch.uint8)
PER_CLASS = np.float32([[0.75, 0], [0, 0.5]])
LOGITS = np.float32([[np.log(3), -20], [-20, 0]])
ROWS = np.concatenate([XYXY, SCORES[:, None], LABELS[:, None].astype(np.float32)], axis=1)
RELATIVE = ROWS[:, [5, 4, 0, 1, 2, 3]] / np.float32([1, 1, 64, 128, 64, 128])  # label, score, box
FORMS = {
    "three outputs": ("", {"boxes": XYXY, "scores": SCORES, "labels": LABELS}),
    "with a batch axis, any names, float labels": (
        "boxes: a\nscores: b\nlabels: c\n",
        {"a": XYXY[None], "b": SCORES[None], "c": LABELS[None].astype(np.float32)},
    ),
    "torchvision's, with numbers for names": ("", {"o1": XYXY, "o2": LABELS, "o3": SCORES}),
    "TensorFlow's": (
        "first_label: 1\n",
        {
            "num_detections": np.float32([2]),
            "detection_boxes": np.pad(XYXY[:, [1, 0, 3, 2]] / np.float32([128, 64, 128, 64]), ((0, 3), (0, 0)))[None],
            "detection_scores": np.float32([[0.75, 0.5, 0.4, 0.4, 0.4]]),
            "detection_classes": np.float32([[1, 2, 1, 1, 1]]),
        },
    ),
    "x, y, width, height": (
        "box_form: xywh\n",
        {"boxes": np.float32([[8, 16, 32, 48], [0, 0, 64, 128]]), "scores": SCORES, "labels": LABELS},
    ),
    "boxes on a map of stride 4": ("box_unit: 4\n", {"boxes": XYXY / 4, "scores": SCORES, "labels": LABELS}),
    "labels from 1": ("first_label: 1\n", {"boxes": XYXY, "scores": SCORES, "labels": LABELS + 1}),
    "padded": (
        "",
        {
            "boxes": np.float32([*XYXY, [0, 0, 0, 0], [-1, -1, -1, -1]]),
            "scores": np.float32([*SCORES, 0, -1]),
            "labels": np.array([*LABELS, 0, -1]),
        },
    ),
    "a score per class": ("", {"boxes": XYXY[None], "scores": PER_CLASS[None]}),
    "logits": ("activation: sigmoid\n", {"boxes": XYXY[None], "scores": LOGITS[None]}),
    "DETR's": (
        "boxes: pred_boxes\nscores: logits\nbox_form: cxcywh\nbox_unit: relative\nactivation: softmax\nnms: none\n",
        {
            "logits": np.float32([[[np.log(3), -20, 0], [-20, 0, 0]]]),
            "pred_boxes": (CXCYWH / np.float32([64, 128, 64, 128]))[None],
        },
    ),
    "rows of six": ("columns: [box, score, label]\n", {"output0": ROWS[None]}),
    "rows of six, first axes": ("columns: [box, score, label]\n", {"output0": np.pad(ROWS, ((0, 5), (0, 0))).T[None]}),
    "rows of seven, of YOLOv7": (
        "columns: [other, box, label, score]\n",
        {"output": np.insert(ROWS[:, [0, 1, 2, 3, 5, 4]], 0, 0, axis=1)},
    ),
    "mmdeploy's": ("", {"labels": LABELS[None], "boxes": XYXY[None], "scores": SCORES[None]}),
    "boxes with their scores, labels apart": (
        "detections: dets\nlabels: labels\n",
        {"dets": ROWS[None, :, :5], "labels": LABELS[None]},
    ),
    "of SSD, 4 axes": (
        "columns: [other, label, score, box]\nbox_unit: relative\n",
        {"out": np.insert(RELATIVE, 0, 0, axis=1)[None, None]},
    ),
    "half precision": ("", {"boxes": XYXY.astype("f2"), "scores": SCORES.astype("f2"), "labels": LABELS}),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_boxes_in_every_form(tmp_path, form):
    description, outputs = FORMS[form]
    model = detector(constant_detector(tmp_path / "file.onnx", SHAPE, **outputs), NAMES + description)
    found = detect(model, torch.zeros(3, 64, 32, dtype=torch.uint8))
    for name, expected in EXPECTED.items():
        np.testing.assert_allclose(found[name][:2], expected, atol=1e-3)
    assert all(score < 1e-6 for score in found["scores"][2:])


@pytest.mark.parametrize("version", ["v5", "v8", "v8 rows", "one class"])
def test_raw_yolo_is_suppressed_per_class(tmp_path, version):
    """Of four boxes one is all but the first one, of the same class, and goes; the same of another class stays."""
    boxes = np.float32([[24, 40, 32, 48], [25, 40, 32, 48], [24, 40, 32, 48], [32, 64, 64, 128]])
    scores = np.float32([[0.9, 0.01], [0.8, 0], [0, 0.7], [0, 0.6]])
    names = "names: {0: person, 1: car}\n"
    if version == "v5":
        rows = np.concatenate([boxes, np.float32([[0.5], [0.5], [0.5], [0.5]]), scores], axis=1)[None]
        expected = [(0.45, 0), (0.35, 2), (0.3, 2)]
    elif version == "one class":
        names, scores = "names: [person]\ncolumns: [box, class_scores]\n", scores.max(axis=1, keepdims=True)
        rows, expected = np.concatenate([boxes, scores], axis=1).T[None], [(0.9, 0), (0.6, 0)]
    else:
        rows = np.concatenate([boxes, scores], axis=1)[None]
        rows, expected = rows if "rows" in version else rows.swapaxes(1, 2), [(0.9, 0), (0.7, 2), (0.6, 2)]
        names += "columns: [box, class_scores]\n" * ("rows" in version)
    model = detector(constant_detector(tmp_path / "yolo.onnx", SHAPE, output0=np.ascontiguousarray(rows)), names)
    found = detect(model, torch.zeros(3, 64, 32, dtype=torch.uint8))
    found = [(round(score, 3), label) for score, label in zip(found["scores"], found["labels"]) if score > 0.1]
    assert found == expected


def test_a_picture_becomes_the_array_that_is_described(tmp_path):
    """Blue first, channels last, ImageNet's numbers, a grey margin: by NumPy, without a resize."""
    outputs = {"boxes": XYXY, "scores": SCORES, "labels": LABELS}
    description = NAMES + "channels: bgr\nmean: [0.4, 0.5, 0.6]\nstd: [0.1, 0.2, 0.3]\nfill: [10, 20, 30]\n"
    model = detector(constant_detector(tmp_path / "a.onnx", [1, 48, 40, 3], **outputs), description)
    picture = torch.randint(0, 256, (3, 48, 30), dtype=torch.uint8)
    array = model.picture.array(picture, model.picture.fit(48, 30))
    expected = np.tile(np.array([30, 20, 10]), (48, 40, 1)).astype(np.float64)
    expected[:, :30] = picture.flip(0).permute(1, 2, 0)
    np.testing.assert_allclose(array[0], (expected / 255 - [0.4, 0.5, 0.6]) / [0.1, 0.2, 0.3], atol=1e-5)
    thermal = detector(constant_detector(tmp_path / "b.onnx", [3, 48, 30], BYTE, **outputs), NAMES)
    grey = thermal.picture.array(picture[:1], thermal.picture.fit(48, 30))
    assert (grey == picture[:1].numpy()).all()
    assert (grey.shape, grey.dtype) == ((3, 48, 30), np.uint8)


def test_inputs_of_free_size_hold_the_picture(tmp_path):
    file = constant_detector(tmp_path / "free.onnx", [1, 3, None, None], boxes=XYXY, scores=SCORES, labels=LABELS)
    for description, size, scale in (
        ("", (50, 70), 1),
        ("multiple: 32\n", (64, 96), 1),
        ("size: 140\n", (140, 140), 2),
        ("size: [140, 140]\nmultiple: 32\nresize: letterbox_centre\n", (128, 160), 2),
    ):
        fit = detector(file, NAMES + description).picture.fit(50, 70)
        assert (fit.input, fit.scale_x, fit.scale_y) == (size, scale, scale)
    assert (fit.top, fit.left) == ((128 - 100) // 2, (160 - 140) // 2)


def test_a_second_input_says_how_large_the_first_is(tmp_path):
    file = whole_picture_detector(tmp_path / "sizes.onnx", [1, 3, 96, 64])
    description = "names: [car]\nextra_inputs: {sizes: size_wh}\nresize: "
    picture = torch.zeros(3, 30, 50, dtype=torch.uint8)
    assert detect(detector(file, description + "stretch"), picture)["boxes_xyxy"] == [[0, 0, 50, 30]]
    centred = detect(detector(file, description + "letterbox_centre"), picture)
    assert centred["boxes_xyxy"] == [[0, 0, 50, 30]]  # the margins are cut


def test_metadata_stand_in_for_a_description(tmp_path):
    """Names, and the size of free axes, as Ultralytics writes them; a description goes before."""
    rows = np.concatenate([CXCYWH, PER_CLASS, np.zeros((2, 1), np.float32)], axis=1).T[None].copy()
    metadata = {"names": "{0: 'person', 1: 'automobile', 2: 'traffic light'}", "stride": "32", "imgsz": "[128, 64]"}
    file = constant_detector(tmp_path / "yolo.onnx", [1, 3, None, None], metadata=metadata, output0=rows)
    model = detector(file, "classes: {automobile: car}")
    assert detect(model, torch.zeros(3, 64, 32, dtype=torch.uint8))["labels"] == [0, 2]
    assert model.picture.words == "float32 rgb 0..1, 128x64, resize letterbox_centre"
    assert detector(file, "classes: {automobile: car}\nresize: none").picture.words.endswith("any size, resize none")
    with pytest.raises(ValueError, match="classes: expected a name for one of person, bike, car, found none among"):
        detector(file, "names: [tree, house, lamp]")


MISTAKES = {  # description -> the error; three outputs of a detector of 64x128 px
    "": "names: expected the detector's class names (or coco80, coco90, coco91), found none",
    "names: [tree]": "classes: expected a name for one of person, bike, car, found none among ['tree']",
    "names: [tree]\nclasses: {tree: oak}": "classes.tree: expected person, bike, car or none, found 'oak'",
    "names: [car]\nclasses: {cat: car}": "classes.cat: expected a name of the detector, found none (did you mean car?)",
    "names: {1: car}": "names: expected a list of names",
    "names: [car]\nsize: 320": "size: expected 128x64 as of picture, found (320, 320)",
    "names: [car]\nresize: fit": "resize: expected letterbox or letterbox_centre or stretch or none, found 'fit'",
    "names: [car]\nmultiple: 32": "multiple: expected none with an input of fixed size 128x64, found 32",
    "names: [car]\nlayout: hwc": "layout: expected nchw or nhwc, found hwc for 4 axes",
    "names: [car]\nboxes: box": "boxes: expected an output of boxes, scores, labels, found box (did you mean boxes?)",
    "names: [car]\nboxes: boxes": "scores: expected an output or a column with them, found none",
    "names: [car]\ncolumns: [box]": "columns: expected detections beside it, found none",
    "names: [car]\nactivation: softmax": "activation: expected sigmoid or none for one score per box, found softmax",
    "names: [car]\nextra_inputs: {a: ones}": "extra_inputs: expected an input a of numbers, found only picture",
    "names: [car]\nnames_: 1": "expected the fields",
    "names: [car]\nstd: [0, 1, 1]": "std: expected a list of one or three numbers above 0",
    "names: [car]\ninput: x": "input: expected the name of the input that takes the picture, of picture",
}


@pytest.mark.parametrize("description", MISTAKES)
def test_a_wrong_description_is_one_line_that_names_the_field(tmp_path, description):
    file = constant_detector(tmp_path / "a.onnx", SHAPE, boxes=XYXY, scores=SCORES, labels=LABELS)
    with pytest.raises(ValueError, match=re.escape(MISTAKES[description])):
        detector(file, description)


LABEL = "output labels: expected whole labels from 0 to 1, as there are names, found"
WRONG = {  # outputs that are not as described, and the error
    "labels beyond": (
        {"labels": np.array([0, 9])},
        f"{LABEL} 9; names",
    ),
    "a label that is no number": ({"labels": np.float32([0, np.nan])}, f"{LABEL} nan"),
    "an infinite label": ({"labels": np.float32([-np.inf, 1])}, f"{LABEL} -inf"),
    "half a label": ({"labels": np.float32([0, 0.5])}, f"{LABEL} 0.5"),
    "a negative label": ({"labels": np.array([-1, 1])}, f"{LABEL} -1"),
    "inverted": (
        {"boxes": XYXY[:, [2, 1, 0, 3]]},
        "output boxes: expected x1 <= x2 and y1 <= y2 of boxes in box_form xyxy, found [40, 16, 8, 64]",
    ),
    "logits": ({"scores": np.float32([0.5, 3.5])}, "output scores: expected scores in 0..1, found 3.5; activation"),
    "not a number": ({"scores": np.float32([0.5, np.nan])}, "output scores: expected scores in 0..1, found nan"),
    "infinite": ({"boxes": XYXY + np.float32([[0], [np.inf]])}, "output boxes: expected finite numbers, found others"),
    "other lengths": ({"scores": SCORES[:1]}, "output scores: expected 2 numbers, one for each box, found shape (1,)"),
    "no boxes": ({"boxes": XYXY[:, :3]}, "output boxes: expected shape (N, 4), found (2, 3)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_outputs_are_one_line_that_names_the_output(tmp_path, case):
    outputs, error = WRONG[case]
    arrays = {"boxes": XYXY, "scores": SCORES, "labels": LABELS} | outputs
    model = detector(
        constant_detector(tmp_path / "a.onnx", SHAPE, **arrays),
        NAMES + "boxes: boxes\nscores: scores\nlabels: labels\n",
    )
    with pytest.raises(ValueError, match=re.escape(f"a.onnx: {error}")):
        detect(model, torch.zeros(3, 8, 8, dtype=torch.uint8))


COUNTS = {  # of two rows, and what is found
    "no number": (np.float32([np.nan]), "nan"),
    "infinite": (np.float32([np.inf]), "inf"),
    "negative": (np.array([-1]), "-1"),
    "fractional": (np.float32([1.5]), "1.5"),
    "of more than the rows": (np.array([[3]]), "3"),
    "empty": (np.zeros((1, 0), np.int64), "shape (1, 0)"),
    "of two pictures": (np.array([1, 1]), "shape (2,)"),
}


@pytest.mark.parametrize("case", COUNTS)
def test_a_wrong_count_is_one_line(tmp_path, case):
    count, found = COUNTS[case]
    error = f"a.onnx: output count: expected a whole number from 0 to 2, as there are rows, found {found}"
    with pytest.raises(UserError, match=re.escape(error)):
        detect(counting(tmp_path, count), BLACK)


def test_a_count_keeps_the_first_rows(tmp_path):
    for count, expected in ((0, []), (1, [0]), (2, [0, 2])):
        assert detect(counting(tmp_path, np.float32([count])), BLACK)["labels"] == expected


def counting(folder: Path, count: np.ndarray) -> OnnxDetector:
    """Return a detector of two rows that says how many of them count."""
    outputs = {"boxes": XYXY, "scores": SCORES, "labels": LABELS, "count": count}
    return detector(constant_detector(folder / "a.onnx", SHAPE, **outputs), NAMES)


def test_padding_may_have_any_label_and_box(tmp_path):
    outputs = {"boxes": XYXY[:, [2, 1, 0, 3]], "scores": np.float32([0, -1]), "labels": np.float32([np.nan, 0.5])}
    assert detect(detector(constant_detector(tmp_path / "a.onnx", SHAPE, **outputs), NAMES), BLACK)["labels"] == []


def test_boxes_in_pixels_are_not_relative(tmp_path):
    """Those of most boxes: one alone may lie outside."""
    description, scores, labels = NAMES + "box_unit: relative\n", np.float32([0.9, 0.8, 0.1]), np.array([0, 1, 1])
    inside = XYXY / np.float32([64, 128, 64, 128])
    for boxes, refused in ((np.append(XYXY, inside[:1], 0), True), (np.append(inside, 3 * inside[1:], 0), False)):
        outputs = {"boxes": boxes, "scores": scores, "labels": labels}
        model = detector(constant_detector(tmp_path / "a.onnx", SHAPE, **outputs), description)
        if refused:
            error = "output boxes: expected coordinates in 0..1, as box_unit is relative, found [8, 16, 40, 64]"
            with pytest.raises(UserError, match=re.escape(error)):
                detect(model, BLACK)
        else:
            assert detect(model, BLACK)["labels"] == [0, 2, 2]


@pytest.mark.parametrize("part", ["boxes", "scores", "labels"])
def test_outputs_of_texts_or_truth_values_are_refused_where_they_are_read(tmp_path, part):
    for odd in (np.array([["0"] * 4] * 2, object), np.zeros((2, 4), bool)):
        outputs = {"boxes": XYXY, "scores": SCORES, "labels": LABELS.astype(np.uint32), "odd": odd}
        file = constant_detector(tmp_path / "a.onnx", SHAPE, **outputs)
        parts = {"boxes": "boxes", "scores": "scores", "labels": "labels"}
        assert detect(detector(file, NAMES + yaml.safe_dump(parts)), BLACK)["labels"] == [0, 2]
        with pytest.raises(UserError, match=r"output odd: expected a type of float32, .*uint64, found another$"):
            detector(file, NAMES + yaml.safe_dump(parts | {part: "odd"}))


def test_six_columns_that_may_be_two_things_are_asked_for(tmp_path):
    file = constant_detector(tmp_path / "a.onnx", SHAPE, output0=ROWS[None])
    with pytest.raises(ValueError, match=r"columns: expected those of output output0, .* \[box, class_scores\]"):
        detector(file, NAMES)


def test_exports_of_two_sensors_or_raw_ones_are_refused(tmp_path):
    facts = {
        "sensors": ["rgb", "thermal"],
        "raw": False,
        "classes": CLASSES,
        "fill": {"rgb": [1, 2, 3], "thermal": [4]},
    }
    for changed, error in (
        ({}, "expected a detector of one sensor, found one of rgb and thermal"),
        ({"sensors": ["rgb"], "raw": True}, "found one that was made with --raw"),
        ({"sensors": ["radar"]}, "metadata nas_dsf: sensors: expected a list of rgb and thermal"),
    ):
        metadata = {"nas_dsf": json.dumps(facts | changed)}
        file = constant_detector(
            tmp_path / "a.onnx", SHAPE, metadata=metadata, boxes=XYXY, scores=SCORES, labels=LABELS
        )
        with pytest.raises(ValueError, match=error):
            detector(file, NAMES)


def test_tensors_in_a_file_beside_it_are_part_of_the_file(tmp_path):
    import onnx

    path = constant_detector(tmp_path / "a.onnx", SHAPE, boxes=XYXY, scores=SCORES, labels=LABELS)
    model, size = onnx.load(path), {"size_threshold": 0, "convert_attribute": True}
    onnx.save(model, path, save_as_external_data=True, location="a.data", **size)
    file = open_onnx(str(path))
    assert sorted(file.digests) == ["a.data", "a.onnx"]
    assert file.num_parameters == XYXY.size + SCORES.size
    (tmp_path / "a.data").unlink()
    with pytest.raises(ValueError, match=r"a\.data, found no such file"):
        open_onnx(str(path))


def test_the_examples_of_the_page_are_descriptions():
    page = (Path(__file__).parents[3] / "docs/onnx_detectors.md").read_text(encoding="utf-8")
    examples = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert len(examples) == 3
    for example in examples:
        for name, value in example.items():
            assert FIELDS[name][0](value), (name, value)
    rows = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE))))
    assert set(FIELDS) <= rows
