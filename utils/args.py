"""Command lines: options over YAML configs, and one clear line for every mistake. Imports no torch.

Precedence: command line over the config's section over its top level over the run or checkpoint that is built on over
the default. `Options` keeps the origin of each value. The options themselves: commands/options.py and
tasks/*/options.py.
"""

import argparse
import contextlib
import functools
import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from utils import distributed
from utils.errors import UserError, known_faults_named, near, printable, short
from utils.launch import RelaunchRequest, launch, start_several
from utils.signals import Stopped
from utils.untrusted import read_yaml

SECTIONS = ("pretrain", "search", "found")
SHOWN_NAMES = 5  # of unknown options
TYPED, CONFIG, DEFAULT, ABSENT = "command line", "config", "default", "absent"


class Options:
    """Frozen options of a command: values by attribute, each with its origin.

    `defaults` has those of all options. An origin is "command line", "config", "run", "checkpoint", "data" or
    "default"; "absent" is that of an option which this command does not have, and whose value is fixed.
    """

    def __init__(self, values: dict[str, Any], origins: dict[str, str], defaults: dict[str, Any]):
        vars(self).update(values)
        vars(self).update(_origins=origins, defaults=defaults)

    def __getattr__(self, name: str) -> Any:  # for type checkers: values are in the instance's dictionary
        raise AttributeError(f"there is no option {name}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"options are frozen: with_values({name}=...) returns new ones")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and vars(self) == vars(other)

    def __contains__(self, name: str) -> bool:
        return name in self._origins

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def is_typed(self, name: str) -> bool:
        """Return whether the command line has the option."""
        return self._origins.get(name) == TYPED

    def is_given(self, name: str) -> bool:
        """Return whether the command line or the config has the option."""
        return self._origins.get(name) in (TYPED, CONFIG)

    @property
    def typed_names(self) -> list[str]:
        return sorted(filter(self.is_typed, self._origins))

    @property
    def given_names(self) -> list[str]:
        return sorted(filter(self.is_given, self._origins))

    def with_values(self, origin: str, **values: Any) -> "Options":
        """Return the options with other values; one that has its value already keeps its origin."""
        new = {n for n, v in values.items() if self._origins.get(n, ABSENT) == ABSENT or vars(self)[n] != v}
        return self.replaced(values, dict.fromkeys(new, origin))

    def replaced(self, values: dict[str, Any], origins: dict[str, str]) -> "Options":
        return Options(vars(self) | values, self._origins | origins, self.defaults)

    def keywords(self, *names: str, **renamed: str) -> dict[str, Any]:
        """Return the values of some options, by name or under another name: `lr="eta_max"`."""
        return {name: vars(self)[option] for name, option in (dict(zip(names, names)) | renamed).items()}

    def plain(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return {n: vars(self)[n] for n, origin in self._origins.items() if origin != ABSENT and n != "resume"}


class Manual(argparse.HelpFormatter):
    """Shows what an option takes as N, X or TEXT, not as its name again."""

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return getattr(action.type, "metavar", "TEXT")


class Help(argparse.Action):
    """`--help` prints the options that are set most, `--help all` every one."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        parser.print_help(everything=values == "all")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and exit code 2, by way of UserError.

    Args:
        everyday: names of the options that `--help` shows; none: all.
    """

    def __init__(self, description: str, usage: str | None = None, everyday: Iterable[str] = ()):
        values = {"allow_abbrev": False, "formatter_class": Manual, "add_help": False}
        super().__init__(description=description, usage=usage, **values)
        self.everyday = frozenset(everyday)
        which = {"nargs": "?", "metavar": "all"} if everyday else {"nargs": 0}
        text = "show the options that are set most, or all of them, and exit" if everyday else "show this and exit"
        self.add_argument("-h", "--help", action=Help, help=text, **which)

    def group(self, title: str) -> Any:
        """Return the group of options with this title, a new one where there is none."""
        return next((g for g in self._action_groups if g.title == title), None) or self.add_argument_group(title)

    def format_help(self, everything: bool = True) -> str:
        """Return the manual, of all options or of the everyday ones."""
        shown = {"help", *self.everyday}
        rare = [action for action in self._actions if action.option_strings and action.dest not in shown]
        hidden = {} if everything or not self.everyday else {action: action.help for action in rare}
        for action in hidden:
            action.help = argparse.SUPPRESS
        try:
            return super().format_help() + (f"\n{len(hidden)} more options: --help all\n" if hidden else "")
        finally:
            for action, text in hidden.items():
                action.help = text

    def print_help(self, file: IO[str] | None = None, everything: bool = True) -> None:
        """Print the manual; of several ranks the first one does."""
        if distributed.ranks().first:
            self._print_message(self.format_help(everything), file or sys.stdout)

    def parse_args(self, args: list[str] | None = None, namespace: argparse.Namespace | None = None):
        """Parse a whole command line; an option that is not known is named, with the one that may be meant."""
        namespace, unknown = self.parse_known_args(args, namespace)
        if not unknown:
            return namespace
        name = unknown[0].partition("=")[0]
        self.error(f"{name}: no such option{near(name, self._option_string_actions)}")

    def error(self, message: str):
        raise UserError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


MakeParser = Callable[[str], Parser]  # from a section's name


def command(main=None, *, joins: bool = True):
    """Let `main(argv=None)` end as the contract says: 0 done, 2 and a line on stderr for a UserError, 3 for Stopped.

    Args:
        joins: where torchrun has started it, it is one of several ranks (utils/distributed.py), and ends with 1 where
            another one was lost; otherwise it works by itself there, too.
    """
    if main is None:
        return functools.partial(command, joins=joins)

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names in data may hold what a terminal cannot show
        words = sys.argv[1:] if argv is None else argv
        try:
            with distributed.joined() if joins else contextlib.nullcontext():
                return ended(main, words)
        except RelaunchRequest as several:
            return launch(Path(sys.modules[main.__module__].__file__).name, words, several.count)
        except distributed.PeerLostError as error:
            distributed.say_lost(error)
            return 1

    return run


def ended(main: Callable[[list[str]], None], argv: list[str]) -> int:
    """Return the exit code of a command, and say why where it is not 0; of several processes, one says it."""
    try:
        with known_faults_named():
            main(argv)
    except UserError as error:
        distributed.say_once(f"error: {printable(str(error))}")
        return 2
    except Stopped as error:
        distributed.say_stopped(str(error), error.saved)
        return 3
    except KeyboardInterrupt:
        distributed.say_once("interrupted before a run had begun")
        return 130  # as a shell has it
    distributed.leave()
    return 0


def parse(make_parser: MakeParser, argv: list[str], section: str) -> Options:
    """Parse the command line of one command over its config.

    Args:
        make_parser: returns the parser of "pretrain", "search" or "found".

    Raises:
        UserError: unknown or malformed option, on the command line or in the config; names it.
        RelaunchRequest: --parallel asks for several processes in place of this one.
    """
    parser = make_parser(section)
    values = vars(parser.parse_args(argv))
    typed = vars(_without_defaults(make_parser(section)).parse_args(argv))
    path = values["config"]
    config = read_config(path, {name: make_parser(name) for name in SECTIONS}, section) if path else {}
    origins = dict.fromkeys(values, ABSENT) | dict.fromkeys((a.dest for a in parser._actions), DEFAULT)
    origins |= dict.fromkeys(config, CONFIG) | dict.fromkeys(typed, TYPED)
    origins.pop("help")
    values |= {n: v for n, v in config.items() if n not in typed}
    options = Options(values, origins, {n: a.default for n, a in options_of(parser).items()})
    if options.parallel:
        start_several(options.device)
    return options


def read_config(path: str, parsers: dict[str, Parser], section: str) -> dict:
    """Return the config's options for one command, converted and checked as on the command line.

    Top-level options may belong to any command, those of a section must belong to that command.
    """
    source, data = f"--config {path}", read_yaml(path, f"--config {path}")
    data = {} if data is None else data
    if not isinstance(data, dict) or not all(isinstance(data.get(name) or {}, dict) for name in SECTIONS):
        raise UserError(f"{source}: expected option names with values, and sections {', '.join(SECTIONS)}")
    by_section = {name: options_of(parser) for name, parser in parsers.items()}
    layers = {name: _names(data.pop(name, None) or {}) for name in SECTIONS}
    top, anywhere = _names(data), dict.fromkeys(key for options in by_section.values() for key in options)
    unknown = [(key, anywhere) for key in top if key not in anywhere]
    for name, layer in layers.items():
        unknown += [(f"{name}: {key}", by_section[name]) for key in layer if key not in by_section[name]]
    if unknown:
        found = ", ".join(name + near(name.rpartition(" ")[2], names) for name, names in unknown[:SHOWN_NAMES])
        found += f" and {len(unknown) - SHOWN_NAMES} more" if len(unknown) > SHOWN_NAMES else ""
        raise UserError(f"{source}: expected option names, found {found} (data folders do not belong here)")
    values, actions = top | layers[section], by_section[section]
    return {key: convert_option(actions[key], value, source) for key, value in values.items() if key in actions}


def _names(layer: dict) -> dict:
    return {str(key).replace("-", "_"): value for key, value in layer.items()}


def options_of(parser: Parser) -> dict[str, argparse.Action]:
    """Return what sets each option by its name, but for --config and --help."""
    return {a.dest: a for a in parser._actions if a.option_strings and a.dest not in ("help", "config")}


def convert_option(action: argparse.Action, value: Any, source: str) -> Any:
    """Convert one value of a file as argparse would convert its text; UserError where it is none, after `source`."""

    def refused(expected: str) -> UserError:
        return UserError(f"{source}: {action.dest}: expected {expected}, found {short(value)}")

    if action.nargs == 0:
        if not isinstance(value, bool):
            raise refused("true or false")
        return value
    count, many = isinstance(action.nargs, int), action.nargs in ("*", "+")
    values = value if count or (many and isinstance(value, list)) else [value]
    if not isinstance(values, list) or (count and len(values) != action.nargs):
        raise refused(f"{action.nargs} values in a list")
    if any(isinstance(v, (dict, list)) or v is None for v in values):
        raise refused("a number or text")
    convert = action.type or str
    try:
        done = [convert(str(v)) for v in values]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{source}: {action.dest}: {error}") from None
    except ValueError:
        raise refused(convert.__name__) from None
    if action.choices and any(v not in action.choices for v in done):
        raise refused(f"one of {', '.join(action.choices)}")
    if many:
        return done
    return tuple(done) if count else done[0]


def read_again(action: argparse.Action, saved: dict[str, Any], source: str) -> Any:
    """Return the value of an option in an args.json, checked as that of a config; its default where none is there."""
    value = saved.get(action.dest, action.default)
    if action.dest not in saved or value is None:
        return value
    if isinstance(value, list) and action.nargs is None:  # --image_size
        value = "x".join(map(str, value))
    return convert_option(action, value, source)


def same(value: Any, other: Any) -> bool:
    """Return whether two values are the same in JSON, where tuples are lists."""
    return json.dumps(value) == json.dumps(other)


def _without_defaults(parser: Parser) -> Parser:
    """Make the parser fill in only what is typed."""
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    parser._defaults.clear()
    return parser
