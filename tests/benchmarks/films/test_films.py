"""The benchmark on films: F1 of resamples as by scikit-learn, paired differences, linear baselines, a tiny run."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from sklearn.metrics import f1_score

from benchmarks import rows
from benchmarks.films import baselines, intervals
from benchmarks.films.__main__ import main
from benchmarks.films.intervals import THRESHOLD, columns, difference, mean_scores, scores, weights
from benchmarks.films.summary import DIFFERENCES, table
from benchmarks.rows import read_rows
from datasets.classification.mmimdb import open_mmimdb
from datasets.generated.mmimdb import write_mmimdb
from datasets.prepare_mmimdb import prepare_mmimdb
from tests.datasets.classification.raw_films import write_raw
from tools.demo.__main__ import config_hash

REPO = Path(__file__).resolve().parents[3]
NETWORK = "test_efficientnet"


def draw(num_films: int, num_genres: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and labels; no film has the last genre, nothing decides for the one before."""
    rng = np.random.default_rng(seed)
    labels = rng.random((num_films, num_genres)) < 0.3
    labels[:, -1] = False
    probabilities = rng.random((num_films, num_genres)) * 0.5 + 0.3 * labels
    probabilities[:, -2] = 0
    return probabilities, labels


def test_f1_of_a_resample_is_that_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 20)
    probabilities, labels = draw(15, 5, seed=1)
    found = scores(probabilities, labels)
    for number, counts in enumerate(weights(15)):
        films = np.repeat(np.arange(15), counts)
        assert len(films) == 15
        for kind, values in found.items():
            expected = f1_score(labels[films], probabilities[films] > THRESHOLD, average=kind, zero_division=0)
            assert values[number] == pytest.approx(expected)


def test_an_interval_has_the_middle_of_the_resamples():
    found = scores(*draw(40, 5, seed=2))
    row = columns(found)
    for kind, values in found.items():
        low, high = row[f"F1_{kind}_low"], row[f"F1_{kind}_high"]
        assert row[f"F1_{kind}"] == pytest.approx(values[0], abs=1e-4)
        assert 0.94 < ((low <= values[1:]) & (values[1:] <= high)).mean() < 0.96


def test_differences_are_paired_film_by_film():
    probabilities, labels = draw(40, 5, seed=3)
    run, other = scores(probabilities, labels), scores(probabilities[:, ::-1], labels)
    assert set(columns(difference(run, run)).values()) == {0.0}
    mean = mean_scores([run, other])
    assert mean["macro"] == pytest.approx((run["macro"] + other["macro"]) / 2)
    paired, apart = columns(difference(run, mean)), columns(run)
    assert paired["F1_macro"] == pytest.approx((run["macro"][0] - other["macro"][0]) / 2, abs=1e-4)
    assert paired["F1_macro_high"] - paired["F1_macro_low"] != apart["F1_macro_high"] - apart["F1_macro_low"]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    write_mmimdb(folder / "made", {"train": 40, "dev": 12, "test": 8}, 3)
    prepare_mmimdb(folder / "made/multimodal_imdb.hdf5", folder / "made/split.json", folder / "prepared")
    return write_raw(folder / "raw", open_mmimdb(str(folder / "prepared")))


def test_linear_baselines(films):
    data = open_mmimdb(str(films))
    assert baselines.labels_of(data, "train", "dev").shape == (52, 23)
    found = baselines.shares(data)
    assert found.shape == (8, 23)
    assert found[3] == pytest.approx(baselines.labels_of(data, "train").mean(axis=0))
    features = {name: baselines.labels_of(data, name).astype(float) for name in ("train", "dev", "test")}
    probabilities, c = baselines.logistic(data, features)  # of the labels themselves
    assert c in baselines.C
    labels = baselines.labels_of(data, "test")
    learned = baselines.labels_of(data, "train", "dev").any(axis=0)
    assert probabilities[labels & learned].min() > probabilities[:, learned][~labels[:, learned]].max()


CONFIG = f"""
backbone: {NETWORK}
workers: 0
device: cpu
batchsize: 8
C: 8
L: 1
no_report: true
epochs: 1
pretrain: {{freeze_encoder: true, cache_features: ram}}
search: {{cache_features: disk}}
found: {{cache_features: disk}}
"""


def test_a_tiny_run_writes_rows_once(films, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    torch.save(timm.create_model(NETWORK).state_dict(), tmp_path / "encoder.pth")
    (tmp_path / "films.yaml").write_text(CONFIG)
    argv = [str(films), "--encoder_weights", "encoder.pth", "--config", "films.yaml", "--seeds", "1"]
    argv += ["--methods", "shares", "logistic_plot", "logistic_both", "image", "text", "average", "darts"]
    main(argv)
    table = capsys.readouterr().out
    main(argv)
    assert capsys.readouterr().out in table  # nothing was run
    with open(tmp_path / "results/films.csv", newline="") as file:
        found = {row["method"]: row for row in csv.DictReader(file)}
    assert set(found) == {"shares", "logistic_plot", "logistic_both", "image", "text", "average", "darts"}
    data = open_mmimdb(str(films))
    labels = baselines.labels_of(data, "test")
    (folder,) = tmp_path.glob("runs/films-*")
    for method, row in found.items():
        (path,) = folder.glob(f"{method}-*.json")
        probabilities = np.array(json.loads(path.read_text()))
        expected = f1_score(labels, probabilities > THRESHOLD, average="weighted", zero_division=0)
        assert float(row["F1_weighted"]) == pytest.approx(expected, abs=2e-4)
    with open(tmp_path / "results/films_differences.csv", newline="") as file:
        pairs = [(row["method"], row["minus"]) for row in csv.DictReader(file)]
    assert len(pairs) == len(set(pairs)) == 7 + 2 * 3
    assert ("darts", "logistic_both") in pairs
    assert "searched, DARTS" in table


def test_the_docs_show_the_rows():
    newest = read_rows(DIFFERENCES)[-1]
    key = {name: newest[name] for name in ("dataset", "config", "config_hash")}
    assert config_hash(REPO / newest["config"]) == newest["config_hash"]
    assert table(key) in (REPO / "docs/classification.md").read_text(encoding="utf-8")
