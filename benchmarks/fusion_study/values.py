"""Values of a study config, checked: a mistake is one line that names file, key, expected and found."""

from typing import Any

from commands.options import add_search_options, add_weight_options, parser_of
from models.search.fusion_cells.choices import MAPS, PUBLISHED
from tasks import TASKS
from tasks.fusion_options import add_space_options
from utils.args import Parser, convert_option, options_of
from utils.errors import UserError, near, short

# Of the options, those of the drawn space.
DRAWN = ("space", "steps", "multiplier", "node_steps", "node_multiplier", "max_parameter_free")


class Reader:
    """Values of one file; each method returns its value, or raises a UserError that names it by `key`."""

    def __init__(self, path: str):
        self.path = path

    def fail(self, key: str, expected: str, found: Any) -> UserError:
        return UserError(f"--config {self.path}: {key}: expected {expected}, found {short(found)}")

    def mapping(self, key: str, value: Any, names: tuple[str, ...] | None = None) -> dict:
        """Return a mapping of texts, with no other names than these."""
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

    def choices(self, key: str, value: Any, known: tuple[str, ...]) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(name in known for name in value) or len(set(value)) < len(value):
            raise self.fail(key, f"a list of different names of {', '.join(known)}", value)
        return tuple(value)

    def options(self, key: str, value: Any, section: str) -> tuple[str, ...]:
        """Return options of a command as its words, each read as on the command line."""
        known = own_options(section)
        values = {name.replace("-", "_"): v for name, v in self.mapping(key, value).items()}
        self.mapping(key, values, tuple(known))
        words = []
        for name, given in values.items():
            convert_option(known[name], given, f"--config {self.path}: {key}")
            if known[name].nargs != 0:
                words += [f"--{name}", *map(str, given if isinstance(given, list) else [given])]
            elif given:
                words.append(f"--{name}")
        return tuple(words)


def own_options(section: str) -> dict:
    """Return the options that a method may set: of a search all of its own; of a random genotype those of its space."""
    known = options_of(parser_of(TASKS["flira"])(section))
    if section == "found":
        return {name: known[name] for name in DRAWN if name in known}
    parser = Parser("")
    add_weight_options(parser)
    add_space_options(parser, rank=MAPS, default=PUBLISHED, text="", node_steps=1, node_multiplier=3)
    add_search_options(parser)
    return {name: known[name] for name in options_of(parser)}
