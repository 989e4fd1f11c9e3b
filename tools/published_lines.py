"""Run the published command lines of FAD: tasks/detection/published.py translates them.

OUTPUT_DIR becomes a link to the run folder. Iterations count batches, so they depend on the data, which are opened for
that.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from commands import run_command
from commands.options import parser_of
from tasks import TASKS
from tasks.detection.published import EFFECTS, in_epochs, parse_published, save_of, translate
from utils.args import Options, command, parse
from utils.distributed import ranks
from utils.run_folder import newest_run

TASK = TASKS["fad"]
KINDS = {"search": "search", "train": "found", "test": "test"}  # of run folders


def published(name: str) -> Callable[[list[str] | None], int]:
    """Return the command of a published script: "search", "train" or "test"."""
    return command(partial(run_line, name))


def run_line(name: str, argv: list[str]) -> None:
    """Run a published command line by our command."""
    args = parse_published(name, argv)
    for option, effect in EFFECTS.items():
        if getattr(args, option):
            print(f"--{option.replace('_', '-')}: no effect here; {effect}")
    words, keys = translate(name, args)
    section = "search" if name == "search" else "found"
    if name != "test" and {"SOLVER.MAX_ITER", "SOLVER.STEPS"} & {*keys}:
        options = parse(parser_of(TASK), words, section)
        examples = ranks().broadcast_from_first(lambda: count(section, options))
        words += in_epochs(keys, examples, options.batchsize)
    earlier = newest_run(KINDS[name], save_of(keys))
    try:
        run_command(section, TASK, words)
    finally:
        newest = newest_run(KINDS[name], save_of(keys))
        link(keys.get("OUTPUT_DIR"), None if newest == earlier else newest)


def count(section: str, options: Options) -> int:
    """Return how many pictures an epoch has."""
    data = TASK.load().open_data(options)
    return len(data.records(*(("train",) if section == "search" else data.learning)))


def link(output: Any, run: Path | None) -> None:
    """Make OUTPUT_DIR a link to a run folder, if there is one; an older link is moved."""
    if output is None or run is None or ranks().number:
        return
    path = Path(str(output))
    if path.exists() and not path.is_symlink():
        print(f"OUTPUT_DIR {path}: is a folder, so that it is no link to {run}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(run.resolve())
    print(f"OUTPUT_DIR {path}: {run}")
