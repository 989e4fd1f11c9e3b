"""The transfer benchmark: its command lines are taken by the real parsers, in an order that works."""

import json
from pathlib import Path

import pytest

from benchmarks import transfer
from commands.options import parser_of
from datasets.road_scenes import parse as parse_scenes
from tasks import TASKS
from tools.jobs import Done
from utils.args import parse


@pytest.fixture
def lines():
    """Each command line, with what the command would have printed."""
    args = transfer.parse(["real", "--seeds", "3"])
    done = {}
    for job in transfer.jobs(args, 3, Path("runs/transfer-3")):
        assert set(job.after) <= set(done)
        done[job.name] = Done(" ".join(map(str, job.line(done))) + f"\n{job.name}\n", 1.0)
    return {name: text.text.splitlines()[0].split() for name, text in done.items()}


def words(line: list[str]) -> tuple[str, list[str]]:
    place = next(i for i, word in enumerate(line) if "main_" in word or word == "datasets.road_scenes")
    return Path(line[place]).name, line[place + 1 :]


def test_every_command_is_taken_by_its_parser(lines):
    for line in lines.values():
        script, argv = words(line)
        if script == "datasets.road_scenes":
            assert parse_scenes(argv).train == 1400
        else:
            assert parse(parser_of(TASKS["flira"]), argv, "pretrain").data in ("real", "runs/transfer-3/scenes")


def test_only_the_start_differs(lines):
    for modality in transfer.SINGLE:
        scratch, road = (words(lines[f"pretrain_{start}_{modality}"])[1] for start in transfer.STARTS)
        assert "--init" not in scratch
        assert road[road.index("--init") + 1] == "runs/transfer-3/road"
        assert [w.replace("road_scenes", "scratch") for w in road[: len(scratch)]] == scratch


def test_rows_that_exist_are_not_measured_again(monkeypatch):
    args = transfer.parse(["real"])
    row = {k: str(v) for k, v in transfer.facts(args, 2).items()}
    rows = [row | {"start": start, "modality": m} for start in transfer.STARTS for m in transfer.SINGLE]
    monkeypatch.setattr(transfer, "read_rows", lambda name: rows)
    monkeypatch.setattr(transfer, "run_jobs", lambda *a: pytest.fail("measured again"))
    assert transfer.main(["real"]) == 0


def test_a_detector_scores_on_val_what_its_run_recorded(pretrained, monkeypatch):
    monkeypatch.chdir(pretrained)
    (run,) = Path("runs").glob("pretrain-*")
    for modality in transfer.SINGLE:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        recorded = max(row["AP_val"] for row in rows if row["phase"] == modality)
        assert transfer.scores(run, modality)["AP_val"] == round(recorded, 4)
