"""Processes of their own without the seconds that imports take: forks of a server that has imported the commands.

A process is forked before the server has computed anything, so it is as fresh as one that the shell starts.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from utils.subprocesses import ROOT, environment

PRELOADED = (
    "main_pretrain_flira",
    "main_darts_searchable_flira",
    "main_darts_found_flira",
    "benchmarks.soak",
    "benchmarks.ranks_agree",
)
PATIENCE = 300  # seconds until a process counts as hung


class Process:
    """A running process. `returncode` is as subprocess.Popen's once `wait` has returned."""

    def __init__(self, server: "Server", pid: int, log: Path):
        self.server, self.pid, self.log = server, pid, log
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        ends = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > ends:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s: {self.output()[-2000:]}")
            time.sleep(0.02)
        return self.returncode

    def output(self) -> str:
        """Return what it has written to stdout and stderr so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Server:
    """The process that forks; it ends with its standard input."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes"],
            cwd=ROOT,
            env=environment({"OMP_NUM_THREADS": "1"}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: dict) -> int | None:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


_servers: list[Server] = []  # at most one


def start(words: Sequence[object], folder: Path, log: Path, env: dict[str, str] | None = None) -> Process:
    """Start what `python WORDS` would run (a script, -m MODULE or -c CODE), its output to the file `log`.

    Args:
        words: the command line behind `python`.
        folder: the working folder.
        log: gets stdout and stderr.
        env: variables on top of this process's.
    """
    if not _servers:
        _servers.append(Server())
    request = {"words": [*map(str, words)], "cwd": str(folder), "log": str(log), "env": environment(env)}
    return Process(_servers[0], _servers[0].ask(request), log)


def run(words: Sequence[object], folder: Path, log: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a process to its end; returns its exit code and what it wrote."""
    process = start(words, folder, log, env)
    return process.wait(), process.output()


def start_ranks(count: int, words: Sequence[object], folder: Path, log: Path) -> list[Process]:
    """Start so many processes that learn together, with the variables of torchrun; each logs to `log`.RANK."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    job = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    ranks = [{**job, "RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    return [
        start(words, folder, Path(f"{log}.{rank['RANK']}"), {name: str(value) for name, value in rank.items()})
        for rank in ranks
    ]


def run_command(script: str, *options: object, env: dict[str, str] | None = None) -> str:
    """Run a command as `utils.subprocesses.run` does, whose place it takes."""
    start_words = [ROOT / script] if script.endswith(".py") else ["-m", script]
    with tempfile.TemporaryDirectory() as folder:
        code, text = run([*start_words, *options], Path.cwd(), Path(folder) / "log", env)
    print(text)
    if code:
        raise SystemExit(code)
    return text


def close() -> None:
    """End the server, so that its processor time counts among ours."""
    while _servers:
        _servers.pop().close()


def serve() -> None:
    """Answer requests on standard input: fork, or say how a fork has ended."""
    for module in PRELOADED:
        importlib.import_module(module)
    gc.freeze()  # what is collected would be copied
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif (answer := os.fork()) == 0:
            answers.close()
            os._exit(become(request))
        print(json.dumps(answer), file=answers, flush=True)


def become(request: dict) -> int:
    """Be the process that is asked for; returns its exit code, as the interpreter would."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout.reconfigure(line_buffering=True)  # what a rank of torchrun writes is read while it runs
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    try:
        execute(*request["words"])
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 (shown as the interpreter does)
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def execute(first: str, *rest: str) -> None:
    """Execute a script, -m MODULE or -c CODE as the main program."""
    if first == "-m":
        sys.argv = [*rest]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve()
    os._exit(0)  # nothing is to be tidied up
