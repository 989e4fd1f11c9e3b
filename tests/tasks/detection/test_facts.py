"""Another data set with the classes of a detector, and a test on one."""

import numpy as np
import pytest

from datasets.detection.opening import open_data_set
from main_darts_found_flira import main as found
from tasks.detection.facts import as_trained
from tests.run_commands import named, refused, run
from tests.tiny_sets import make_tiny_m3fd, make_tiny_own
from utils.errors import UserError
from utils.run_folder import read_json

GREY = {"thermal": ((0.5,) * 3, (0.2,) * 3)}


def boxes(data, origin: str) -> set[tuple]:
    """Return file name, class name and corner of each box, as the ground truth has them."""
    truth = data.ground_truth[origin]
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    classes = dict(zip(data.category_ids, data.classes))
    return {(names[a["image_id"]], classes.get(a["category_id"]), *a["bbox"][:2]) for a in truth["annotations"]}


def of_records(data, origin: str) -> set[tuple]:
    return {
        (record.file_name, data.classes[label], *box[:2].tolist())
        for record in data.records[origin]
        for box, label in zip(record.boxes_xyxy, record.labels)
    }


def test_classes_are_taken_by_name(tmp_path):
    data = open_data_set(make_tiny_m3fd(tmp_path), "m3fd")  # people, car, bus, motorcycle, lamp, truck
    fitted = as_trained(data, ["Bike", "Car", "people"], GREY)
    assert fitted.classes == ["Bike", "Car", "people"]
    assert fitted.category_ids[1:] == [data.category_ids[data.classes.index(name)] for name in ("car", "people")]
    assert fitted.category_ids[0] not in data.category_ids
    assert fitted.normalization == data.normalization | GREY
    for origin in data.records:
        kept = {(n, c, x, y) for n, c, x, y in boxes(data, origin) if c in ("car", "people")}
        assert {(n, c.lower(), x, y) for n, c, x, y in boxes(fitted, origin)} == kept != set()
        assert {(n, c.lower(), x, y) for n, c, x, y in of_records(fitted, origin)} == kept
        assert all(record.labels.dtype == np.int64 for record in fitted.records[origin])
    assert fitted.warnings[-1].startswith("m3fd: no class named Bike, so these are not scored (its classes are ")


def test_a_set_without_a_class_of_the_network(tmp_path):
    data = open_data_set(make_tiny_m3fd(tmp_path), "m3fd")
    with pytest.raises(
        UserError, match="--eval_dataset m3fd: expected a class of person, as the network has, found only"
    ):
        as_trained(data, ["person"], {})


def test_a_network_is_tested_on_another_set(in_work, tiny_flir, tiny_config, capsys, tmp_path):
    config = ["--config", tiny_config]
    trained = named(run(found, capsys, tiny_flir, *config, "--baseline", "sum", "--epochs", 1), "eval_exp_dir")
    other = make_tiny_own(tmp_path / "own")
    test = [other, *config, "--eval_exp_dir", trained, "--eval_dataset", other / "my_set.yaml"]
    text = run(found, capsys, *test)
    results = named(text, "results")
    content = read_json(results)
    assert (content["pairs"], content["AP_bike"]) == (4, None)
    assert content["AP"] == pytest.approx((content["AP_person"] + content["AP_car"]) / 2)
    assert content["eval_dataset"] == str(other / "my_set.yaml")
    assert "no class named bike" in text
    images = read_json(other / "annotations/test.json")["images"]
    assert {item["image_id"] for item in read_json(results.parent / "detections.json", list)} <= {
        i["id"] for i in images
    }
    assert "--eval_part val: expected split" in refused(found, capsys, *test, "--eval_part", "val")
    assert "--eval_dataset: expected --eval_exp_dir" in refused(
        found, capsys, *test[:3], *test[5:], "--baseline", "sum"
    )
