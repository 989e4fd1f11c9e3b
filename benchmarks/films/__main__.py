"""Pretrains, searches, trains and tests on films in the raw form, by the published commands.

    python -m benchmarks.films DIR --encoder_weights FILE [--config configs/films.yaml] [--seeds 1 2 3] [--methods ...]

All commands run in this process. There is a row per method and seed. A row of the same config, method and seed is not
measured again, and a command that was stopped goes on. Probabilities of the test films are kept in runs/films-HASH,
HASH that of the config. At the end the differences of methods are computed from them.
Rows: results/films.csv, results/films_differences.csv.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.films import baselines
from benchmarks.films.intervals import columns, scores
from benchmarks.films.summary import AVERAGE, LINEAR, NETWORKS, SINGLE, append_differences, table
from benchmarks.in_process import call
from benchmarks.rows import append_row
from datasets.classification.examples import LabelledData
from datasets.classification.mmimdb import open_mmimdb
from tools.demo.__main__ import config_hash
from utils.run_folder import RUNS, read_json, write_json
from utils.subprocesses import named

TASK, NAME = "mmimdb", "films"
NO_SEED = 0  # of what nothing is drawn in


def main(argv: list[str] | None = None) -> None:
    study, methods, seeds = parse(argv)
    for seed in seeds:
        for method in (name for name in methods if name not in LINEAR):
            study.measure(method, seed)
    for method in (name for name in methods if name in LINEAR):
        study.measure(method, NO_SEED)
    append_differences(study.columns, study.folder, baselines.labels_of(study.films, "test"))
    print(table(study.columns))


def parse(argv: list[str] | None) -> tuple["Study", list[str], list[int]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--encoder_weights", required=True)
    parser.add_argument("--config", default="configs/films.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", choices=(*NETWORKS, AVERAGE, *LINEAR), metavar="NAME")
    args = parser.parse_args(argv)
    study = Study(args.data, args.config, args.encoder_weights)
    return study, args.methods or [*NETWORKS, AVERAGE, *LINEAR], args.seeds


@dataclass(frozen=True)
class Study:
    """Runs of one config.

    Args:
        data: folder of the films.
        config: settings of all commands.
        weights: ImageNet weights of the poster encoder.
    """

    data: str
    config: str
    weights: str

    @property
    def columns(self) -> dict[str, object]:
        """The columns that rows must share to be compared."""
        return {"dataset": Path(self.data).name, "config": self.config, "config_hash": config_hash(self.config)}

    @property
    def folder(self) -> Path:
        return Path(RUNS) / f"{NAME}-{config_hash(self.config)}"

    @cached_property
    def films(self) -> LabelledData:
        return open_mmimdb(self.data)

    def checkpoints(self, seed: int) -> Path:
        return self.folder / f"checkpoints-{seed}"

    def measure(self, method: str, seed: int) -> None:
        """Keep the probabilities of a method, and append its row, unless both are there."""
        path = self.folder / f"{method}-{seed}.json"
        if path.exists():
            return
        started = time.perf_counter()
        if method in LINEAR:
            probabilities, facts = self.linear(method)
        elif method == AVERAGE:
            found = [self.probabilities(single, seed) for single in SINGLE]
            probabilities, facts = np.mean(found, axis=0), {}
        else:
            probabilities, facts = self.network(method, seed)
        values = dict.fromkeys(("F1_weighted_val", "epoch", "C")) | facts
        numbers = columns(scores(probabilities, baselines.labels_of(self.films, "test"))) | values
        numbers |= {"films": len(probabilities), "seconds": round(time.perf_counter() - started)}
        append_row(NAME, numbers, key=self.columns | {"method": method, "seed": seed})
        write_json(path, [[round(float(p), 5) for p in row] for row in probabilities])

    def probabilities(self, method: str, seed: int) -> np.ndarray:
        """Return the probabilities of a method that was measured, now or earlier."""
        self.measure(method, seed)
        return np.array(read_json(self.folder / f"{method}-{seed}.json", kind=list))

    def network(self, method: str, seed: int) -> tuple[np.ndarray, dict]:
        """Train and test a network, after a search for a strategy."""
        self.pretrain(seed)
        if method == "random":
            source = ("--random_genotype", seed)
        elif method in ("darts", "evolution"):
            search = self.run("search", method, seed, "--strategy", method)
            source = ("--search_exp_dir", named(search, "search_exp_dir"))
        else:
            source = ("--baseline", method)
        trained = named(self.run("found", method, seed, *source), "eval_exp_dir")
        common = (self.data, "--config", self.config, "--eval_exp_dir", trained)
        results = Path(named(call(TASK, "found", *common, "--save", f"{NAME}-{method}-{seed}"), "results"))
        numbers = read_json(results)
        by_name = {
            row["name"]: row["probabilities"] for row in json.loads((results.parent / "predictions.json").read_text())
        }
        found = np.array([by_name[film.name] for film in self.films.records["test"]])
        return found, {"F1_weighted_val": round(numbers["F1_weighted_val"], 4), "epoch": numbers["epoch"]}

    def pretrain(self, seed: int) -> None:
        if not (self.checkpoints(seed) / "pretrain.json").exists():
            self.run("pretrain", "encoders", seed, "--encoder_weights", f"image={self.weights}")

    def run(self, section: str, name: str, seed: int, *words: object) -> str:
        """Run a command that learns, or go on with it."""
        common = ("--config", self.config, "--seed", seed, "--checkpointdir", self.checkpoints(seed))
        save = f"{self.folder.name}-{name}-{seed}"
        return call(TASK, section, self.data, *common, "--save", save, "--resume", "auto", *words)

    def linear(self, method: str) -> tuple[np.ndarray, dict]:
        """Return the probabilities of a baseline without a network of ours, and C of a regression."""
        if method == "shares":
            return baselines.shares(self.films), {}
        lists = ("train", "dev", "test")
        features = {name: baselines.plots(self.films, name) for name in lists}
        if method == "logistic_both":
            seen = {name: baselines.posters(self.films, self.encoder(), name) for name in lists}
            features = {name: np.concatenate([features[name], seen[name]], axis=1) for name in lists}
        probabilities, c = baselines.logistic(self.films, features)
        return probabilities, {"C": c}

    def encoder(self):
        """Return the frozen poster encoder: all seeds start from the same weights."""
        folder = self.checkpoints(1)
        self.pretrain(1)
        backbone = read_json(folder / "pretrain.json")["backbone"]
        return baselines.frozen_encoder(backbone, len(self.films.classes), folder / "image_encoder.pth")


if __name__ == "__main__":
    main(sys.argv[1:])
