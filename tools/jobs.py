"""Runs commands with dependencies, several at a time, each with a log file.

A job names the jobs that it depends on. Of the jobs that are ready, the first in the list starts first. Several
processes may share a folder of logs, and then share the work. Files of a job in this folder:

- NAME.log: the output of the command
- NAME.lock: locked by the process that runs the job and by its command
- NAME.json: record of the last run that ended, with its exit code, its id and the ids of the runs that it depends on
"""

import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

from utils.lock import claim, release
from utils.run_folder import read_json, write_json
from utils.subprocesses import environment

POLL_SECONDS = 0.05
WAIT_SECONDS = 0.5  # between checks of locks that other processes hold, if no command runs here
TAIL = 12  # lines of a failed command that are shown
EXIT_SECONDS = 10  # time for a stopped command to exit
# Variables of torchrun, besides TORCHELASTIC_*. A command that had them would act as one of several ranks.
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
RANKS += ("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT")


class Done(NamedTuple):
    """A finished command: its output, its seconds and the id of the run; "" if the record has no id."""

    text: str
    seconds: float
    id: str = ""


Finished = dict[str, Done]


class Job(NamedTuple):
    """A command.

    Args:
        name: of the job.
        line: returns the argument list, given the jobs that have finished.
        after: names of the jobs that must finish first.
        clears: folder to remove before the start, since a killed command may have left a part of it.
    """

    name: str
    line: Callable[[Finished], list[str]]
    after: tuple[str, ...] = ()
    clears: Path | None = None


class _Running(NamedTuple):
    job: Job
    argv: list[str]
    process: subprocess.Popen
    started: float


class JobFailed(Exception):
    """A command exited with a code other than 0; the message has its last lines and its log file."""

    def __init__(self, name: str, code: int, log: Path):
        lines = _text(log).splitlines()[-TAIL:]
        super().__init__("\n".join([f"{name}: ended with code {code}; its last lines:", *lines, f"log: {log}"]))
        self.code = code


@dataclass
class Queue:
    """Jobs that are run up to `slots` at a time.

    Several processes may run equal queues at once. Each job is run by one process; the others use its result or
    failure, and wait if nothing else is left. If a process is killed, any other process runs its job again as soon as
    the command has ended as well.

    Args:
        jobs: each after the jobs that it depends on.
        slots: largest number of commands at a time.
        logs: folder of the log files, NAME.log.
        env: variables for the commands, added to the environment.
        resume: reuse the result of a job that finished in another call with the same command line, unless a job that it
            depends on has run again since. A job that failed in another process since the start of this call counts as
            failed.
        say: called with a line per finished job.
        on_done: called with the name of each finished job, reused ones included, and all finished jobs.
        keep_going: a failure stops only the jobs that depend on it, and is raised at the end.
        hold: file descriptors that the commands inherit, for locks that must last as long as a command.
    """

    jobs: list[Job]
    slots: int
    logs: Path
    env: dict[str, str] | None = None
    resume: bool = False
    say: Callable[[str], None] = print
    on_done: Callable[[str, Finished], None] = lambda name, done: None
    keep_going: bool = False
    hold: tuple[int, ...] = ()

    def __post_init__(self):
        names = [job.name for job in self.jobs]
        for place, job in enumerate(self.jobs):
            assert job.name not in names[:place], f"{job.name}: expected each name once"
            assert {*job.after} <= {*names[:place]}, f"{job.name}: expected the jobs it waits for in front of it"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.waiting, self.failures = list(self.jobs), []
        self.done: Finished = {}
        self.running: dict[str, _Running] = {}
        self.claims: dict[str, TextIO] = {}  # locks of jobs that are running or whose end is not yet noted
        self.earlier_ids = {name: self._record(name).get("id") for name in names}  # of runs before this call

    def run(self) -> Finished:
        """Run all jobs; returns their results. An exception stops the commands that still run.

        Raises:
            JobFailed: a command failed. Without `keep_going`, running commands are stopped and no other is started.
        """
        awaited = ""
        try:
            while self.waiting or self.running:
                reused = self._start_ready()
                stopped = [name for name, run in self.running.items() if run.process.poll() is not None]
                ended = reused | {name: self._finish(name, self.running.pop(name)) for name in stopped}
                for name, end in ended.items():
                    self._note(name, end, "done already" if name in reused else "")
                    release(self.claims.pop(name))  # not earlier: on_done must have written its rows
                if not ended:
                    awaited = self._wait(awaited)
        finally:
            _stop([job.process for job in self.running.values()])
            for file in self.claims.values():
                release(file)
        if self.failures:
            raise self.failures[0]
        return self.done

    def _ready(self) -> list[Job]:
        return [job for job in self.waiting if all(name in self.done for name in job.after)]

    def _start_ready(self) -> dict[str, Done | JobFailed]:
        """Start ready jobs that no other process runs, up to `slots`; returns jobs that ended elsewhere or earlier."""
        reused = {}
        for job in self._ready():
            if len(self.running) == self.slots:
                break
            if file := claim(self.logs / f"{job.name}.lock"):
                self.claims[job.name] = file
                self.waiting.remove(job)
                argv = job.line(self.done)
                if self.resume and (end := self._earlier(job, argv)):
                    reused[job.name] = end
                else:
                    self._start(job, argv)
        return reused

    def _start(self, job: Job, argv: list[str]) -> None:
        (self.logs / f"{job.name}.json").unlink(missing_ok=True)
        if job.clears:
            shutil.rmtree(job.clears, ignore_errors=True)
        inherited = environment(self.env).items()
        env = {k: v for k, v in inherited if k not in RANKS and not k.startswith("TORCHELASTIC_")}
        fds = (self.claims[job.name].fileno(), *self.hold)
        with open(self._log(job.name), "wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            process = subprocess.Popen(argv, env=env, pass_fds=fds, **streams)
        self.running[job.name] = _Running(job, argv, process, time.perf_counter())

    def _finish(self, name: str, run: _Running) -> Done | JobFailed:
        """Write the record of a run that has ended; returns its result."""
        record = {"argv": run.argv, "seconds": round(time.perf_counter() - run.started, 3), "id": secrets.token_hex(6)}
        record |= {"after": {other: self.done[other].id for other in run.job.after}, "code": run.process.returncode}
        write_json(self.logs / f"{name}.json", record)
        return self._result(name, record)

    def _result(self, name: str, record: dict) -> Done | JobFailed:
        """Return what a record says; records of older versions have no ids, and are of successes alone."""
        if record.get("code", 0):
            return JobFailed(name, record["code"], self._log(name))
        return Done(_text(self._log(name)), record["seconds"], record.get("id", ""))

    def _note(self, name: str, end: Done | JobFailed, outcome: str) -> None:
        """Count a success, or drop the jobs that depend on a failed one, directly or indirectly; report either."""
        if isinstance(end, Done):
            self.done[name] = end
            running = f"   (running: {', '.join(self.running)})" if self.running else ""
            self.say(f"{len(self.done):3d}/{len(self.jobs)}  {name}: {outcome or f'{end.seconds:.0f} s'}{running}")
            self.on_done(name, self.done)
            return
        if not self.keep_going:
            raise end
        self.failures.append(end)
        lost = {name}
        for job in self.waiting:  # each job is after the jobs that it depends on
            if lost.intersection(job.after):
                lost.add(job.name)
        self.waiting = [job for job in self.waiting if job.name not in lost]
        self.say(f"{end}\nnot run, since they wait for it: {', '.join(sorted(lost - {name})) or 'none'}")

    def _wait(self, announced: str) -> str:
        """Pause. Returns the jobs of other processes that are awaited, after a message if they have changed."""
        if self.running:
            time.sleep(POLL_SECONDS)
            return ""
        awaited = ", ".join(job.name for job in self._ready())
        if awaited != announced:
            self.say(f"waiting for other processes: {awaited}")
        time.sleep(WAIT_SECONDS)
        return awaited

    def _earlier(self, job: Job, argv: list[str]) -> Done | JobFailed | None:
        """Return how a job ended elsewhere or earlier.

        That is a failure since this call began, or a success with the same arguments and dependencies.
        """
        record = self._record(job.name)
        if record.get("code", 0):
            counts = record["id"] != self.earlier_ids[job.name]
        else:
            built_on = {name: record.get("after", {}).get(name, "") for name in job.after}
            # Without the interpreter: python and python3 may be the same.
            counts = record.get("argv", [])[1:] == argv[1:] and all(built_on[n] == self.done[n].id for n in job.after)
        return self._result(job.name, record) if counts else None

    def _record(self, name: str) -> dict:
        # Another process that begins the job anew removes the file at any moment.
        return read_json(self.logs / f"{name}.json", default={})

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _stop(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
