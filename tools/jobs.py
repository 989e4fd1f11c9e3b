"""Run commands that wait for each other, some of them side by side, each with a log file of its own.

A job names the jobs that it waits for; of those that are ready, the earlier one in the list starts first.
"""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from utils.commands import environment
from utils.run_folder import read_json, write_json

POLL_SECONDS = 0.05
TAIL = 12  # lines of a failed command that are shown
PATIENCE = 10  # seconds that a stopped command has to leave


@dataclass(frozen=True)
class Done:
    """What a finished command printed, and how long it took."""

    text: str
    seconds: float


Finished = dict[str, Done]


@dataclass(frozen=True)
class Job:
    """One command: `line` gives its argument list from what has finished, `after` names what must have."""

    name: str
    line: Callable[[Finished], list[str]]
    after: tuple[str, ...] = ()


@dataclass
class _Running:
    argv: list[str]
    process: subprocess.Popen
    started: float


class JobFailed(Exception):
    """A command ended with another code than 0; the text holds its last lines and its log file."""

    def __init__(self, name: str, code: int, log: Path):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        super().__init__("\n".join([f"{name}: ended with code {code}; its last lines:", *lines, f"log: {log}"]))
        self.code = code


def run_jobs(
    jobs: list[Job],
    slots: int,
    logs: Path,
    env: dict[str, str] | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
    on_done: Callable[[str, Finished], None] = lambda name, done: None,
    keep_going: bool = False,
) -> Finished:
    """Run all jobs, up to `slots` side by side; whatever ends this early stops what still runs.

    Args:
        jobs: each behind those that it waits for.
        logs: folder of the log files, NAME.log.
        env: variables for the commands, on top of ours.
        resume: take jobs that finished in an earlier call with the same command line as they are, unless one that
            they wait for ran anew.
        say: gets one line per finished job.
        on_done: gets the name of each finished job, also of one taken as it is, and all that have finished.
        keep_going: a command that fails stops only those that wait for it; what it said is raised at the end.

    Raises:
        JobFailed: a command failed; unless `keep_going`, no other was started since, and those still running were
            stopped.
        ValueError: a job waits for one that is not in front of it.
    """
    _check_order(jobs)
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running, done, fresh, failures = list(jobs), {}, {}, set(), []
    try:
        while waiting or running:
            for job in [job for job in waiting if all(name in done for name in job.after)]:
                argv = job.line(done)
                if resume and not fresh & set(job.after) and (earlier := _earlier(logs, job.name, argv)):
                    done[job.name] = earlier
                    say(_progress(job.name, done, jobs, "as before"))
                    on_done(job.name, done)
                elif len(running) < slots:
                    running[job.name] = _start(logs, job.name, argv, env)
                    fresh.add(job.name)
                else:
                    break
                waiting.remove(job)
            time.sleep(POLL_SECONDS if running else 0)
            for name in [name for name, job in running.items() if job.process.poll() is not None]:
                try:
                    done[name] = _finish(logs, name, running.pop(name))
                except JobFailed as failure:
                    if not keep_going:
                        raise
                    failures.append(failure)
                    waiting = _without(waiting, failure, name, say)
                else:
                    say(_progress(name, done, jobs, f"{done[name].seconds:.0f} s", running))
                    on_done(name, done)
    finally:
        _stop([job.process for job in running.values()])
    if failures:
        raise failures[0]
    return done


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


def _start(logs: Path, name: str, argv: list[str], env: dict[str, str] | None) -> _Running:
    (logs / f"{name}.json").unlink(missing_ok=True)
    with open(logs / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment(env)
        )
    return _Running(argv, process, time.perf_counter())


def _finish(logs: Path, name: str, job: _Running) -> Done:
    log = logs / f"{name}.log"
    if job.process.returncode != 0:
        raise JobFailed(name, job.process.returncode, log)
    done = Done(log.read_text(encoding="utf-8", errors="replace"), round(time.perf_counter() - job.started, 3))
    write_json(logs / f"{name}.json", {"argv": job.argv, "seconds": done.seconds})
    return done


def _earlier(logs: Path, name: str, argv: list[str]) -> Done | None:
    record = logs / f"{name}.json"
    if not record.exists() or (known := read_json(record))["argv"] != argv:
        return None
    return Done((logs / f"{name}.log").read_text(encoding="utf-8", errors="replace"), known["seconds"])


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
