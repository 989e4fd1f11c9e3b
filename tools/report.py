"""Rebuilds reports and compares runs: python -m tools.report RUN... [--out FILE.html] [--data DIR]."""

from pathlib import Path

from commands.options import parser_of
from datasets.data_module import DataModule
from datasets.detection.names import is_description
from report.comparison import write_comparison
from report.run import Run
from report.run_page import write_report
from tasks import TASKS
from tasks.detection.predictor import task_of
from utils.args import Parser, command, parse
from utils.errors import UserError
from utils.option_types import output_file
from utils.untrusted import options_from_run

COMPARISON = "comparison.html"


@command
def main(argv: list[str]) -> None:
    parser = Parser("Write report.html into each run folder; of several runs also a page that compares them.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders; a comparison takes runs of one kind")
    text = f"the page that compares several runs ({COMPARISON} in the folder of the command)"
    parser.add_argument("--out", metavar="FILE.html", type=output_file(".html"), help=text)
    text = "folder of the data, for the gallery and precision against recall (as in the run's args.json)"
    parser.add_argument("--data", metavar="DIR", help=text)
    args = parser.parse_args(argv)
    runs, out = [Run(Path(path)) for path in args.runs], args.out
    kinds = {run.kind: run.path for run in runs}
    if len(kinds) > 1:
        raise UserError(f"expected runs of one kind, found {', '.join(f'{path} of {k}' for k, path in kinds.items())}")
    if out and len(runs) == 1:
        raise UserError(f"--out {out}: expected at least two runs to compare, found one, whose report is in its folder")
    for run in runs:
        print(f"report: {write_report(run.path, data_of(run, args.data))}", flush=True)
    if len(runs) > 1:
        print(f"comparison: {write_comparison(runs, out or Path(COMPARISON))}")


def data_of(run: Run, folder: str | None) -> DataModule | None:
    """Open the data of a run that has detections; None if it has none.

    Raises:
        UserError: the data folder does not exist.
    """
    if not (run.path / "detections.json").exists():
        return None
    task = task_of({"args": run.args})
    options = parse(parser_of(TASKS[task.name]), [folder or run.args["data"]], "found")
    names = ("dataset", "split_seed", "paper_protocol", "overfit", "folds", "fold", "camera", "baseline")
    options = options_from_run(options, run.args, (*names, "onnx_modality"), source=f"{run.path / 'args.json'}")
    if is_description(options.dataset):
        options = options.with_values("run", dataset=str(run.path / "dataset.yaml"))
    try:
        return task.open_data(options)
    except UserError as error:
        raise UserError(f"{run.path}: data: {error} (--data DIR names a folder that has moved)") from None


if __name__ == "__main__":
    raise SystemExit(main())
