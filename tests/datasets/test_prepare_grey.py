"""Colour pictures with grey copies as pairs: the copies, the boxes, and what is refused."""

import numpy as np
from PIL import Image

from datasets.detection.opening import open_data_set
from datasets.prepare_grey import main
from tests.run_commands import refused, run
from tests.tiny_sets import make_tiny_coco


def test_pairs_of_a_picture_and_its_grey_copy(tmp_path, capsys):
    coco, out = make_tiny_coco(tmp_path / "coco"), tmp_path / "out"
    assert f"--dataset {out / 'set.yaml'}" in run(main, capsys, coco, out)
    singles, pairs = open_data_set(coco, "coco"), open_data_set(out, str(out / "set.yaml"))
    assert pairs.modalities == ("rgb", "thermal")
    assert pairs.classes == singles.classes
    for origin, records in singles.records.items():
        assert len(pairs.records[origin]) == len(records) > 0
        for single, pair in zip(records, pairs.records[origin], strict=True):
            assert np.array_equal(single.boxes_xyxy, pair.boxes_xyxy)
            assert np.array_equal(single.labels, pair.labels)
            colour = np.asarray(Image.open(pair.paths["rgb"]))
            assert np.array_equal(colour, np.asarray(Image.open(single.paths["rgb"])))
            grey = np.asarray(Image.open(pair.paths["thermal"])).astype(int)
            luma = colour @ (0.299, 0.587, 0.114)  # ITU-R BT.601
            assert grey.shape == luma.shape
            assert np.abs(grey - luma).mean() < 3  # JPEG


def test_refused(tmp_path, tiny_flir, capsys):
    assert "colour pictures alone" in refused(main, capsys, tiny_flir, tmp_path / "a", "--dataset", "flir_aligned")
    coco = make_tiny_coco(tmp_path / "coco")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert "new or empty" in refused(main, capsys, coco, tmp_path / "full")
