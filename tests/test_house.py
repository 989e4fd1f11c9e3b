"""The plan of the code: who imports whom, where names of sensors may stand, and which words are retired."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
FLOORS = {
    "utils": {"utils"},
    "datasets": {"utils", "datasets"},
    "models": {"utils", "models"},
    "engine": {"utils", "datasets", "models", "engine"},
    "report": {"utils", "datasets", "models", "engine", "report"},
    "commands": {"utils", "datasets", "models", "engine", "report", "commands"},
    "tasks": {"utils", "datasets", "models", "engine", "report", "tasks"},
}
PRODUCT = (*FLOORS, "tools", "benchmarks", "examples")
SENSORS = re.compile(r"(?<![a-z])(thermal|rgb|flira?|films?|posters?)(?![a-z])", re.IGNORECASE)
WITHOUT_SENSORS = ("engine/", "commands/", "models/search/")
MAX_MAIN, MAX_UTILS_FILES, MAX_UTILS_LINES = 20, 20, 2500
RETIRED_FILES = {"keeper", "settling", "searching", "learning", "plain", "inherit", "testing", "experiment", "small"}
RETIRED_FILES |= {"claims", "likeliest", "labelled_parts", "pooling", "bars"}
RETIRED = {"Keeper", "Settling", "Searching", "Setting", "Parts", "LabelledParts", "OthersFolder", "Several", "Lost"}
RETIRED |= {"keeper", "settle", "at_rest", "at_work", "owners", "take_up", "say_if_finished", "unseen", "at_once"}
RETIRED |= {"ALONE", "TOGETHER", "FEW", "CODE", "WAYS", "mine", "own_draws", "drawn_by_all", "enough", "learns"}
RETIRED |= {"likeliest", "capped", "rated", "met_parts", "unlike", "remarks", "following", "given", "typed", "agree"}
RETIRED |= {"remember", "meet", "turns"}
RETIRED_FUNCTIONS = {"look", "join", "total", "share", "begin", "learn", "some"}  # that are other things elsewhere
RENDERER = "datasets/scenes/"  # its hash stands in every measured row, so that its text stays


def sources() -> list[str]:
    """Return the product's Python files."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split() if name.startswith((*(f"{f}/" for f in PRODUCT), "main_"))]


def tree_of(name: str) -> ast.Module:
    return ast.parse((REPO / name).read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the first part of every module that is imported, in functions also."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_an_import_never_goes_up():
    wrong = []
    for name in sources():
        folder, found = name.partition("/")[0], set(imports(tree_of(name)))
        allowed = FLOORS.get(folder)
        wrong += [f"{name} imports {other}" for other in found if other.startswith("main_")]
        if allowed is not None:
            wrong += [f"{name} imports {other}" for other in found & {*PRODUCT, "tests"} - allowed]
    assert not wrong


def test_names_of_sensors_and_data_sets_stay_with_their_tasks():
    wrong = []
    for name in sources():
        if name.startswith(WITHOUT_SENSORS):
            text = (REPO / name).read_text(encoding="utf-8")
            tokens = tokenize.generate_tokens(io.StringIO(text).readline)
            wrong += [f"{name}:{t.start[0]}: {m[0]}" for t in tokens if (m := SENSORS.search(t.string.split("\n")[0]))]
    assert not wrong


def test_a_main_is_a_docstring_a_command_and_a_task():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in REPO.glob("main_*.py")}
    assert lengths
    assert max(lengths.values()) <= MAX_MAIN, lengths


def test_utils_stays_small():
    files = [name for name in sources() if name.startswith("utils/") and not name.endswith("__init__.py")]
    lines = sum(len((REPO / name).read_text(encoding="utf-8").splitlines()) for name in files)
    assert len(files) <= MAX_UTILS_FILES, files
    assert lines <= MAX_UTILS_LINES


def names_in(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield line, kind and name of every class, function, argument, attribute, and constant of a module or class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, "class", node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, "function", node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, "argument", node.arg
        elif isinstance(node, ast.Attribute):
            yield node.lineno, "attribute", node.attr
        if isinstance(node, ast.Module | ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
                    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                    named = [n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
                    yield from ((n.lineno, "constant", n.id) for n in named)


@pytest.mark.parametrize("folder", [*PRODUCT, "main_"])
def test_retired_words_are_no_names(folder):
    wrong = []
    for name in sources():
        if not name.startswith(folder) or name.startswith(RENDERER):
            continue
        if Path(name).stem in RETIRED_FILES or name in ("utils/commands.py", "utils/found.py", "datasets/parts.py"):
            wrong.append(f"{name}: file")
        for line, kind, word in names_in(tree_of(name)):
            if word in RETIRED or (word in RETIRED_FUNCTIONS and kind == "function"):
                wrong.append(f"{name}:{line}: {kind} {word}")
    assert not wrong
