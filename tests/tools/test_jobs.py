"""The scheduler: order, outputs, commands side by side, nothing left running, and work shared between processes."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.jobs import RANKS, WAIT_SECONDS, Finished, Job, JobFailed, Queue


def run_jobs(*args, **options) -> Finished:
    return Queue(*args, **options).run()


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
    with pytest.raises(AssertionError, match="a: expected the jobs it waits for in front"):
        run_jobs([python("a", "", "b"), python("b", "")], 1, tmp_path)
    with pytest.raises(AssertionError, match="each name once"):
        run_jobs([python("a", ""), python("a", "")], 1, tmp_path)


def test_variables_reach_the_commands(tmp_path):
    job = python("a", "import os; print(os.environ['OMP_NUM_THREADS'])")
    done = run_jobs([job], 1, tmp_path, {"OMP_NUM_THREADS": "3"}, say=lambda line: None)
    assert done["a"].text == "3\n"


def test_commands_are_no_ranks_of_torchrun(tmp_path, monkeypatch):
    for name in (*RANKS, "TORCHELASTIC_RUN_ID", "RANKED"):
        monkeypatch.setenv(name, "1")
    done = run_jobs([python("a", "import os; print(*os.environ)")], 1, tmp_path, say=lambda line: None)
    found = set(done["a"].text.split())
    assert "RANKED" in found
    assert not found & {*RANKS, "TORCHELASTIC_RUN_ID"}


def test_commands_hold_what_they_are_given(tmp_path):
    with open(tmp_path / "lock", "w") as file:
        job = python("a", f"import os; os.fstat({file.fileno()})")
        run_jobs([job], 1, tmp_path, say=lambda line: None, hold=(file.fileno(),))


def test_a_job_starts_without_what_a_killed_one_left(tmp_path):
    parts = tmp_path / "parts"
    code = f"import os; os.mkdir({str(parts)!r}); open({str(parts / 'whole')!r}, 'w')"
    (parts / "half").mkdir(parents=True)
    run_jobs([Job("a", lambda done: [sys.executable, "-c", code], clears=parts)], 1, tmp_path, say=lambda line: None)
    assert [path.name for path in parts.iterdir()] == ["whole"]


def marked(marks: Path, name: str, code: str = "") -> str:
    """Code that writes down when it begins and ends."""
    return writes(marks, f"{name} begins") + code + writes(marks, f"{name} ends")


def runs(marks: Path) -> Counter:
    """Count the runs of each job; no two of one are under way at once."""
    under_way, count = set(), Counter()
    for name, what in map(str.split, marks.read_text().splitlines()):
        assert (name in under_way) == (what == "ends"), marks.read_text()
        (under_way.add if what == "begins" else under_way.remove)(name)
        count[name] += what == "begins"
    return count


def start(jobs: list[Job], folder: Path, name: str) -> multiprocessing.Process:
    """Begin to work on jobs in another process; it writes what it got to NAME.json."""

    def work() -> None:
        try:
            done = run_jobs(jobs, 1, folder / "logs", resume=True, say=lambda line: None, keep_going=True)
            told = {name: (one.text, one.id) for name, one in done.items()}
        except JobFailed as failure:
            told = str(failure)
        (folder / f"{name}.json").write_text(json.dumps(told))

    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    return process


def got(process: multiprocessing.Process, folder: Path, name: str):
    process.join(30)
    assert process.exitcode == 0
    return json.loads((folder / f"{name}.json").read_text())


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def meeting(folder: Path, marks: Path) -> list[Job]:
    """Two jobs that need each other to run: with a slot each, two processes must work on them."""
    left, right = folder / "left", folder / "right"
    return [
        python("l", marked(marks, "l", writes(left, "") + waits_for(right)) + "print('L')"),
        python("r", marked(marks, "r", writes(right, "") + waits_for(left)) + "print('R')"),
    ]


def test_two_processes_share_the_jobs_and_both_have_all_results(tmp_path):
    marks = tmp_path / "marks"
    jobs = [*meeting(tmp_path, marks), *(python(n, marked(marks, n), "l", "r") for n in "abcd")]
    last = lambda done: [sys.executable, "-c", marked(marks, "z", f"print({done['l'].text + done['r'].text!r})\n")]  # noqa: E731
    jobs.append(Job("z", last, tuple("abcd")))
    both = [start(jobs, tmp_path, name) for name in ("one", "two")]
    one, two = (got(process, tmp_path, name) for process, name in zip(both, ("one", "two")))
    assert one == two
    assert set(one) == set("lrabcdz")
    assert one["z"][0].split() == ["L", "R"]
    assert runs(marks) == dict.fromkeys("lrabcdz", 1)


@pytest.mark.parametrize("orphan", [True, False])
def test_the_job_of_a_killed_process_is_run_again_once_its_command_has_ended(tmp_path, orphan):
    marks, gate, number = tmp_path / "marks", tmp_path / "gate", tmp_path / "number"
    code = f"import os; open({str(number)!r}, 'w').write(str(os.getpid()))\n"
    jobs = [python("held", code + marked(marks, "held", waits_for(gate))), python("other", marked(marks, "other"))]
    jobs.append(python("next", marked(marks, "next"), "held"))
    first = start(jobs, tmp_path, "first")
    until(marks.exists)
    second = start(jobs, tmp_path, "second")
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    until(lambda: "other ends" in marks.read_text())
    if orphan:
        time.sleep(3 * WAIT_SECONDS)
        assert runs(marks)["held"] == 1
    else:
        marks.write_text(marks.read_text() + "held ends\n")
        os.kill(int(number.read_text()), signal.SIGKILL)
        until(lambda: runs(marks)["held"] == 2)
    gate.touch()
    assert set(got(second, tmp_path, "second")) == {"held", "other", "next"}
    assert runs(marks) == {"held": 2, "other": 1, "next": 1}


def test_a_failure_is_one_for_all_who_are_at_work_and_tried_again_by_a_later_one(tmp_path):
    marks = tmp_path / "marks"
    bad = python("bad", marked(marks, "bad") + "print('because'); import sys; sys.exit(5)", "l", "r")
    jobs = [*meeting(tmp_path, marks), bad, python("next", marked(marks, "next"), "bad"), python("far", "", "next")]
    both = [start(jobs, tmp_path, name) for name in ("one", "two")]
    for process, name in zip(both, ("one", "two")):
        words = got(process, tmp_path, name)
        assert "bad: ended with code 5" in words
        assert "because" in words
    assert runs(marks) == {"l": 1, "r": 1, "bad": 1}
    assert "because" in got(start(jobs, tmp_path, "late"), tmp_path, "late")
    assert runs(marks) == {"l": 1, "r": 1, "bad": 2}


def test_what_hangs_on_a_job_that_another_process_ran_anew_is_run_anew(tmp_path):
    marks, logs = tmp_path / "marks", tmp_path / "logs"
    jobs = [python("a", marked(marks, "a")), python("b", marked(marks, "b"), "a"), python("c", marked(marks, "c"), "b")]
    again = {"resume": True, "say": lambda line: None}
    run_jobs(jobs, 1, logs, **again)
    (logs / "a.json").unlink()
    got(start(jobs[:1], tmp_path, "other"), tmp_path, "other")
    assert runs(marks) == {"a": 2, "b": 1, "c": 1}
    for _ in range(2):
        run_jobs(jobs, 1, logs, **again)
        assert runs(marks) == {"a": 2, "b": 2, "c": 2}


def test_records_without_ids_and_of_another_name_of_python_stand(tmp_path):
    marks, logs = tmp_path / "marks", tmp_path / "logs"
    jobs = [python("a", marked(marks, "a")), python("b", marked(marks, "b"), "a")]
    again = {"resume": True, "say": lambda line: None}
    run_jobs(jobs, 1, logs, **again)
    for record in logs.glob("*.json"):
        known = json.loads(record.read_text())
        record.write_text(json.dumps({"argv": ["python4", *known["argv"][1:]], "seconds": known["seconds"]}))
    run_jobs(jobs, 1, logs, **again)
    assert runs(marks) == {"a": 1, "b": 1}
    (logs / "a.json").unlink()
    run_jobs(jobs, 1, logs, **again)
    assert runs(marks) == {"a": 2, "b": 2}
