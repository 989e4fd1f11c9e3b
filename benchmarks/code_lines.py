"""Code lines of the product by folder: lines that hold a token that is no comment, outside of docstrings.

What is counted: the mains and the Python files of tasks, commands, engine, models, datasets, report, utils and tools.
Blank lines, comments and docstrings are left out; a string over several lines that is no docstring counts with all of
its lines. `python -m benchmarks.code_lines` prints a table; `--at COMMIT` counts another commit.
"""

import ast
import io
import subprocess
import tokenize
from collections import Counter

from utils.args import Parser, command

FOLDERS = ("tasks", "commands", "engine", "models", "datasets", "report", "utils", "tools")
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@command
def main(argv: list[str]) -> None:
    parser = Parser("Count the code lines of the product by folder.")
    parser.add_argument("--at", metavar="COMMIT", help="commit to count (the working tree)")
    at = parser.parse_args(argv).at
    lines, files = Counter(), Counter()
    for path in git("ls-files", "*.py") if at is None else git("ls-tree", "-r", "--name-only", at):
        folder = folder_of(path)
        if folder and path.endswith(".py"):
            lines[folder] += count_code_lines(read(path, at))
            files[folder] += 1
    for folder in lines:
        print(f"{folder:10} {files[folder]:4} files {lines[folder]:6} lines")
    print(f"{'total':10} {files.total():4} files {lines.total():6} lines")


def folder_of(path: str) -> str:
    """Return the folder that a file is counted in, or nothing."""
    first = path.partition("/")[0]
    return "mains" if first.startswith("main_") else first if first in FOLDERS else ""


def count_code_lines(text: str) -> int:
    """Return the number of lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(text))


def docstring_lines(text: str) -> set[int]:
    """Return the lines of the docstrings of a module, its classes and its functions."""
    lines, documented = set(), (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node):
            lines.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def git(*words: str) -> list[str]:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.splitlines()


def read(path: str, at: str | None) -> str:
    if at is None:
        with open(path, encoding="utf-8") as file:
            return file.read()
    return subprocess.run(["git", "show", f"{at}:{path}"], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main())
