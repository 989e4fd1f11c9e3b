"""Rows of measurements: one header, whole lines, and none twice, though processes append at the same moment."""

import multiprocessing

import pytest

from benchmarks.rows import append_row, read_rows


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path / "results")
    monkeypatch.setattr("benchmarks.rows.commit", lambda: "abc")


def test_processes_append_each_row_once(tmp_path):
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(3)

    def work(own: int) -> None:
        for number in range(30):
            barrier.wait(20)
            append_row("some", {"score": own}, key={"number": number, "split": None})
            append_row("all", {"score": own, "number": number})

    processes = [fork.Process(target=work, args=(own,), daemon=True) for own in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [row["number"] for row in read_rows("some")] == [str(number) for number in range(30)]
    assert sorted((int(row["score"]), int(row["number"])) for row in read_rows("all")) == [
        (own, number) for own in range(3) for number in range(30)
    ]
    lines = (tmp_path / "results/all.csv").read_text().splitlines()
    assert lines[0] == "score,number,command,commit,device,torch"
    assert lines.count(lines[0]) == 1


def test_other_columns_are_refused():
    append_row("some", {"score": 1})
    with pytest.raises(ValueError, match=r"expected columns \['score'.*found \['number'"):
        append_row("some", {"score": 1}, key={"number": 1})
    assert len(read_rows("some")) == 1
