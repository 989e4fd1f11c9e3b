"""Checks the values of a study config. A mistake raises one line with file, key, expected and found value."""

from typing import Any

from commands.options import add_search_options, add_weight_options, parser_of
from models.search.fusion_cells.choices import MAPS, PUBLISHED
from tasks import TASKS
from tasks.fusion_options import add_space_options
from utils.args import Parser, convert_option, options_of
from utils.errors import UserError, near, short

# Options of the space from which random genotypes are drawn.
DRAWN = ("space", "steps", "multiplier", "node_steps", "node_multiplier", "max_parameter_free")


class Reader:
    """Reads values of one file. Each method returns the value, or raises a UserError that names its `key`."""

    def __init__(self, path: str):
        self.path = path

    def fail(self, key: str, expected: str, found: Any) -> UserError:
        return UserError(f"--config {self.path}: {key}: expected {expected}, found {short(found)}")

    def mapping(self, key: str, value: Any, names: tuple[str, ...] | None = None) -> dict:
        """Return a mapping with text keys, all of them among `names`."""
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise self.fail(key, "names with values", value)
        for name in value:
            if names is not None and name not in names:
                raise UserError(f"--config {self.path}: {key}: no such name: {short(name)}{near(name, names)}")
        return value

    def number(self, key: str, value: Any, least: int = 0) -> int:
        if type(value) is not int or not least <= value < 2**32:
            raise self.fail(key, f"a whole number from {least}", value)
        return value

    def seeds(self, key: str, value: Any) -> tuple[int, ...]:
        if not isinstance(value, list) or not value or len(set(map(str, value))) < len(value):
            raise self.fail(key, "a list of different seeds", value)
        return tuple(self.number(key, seed) for seed in value)

    def choices(self, key: str, value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(name in allowed for name in value) or len(set(value)) < len(value):
            raise self.fail(key, f"a list of different names of {', '.join(allowed)}", value)
        return tuple(value)

    def options(self, key: str, value: Any, section: str) -> tuple[str, ...]:
        """Return options of a command as command-line words, each checked by the command's parser."""
        allowed = method_options(section)
        values = {name.replace("-", "_"): v for name, v in self.mapping(key, value).items()}
        self.mapping(key, values, tuple(allowed))
        words = []
        for name, given in values.items():
            convert_option(allowed[name], given, f"--config {self.path}: {key}")
            if allowed[name].nargs != 0:
                words += [f"--{name}", *map(str, given if isinstance(given, list) else [given])]
            elif given:
                words.append(f"--{name}")
        return tuple(words)


def method_options(section: str) -> dict:
    """Return the options that a method may set: all options of a search, or those of a random genotype's space."""
    allowed = options_of(parser_of(TASKS["flira"])(section))
    if section == "found":
        return {name: allowed[name] for name in DRAWN if name in allowed}
    parser = Parser("")
    add_weight_options(parser)
    add_space_options(parser, rank=MAPS, default=PUBLISHED, text="", node_steps=1, node_multiplier=3)
    add_search_options(parser)
    return {name: allowed[name] for name in options_of(parser)}
