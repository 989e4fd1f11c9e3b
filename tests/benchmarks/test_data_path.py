"""The benchmark of the data path: both ways do equal work, and a row comes out."""

import json
import sys

import pytest
import torch

from benchmarks import data_path
from datasets.detection.opening import open_data_set

pytest.importorskip("effdet")


def test_both_ways_give_the_same_boxes_and_nearly_the_same_images(tiny_flir):
    data = open_data_set(tiny_flir)
    records = data.records["train"]
    ours = data_path.our_path(data, records, 64)
    theirs = data_path.import_effdet_path()(records, 64)
    for index in range(len(records)):
        sample, other = ours(index), theirs(index)
        height, width = (int(side * sample["scale"]) for side in sample["original_size"])
        for modality in data_path.MODALITIES:
            image, target = other[modality]
            assert (image.shape, image.dtype) == ((3, 64, 64), sample["images"][modality].numpy().dtype)
            pixels = (
                torch.from_numpy(image)[:, :height, :width].int() - sample["images"][modality][:, :height, :width].int()
            )
            assert pixels.abs().float().mean() < 6  # Pillow filters otherwise when it shrinks
            assert len(target["bbox"]) == len(sample["boxes_xyxy"])
            boxes = torch.from_numpy(target["bbox"][:, [1, 0, 3, 2]]).float()
            # That path cuts at the last whole pixel.
            torch.testing.assert_close(boxes, sample["boxes_xyxy"], atol=1, rtol=0)


def test_rows(tiny_flir, monkeypatch, capsys):
    rows = []
    monkeypatch.setattr(data_path, "append_row", lambda name, row: rows.append(row))
    argv = [str(tiny_flir), "--image_size", "32", "64", "--pairs", "3", "--runs", "1"]
    assert data_path.main(argv) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert [(row["image_size"], row["pairs"], row["files"]) for row in rows] == [
        (s, 3, tiny_flir.name) for s in (32, 64)
    ]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ours_pairs_per_s"] / row["effdet_pairs_per_s"], abs=0.01)


def test_without_a_folder_scenes_are_rendered(monkeypatch, capsys):
    monkeypatch.delenv("NAS_DSF_DATA", raising=False)
    rows = []
    monkeypatch.setattr(data_path, "append_row", lambda name, row: rows.append(row))
    assert data_path.main(["--image_size", "32", "--pairs", "1", "--runs", "1"]) == 0
    assert rows[0]["files"] == "road scenes of 640 px"


def test_without_effdet_one_line_says_so(tiny_flir, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "effdet.data.transforms", None)
    assert data_path.main([str(tiny_flir)]) == 2
    assert "requirements-dev.txt" in capsys.readouterr().err
