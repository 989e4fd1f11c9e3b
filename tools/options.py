"""Prints every option of the commands as a page of docs: python -m tools.options > docs/options.md."""

import argparse
from itertools import chain

from commands.options import make_parser
from tasks import TASKS
from utils.args import SECTIONS, Parser, command

HEAD = """# Every option

What `--help all` says of the commands, on one page; made by `python -m tools.options`. In parentheses stands the
default, and the published value where it is another. Options come from the command line, then from `--config`'s
section, then from its top level, then from the run or checkpoint that is built on, then from the default; in a test,
what the trained network is made of comes from its run even where a config says otherwise.
"""
FIRST = "flira"  # whose options are listed in full
Option = tuple[str, str, str]  # its name, what it takes, what it means


@command
def main(argv: list[str]) -> None:
    Parser("Print docs/options.md.").parse_args(argv)
    print(page(), end="")


def page() -> str:
    """Return the page."""
    detection_options = gathered({section: make_parser(TASKS[FIRST], section) for section in SECTIONS})
    parts = [HEAD, "\n## main_pretrain_flira.py, main_darts_searchable_flira.py, main_darts_found_flira.py\n"]
    parts += [table(group, options) for group, options in detection_options.items()]
    listed = {option for options in detection_options.values() for option in options}
    further_tasks = [name for name in TASKS if name != FIRST]
    kinds = {f"{section}, {name}": make_parser(TASKS[name], section) for name in further_tasks for section in SECTIONS}
    parts.append(f"\n## The same of {', '.join(further_tasks)}\n\nThose that are not as above.\n")
    for group, options in gathered(kinds).items():
        if more := {option: of for option, of in options.items() if option not in listed}:
            parts.append(table(group, more))
    return "".join(parts)


def table(group: str, options: dict[Option, list[str]]) -> str:
    """Return the options of a group as Markdown."""
    head = f"\n### {group.capitalize()}\n\n| option | takes | what it means | of |\n|---|---|---|---|\n"
    lines = (f"| `{name}` | {takes} | {text} | {'; '.join(of)} |\n" for (name, takes, text), of in options.items())
    return head + "".join(lines)


def gathered(parsers: dict[str, Parser]) -> dict[str, dict[Option, list[str]]]:
    """Return the options by group, each with its commands; an option with two meanings has two entries."""
    groups: dict[str, dict[Option, list[str]]] = {}
    for section, parser in parsers.items():
        formatter = parser._get_formatter()
        for group, action in chain.from_iterable(((g, a) for a in g._group_actions) for g in parser._action_groups):
            if action.dest != "help":
                name = action.option_strings[0] if action.option_strings else action.metavar
                option = name, words(action, formatter), formatter._expand_help(action).replace("|", "\\|")
                groups.setdefault(group.title, {}).setdefault(option, []).append(section)
    return groups


def words(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    """Return the values of an option as its help shows them."""
    if action.nargs == 0:
        return ""
    metavar = formatter._get_default_metavar_for_optional(action) if action.option_strings else action.dest
    return formatter._format_args(action, metavar).replace("|", "\\|").strip("{}").replace(",", ", ")


if __name__ == "__main__":
    raise SystemExit(main())
