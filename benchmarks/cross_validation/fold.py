"""One fold: pretraining, searches, trainings and tests by the published command lines, and its rows.

    python -m benchmarks.cross_validation.fold DIR --config FILE --folds 10 --fold 3 ...

All commands run in this one process, since importing torch hundreds of times would take as long as they do. They run
in the study's folder. Each goes on with its run where an earlier process was stopped (--resume auto).
"""

import shutil
import sys
from functools import partial
from pathlib import Path

from benchmarks.cross_validation.study import BASELINES, FOLD, NAME, SEARCHES, TASK, Study, parse
from benchmarks.in_process import call as call_task
from benchmarks.in_process import inside
from benchmarks.rows import append_row
from tools.demo.jobs import cache_words
from tools.demo.tasks import BOX_FUSIONS, SINGLE
from utils.run_folder import read_json, write_json
from utils.subprocesses import named

call = partial(call_task, TASK)
COLUMNS = ("AP", "AP50", "AP75", "AP_person", "AP_bike", "AP_car", "AP_val", "epoch", "pairs", "parameters_fusion")


def main(argv: list[str]) -> None:
    study, _ = parse(argv)
    with inside(study.out):
        for number in study.chosen:
            Fold(study, number).measure()


class Fold:
    """The commands of a fold. Each method is trained once, and tested on the fold and on the further sets."""

    def __init__(self, study: Study, number: int):
        self.study, self.number = study, number
        self.cache = f"cache/fold{number}"
        self.common = ("--config", study.config, "--seed", study.seed, "--no_report")
        folds = ("--folds", study.folds, "--fold", number, "--checkpointdir", f"checkpoints/fold{number}")
        self.learning = (study.data, *self.common, *folds, "--resume", "auto")
        self.runs: dict[str, tuple[str, float]] = {}  # of each trained method: its folder, and seconds

    def measure(self) -> None:
        """Append the rows that are missing."""
        missing = self.study.missing(self.number)
        if not missing:
            return
        self.write_truth()
        self.pretrain()
        for method, test_set in missing:
            self.test(method, test_set)
        shutil.rmtree(self.cache, ignore_errors=True)

    def save(self, name: str) -> tuple[str, str]:
        return "--save", f"{name}-fold{self.number}"

    def cached(self, section: str) -> tuple[object, ...]:
        return cache_words(TASK, str(self.study.config), self.cache, section)

    def pretrain(self) -> None:
        call("pretrain", *self.learning, *self.study.start_words, *self.save("pretraining"))

    def search(self, method: str) -> str:
        """Search with a method's strategy; returns the run."""
        words = (*SEARCHES[method], *self.cached("search"), *self.save(method))
        return named(call("search", *self.learning, *words), "search_exp_dir")

    def train(self, method: str) -> tuple[str, float]:
        """Train a method, after its search; returns the run, and the seconds of both."""
        if method not in self.runs:
            searched = [self.search(method)] if method in SEARCHES else []
            sources = {"random": ("--random_genotype", self.number)} | {m: ("--baseline", m) for m in BASELINES}
            source = ("--search_exp_dir", *searched) if searched else sources[method]
            text = call("found", *self.learning, *source, *self.cached("found"), *self.save(method))
            run = named(text, "eval_exp_dir")
            self.runs[method] = run, sum(map(seconds_of, [*searched, run]))
        return self.runs[method]

    def test(self, method: str, test_set: str) -> None:
        """Test a method on the fold or on a further set, and append the row; train it first."""
        trained = [self.train(name) for name in (SINGLE if method in BOX_FUSIONS else (method,))]
        words = ["--eval_exp_dir", trained[0][0]]
        if method in BOX_FUSIONS:
            words += ["--partner_exp_dir", trained[1][0], "--box_fusion", BOX_FUSIONS[method]]
        tested = self.tested(method, words, test_set)
        results = read_json(tested / "results.json")
        if method in BOX_FUSIONS:
            results["AP_val"] = read_json(self.tested(method, [*words, "--eval_part", "val"]) / "results.json")["AP"]
        if test_set == FOLD:
            keep(tested / "detections.json", Path("detections") / method / f"fold{self.number}.json")
        numbers = {name: results.get(name) for name in COLUMNS}
        numbers = {name: round(value, 6) if isinstance(value, float) else value for name, value in numbers.items()}
        facts = {"seconds": round(sum(seconds for _, seconds in trained)), "split": results["split"]}
        key = self.study.key | {"fold": self.number, "method": method, "test_set": test_set}
        append_row(NAME, numbers | facts, NAME, key)

    def tested(self, method: str, words: list, test_set: str = FOLD) -> Path:
        """Return the folder of a test."""
        folder, layout = self.study.data, ()
        if test_set != FOLD:
            dataset, folder = self.study.more[test_set]
            layout = ("--eval_dataset", dataset)
        words = [folder, *self.common[:2], "--no_report", *words, *layout, *self.cached("found"), *self.save(method)]
        return Path(named(call("found", *words), "results")).parent

    def write_truth(self) -> None:
        """Write what a pooled score of all folds needs to know of this one: the objects of its pairs."""
        from datasets.data_module import LoaderOptions
        from datasets.detection.detection_data import ImageOptions
        from datasets.detection.opening import open_data

        folds = {"folds": self.study.folds, "fold": self.number}
        data = open_data(str(self.study.data), self.study.dataset, ImageOptions(), LoaderOptions(1), **folds).data
        names = {record.image_id: record.file_name for record in data.records["test"]}
        truth = {"ground_truth": data.ground_truth["test"], "file_names": list(names.values())}
        truth |= {"image_ids": list(names), "category_ids": data.category_ids, "classes": data.classes}
        Path("truth").mkdir(exist_ok=True)
        write_json(Path("truth") / f"fold{self.number}.json", truth)


def seconds_of(run: str) -> float:
    """Return the seconds of a search or training."""
    return read_json(Path(run) / "timing.json")["wall_seconds"]


def keep(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


if __name__ == "__main__":
    main(sys.argv[1:])
