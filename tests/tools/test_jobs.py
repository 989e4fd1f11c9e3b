"""The scheduler: order, outputs, commands side by side, and that nothing is left running."""

import os
import sys
import time
from pathlib import Path

import pytest

from tools.jobs import Job, JobFailed, run_jobs


def python(name: str, code: str, *after: str) -> Job:
    return Job(name, lambda done: [sys.executable, "-c", code], after)


def writes(path: Path, text: str) -> str:
    """Code that appends a line to a file."""
    return f"open({str(path)!r}, 'a').write({text + chr(10)!r})\n"


def waits_for(path: Path) -> str:
    """Code that fails unless a file appears within 20 s."""
    return (
        f"import pathlib, sys, time\nend = time.time() + 20\nwhile not pathlib.Path({str(path)!r}).exists():\n"
        "    time.sleep(0.01)\n    if time.time() > end: sys.exit(9)\n"
    )


def test_jobs_run_behind_what_they_wait_for_and_see_its_output(tmp_path):
    order, said = tmp_path / "order", []
    jobs = [
        python("a", "import time; time.sleep(0.2)\n" + writes(order, "a") + "print('found: 7')"),
        python("b", writes(order, "b")),
        Job("c", lambda done: [sys.executable, "-c", f"print({done['a'].text!r}[::-1])"], ("a", "b")),
        python("d", writes(order, "d"), "a", "c"),
    ]
    done = run_jobs(jobs, 2, tmp_path / "logs", say=said.append)
    assert order.read_text().split() == ["b", "a", "d"]
    assert done["c"].text.strip() == "7 :dnuof"
    assert done["a"].seconds >= 0.2
    assert (tmp_path / "logs/a.log").read_text() == "found: 7\n"
    assert [line.split()[1] for line in said] == ["b:", "a:", "c:", "d:"]


def test_two_slots_run_two_side_by_side_and_one_slot_one(tmp_path):
    left, right = tmp_path / "left", tmp_path / "right"
    meet = [python("l", writes(left, "") + waits_for(right)), python("r", writes(right, "") + waits_for(left))]
    run_jobs(meet, 2, tmp_path / "two", say=lambda line: None)  # each needs the other to run

    order = tmp_path / "order"
    alone = [python(n, writes(order, n) + "import time; time.sleep(0.1)\n" + writes(order, n)) for n in "abc"]
    run_jobs(alone, 1, tmp_path / "one", say=lambda line: None)
    assert order.read_text().split() == ["a", "a", "b", "b", "c", "c"]


def test_a_failure_stops_the_rest_and_shows_its_last_lines(tmp_path):
    started, ended, never = tmp_path / "started", tmp_path / "ended", tmp_path / "never"
    jobs = [
        python("long", writes(started, "") + "import time; time.sleep(60)\n" + writes(ended, "")),
        python("bad", waits_for(started) + "print('because'); sys.exit(5)"),
        python("next", writes(never, ""), "bad"),
    ]
    begin = time.perf_counter()
    with pytest.raises(JobFailed, match=r"(?s)bad: ended with code 5.*because.*log: .*bad\.log") as failure:
        run_jobs(jobs, 2, tmp_path / "logs", say=lambda line: None)
    assert failure.value.code == 5
    assert time.perf_counter() - begin < 30
    assert not ended.exists()
    assert not never.exists()


def test_an_interrupt_stops_what_runs(tmp_path):
    process, started = tmp_path / "process", tmp_path / "started"
    long = f"import os\nopen({str(process)!r}, 'w').write(str(os.getpid()))\n" + writes(started, "")
    jobs = [python("long", long + "import time; time.sleep(60)"), python("short", waits_for(started))]

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, 2, tmp_path / "logs", say=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int(process.read_text()), 0)


def test_resume_takes_what_finished_with_the_same_command_line(tmp_path):
    runs = tmp_path / "runs"

    def jobs(word: str) -> list[Job]:
        return [python("a", writes(runs, "a") + "print('x')"), python("b", writes(runs, word), "a")]

    quiet = {"say": lambda line: None}
    first = run_jobs(jobs("b"), 1, tmp_path / "logs", **quiet)
    assert run_jobs(jobs("b"), 1, tmp_path / "logs", resume=True, **quiet) == first
    run_jobs(jobs("c"), 1, tmp_path / "logs", resume=True, **quiet)
    assert runs.read_text().split() == ["a", "b", "c"]
    run_jobs(jobs("c"), 1, tmp_path / "logs", **quiet)
    assert runs.read_text().split() == ["a", "b", "c", "a", "c"]


def test_resume_runs_what_hangs_on_a_job_that_ran_anew(tmp_path):
    source, quiet = tmp_path / "source", {"say": lambda line: None}

    def jobs(word: str) -> list[Job]:
        copy = f"print(open({str(source)!r}).read())"  # the same command line whatever "a" wrote
        return [
            python("a", f"open({str(source)!r}, 'w').write({word!r})"),
            python("b", copy, "a"),
            python("c", "", "b"),
        ]

    run_jobs(jobs("old"), 1, tmp_path / "logs", **quiet)
    done = run_jobs(jobs("new"), 1, tmp_path / "logs", resume=True, **quiet)
    assert done["b"].text.strip() == "new"


def test_a_job_that_failed_again_is_not_taken_later(tmp_path):
    """Its earlier success is forgotten as soon as it starts anew."""
    gate = tmp_path / "gate"
    jobs = [python("a", f"import pathlib, sys; sys.exit(pathlib.Path({str(gate)!r}).exists())")]
    quiet = {"say": lambda line: None}
    run_jobs(jobs, 1, tmp_path / "logs", **quiet)
    gate.touch()
    for resume in (False, True):
        with pytest.raises(JobFailed):
            run_jobs(jobs, 1, tmp_path / "logs", resume=resume, **quiet)


def test_wrong_lists_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a: expected the jobs it waits for in front"):
        run_jobs([python("a", "", "b"), python("b", "")], 1, tmp_path)
    with pytest.raises(ValueError, match="each name once"):
        run_jobs([python("a", ""), python("a", "")], 1, tmp_path)


def test_variables_reach_the_commands(tmp_path):
    job = python("a", "import os; print(os.environ['OMP_NUM_THREADS'])")
    done = run_jobs([job], 1, tmp_path, {"OMP_NUM_THREADS": "3"}, say=lambda line: None)
    assert done["a"].text == "3\n"
