"""`--help` is the manual: every option of every command says its unit, and the default that it really has."""

import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands.options import EVERYDAY, make_parser
from datasets.detection import corruptions, names
from models.detection import baselines
from tasks import TASKS
from tasks.classification import build
from tasks.classification.presets import DATA_SETS
from tasks.detection import options as detection_options
from utils.args import Parser

SECTIONS = ("pretrain", "search", "found")
TOOLS = (
    "check_data",
    "dataset_stats",
    "demo.__main__",
    "export",
    "plot_genotype",
    "predict",
    "profile",
    "report",
)
# A number is of one of these; others are plain counts of what the help names.
WORDS = (
    "pixels px pairs epochs epoch steps processes threads probability share factor rate weight strength channels taps"
)
WORDS += " levels strides seed norm batches nodes operations states choices edges genotypes dropout passes score effect"
WORDS += " cells"
UNITS = (
    *WORDS.split(),
    "youngest",
    "drawn",
    "rounds",
    "rated",
    "commands",
    "objects",
    "examples",
    "films",
    "positions",
)


ROOT = Path(__file__).resolve().parent.parent


class Found(Exception):
    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser


def parser_of(tool: str, monkeypatch) -> Parser:
    """Return the parser that a tool builds."""

    def stop(self, *args, **options):
        raise Found(self)

    monkeypatch.setattr(Parser, "parse_args", stop)
    with pytest.raises(Found) as caught:
        importlib.import_module(f"tools.{tool}").main.__wrapped__([])
    return caught.value.parser


def options(parser: Parser) -> list[argparse.Action]:
    return [a for a in parser._actions if a.option_strings and a.dest != "help"]


def told_default(action: argparse.Action) -> str:
    """Return what the help's last parentheses say first."""
    found = re.findall(r"\(([^()]*)\)", action.help or "")
    assert found or action.required, f"{action.option_strings[0]}: expected a default in parentheses: {action.help}"
    return re.split(r"[,;:]", found[-1])[0].strip() if found else ""


def check(action: argparse.Action) -> None:
    name, told, default = action.option_strings[0], told_default(action), action.default
    if action.required:
        return
    if isinstance(default, bool):
        assert told in ("off", "written", "shown"), (name, told)
    elif isinstance(default, tuple):
        assert told.replace("x", " ").split() in ([f"{v:g}" for v in default], [f"{default[0]:g}"]), (name, told)
    elif isinstance(default, int | float):
        assert told == "one per core" or float(told.split()[0]) == pytest.approx(default), (name, told, default)
    elif default is not None:
        assert told == str(default), (name, told, default)
    if isinstance(default, int | float | tuple) and not isinstance(default, bool):
        assert any(unit in action.help for unit in UNITS), f"{name}: expected a unit: {action.help}"


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("command", TASKS)
def test_every_option_says_unit_and_default(command, section):
    faults = []
    parser = make_parser(TASKS[command], section)
    for action in options(parser):
        try:
            action.help = parser._get_formatter()._expand_help(action)
            check(action)
        except AssertionError as error:
            faults.append(str(error).partition("\nassert")[0])
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_option_of_a_tool_says_its_default(tool, monkeypatch):
    for action in options(parser_of(tool, monkeypatch)):
        check(action)


@pytest.mark.parametrize("section", SECTIONS)
def test_help_comes_in_groups_and_begins_shortly(section):
    parser = make_parser(TASKS["flira"], section)
    for text in (parser.format_help(), parser.format_help(everything=False)):
        assert text.startswith("usage: ")
        assert len(text.split("\n\n")[0].splitlines()) <= 2
        own = {"pretrain": "pretraining:", "search": "search space:", "found": "found network:"}[section]
        for group in ("data:", "network:", "run:", own):
            assert f"\n{group}\n" in text


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", TASKS)
def test_help_shows_what_is_set_most_and_help_all_the_rest(name, section, capsys):
    parser = make_parser(TASKS[name], section)
    flags = {action.option_strings[0] for action in options(parser)}

    def shown(*argv: str) -> set[str]:
        with pytest.raises(SystemExit) as end:
            parser.parse_args(argv)
        assert end.value.code == 0
        return flags & set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))

    assert shown("--help", "all") == flags
    assert 15 <= len(shown("--help")) <= 40
    assert {"--epochs", "--seed", "--config"} <= shown("--help")


MAINS = sorted(path.name for path in ROOT.glob("main_*.py"))


def test_no_main_imports_torch_to_show_its_options():
    """One process for all: torch would be among its modules."""
    code = """
import runpy, sys
for name in sys.argv[1:]:
    sys.argv[1:] = ["--help"]
    try:
        runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        assert not end.code, name
    assert "torch" not in sys.modules, name
"""
    done = subprocess.run([sys.executable, "-c", code, *MAINS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(MAINS) == 3 * len(TASKS)


@pytest.mark.parametrize("name", MAINS)
def test_mains_are_short(name):
    assert len((ROOT / name).read_text().splitlines()) <= 20


def test_names_of_options_are_those_of_the_tables():
    assert list(detection_options.BASELINES) == list(baselines.BASELINES)
    assert detection_options.FUSIONS == baselines.FUSIONS
    assert names.KINDS == corruptions.KINDS
    assert build.READERS.keys() == DATA_SETS.keys()
    assert {action.dest for parser in every_parser() for action in options(parser)} >= set(EVERYDAY) - {"data"}


def every_parser() -> list[Parser]:
    return [make_parser(task, section) for task in TASKS.values() for section in SECTIONS]
