"""The comparison of two sides: a changed digit is found wherever it stands, and what may differ is no difference."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.same_numbers import __main__ as same_numbers
from benchmarks.same_numbers.cases import CASES, chosen, recipe
from benchmarks.same_numbers.compare import Comparison, as_format_1, comparable, differences, files_of
from benchmarks.same_numbers.sides import side_of
from utils.errors import UserError

GENOTYPE = {"format": 1, "cells": [{"edges": [["skip", 0]]}], "id": "ab", "meta": {"AP_val": 0.25, "args": {"C": 16}}}
RUN = {
    "genotype.json": GENOTYPE,
    "detections.json": [{"image_id": "a", "bbox": [1.0, 2.0, 3.5, 4.25], "score": 0.123456789}],
    "results.json": {"AP": 0.5, "AP_person": None, "commit": "abc", "eval_exp_dir": "runs/found-EXP-20260101-000000"},
    "metrics.jsonl": [{"epoch": 0, "train_loss": 1.5, "pairs_per_s": 3.0}, {"epoch": 1, "train_loss": 1.25}],
}


def write_run(folder: Path, moment: str, changes: dict | None = None) -> Path:
    """Write a side with one run; `changes` replaces the content of files."""
    run = folder / "runs" / f"search-EXP-{moment}"
    run.mkdir(parents=True)
    for name, content in (RUN | (changes or {})).items():
        rows = content if name.endswith(".jsonl") else [content]
        (run / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    torch.save({"model": {"w": torch.arange(4.0)}, "args": {"moment": moment}}, run / "best.pt")
    return folder


@pytest.fixture
def first(tmp_path) -> Path:
    return write_run(tmp_path / "a", "20260101-000000")


def compared(first: Path, tmp_path: Path, changes: dict | None = None) -> Comparison:
    comparison = Comparison()
    comparison.compare(first, write_run(tmp_path / "b", "20261231-235959-1", changes), "case")
    return comparison


def test_equal_runs_of_other_moments_do_not_differ(first, tmp_path):
    results = RUN["results.json"] | {"commit": "other", "eval_exp_dir": "runs/found-EXP-20270202-111111"}
    metrics = [row | {"pairs_per_s": 5.0, "val_seconds": 2.0} for row in RUN["metrics.jsonl"]]
    told = compared(first, tmp_path, {"results.json": results, "metrics.jsonl": metrics})
    assert (told.num_files, told.differences, told.notes) == (5, [], {})


CHANGES = {
    "genotype.json": (GENOTYPE | {"cells": [{"edges": [["skip", 1]]}]}, "cells[0].edges[0][1]", "0", "1"),
    "detections.json": (
        [RUN["detections.json"][0] | {"score": 0.123456788}],
        "[0].score",
        "0.123456789",
        "0.123456788",
    ),
    "results.json": (RUN["results.json"] | {"AP_person": 0.0}, "AP_person", "null", "0.0"),
    "metrics.jsonl": (RUN["metrics.jsonl"][:1], "[1]", '{"epoch": 1, "train_loss": 1.25}', "nothing"),
}


@pytest.mark.parametrize("file", CHANGES)
def test_a_changed_digit_is_found(first, tmp_path, file):
    content, *expected = CHANGES[file]
    (found,) = compared(first, tmp_path, {file: content}).differences
    assert found == (f"case/runs/search-EXP-TIME/{file}", *expected)


def test_a_changed_weight_is_found(first, tmp_path):
    second = write_run(tmp_path / "b", "20260101-000000")
    path = second / "runs/search-EXP-20260101-000000/best.pt"
    for state, key in (
        ({"w": torch.tensor([0.0, 1.0, 2.0000002, 3.0])}, "w: 1 of 4 numbers, the first at 2"),
        ({"w": torch.arange(4)}, "w"),
        ({"v": torch.arange(4.0)}, "w"),
    ):
        torch.save({"model": state}, path)
        comparison = Comparison()
        comparison.compare(first, second, "case")
        assert comparison.differences[0].key == key


def test_a_missing_file_is_a_difference_and_a_new_one_a_remark(first, tmp_path):
    second = write_run(tmp_path / "b", "20260101-000000", {"costs.json": {"macs": 1}})
    (second / "runs/search-EXP-20260101-000000/results.json").unlink()
    comparison = Comparison()
    comparison.compare(first, second, "case")
    assert [(d.file, d.b) for d in comparison.differences] == [("case/runs/search-EXP-TIME/results.json", "nothing")]
    assert comparison.notes == {"costs.json: B alone has it": 1}


def test_format_2_is_converted_before(first, tmp_path):
    told = compared(first, tmp_path, {"genotype.json": {"format": 2, "parts": {"fusion": GENOTYPE}}})
    assert told.differences == []
    assert told.notes == {"genotype.json: of format 2, compared after conversion": 1}
    changed = GENOTYPE | {"id": "cd"}
    assert list(differences(GENOTYPE, comparable({"format": 2, "parts": {"cells": changed}}))) == [
        ("id", '"ab"', '"cd"')
    ]
    several = {"format": 2, "parts": {"fusion": GENOTYPE, "neck": GENOTYPE}}
    assert as_format_1(several) == several


def test_options_of_one_side_are_remarks_and_changed_ones_differences(first, tmp_path):
    meta = GENOTYPE["meta"] | {"args": {"C": 24, "freeze_parts": []}}
    told = compared(
        first,
        tmp_path,
        {"genotype.json": GENOTYPE | {"meta": meta}, "results.json": RUN["results.json"] | {"classes": []}},
    )
    assert [(d.key, d.a, d.b) for d in told.differences] == [("meta.args.C", "16", "24")]
    assert told.notes == {"option freeze_parts: B alone has it": 1, "results.json: classes: B alone has it": 1}


def test_kinds_of_numbers_differ_and_nan_equals_itself():
    assert [key for key, *_ in differences({"a": 1, "b": 1, "c": 0}, {"a": 1.0, "b": True, "c": False})] == [
        "a",
        "b",
        "c",
    ]
    nan = {"a": float("nan"), "b": torch.tensor([float("nan"), 1.0])}
    assert list(differences(nan, {"a": float("nan"), "b": nan["b"].clone()})) == []


def test_runs_of_one_moment_are_paired_in_order(tmp_path):
    for moment in ("20260101-000000", "20260101-000000-1", "20260101-000002"):
        write_run(tmp_path, moment)
    names = [name for name in files_of(tmp_path) if "genotype" in name]
    assert names == [f"runs/search-EXP-TIME/genotype.json{more}" for more in ("", " (2)", " (3)")]


def test_cases_bring_what_they_need_and_know_their_recipe():
    assert chosen([]) == [*CASES]
    assert chosen(["train_searched"]) == ["data", "pretrain_flira", "search_darts", "train_searched"]
    assert set(recipe("search_darts")) < set(recipe("train_searched"))


def test_what_is_not_there_is_refused_in_a_line(tmp_path, capsys):
    with pytest.raises(UserError, match="no_such: expected a commit"):
        side_of("no_such", tmp_path)
    for argv in (["HEAD", "--no-such"], ["HEAD", "HEAD", "--only", "x"], ["no_such", "HEAD"]):
        assert same_numbers.main(argv) == 2, argv
        assert capsys.readouterr().err.startswith("error: ")
