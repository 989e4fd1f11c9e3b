"""Whatever bytes a file holds: it is read, repaired as documented, or refused in one line that names it.

The readers, and what of an accepted file is checked, are those of benchmarks/bad_inputs.py. What is drawn is the same
in every run.
"""

import copy
import json
import os
import random
import re
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.bad_inputs import OUTCOMES, READERS, RUN, named, outcome
from benchmarks.bad_inputs import main as measure_all
from benchmarks.rows import read_rows
from datasets.detection.annotations import is_file_name
from datasets.detection.coco_json import parse_coco
from models.search.architecture import architecture_from_json
from models.search.fusion_cells.genotype_file import FusionReader, parse_text
from tasks.detection.flira import FLIRA
from tasks.detection.stream_files import head_classes, stream_sizes
from tests import spoil
from utils import checkpoint
from utils.errors import MAX_LINE, UserError, printable, short
from utils.untrusted import INHERITED, check_field, check_fields, check_plain, read_yaml

drawn = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SEEDS = st.integers(0, 2**32)
NAMES = st.sampled_from(("images", "file_name", "bbox", "cells", "edges", "format", "C", "", "\x1b[2J", "\u202e"))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(spoil.ODD)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))


@pytest.fixture(scope="module", params=READERS)
def good(request, tmp_path_factory):
    """A reader, its good file and that file's content."""
    reader = READERS[request.param]
    path = reader.make(tmp_path_factory.mktemp("good"))
    return reader, path, path.read_bytes()


@pytest.fixture
def standing(good, monkeypatch):
    """The same, standing in the folder, with the good content put back."""
    _, path, content = good
    folder = next((p for p in path.parents if (p / "my_set.yaml").exists()), path.parent)
    monkeypatch.chdir(folder)
    yield good
    path.write_bytes(content)


@drawn
@given(seed=SEEDS)
def test_spoiled_files(standing, seed):
    reader, path, content = standing
    assert outcome(reader, path, reader.spoil(random.Random(seed), content)) in OUTCOMES


@drawn
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes(standing, content):
    reader, path, _ = standing
    assert outcome(reader, path, content) in OUTCOMES


@drawn
@given(value=VALUES)
def test_any_json(standing, value):
    """JSON is YAML as well."""
    reader, path, _ = standing
    assert outcome(reader, path, json.dumps(value).encode()) in OUTCOMES


def refused_or(read, *args):
    """Return what a function returns, or None where it refuses in a line that names f.x."""
    try:
        return read(*args)
    except UserError as error:
        line = printable(str(error))
        assert "f.x" in line
        assert line.isprintable()
        return None


def check_a_run(state: dict) -> None:
    check_fields(state, "f.x", options=FLIRA.rebuilt_from, fields=FLIRA.fields)


@drawn
@given(value=VALUES)
def test_values_in_the_place_of_any_field(value, tmp_path):
    """Of a genotype, a COCO file, a run's checkpoint, the options of a run."""
    inputs, levels = ("thermal/bifpn1", "rgb/bifpn1"), ("P3",)
    readers = {"fusion": FusionReader(inputs, levels, 8)}
    refused_or(architecture_from_json, value, "f.x", readers)
    refused_or(architecture_from_json, {"format": 2, "parts": value}, "f.x", readers)
    refused_or(architecture_from_json, {"format": 2, "parts": {"fusion": value}}, "f.x", readers)
    for name in RUN:
        refused_or(check_a_run, {**copy.deepcopy(RUN), name: value, "model": {}})
    for name, check in INHERITED.items():
        refused_or(check_field, {name: value}, name, check, "f.x")
    coco = {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "annotations": []}
    coco["categories"] = [{"id": 1, "name": "person"}]
    for place in (coco, coco["images"][0], coco["categories"][0]):
        for name in list(place):
            before = place[name]
            place[name] = value
            (tmp_path / "f.x").write_text(json.dumps(coco))
            place[name] = before
            refused_or(parse_coco, tmp_path / "f.x", ["person"], {})


@drawn
@given(text=st.text(alphabet="Genotyps=([',)]0 1.{}*-_\\\n\"#;:", max_size=120))
def test_text_genotypes_of_any_characters(text):
    assert refused_or(parse_text, text, "f.x", ("a", "b"), ("P3",), 8) is None


TENSORS = st.sampled_from(
    (torch.zeros(()), torch.zeros(3), torch.zeros(0, 0, 1, 1), torch.zeros(4, 4, 1, 1), None, "x")
)
KEYS = st.sampled_from(
    [f"thermal_fpn.cell.{i}.fnode.{j}.after_combine.conv.conv_pw.weight" for i in "019" for j in "0123x"]
    + ["thermal_fpn.cell.", "thermal_fpn.cell.0", "fusion_class_net.predict.conv_pw.weight", "x", 3, None, (1, 2)]
)


@drawn
@given(state=st.dictionaries(KEYS, TENSORS, max_size=9))
def test_sizes_of_any_names_and_shapes(state):
    sizes = refused_or(stream_sizes, state, "f.x", ("thermal",))
    assert sizes is None or (sizes["C"], sizes["num_input_nodes"]) >= (4, 2)
    assert (refused_or(head_classes, state, "f.x") or 1) > 0


@drawn
@given(value=VALUES)
def test_short_is_repr_where_that_is_short(value):
    text = short(value)
    assert len(text) <= 60
    flat = not isinstance(value, (list, dict, int)) and len(repr(value)) < 60
    assert not flat or text == repr(value)


@drawn
@given(text=st.text(max_size=300) | st.sampled_from(spoil.NAMES), times=st.sampled_from((1, 100)))
def test_printable_is_one_line_without_commands(text, times):
    line = printable(text * times)
    assert line.isprintable()
    assert len(line) <= MAX_LINE
    assert printable(line) == line


@drawn
@given(name=st.text(alphabet="./\\aC:\0 ~é", max_size=12) | st.sampled_from(spoil.LEAVING) | st.text(max_size=300))
def test_accepted_names_stay_below_their_folder(name):
    if is_file_name(name):
        below = os.path.normpath(os.path.join("/data/images", name))
        assert below == "/data/images" or below.startswith("/data/images/")
        assert not re.search(r"[\\\0]|^[A-Za-z]:", name)


def test_the_readers_meet_what_they_must_refuse(tmp_path, monkeypatch):
    """The drawn files are bad indeed, and a reader that lets them pass would be found."""
    monkeypatch.chdir(tmp_path)
    reader = READERS["config YAML"]
    path = reader.make(tmp_path)
    content = path.read_bytes()
    results = [outcome(reader, path, reader.spoil(random.Random(seed), content)) for seed in range(9)]
    assert results.count("refused") > 4
    careless = reader._replace(read=lambda path: json.loads(path.read_text()))
    with pytest.raises(AssertionError, match="neither refused nor taken"):
        outcome(careless, path, b"{")
    running = reader._replace(read=lambda path: Path(spoil.WITNESS).touch())
    with pytest.raises(AssertionError, match="was run"):
        outcome(running, path, b"{")
    assert not named("expected a number, found 3", path)


def test_the_benchmark_writes_a_row_per_reader(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    assert measure_all(["--count", "2"]) == 0
    rows = read_rows("bad_inputs")
    assert [row["reader"] for row in rows] == [*READERS]
    assert all(sum(int(row[name]) for name in OUTCOMES) == 2 for row in rows)


@pytest.mark.parametrize("text", spoil.HOSTILE_YAML)
def test_hostile_yaml_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.x").write_text(text)
    refused = text.startswith("<<")  # text as any other without anchors: refused as an unknown option
    assert (refused_or(read_yaml, tmp_path / "f.x", str(tmp_path / "f.x")) is None) is not refused
    assert not (tmp_path / spoil.WITNESS).exists()


@pytest.mark.parametrize("number", range(len(spoil.hostile_values())))
def test_hostile_pickles_are_refused(tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    for new in (True, False):
        value = spoil.hostile_values()[number]
        try:
            torch.save({"model": {"x": value}}, tmp_path / "f.x", _use_new_zipfile_serialization=new)
        except (ValueError, NotImplementedError, RuntimeError):
            continue  # has no such form
        state = refused_or(checkpoint.load, tmp_path / "f.x")
        if state is not None:  # what only the place that it is loaded into can tell
            layer = torch.nn.Module()
            layer.register_buffer("x", torch.zeros(()))
            assert refused_or(checkpoint.load_state, layer, state["model"], "f.x") is None
            with pytest.raises(UserError):
                checkpoint.load_state(layer, state["model"], "f.x")
    assert not (tmp_path / spoil.WITNESS).exists()


@pytest.mark.parametrize("text", spoil.HOSTILE_TEXT)
def test_hostile_texts_are_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    for place in ("{}", "[{}]", "Genotype(edges={}, steps=[], concat=[0])", "Genotype({}=1)"):
        assert refused_or(parse_text, place.format(text), "f.x", ("a", "b"), ("P3",), 8) is None
    assert not (tmp_path / spoil.WITNESS).exists()


def test_values_that_would_take_for_ever():
    for value in (spoil.endless_tree(), spoil.hostile_values()[4], {"x": 10**6000}, {(1, 2): 3}, [object()]):
        with pytest.raises(UserError, match=r"f\.x"):
            check_plain(value, "f.x")
        assert len(short(value)) <= 60
