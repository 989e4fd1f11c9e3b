"""Runs commands with dependencies, several at a time, each with a log file.

A job names the jobs that it depends on. Of the jobs that are ready, the first in the list starts first. Several
processes may share a folder of logs, and then share the work. Files of a job in this folder:

- NAME.log: the output of the command
- NAME.lock: locked by the process that runs the job and by its command; holds exit code and id of the last failed run
- NAME.json: record of the last successful run, with its id and the ids of the runs that it depends on
"""

import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from utils.file_locks import claim, release
from utils.run_folder import read_json, write_json
from utils.subprocesses import environment

POLL_SECONDS = 0.05
WAIT_SECONDS = 0.5  # between checks of locks that other processes hold, if no command runs here
TAIL = 12  # lines of a failed command that are shown
EXIT_SECONDS = 10  # time for a stopped command to exit
# Variables of torchrun, besides TORCHELASTIC_*. A command that had them would act as one of several ranks.
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
RANKS += ("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Done:
    """A finished command: its output, its seconds and the id of the run; "" if the record has no id."""

    text: str
    seconds: float
    id: str = ""


Finished = dict[str, Done]


@dataclass(frozen=True)
class Job:
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


@dataclass
class _Running:
    job: Job
    argv: list[str]
    process: subprocess.Popen
    started: float


class JobFailed(Exception):
    """A command exited with a code other than 0; the message has its last lines and its log file."""

    def __init__(self, name: str, code: int, log: Path):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        super().__init__("\n".join([f"{name}: ended with code {code}; its last lines:", *lines, f"log: {log}"]))
        self.code = code


@dataclass
class _Queue:
    """The jobs of a call and the locks that it holds. `marks`: marks of failures before the call."""

    logs: Path
    waiting: list[Job]
    marks: dict[str, str]
    running: dict[str, _Running] = field(default_factory=dict)
    claims: dict[str, TextIO] = field(default_factory=dict)
    done: Finished = field(default_factory=dict)
    failures: list[JobFailed] = field(default_factory=list)

    def ready(self) -> list[Job]:
        return [job for job in self.waiting if all(name in self.done for name in job.after)]


def run_jobs(
    jobs: list[Job],
    slots: int,
    logs: Path,
    env: dict[str, str] | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
    on_done: Callable[[str, Finished], None] = lambda name, done: None,
    keep_going: bool = False,
    hold: tuple[int, ...] = (),
) -> Finished:
    """Run all jobs, up to `slots` at a time. An exception stops the commands that still run.

    Several processes may call this at once with the same jobs, logs and `resume`. Each job is run by one process; the
    others use its result or failure, and wait if nothing else is left. If a process is killed, any other process runs
    its job again as soon as the command has ended as well.

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

    Raises:
        JobFailed: a command failed. Without `keep_going`, running commands are stopped and no other is started.
        ValueError: a job depends on a job that is not before it.
    """
    _check_order(jobs)
    logs.mkdir(parents=True, exist_ok=True)
    queue, awaited = _Queue(logs, list(jobs), {job.name: _mark(logs, job.name) for job in jobs}), ""
    try:
        while queue.waiting or queue.running:
            reused = _start_ready(queue, slots, env, resume, hold)
            ended = reused | _ended(queue)
            for name, end in ended.items():
                if isinstance(end, JobFailed):
                    if not keep_going:
                        raise end
                    queue.failures.append(end)
                    queue.waiting = _without(queue.waiting, end, name, say)
                else:
                    queue.done[name] = end
                    outcome = "done already" if name in reused else f"{end.seconds:.0f} s"
                    say(_progress(name, queue.done, jobs, outcome, queue.running))
                    on_done(name, queue.done)
                release(queue.claims.pop(name))  # not earlier: on_done must have written its rows
            if not ended:
                awaited = _wait(queue, awaited, say)
    finally:
        _stop([job.process for job in queue.running.values()])
        for file in queue.claims.values():
            release(file)
    if queue.failures:
        raise queue.failures[0]
    return queue.done


def _start_ready(
    queue: _Queue, slots: int, env: dict[str, str] | None, resume: bool, hold: tuple[int, ...]
) -> dict[str, Done | JobFailed]:
    """Start ready jobs that no other process runs, up to `slots`; returns jobs that ended elsewhere or earlier."""
    reused = {}
    for job in queue.ready():
        if len(queue.running) == slots:
            break
        if not (file := claim(queue.logs / f"{job.name}.lock")):
            continue
        queue.claims[job.name] = file
        queue.waiting.remove(job)
        argv = job.line(queue.done)
        if resume and (end := _earlier(queue, job, argv)):
            reused[job.name] = end
        else:
            queue.running[job.name] = _start(queue.logs, job, argv, env, (file.fileno(), *hold))
    return reused


def _ended(queue: _Queue) -> dict[str, Done | JobFailed]:
    """Return the results of the commands that have ended."""
    names = [name for name, job in queue.running.items() if job.process.poll() is not None]
    return {name: _finish(queue, queue.running.pop(name)) for name in names}


def _wait(queue: _Queue, announced: str, say: Callable[[str], None]) -> str:
    """Pause. Returns the jobs of other processes that are awaited, after a message if they have changed."""
    if queue.running:
        time.sleep(POLL_SECONDS)
        return ""
    awaited = ", ".join(job.name for job in queue.ready())
    if awaited != announced:
        say(f"waiting for other processes: {awaited}")
    time.sleep(WAIT_SECONDS)
    return awaited


def _without(jobs: list[Job], failure: JobFailed, name: str, say: Callable[[str], None]) -> list[Job]:
    """Return the jobs that do not depend on the failed one, directly or indirectly; report those that do."""
    lost, kept = {name}, []
    for job in jobs:  # each job is after the jobs that it depends on
        if lost & set(job.after):
            lost.add(job.name)
        else:
            kept.append(job)
    say(f"{failure}\nnot run, since they wait for it: {', '.join(sorted(lost - {name})) or 'none'}")
    return kept


def _check_order(jobs: list[Job]) -> None:
    seen = set()
    for job in jobs:
        if missing := set(job.after) - seen:
            raise ValueError(f"{job.name}: expected the jobs it waits for in front of it, not found: {missing}")
        if job.name in seen:
            raise ValueError(f"{job.name}: expected each name once")
        seen.add(job.name)


def _start(logs: Path, job: Job, argv: list[str], env: dict[str, str] | None, hold: tuple[int, ...]) -> _Running:
    (logs / f"{job.name}.json").unlink(missing_ok=True)
    if job.clears:
        shutil.rmtree(job.clears, ignore_errors=True)
    variables = {k: v for k, v in environment(env).items() if k not in RANKS and not k.startswith("TORCHELASTIC_")}
    with open(logs / f"{job.name}.log", "wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=variables, pass_fds=hold
        )
    return _Running(job, argv, process, time.perf_counter())


def _finish(queue: _Queue, run: _Running) -> Done | JobFailed:
    """Write the record of a success, or the mark of a failure into the lock file; returns the result."""
    name, code, run_id = run.job.name, run.process.returncode, secrets.token_hex(6)
    file = queue.claims[name]
    file.truncate(0)
    file.write(f"{code} {run_id}" if code else "")
    file.flush()
    if code != 0:
        return JobFailed(name, code, queue.logs / f"{name}.log")
    done = Done(_text(queue.logs, name), round(time.perf_counter() - run.started, 3), run_id)
    record = {"argv": run.argv, "seconds": done.seconds, "id": run_id}
    write_json(queue.logs / f"{name}.json", record | {"after": {n: queue.done[n].id for n in run.job.after}})
    return done


def _earlier(queue: _Queue, job: Job, argv: list[str]) -> Done | JobFailed | None:
    """Return how a job ended elsewhere or earlier: a valid success, or a failure since this call began."""
    if done := _recorded(queue, job, argv):
        return done
    mark = _mark(queue.logs, job.name)
    if mark and mark != queue.marks[job.name]:
        return JobFailed(job.name, int(mark.split()[0]), queue.logs / f"{job.name}.log")
    return None


def _recorded(queue: _Queue, job: Job, argv: list[str]) -> Done | None:
    """Return a success with the same arguments and dependencies; records of older versions have no ids."""
    record = queue.logs / f"{job.name}.json"
    if not record.exists():
        return None
    content = read_json(record)
    built_on = content.get("after", {})
    # Without the interpreter: python and python3 may be the same.
    if content["argv"][1:] != argv[1:] or any(built_on.get(name, "") != queue.done[name].id for name in job.after):
        return None
    return Done(_text(queue.logs, job.name), content["seconds"], content.get("id", ""))


def _mark(logs: Path, name: str) -> str:
    """Return exit code and id of a job's last run if it failed, else ""."""
    path = logs / f"{name}.lock"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _text(logs: Path, name: str) -> str:
    return (logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")


def _stop(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _progress(name: str, done: Finished, jobs: list[Job], outcome: str, running: dict) -> str:
    suffix = f"   (running: {', '.join(running)})" if running else ""
    return f"{len(done):3d}/{len(jobs)}  {name}: {outcome}{suffix}"
