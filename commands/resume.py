"""Options of a command, resolved once: command line over config over run or checkpoint over default. No torch.

`resolve_options` is what every command calls before anything is built. What follows from the data and from files is
added by `Task.complete`; a test takes its options from the run under test (commands/trained.py).
"""

from collections.abc import Iterator
from pathlib import Path

from commands.options import check_edges, parser_of, source_of
from commands.several_runs import each_run
from engine.task import Task
from utils import __version__
from utils.args import CONFIG, TYPED, MakeParser, Options, options_of, parse, read_again, same
from utils.distributed import ranks
from utils.errors import UserError, printable, short
from utils.run_folder import COMMAND, FINISHED, FREE, RUNS, newest_run, read_json
from utils.untrusted import NAMES, TEXT, check_field, options_from_run

FIRST_VERSION = "0.1.0"  # whose run folders do not name it


def resolve_options(task: Task, section: str, argv: list[str]) -> Iterator[Options]:
    """Yield the options of each run that is asked for: one, or one per seed or fold; finished runs are left out.

    Args:
        section: "pretrain", "search" or "found".
    """
    make_parser = parser_of(task)

    def resolve(options: Options) -> Options:
        options = _resumed(options, section, make_parser)
        check_edges(options)
        if options.resume is None:  # else all of its options are there
            options = _inherited(options, section, task.load())
        check_folders(options)
        return options

    for options in each_run(parse(make_parser, argv, section), section):
        resolved = ranks().broadcast_from_first(lambda options=options: resolve(options))
        if not is_finished(resolved.resume):
            yield resolved


def check_folders(options: Options) -> None:
    """Refuse to write below the data folder."""
    places = {"the folder of the runs": RUNS, "--checkpointdir": options.checkpointdir}
    for name, place in (places | {"--cache_dir": options.cache_dir}).items():
        if place is not None and Path(place).resolve().is_relative_to(Path(options.data).resolve()):
            expected = f"expected a place outside the data folder {options.data}"
            raise UserError(f"{name}: {expected}, found {Path(place).resolve()}")


def _inherited(options: Options, section: str, task: Task) -> Options:
    """Return the options with those that are not given from the search run, else from the pretraining."""
    if section == "pretrain" or options.eval_exp_dir:
        return options
    if section == "found" and source_of(options) == "search_exp_dir":
        path = Path(options.search_exp_dir) / "args.json"
        return options_from_run(options, read_json(path), task.from_search, source=str(path))
    from engine.pretrained import PRETRAINED, pretrained_with  # with torch

    folder, names = Path(options.checkpointdir), task.from_pretraining
    source = str(folder / PRETRAINED)
    return options_from_run(options, pretrained_with(folder), names, origin="checkpoint", source=source)


def _resumed(options: Options, section: str, make_parser: MakeParser) -> Options:
    """Return the options with those of the run that --resume names, and `resume` its folder, or None.

    Raises:
        UserError: there is no such run, or a given option is not the run's.
    """
    if options.resume == "":
        raise UserError("--resume: expected auto or a run folder, found nothing")
    if options.resume and options.eval_exp_dir:
        raise UserError("--resume: no effect with --eval_exp_dir: a test is done anew")
    path = newest_run(section, options.save) if options.resume == "auto" else options.resume and Path(options.resume)
    if path is not None:
        options = options_of_run(options, section, path, make_parser)
    if options.data is None:
        raise UserError("DIR: expected the folder of the data set, found none (see --help)")
    return options.with_values("run", resume=path)


def options_of_run(options: Options, kind: str, path: Path, make_parser: MakeParser) -> Options:
    """Return the run's options, with their origins, after checking that those given are the same."""
    if not (path / COMMAND).exists():
        raise UserError(f"--resume {path}: expected a run folder of {kind} with {COMMAND}, found none")
    command, saved, source = read_json(path / COMMAND), read_json(path / "args.json"), path / "args.json"
    if command.get("kind") != kind:
        raise UserError(f"--resume {path}: expected a run of {kind}, found one of {short(command.get('kind'))}")
    version = str(command.get("version", FIRST_VERSION))
    if series(version) != series(__version__) and not (path / FINISHED).exists():
        expected = f"expected an unfinished run of version {series(__version__)}"
        raise UserError(f"--resume {path}: {expected}, found one of {short(version)}: only {version} can resume it")
    values = {}
    for name, action in options_of(make_parser(kind)).items():
        theirs = read_again(action, saved, str(source)) if name in saved else options[name]
        if name not in FREE and options.is_given(name) and not same(options[name], theirs):
            raise UserError(f"--{name}: expected {short(theirs)} as in {source}, found {short(options[name])}")
        values[name] = options[name] if name in FREE and options.is_given(name) else theirs
    for key in ("given", "typed"):
        check_field(command, key, NAMES, str(path / COMMAND))
    check_field(saved, "data", (TEXT[0], "a folder"), str(source))
    values |= {"data": options.data or saved["data"], "config": saved.get("config")}
    origins = dict.fromkeys(values, "run") | dict.fromkeys(command["given"], CONFIG)
    origins |= dict.fromkeys(command["typed"], TYPED)
    return options.replaced(values, {name: origin for name, origin in origins.items() if name in values})


def series(version: str) -> str:
    """Return the part of a version that says which unfinished runs can be resumed: 0.2 of 0.2.1."""
    return ".".join(version.split(".")[:2])


def is_finished(path: Path | None) -> bool:
    """Print what a finished run said at its end; returns whether the run is finished."""
    finished = ranks().broadcast_from_first(lambda: path is not None and (path / FINISHED).exists())
    if finished and ranks().first:
        print(f"{path} is finished: nothing to resume")
        lines = read_json(path / FINISHED).get("said")
        for line in lines if isinstance(lines, list) else ():
            print(printable(str(line)))
    return finished
