"""Going on with a run: which one, with which options, and the frame in which a run that learns can be stopped.

Options that were not given come from the run; given ones must be those of the run, but for those that cannot change
what it computes (FREE).
"""

import argparse
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from datasets.data_module import DataModule
from engine.checkpointer import FREE
from report import report
from utils.args import Parser, convert_option, options_of
from utils.distributed import ranks
from utils.errors import UserError, printable, short
from utils.lock import locked_by_first
from utils.reporting import COMMAND, folder_of, start_run
from utils.run_folder import RUNS, RunFolder, read_json
from utils.signals import Stop, caught

FINISHED = "finished.json"  # what a run said at its end


def resume_options(args: argparse.Namespace, kind: str, make_parser: Callable[[str], Parser]) -> argparse.Namespace:
    """Return the options with those of the run that --resume names in place, and `resume` its folder, or None.

    Of several ranks, the first one looks, and all have its options.

    Raises:
        UserError: there is no such run, or a given option is not the run's.
    """
    return ranks().broadcast_from_first(lambda: _resume_options(args, kind, make_parser))


def _resume_options(args: argparse.Namespace, kind: str, make_parser: Callable[[str], Parser]) -> argparse.Namespace:
    if args.resume == "":
        raise UserError("--resume: expected auto or a run folder, found nothing")
    if args.resume and getattr(args, "eval_exp_dir", None):
        raise UserError("--resume: no effect with --eval_exp_dir: a test is done anew")
    path = find_run(args, kind) if args.resume else None
    if path is not None:
        args = options_of_run(args, kind, path, make_parser(kind))
    args.resume = path
    if args.data is None:
        raise UserError("DIR: expected the folder of the data set, found none (see --help)")
    return args


def find_run(args: argparse.Namespace, kind: str) -> Path | None:
    """Return the folder that --resume names; for `auto`, of the newest run of this kind and --save, if there is one."""
    if args.resume != "auto":
        return Path(args.resume)
    name = re.compile(rf"{kind}-{re.escape(args.save)}-(\d{{8}}-\d{{6}})(?:-(\d+))?")
    found = {path: name.fullmatch(path.name) for path in Path(RUNS).glob(f"{kind}-*") if (path / COMMAND).exists()}
    ages = {path: (match[1], int(match[2] or 0)) for path, match in found.items() if match}
    return max(ages, key=ages.get, default=None)


def options_of_run(args: argparse.Namespace, kind: str, path: Path, parser: Parser) -> argparse.Namespace:
    """Return the run's options, after checking that those given are the same."""
    if not (path / COMMAND).exists():
        raise UserError(f"--resume {path}: expected a run folder of {kind} with {COMMAND}, found none")
    command, saved = read_json(path / COMMAND), read_json(path / "args.json")
    if command.get("kind") != kind:
        raise UserError(f"--resume {path}: expected a run of {kind}, found one of {short(command.get('kind'))}")
    known, values = options_of(parser), dict(saved)  # some of which the run has settled by itself
    for name, action in known.items():
        ours, theirs = getattr(args, name), _read(action, saved, args, path)
        if name not in FREE and name in args.given and json.dumps(ours) != json.dumps(theirs):
            raise UserError(f"--{name}: expected {short(theirs)} as in {path / 'args.json'}, found {short(ours)}")
        values[name] = ours if name in FREE and name in args.given else theirs
    for key in ("given", "typed"):
        if not isinstance(command.get(key), list) or not all(isinstance(name, str) for name in command[key]):
            raise UserError(f"{path / COMMAND}: {key}: expected a list of names, found {short(command.get(key))}")
        values[key] = set(command[key])
    if not isinstance(saved.get("data"), str):
        raise UserError(f"{path / 'args.json'}: data: expected a folder, found {short(saved.get('data'))}")
    return argparse.Namespace(**values | {"data": args.data or saved["data"]})


def _read(action: argparse.Action, saved: dict, args: argparse.Namespace, path: Path) -> object:
    """Return the run's value of an option, checked as one of a config; ours where the run is older than the option."""
    if action.dest not in saved or saved[action.dest] is None:
        return None if action.dest in saved else getattr(args, action.dest)
    value = saved[action.dest]
    if isinstance(value, list) and action.nargs is None:  # --image_size
        value = "x".join(map(str, value))
    return convert_option(action, value, f"{path / 'args.json'}")


def is_finished(path: Path | None) -> bool:
    """Print what a finished run said at its end; returns whether the run is finished."""
    if not ranks().broadcast_from_first(lambda: path is not None and (path / FINISHED).exists()):
        return False
    if not ranks().first:
        return True
    print(f"{path} is finished: nothing to resume")
    said = read_json(path / FINISHED).get("said")
    for line in said if isinstance(said, list) else ():
        print(printable(str(line)))
    return True


@contextlib.contextmanager
def running(
    kind: str, args: argparse.Namespace, parts: DataModule, warnings: list[str]
) -> Iterator[tuple[RunFolder, Stop]]:
    """Start a run, or go on with one, and hold its folder alone; signals are noted until the end of the block.

    Args:
        remarks: on the options, for the log of a run that starts.

    Raises:
        UserError: another process works on it.
    """
    run = folder_of(args.resume) if args.resume else start_run(kind, args, parts, warnings)
    with locked_by_first(run.path, None, "another process"), caught(run.path) as stop:
        if args.resume:
            run.log(f"resumed: {kind} in {run.path}")
            parts.bad_files.log = run.log
            for name, change in run.note_environment().items():
                run.log(f"remark: {name}: {change}: the last digits may differ from those of an uninterrupted run")
        yield run, stop


def finish(run: RunFolder, args: argparse.Namespace, parts: DataModule, said: list[str]) -> None:
    """Note that a run is finished, write its report, and log its last lines."""
    if not run.is_writer:
        return
    run.write_json(FINISHED, {"said": said})
    for previous in run.path.glob("last*.previous.pt"):
        previous.unlink()
    try:
        report(run, args, parts)
    finally:
        for line in said:
            run.log(line)
