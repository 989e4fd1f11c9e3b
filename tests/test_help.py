"""`--help` is the manual: every option of every command says its unit, and the default that it really has."""

import argparse
import importlib
import re

import pytest

from commands.options import make_parser
from tasks.classification.options import parser_of as class_parser_of
from tasks.classification.presets import DATA_SETS
from utils.args import Parser

SECTIONS = ("pretrain", "search", "found")
TOOLS = (
    "check_data",
    "dataset_stats",
    "demo.__main__",
    "demo.mmimdb",
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


PARSERS = {"flira": make_parser} | {name: class_parser_of(one) for name, one in DATA_SETS.items()}


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("command", PARSERS)
def test_every_option_says_unit_and_default(command, section):
    faults = []
    for action in options(PARSERS[command](section)):
        try:
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
    text = make_parser(section).format_help()
    assert text.startswith("usage: ")
    assert len(text.split("\n\n")[0].splitlines()) <= 2
    own = {"pretrain": "pretraining:", "search": "search space:", "found": "found network:"}[section]
    for group in ("data:", "detector:", "run:", own):
        assert f"\n{group}\n" in text
