"""Run commands that wait for each other, some of them side by side, each with a log file of its own.

A job names the jobs that it waits for; of those that are ready, the earlier one in the list starts first. Processes
that share a folder of logs share the work. There, NAME.log is what a command prints; NAME.lock is the claim of who runs
it, held by the command, too, and keeps how the last run failed; NAME.json is of a run that ended well, and names it and
those that it was built on.
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
WAIT_SECONDS = 0.5  # between two looks at the claims of others, where nothing of ours runs
TAIL = 12  # lines of a failed command that are shown
PATIENCE = 10  # seconds that a stopped command has to leave
# What torchrun tells us, besides TORCHELASTIC_*; a command would take itself for one process of several.
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
RANKS += ("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Done:
    """What a finished command printed, how long it took, and the id of this run; "" where its record has none."""

    text: str
    seconds: float
    id: str = ""


Finished = dict[str, Done]


@dataclass(frozen=True)
class Job:
    """One command: `line` gives its argument list from what has finished, `after` names what must have.

    Args:
        clears: folder that is removed before it starts: one that was killed may have left a part of it.
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
    """A command ended with another code than 0; the text holds its last lines and its log file."""

    def __init__(self, name: str, code: int, log: Path):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        super().__init__("\n".join([f"{name}: ended with code {code}; its last lines:", *lines, f"log: {log}"]))
        self.code = code


@dataclass
class _Queue:
    """The jobs of a call and the claims that it holds; `marks`: of failures before it began."""

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
    """Run all jobs, up to `slots` side by side; whatever ends this early stops what still runs.

    Several processes may call this at once with the same jobs, logs and `resume`: each job is run by one of them, the
    others take its result, or its failure, and wait for it where nothing else is left. A job whose process was killed
    is run again, by any of them, as soon as its command has ended, too.

    Args:
        jobs: each behind those that it waits for.
        logs: folder of the log files, NAME.log.
        env: variables for the commands, on top of ours.
        resume: take jobs that finished in another call with the same command line as they are, unless one that they
            wait for ran anew since; and a job that failed in another process since this call began as failed.
        say: gets one line per finished job.
        on_done: gets the name of each finished job, also of one taken as it is, and all that have finished.
        keep_going: a command that fails stops only those that wait for it; what it said is raised at the end.
        hold: file descriptors that the commands keep open: of locks that last as long as they.

    Raises:
        JobFailed: a command failed; unless `keep_going`, no other was started since, and those still running were
            stopped.
        ValueError: a job waits for one that is not in front of it.
    """
    _check_order(jobs)
    logs.mkdir(parents=True, exist_ok=True)
    queue, others = _Queue(logs, list(jobs), {job.name: _mark(logs, job.name) for job in jobs}), ""
    try:
        while queue.waiting or queue.running:
            taken = _take(queue, slots, env, resume, hold)
            ended = taken | _ended(queue)
            for name, end in ended.items():
                if isinstance(end, JobFailed):
                    if not keep_going:
                        raise end
                    queue.failures.append(end)
                    queue.waiting = _without(queue.waiting, end, name, say)
                else:
                    queue.done[name] = end
                    how = "done already" if name in taken else f"{end.seconds:.0f} s"
                    say(_progress(name, queue.done, jobs, how, queue.running))
                    on_done(name, queue.done)
                release(queue.claims.pop(name))  # no sooner: who ran it writes down what follows from it
            if not ended:
                others = _wait(queue, others, say)
    finally:
        _stop([job.process for job in queue.running.values()])
        for file in queue.claims.values():
            release(file)
    if queue.failures:
        raise queue.failures[0]
    return queue.done


def _take(
    queue: _Queue, slots: int, env: dict[str, str] | None, resume: bool, hold: tuple[int, ...]
) -> dict[str, Done | JobFailed]:
    """Start what is ready and has no claim, up to `slots`; returns what ended elsewhere, or in an earlier call."""
    taken = {}
    for job in queue.ready():
        if len(queue.running) == slots:
            break
        if not (file := claim(queue.logs / f"{job.name}.lock")):
            continue
        queue.claims[job.name] = file
        queue.waiting.remove(job)
        argv = job.line(queue.done)
        if resume and (end := _earlier(queue, job, argv)):
            taken[job.name] = end
        else:
            queue.running[job.name] = _start(queue.logs, job, argv, env, (file.fileno(), *hold))
    return taken


def _ended(queue: _Queue) -> dict[str, Done | JobFailed]:
    """Return how those of our commands ended that have ended."""
    names = [name for name, job in queue.running.items() if job.process.poll() is not None]
    return {name: _finish(queue, queue.running.pop(name)) for name in names}


def _wait(queue: _Queue, told: str, say: Callable[[str], None]) -> str:
    """Pause; say which jobs of other processes we wait for, unless that was told, and return it."""
    if queue.running:
        time.sleep(POLL_SECONDS)
        return ""
    others = ", ".join(job.name for job in queue.ready())
    if others != told:
        say(f"waiting for other processes: {others}")
    time.sleep(WAIT_SECONDS)
    return others


def _without(jobs: list[Job], failure: JobFailed, name: str, say: Callable[[str], None]) -> list[Job]:
    """Return the jobs that do not wait for the one that failed, directly or through others; say which do."""
    lost, kept = {name}, []
    for job in jobs:  # each behind those that it waits for
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
    own = {k: v for k, v in environment(env).items() if k not in RANKS and not k.startswith("TORCHELASTIC_")}
    with open(logs / f"{job.name}.log", "wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=own, pass_fds=hold
        )
    return _Running(job, argv, process, time.perf_counter())


def _finish(queue: _Queue, run: _Running) -> Done | JobFailed:
    """Write down how a command ended: the record of a success, or the mark of a failure in its claim."""
    name, code, own = run.job.name, run.process.returncode, secrets.token_hex(6)
    file = queue.claims[name]
    file.truncate(0)
    file.write(f"{code} {own}" if code else "")
    file.flush()
    if code != 0:
        return JobFailed(name, code, queue.logs / f"{name}.log")
    done = Done(_text(queue.logs, name), round(time.perf_counter() - run.started, 3), own)
    record = {"argv": run.argv, "seconds": done.seconds, "id": own}
    write_json(queue.logs / f"{name}.json", record | {"after": {n: queue.done[n].id for n in run.job.after}})
    return done


def _earlier(queue: _Queue, job: Job, argv: list[str]) -> Done | JobFailed | None:
    """Return how a claimed job ended elsewhere or in an earlier call, if that stands: well, or not since we began."""
    if done := _recorded(queue, job, argv):
        return done
    mark = _mark(queue.logs, job.name)
    if mark and mark != queue.marks[job.name]:
        return JobFailed(job.name, int(mark.split()[0]), queue.logs / f"{job.name}.log")
    return None


def _recorded(queue: _Queue, job: Job, argv: list[str]) -> Done | None:
    """Return a success with the same arguments that was built on the runs we know; a record may be older than ids."""
    record = queue.logs / f"{job.name}.json"
    if not record.exists():
        return None
    known = read_json(record)
    built_on = known.get("after", {})
    # The interpreter aside: python and python3 may be two names of one.
    if known["argv"][1:] != argv[1:] or any(built_on.get(name, "") != queue.done[name].id for name in job.after):
        return None
    return Done(_text(queue.logs, job.name), known["seconds"], known.get("id", ""))


def _mark(logs: Path, name: str) -> str:
    """Return the exit code of a job's last run, if that failed, and the run's id; else ""."""
    path = logs / f"{name}.lock"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _text(logs: Path, name: str) -> str:
    return (logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")


def _stop(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _progress(name: str, done: Finished, jobs: list[Job], what: str, running: dict | None = None) -> str:
    beside = f"   (running: {', '.join(running)})" if running else ""
    return f"{len(done):3d}/{len(jobs)}  {name}: {what}{beside}"
