"""Cross-validation of single sensors, hand-made, random and searched fusions over all pairs of a data set.

    python -m benchmarks.cross_validation DIR --folds 10 --config FILE [--fold 3 4] [--methods NAME ...]
        [--more examples/m3fd_person_car.yaml:DIR llvip:DIR ...]
    python -m benchmarks.cross_validation --summary

In each fold: pretraining of both streams and of the shared head, a search for each searched method, a training for each
method, a test on the fold's pairs and on the test lists of further sets. All of it lies below OUT
(runs/cross_validation-CONFIG). A row is appended after each test, and a row of the same config, seed, fold and method
is not measured again. A fold that was stopped goes on where it was. Rows: results/cross_validation.csv.
"""

import shutil

from benchmarks.cross_validation.report import report
from benchmarks.cross_validation.study import Study, parse
from benchmarks.rows import read_rows
from tools.demo.__main__ import exit_codes, say
from tools.demo.jobs import environment_for
from tools.jobs import Job, Queue
from tools.out_folder import shared
from utils.args import command
from utils.subprocesses import CORES, command_line


@command(joins=False)
def main(argv: list[str]) -> None:
    study, only_summary = parse(argv)
    if study and not only_summary:
        with exit_codes():
            measure(study)
    print(report(read_rows("cross_validation"), study))


def measure(study: Study) -> None:
    """Measure the folds that lack rows, several side by side; a fold that fails does not stop the others."""
    jobs = [fold_job(study, fold) for fold in study.chosen if study.missing(fold)]
    if not jobs:
        return
    with shared(study.out, study.stamp) as lock:
        say(f"{len(jobs)} folds, {study.slots} side by side; logs in {study.out}/logs")
        env = environment_for(study.slots, CORES)
        Queue(jobs, study.slots, study.out / "logs", env, say=say, keep_going=True, hold=(lock,)).run()
    if study.is_done:  # until then a fold that goes on reads the features of the encoders
        shutil.rmtree(study.out / "cache", ignore_errors=True)


def fold_job(study: Study, fold: int) -> Job:
    """Return the command that measures one fold."""
    words = study.words(fold)
    return Job(f"fold{fold}", lambda done: command_line("benchmarks.cross_validation.fold", *words))


if __name__ == "__main__":
    raise SystemExit(main())
