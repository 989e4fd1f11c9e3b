"""Run the project's commands from Python, each in a process of its own: a script in its root, or a module."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command_line(script: str, *options: object) -> list[str]:
    """Return the argument list of a command.

    Args:
        script: a script in the project's root (`main_pretrain_flira.py`), or a module (`datasets.road_scenes`).
        options: its arguments; anything that `str` turns into text.
    """
    start = [str(ROOT / script)] if script.endswith(".py") else ["-m", script]
    return [sys.executable, *start, *map(str, options)]


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return the variables for a command: ours, with the project importable from any folder, output as it comes."""
    folders = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders), "PYTHONUNBUFFERED": "1"} | (extra or {})


def run(script: str, *options: object, env: dict[str, str] | None = None) -> str:
    """Run a command, pass on what it prints, and return it.

    Args:
        script, options: as `command_line`.
        env: variables on top of ours.

    Raises:
        SystemExit: the command failed; with its exit code, since it has said why.
    """
    print("$ python", *command_line(script, *options)[1:], flush=True)
    argv, variables = command_line(script, *options), environment(env)
    lines = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace", env=variables) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode != 0:
        raise SystemExit(process.returncode)
    return "".join(lines)


def named(text: str, key: str) -> str:
    """Return what a command printed behind `key: `, alone on a line; the last one where there are several.

    Raises:
        ValueError: there is no such line.
    """
    found = [line.partition(": ")[2] for line in text.splitlines() if line.startswith(f"{key}: ")]
    if not found:
        raise ValueError(f"expected a line '{key}: ...', found {text.splitlines()[-1:]} at the end")
    return found[-1]
