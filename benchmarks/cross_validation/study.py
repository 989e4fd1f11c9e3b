"""What a cross-validation measures: its options, its folder, its methods, and which rows are there."""

import argparse
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.fusion_study.config import content_hash
from benchmarks.rows import read_rows, same
from commands.options import parser_of
from datasets.detection.names import dataset_name
from tasks import TASKS
from tools.demo.tasks import BOX_FUSIONS, SINGLE
from utils.args import SECTIONS, Parser, read_config
from utils.errors import UserError, near
from utils.option_types import positive, seed
from utils.run_folder import RUNS
from utils.subprocesses import CORES
from utils.untrusted import read_yaml

NAME, TASK = "cross_validation", "flira"  # of the rows, and of the commands
STARTS = ("init", "encoder_weights")
BASELINES = (*SINGLE, "sum", "concat_conv", "eca_attn")
SEARCHES = {"darts": ("--strategy", "darts", "--space", "fusion_v1"), "evolution": ("--strategy", "evolution")}
METHODS = (*BASELINES, *BOX_FUSIONS, "random", *SEARCHES)
FOLD = "fold"  # the test set of a fold, in rows


@dataclass(frozen=True)
class Study:
    """A cross-validation of one data set, config and seed.

    Args:
        data: folder of the data set.
        config: settings of all commands.
        start: what the pretraining starts from, by option: "init" or "encoder_weights".
        more: further sets to test on, by name: what --dataset says, and the folder.
        out: folder of all runs, checkpoints and detections.
        chosen: the folds to measure.
        slots: folds side by side.
    """

    data: Path
    config: Path
    start: dict[str, list[str]]
    folds: int
    seed: int
    methods: tuple[str, ...]
    more: dict[str, tuple[str, Path]]
    out: Path
    chosen: tuple[int, ...]
    slots: int

    @property
    def dataset(self) -> str:
        """What the config says of the layout of the data."""
        return self._settings.get("dataset", "flir_aligned")

    @property
    def stamp(self) -> dict[str, object]:
        """What the content of `out` depends on."""
        return self.key | {"data": str(self.data)}

    @property
    def key(self) -> dict[str, object]:
        """The columns that identify the rows of the study."""
        content = [self._settings, self._digests] if self.start else self._settings
        config = {"config": self.config.stem, "config_hash": content_hash(content)}
        return {"dataset": self.data.name} | config | {"folds": self.folds, "seed": self.seed}

    @property
    def _settings(self) -> dict:
        return read_yaml(self.config, f"--config {self.config}") or {}

    @cached_property
    def _digests(self) -> dict[str, list[str]]:
        """The content of the files that the pretraining starts from."""
        return {name: [digest(Path(path_of(value))) for value in values] for name, values in self.start.items()}

    @property
    def start_words(self) -> list[str]:
        """Return the options of the pretraining that name where it starts."""
        return [word for name, values in self.start.items() for word in (f"--{name}", *values)]

    @property
    def test_sets(self) -> tuple[str, ...]:
        return (FOLD, *self.more)

    def words(self, fold: int) -> list[object]:
        """Return the command line of one fold."""
        more = [f"{dataset}:{folder}" for dataset, folder in self.more.values()]
        words = [self.data, "--config", self.config, "--folds", self.folds, "--fold", fold, "--seed", self.seed]
        words += ["--methods", *self.methods, "--out", self.out, *self.start_words]
        return words + (["--more", *more] if more else [])

    @property
    def is_done(self) -> bool:
        """Whether all folds have their rows."""
        return not any(self.missing(fold) for fold in range(1, self.folds + 1))

    def missing(self, fold: int) -> list[tuple[str, str]]:
        """Return the methods of a fold, each with a test set, that have no row."""
        rows, columns = read_rows(NAME), self.key | {"fold": fold}
        wanted = [(method, test_set) for method in self.methods for test_set in self.test_sets]
        return [(m, t) for m, t in wanted if not any(same(r, columns | {"method": m, "test_set": t}) for r in rows)]


def make_parser() -> Parser:
    parser = Parser("Measure sensors, hand-made, random and searched fusions by cross-validation.")
    add = parser.add_argument
    add("data", nargs="?", metavar="DIR", help="folder of the data set")
    add("--config", metavar="FILE", help="settings of all commands, as configs/laptop.yaml")
    add("--folds", type=positive, default=10, metavar="K", help="number of folds (10)")
    add("--fold", type=positive, nargs="+", metavar="I", help="only these folds (all)")
    add("--methods", nargs="+", metavar="NAME", help=f"of {', '.join(METHODS)} (all)")
    add("--init", metavar="PATH", help="of the pretraining in each fold, beside the config: see main_pretrain_flira.py")
    add("--encoder_weights", nargs="+", metavar="[MODALITY=]FILE", help="likewise")
    text = "further sets that the same networks are tested on: what --dataset says, and the folder (none)"
    add("--more", nargs="+", metavar="NAME:DIR", default=[], help=text)
    add("--seed", type=seed, default=2, help="seed of all training; the folds do not depend on it (2)")
    add("--slots", type=positive, default=min(2, CORES), help=f"folds side by side ({min(2, CORES)})")
    add("--out", metavar="DIR", help="folder of runs, checkpoints and detections (runs/cross_validation-CONFIG)")
    add("--summary", action="store_true", help="print the tables of the rows that are there, measure nothing (off)")
    return parser


def parse(argv: list[str]) -> tuple[Study | None, bool]:
    """Return the study, None where the command line has no DIR, and whether only the summary is asked for."""
    args = make_parser().parse_args(argv)
    if args.data is None and args.summary:
        return None, True
    for name in ("data", "config"):
        if getattr(args, name) is None:
            raise UserError(f"{'DIR' if name == 'data' else '--config'}: expected one, found none (see --help)")
    chosen = tuple(args.fold or range(1, args.folds + 1))
    if max(chosen) > args.folds:
        raise UserError(f"--fold: expected one of the folds 1 to {args.folds}, found {max(chosen)}")
    if unknown := [name for name in args.methods or () if name not in METHODS]:
        raise UserError(f"--methods: no such method: {unknown[0]}{near(unknown[0], METHODS)}")
    methods = tuple(name for name in METHODS if name in (args.methods or METHODS))
    config = Path(args.config).resolve()
    out = Path(args.out or f"{RUNS}/{NAME}-{config.stem}").resolve()
    more = further_sets(args.more)
    in_config = read_config(args.config, parsers(), "pretrain")
    given = {name: getattr(args, name) or in_config.get(name) for name in STARTS}
    start = {name: [value] if isinstance(value, str) else value for name, value in given.items() if value}
    for name, values in start.items():
        if missing := [value for value in values if not Path(path_of(value)).exists()]:
            raise UserError(f"--{name} {missing[0]}: expected a file or folder, found none")
    study = Study(
        data=Path(args.data).resolve(),
        config=config,
        start={name: list(map(absolute, values)) for name, values in start.items()},
        folds=args.folds,
        seed=args.seed,
        methods=methods,
        more=more,
        out=out,
        chosen=chosen,
        slots=args.slots,
    )
    return study, args.summary


def parsers() -> dict[str, Parser]:
    """Return the parsers of the commands, by section."""
    return {section: parser_of(TASKS[TASK])(section) for section in SECTIONS}


def path_of(value: str) -> str:
    """Return the path in MODALITY=FILE or FILE."""
    name, separator, path = value.partition("=")
    return path if separator and name.isidentifier() else value


def absolute(value: str) -> str:
    """Return FILE or MODALITY=FILE with an absolute path, since the commands run in another folder."""
    path = path_of(value)
    return value.removesuffix(path) + str(Path(path).resolve())


def digest(path: Path) -> str:
    """Return a hash of the content of a file, or of the weights in a folder."""
    files = sorted(file for file in path.iterdir() if file.suffix in (".pth", ".tar")) if path.is_dir() else [path]
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(file.read_bytes())
    return hashed.hexdigest()


def further_sets(texts: list[str]) -> dict[str, tuple[str, Path]]:
    """Read the further sets by name, of which each row has one."""
    sets: dict[str, tuple[str, Path]] = {}
    for text in texts:
        name, found = further_set(text)
        if name in (FOLD, *sets):
            raise UserError(f"--more {text}: expected another name than {name}, which is taken")
        sets[name] = found
    return sets


def further_set(text: str) -> tuple[str, tuple[str, Path]]:
    """Read NAME:DIR; a data set is named as in --dataset, an own set by its YAML file, whose stem is then its name."""
    dataset, _, folder = text.rpartition(":")
    try:
        dataset_name(dataset)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--more {text}: {error}") from None
    if not Path(folder).is_dir():
        raise UserError(f"--more {text}: expected NAME:DIR, found no folder {folder}")
    named = Path(dataset)
    is_file = named.suffix != ""
    return named.stem, (str(named.resolve()) if is_file else dataset, Path(folder).resolve())
