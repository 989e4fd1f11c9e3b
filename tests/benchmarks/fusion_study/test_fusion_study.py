"""The fusion study on stand-ins for its commands: what is run, which rows come out, and what is not run again."""

import csv
import multiprocessing
import os
import signal
import time
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from benchmarks.fusion_study import report as fusion_report
from benchmarks.fusion_study.__main__ import main, options_of, parse
from benchmarks.fusion_study.config import read_study
from benchmarks.fusion_study.jobs import study_jobs
from benchmarks.fusion_study.rows import FAILURE, RANKING, RATING, missing
from benchmarks.fusion_study.rows import STUDY as STUDY_ROWS
from benchmarks.fusion_study.summary import Group, best, difference, front, groups, over_random
from benchmarks.rows import read_rows
from commands.options import parser_of
from datasets.road_scenes import parse as parse_scenes
from tasks import TASKS
from tests.tools.stand_in import commands, stand_in
from tools.jobs import Done
from tools.out_folder import shared
from utils.args import parse as parse_command
from utils.errors import UserError
from utils.run_folder import read_json
from utils.subprocesses import ROOT

RANDOM = ("random v2 0", "random v2 1")
STUDY = """\
commands: demo.yaml
data: road_scenes
train: 16
val: 8
test: 8
seeds: [1, 2]
single: [thermal, rgb]
handmade: [sum, box_nms]
widened: [sum]
widen_to: gdas v2
random:
  random v2: {seeds: [1], count: 2, options: {space: fusion_v2}}
searched:
  gdas v2: {seeds: [1], search: {strategy: gdas, space: fusion_v2, pair_inputs: true}}
sensor_failure: {methods: [sum, gdas v2], seeds: [2], modality_dropout: 0.3}
kendall: {search: {strategy: evolution, space: fusion_v2}, brief_epochs: 2, genotypes: 3, seeds: [1],
  second_training_seed: 1001}
"""


@pytest.fixture
def faked(tmp_path, monkeypatch, scenes) -> Path:
    """Stand in a folder with a study config and faked commands; gives the config."""
    stand_in(tmp_path, monkeypatch, scenes)
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path / "results")
    Path("mine.yaml").write_text(STUDY)
    return Path("mine.yaml")


def test_rows_come_out_once_and_those_of_other_methods_stay(faked, monkeypatch, capsys):
    argv = ["--config", "mine.yaml", "--seeds", "1"]
    monkeypatch.setenv("FAKE_BREAK", "sum")  # the raw one: a failure stops what needs it alone
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 1
    assert "train_sum: ended with code 1" in capsys.readouterr().err
    rows = {row["method"]: row for row in read_rows("fusion_study")}
    assert set(rows) == {"thermal", "rgb", "box_nms", "sum widened", "random v2 0", "random v2 1", "gdas v2"}
    monkeypatch.delenv("FAKE_BREAK")
    before = len(commands())
    assert main(argv) == 0
    assert ["sum" in line for line in commands()[before:]] == [True, True]  # its training and test, nothing else
    assert len(read_rows("fusion_study")) == 8
    kinds = {row["method"]: row["kind"] for row in read_rows("fusion_study")}
    assert kinds["sum"] == kinds["box_nms"] == "handmade"
    assert (kinds["sum widened"], kinds["random v2 1"], kinds["gdas v2"]) == ("widened", "random", "searched")
    searched = rows["gdas v2"]
    expected = {"seed": "1", "train_seed": "1", "search_pair_passes": "18", "train_pair_passes": "18"}
    expected |= {"AP_val_supernet": "0.21", "AP_val_inherited": "0.19", "AP_scene_day": "0.4", "AP_scene_night": ""}
    assert {name: searched[name] for name in expected} == expected | {"AP_scene_day": "0.4"}
    assert rows["box_nms"]["AP_val"] == "0.31"  # AP of the test on val, not of a training
    assert (rows["random v2 1"]["genotype"], rows["random v2 1"]["search_pair_passes"]) == ("drawn1", "0")
    ranking = read_rows("fusion_ranking")
    assert sorted((r["number"], r["genotype"]) for r in ranking) == [(str(n), f"drawn{n}") for n in range(3)]
    ratings = [(r["rating"], r["number"], r["genotype"], r["score"]) for r in read_rows("fusion_rating")]
    scores = {"weights": ("-1.0", "-1.1", "-1.2"), "brief": ("0.0", "0.1", "0.2")}
    assert ratings == [(kind, str(n), f"drawn{n}", s) for kind, own in scores.items() for n, s in enumerate(own)]
    assert {r["second_seed"] for r in ranking} == {"1001"}
    drawn = [line for line in commands() if "--random_genotype 1" in line]
    assert [("--seed 1001" in line, "--space fusion_v2" in line) for line in sorted(drawn)] == [
        (False, True),
        (True, True),
    ]
    assert not Path("runs/fusion_study-mine-1/cache").exists()
    before = len(commands())
    assert main(argv) == 0
    assert len(commands()) == before
    capsys.readouterr()
    assert main([*argv, "--list"]) == 0
    assert "seed 1: 8 done" in capsys.readouterr().out


def left(config: str = "mine.yaml", seed: int = 1, *only: str) -> set[str]:
    return {method.name for method in missing(read_study(config), None, seed, only).methods}


def test_a_row_depends_on_its_own_options_alone(faked):
    assert main(["--config", "mine.yaml", "--seeds", "1", "--methods", "thermal", "gdas v2", "kendall"]) == 0
    rest = {"rgb", "sum", "box_nms", "sum widened", "random v2 0", "random v2 1"}
    assert left() == rest
    assert left("mine.yaml", 1, "random v2") == {"random v2 0", "random v2 1"}
    assert left("mine.yaml", 2) == {"thermal", "rgb", "sum", "box_nms", "sum widened"}
    text = faked.read_text()
    faked.write_text(text.replace("handmade: [sum", "handmade: [sum, mean"))
    assert left() == rest | {"mean"}
    faked.write_text(text.replace("strategy: gdas", "strategy: gdas, epochs: 2"))
    assert left() == rest | {"gdas v2"}
    faked.write_text(text.replace("brief_epochs: 2", "brief_epochs: 3"))
    again = missing(read_study("mine.yaml"), None, 1, ("kendall",))
    assert (again.scored, again.ranked) == (True, ())  # what was trained is not trained again
    faked.write_text(text.replace("val: 8", "val: 9"))
    assert left() == rest | {"gdas v2", "thermal"}
    faked.write_text(text)
    Path("demo.yaml").write_text("# a remark\nbatchsize: 4\nsearch:\n  epochs: 3\n")
    assert left() == rest | {"gdas v2"}
    Path("demo.yaml").write_text("batchsize: 5\n")
    assert left() == rest | {"gdas v2", "thermal"}


def test_failing_sensors_are_tested_with_and_without_dropout(faked):
    argv = ["--config", "mine.yaml", "--seeds", "2"]
    assert main([*argv, "--methods", "sensor_failure"]) == 0
    rows = read_rows("fusion_failure")
    assert {(r["method"], r["modality_dropout"]) for r in rows} == set(product(("sum", "gdas v2"), ("0.0", "0.3")))
    assert {(r["AP"], r["AP_thermal_black"], r["AP_rgb_black"]) for r in rows} == {("0.3", "0.1", "0.2")}
    assert sum("--modality_dropout 0.3" in line for line in commands()) == 2
    assert sum("--robustness black" in line for line in commands()) == 4
    before = len(commands())
    assert main([*argv, "--methods", "sensor_failure"]) == 0
    assert len(commands()) == before
    assert {row["method"] for row in read_rows("fusion_study")} == set()  # rows of methods only where asked for


@pytest.mark.parametrize(("end", "code"), [(None, 0), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)])
def test_processes_share_a_study_though_one_is_ended(faked, end, code):
    argv = ["--config", "mine.yaml", "--seeds", "1", "--slots", "2"]
    work = lambda: os._exit(main(argv))  # noqa: E731
    processes = [multiprocessing.get_context("fork").Process(target=work, daemon=True) for _ in range(3)]
    for process in processes:
        process.start()
    if end:
        late = time.monotonic() + 30
        while len(commands()) < 9:
            assert time.monotonic() < late
            time.sleep(0.01)
        os.kill(processes[0].pid, end)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [code, 0, 0]
    assert sum(n - 1 for n in Counter(commands()).values()) <= (2 if end else 0)  # those of its slots
    names = [row["method"] for row in read_rows("fusion_study")]
    assert sorted(names) == sorted({"thermal", "rgb", "sum", "box_nms", "sum widened", "gdas v2", *RANDOM})
    assert sorted(row["number"] for row in read_rows("fusion_ranking")) == ["0", "1", "2"]
    assert len(read_rows("fusion_rating")) == 6
    assert left() == set()


def test_another_config_is_refused_beside_a_process_at_work(faked, capsys):
    argv = ["--config", "mine.yaml", "--seeds", "2", "--methods", "rgb"]
    assert main(argv) == 0
    out = Path("runs/fusion_study-mine-2")
    with shared(out, read_json(out / "stamp.json"), out / "cache"):
        Path("demo.yaml").write_text("batchsize: 5\n")
        assert main(argv) == 2
        assert f"{out}: expected nobody at work in it with another config_hash, found" in capsys.readouterr().err
    assert main(argv) == 0
    assert [path.name for path in Path("runs").glob(f"{out.name}-*/stamp.json")] == ["stamp.json"]
    assert len(read_rows("fusion_study")) == 2


def test_scenes_that_were_not_finished_are_rendered_again(faked, monkeypatch):
    argv = ["--config", "mine.yaml", "--seeds", "2", "--methods", "rgb"]
    monkeypatch.setenv("FAKE_BREAK", "render")
    with pytest.raises(SystemExit):
        main(argv)
    Path("runs/fusion_study-mine-2/scenes/half").mkdir(parents=True)
    monkeypatch.delenv("FAKE_BREAK")
    assert main(argv) == 0
    assert not Path("runs/fusion_study-mine-2/scenes/half").exists()


def test_ranks_of_a_machine_share_its_cores(faked, monkeypatch):
    monkeypatch.setattr("benchmarks.fusion_study.__main__.CORES", 12)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert main(["--config", "mine.yaml", "--seeds", "2", "--methods", "rgb", "--slots", "2"]) == 0
    assert "threads: 2\n" in Path("runs/fusion_study-mine-2/logs/train_rgb.log").read_text()


WRONG = [
    ("seeds: [1, 2]", "seeds: []", "seeds: expected a list of different seeds, found []"),
    ("handmade: [sum, box_nms]", "handmade: [summ]", "handmade: expected a list of different names of mean, sum"),
    ("widen_to: gdas v2", "widen_to: dart", "widen_to: expected one of the searched: gdas v2, found 'dart'"),
    ("count: 2", "count: 0", "random: random v2: count: expected a whole number from 1, found 0"),
    ("strategy: gdas", "strategy: gads", "searched: gdas v2: search: strategy: expected one of darts"),
    ("pair_inputs: true", "pair_input: true", "no such name: 'pair_input' (did you mean pair_inputs?)"),
    ("single:", "singles:", "the file: no such name: 'singles' (did you mean single?)"),
    ("demo.yaml", "nowhere.yaml", "commands: expected the config file of all commands, found 'nowhere.yaml'"),
    ("data: road_scenes", "data: folder", "train: expected none with data: folder, whose pairs are there, found 16"),
    ("single: [thermal, rgb]", "single: [rgb]", "single: expected thermal, rgb, since their boxes are fused"),
    ("modality_dropout: 0.3", "modality_dropout: 3", "modality_dropout: expected a number between 0 and 1, found 3"),
    ("methods: [sum, gdas v2]", "methods: [thermal]", "sensor_failure: methods: expected a list of different names of"),
    ("1001", "1", "kendall: second_training_seed: expected another seed than the first, found 1"),
    ("  random v2:", "  gdas v2:", "random: expected names of no other method, found 'gdas v2'"),
]


@pytest.mark.parametrize(("right", "wrong", "words"), WRONG)
def test_a_mistake_is_one_line(faked, right, wrong, words):
    faked.write_text(STUDY.replace(right, wrong, 1))
    with pytest.raises(UserError) as found:
        read_study("mine.yaml")
    assert str(found.value).startswith("--config mine.yaml: ")
    assert words in str(found.value)
    assert "\n" not in str(found.value)


def test_options_that_fit_nothing_are_refused(faked, scenes):
    assert main(["--config", "mine.yaml", "--methods", "summ"]) == 2
    assert main(["--config", "mine.yaml", "--seeds", "3"]) == 2
    assert main(["--config", "mine.yaml", "--data", str(scenes)]) == 2
    assert commands() == []


SECTIONS = {"main_pretrain_flira.py": "pretrain", "main_darts_searchable_flira.py": "search"}


@pytest.mark.parametrize("name", ["study", "study_mini"])
def test_shipped_studies_make_command_lines_that_real_parsers_take(name, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    study = read_study(f"configs/{name}.yaml")
    data = None if study.rendered else str(tmp_path)
    args = parse(["--config", study.path, *(["--data", data] if data else [])])
    wanted, done = missing(study, data, study.seeds[0]), {}
    assert len(wanted.methods) == len(study.methods)
    for job in study_jobs(study, wanted, options_of(study, args, study.seeds[0])):
        assert set(job.after) <= set(done)
        _, first, *words = job.line(done)
        done[job.name] = Done("search_exp_dir: runs/s\neval_exp_dir: runs/e\nresults: runs/t/results.json\n", 1.0)
        if first == "-m" and words[0] == "datasets.road_scenes":
            assert parse_scenes(words[1:]).train == study.sizes["train"]
        elif first.endswith(".py"):
            parse_command(parser_of(TASKS["flira"]), words, SECTIONS.get(Path(first).name, "found"))


def made_up(method: str, kind: str, aps: dict[int, float], config_hash: str = "x") -> list[dict[str, str]]:
    facts = {"dataset": "road_scenes", "scenes": "abc", "config": "study", "config_hash": config_hash, "kind": kind}
    numbers = {"AP50": "0.4", "params": "1000", "search_pair_passes": "0", "train_pair_passes": "18"}
    numbers |= {"search_seconds": "0", "seconds": "7", "commit": "abc", "device": "CPU"}
    scores = [{"seed": str(seed), "AP": str(ap), "AP_val": str(round(ap + 0.01, 4))} for seed, ap in aps.items()]
    return [facts | numbers | {"method": method} | score for score in scores]


ROWS = [
    *made_up("sum", "handmade", {1: 0.9}, "old"),
    *made_up("sum", "handmade", {1: 0.2, 2: 0.22, 3: 0.21}),
    *made_up("mean", "handmade", {1: 0.19, 2: 0.2, 3: 0.2}),
    *made_up("random v2 0", "random", {1: 0.18}),
    *made_up("random v2 1", "random", {1: 0.22}),
    *made_up("gdas v2", "searched", {1: 0.25, 2: 0.24, 3: 0.26}),
    *made_up("darts v1", "searched", {1: 0.5}),
]


def test_numbers_are_those_of_the_rows():
    found = {group.name: group for group in groups(ROWS)}
    assert found["sum"].values("AP") == [0.2, 0.22, 0.21]  # the last settings of a method count
    chosen = best(list(found.values()), ("searched",), "AP_val")
    assert chosen.name == "gdas v2"  # one seed is not enough beside three
    told = difference(chosen, found["sum"])
    assert (told.n, told.mean) == (3, pytest.approx((0.05 + 0.02 + 0.05) / 3))
    relative = over_random(chosen, found["random v2"])
    assert (relative.seeds, relative.relative) == ((1,), pytest.approx(0.25 / 0.2 - 1))
    assert relative.deviations == pytest.approx(0.05 / (0.02 * 2**0.5))
    assert over_random(Group("late", "searched", ()), found["random v2"]) is None


def test_the_front_is_what_no_other_beats():
    points = {"a": (1, 0.1), "b": (2, 0.3), "c": (3, 0.2), "d": (3, 0.4), "e": (2, 0.3)}
    assert front(points) == ["a", "b", "e", "d"]


def write_rows(folder: Path, *tables: list[dict]) -> None:
    folder.mkdir(exist_ok=True)
    for name, lines in zip((STUDY_ROWS, RANKING, RATING, FAILURE), tables, strict=False):
        if lines:
            with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(lines[0]))
                writer.writeheader()
                writer.writerows(lines)


def test_the_report_is_the_same_from_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    facts = {"dataset": "road_scenes", "scenes": "abc", "config": "study", "config_hash": "k", "seed": "1"}
    scores = [(-0.5, 0.2, 0.21), (-0.4, 0.25, 0.22), (-0.3, 0.24, 0.26), (-0.2, 0.3, 0.29)]
    numbered = [facts | {"number": n, "genotype": f"g{n}"} for n in range(4)]
    ranking = [row | {"AP_1": a, "AP_2": b} for row, (_, a, b) in zip(numbered, scores, strict=True)]
    rating = [row | {"rating": "weights", "score": s} for row, (s, _, _) in zip(numbered, scores, strict=True)]
    rating += [row | {"rating": "brief", "score": -s} for row, (s, _, _) in zip(numbered, scores, strict=True)]
    mini = [row | {"dataset": "flir_aligned_mini", "scenes": ""} for row in ROWS[1:4]]
    failing = [("0.0", 0.22, 0.01, 0.1), ("0.3", 0.24, 0.06, 0.12)]
    names = ("modality_dropout", "AP", "AP_thermal_black", "AP_rgb_black")
    failure = [facts | {"method": "sum"} | dict(zip(names, values, strict=True)) for values in failing]
    write_rows(tmp_path, [*ROWS, *made_up("rgb", "single", {1: 0.08, 2: 0.1}), *mini], ranking, rating, failure)
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert fusion_report.main(["--out", str(tmp_path / name / "results.md")]) == 0
        texts.append((tmp_path / name / "results.md").read_text())
    assert texts[0] == texts[1]
    assert "### Chosen: gdas v2" in texts[0]
    assert "| best hand-made by AP, the hardest | sum | +4.0 ± 1.7 | 3 |" in texts[0]
    assert "| gdas v2 | 25.0 | 20.0 | +25.0 % | +1.8 | 1 |" in texts[0]
    assert "| loss on `val` on the supernet's weights | 1.00 | 1.00 to 1.00 | 1.50 |" in texts[0]
    assert (
        "| AP on `val` after brief training from the supernet's weights | -1.00 | -1.00 to -1.00 | -1.50 |" in texts[0]
    )
    assert "| sum | 0.3 | 1 | 24.0 | 6.0 | 8.0 | -2.0 | 12.0 | - | - |" in texts[0]  # no network of thermal alone
    assert "41 test pairs are few" in texts[0]
    assert "1 row of earlier settings" in texts[0]
    for name in fusion_report.PICTURES:
        assert (tmp_path / "one/images" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_a_report_of_rows_without_some_columns(undrawn, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    unknown = ("macs", "AP50", "params", "train_pair_passes", "seconds", "commit", "device")
    rows = [{name: value for name, value in row.items() if name not in unknown} for row in ROWS]
    write_rows(tmp_path, rows)
    assert fusion_report.main(["--out", str(tmp_path / "results.md")]) == 0
    page = (tmp_path / "results.md").read_text()
    assert "| sum | handmade | 22.0 ± 1.0 | 21.0 ± 1.0 | - | 3 | - | - | 0 | - | 0 | - |" in page
    assert "pair-passes on frozen streams" not in page


def test_a_report_of_no_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    assert fusion_report.main(["--out", str(tmp_path / "results.md")]) == 0
    assert "There are no rows yet." in (tmp_path / "results.md").read_text()


def test_the_committed_page_is_that_of_the_committed_rows():
    page = fusion_report.report(*(read_rows(f"fusion_{name}") for name in ("study", "ranking", "rating", "failure")))
    assert (ROOT / "docs/results.md").read_text(encoding="utf-8") == page
