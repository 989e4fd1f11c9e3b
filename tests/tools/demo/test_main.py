"""The demo on stand-ins for its commands (fake_command.py): what is run, in which order, and what comes out."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.road_scenes import main as benchmark
from benchmarks.road_scenes import mean_deviation
from benchmarks.rows import read_rows
from commands.options import parser_of
from datasets.road_scenes import SIZES, scenes_hash
from datasets.road_scenes import parse as parse_scenes
from tasks import TASKS
from tests.tools.stand_in import commands, stand_in
from tools.demo.__main__ import main, run_demo
from tools.demo.jobs import demo_jobs
from tools.demo.options import Options, parse
from tools.demo.summary import gains
from tools.demo.tasks import DEMOS, FLIRA
from tools.jobs import JobFailed
from utils.args import SECTIONS, read_config
from utils.args import parse as parse_command
from utils.errors import UserError
from utils.subprocesses import ROOT

PICTURES = ("genotype.png", "curves.png", "detections.png")


@pytest.fixture
def faked(faked_and_drawn, undrawn) -> Options:
    """The same without the time that pictures take."""
    return faked_and_drawn


@pytest.fixture
def faked_and_drawn(tmp_path, monkeypatch, scenes) -> Options:
    """Stand in an empty folder where every command is a fake; gives options of a demo there."""
    stand_in(tmp_path, monkeypatch, scenes)
    monkeypatch.setattr("tools.demo.__main__.commit", lambda: "abc")  # ours may have changes that have no name
    return Options(seed=5, out="out", config="demo.yaml", slots=2)


def place(words: str) -> int:
    """Where the only command with these words stands."""
    (found,) = (i for i, line in enumerate(commands()) if words in line)
    return found


def test_the_summary_holds_a_row_per_method_and_the_gains(faked_and_drawn, capsys):
    summary = run_demo(faked_and_drawn)
    assert summary == json.loads(Path("out/summary.json").read_text())
    assert set(summary) == {"rows", "wall_s", "scenes", "seed", "commit", "device", "gains"}
    assert list(summary["rows"]) == ["thermal", "rgb", "sum", "concat_conv", "searched"]
    assert (summary["scenes"], summary["seed"]) == ("abc123", 5)
    row = summary["rows"]["thermal"]
    expected = {"AP": 0.2, "AP50": 0.4, "AP_val": 0.3, "params": 100, "pair_passes": 18, "LAMR_person": 0.5}
    assert {name: row[name] for name in expected} == expected
    assert set(row) == {*expected, "seconds", "run", "AP_scene_day", "AP_scene_night"}
    assert Path(row["run"], "metrics.jsonl").exists()
    searched = summary["rows"]["searched"]
    assert set(searched) == {*row, "search_seconds", "search_pair_passes"}
    assert searched["search_pair_passes"] == 18
    assert searched["seconds"] > searched["search_seconds"] > 0
    for kind, over, gain in (("best_single", "rgb", 0.08), ("best_hand_made", "sum", 0.03)):
        assert summary["gains"][kind]["AP"] == {"over": over, "gain": pytest.approx(gain)}
    for name in PICTURES:
        assert Path("out", name).read_bytes()[:4] == b"\x89PNG"
    out = capsys.readouterr().out
    table = Path("out/table.txt").read_text()
    assert table in out
    assert "searched minus best single: +8.0 AP (over rgb), +8.0 AP50 (over rgb)" in table
    assert "searched minus best hand made: +3.0 AP (over sum)" in table
    assert next(line for line in table.splitlines() if line.startswith("searched ")).split()[1:4] == [
        "0.330",
        "0.530",
        "0.300",
    ]
    assert "| thermal | 0.400 | - |" in Path("out/table.md").read_text()  # AP by scene; none at night


def test_commands_run_in_an_order_that_works_with_shared_cores(faked, monkeypatch):
    monkeypatch.setattr("tools.demo.__main__.CORES", 6)
    run_demo(faked)
    sizes = " ".join(f"--{name}={value}" for name, value in SIZES.items())
    assert commands()[0] == f"datasets.road_scenes out/scenes --seed 5 {sizes}"
    assert {place("--modality thermal"), place("--modality rgb")} == {1, 2}
    assert place("searchable") in (3, 4)  # the longest chain starts first, beside one other
    learning = [line for line in commands() if "eval_exp" not in line and "main_" in line]
    assert all("--seed 5 --checkpointdir out/checkpoints" in line for line in learning)
    assert all("--config demo.yaml" in line for line in commands()[1:])
    assert "threads: 3" in Path("out/logs/train_sum.log").read_text()
    assert len(commands()) == 4 + 2 * 5


def test_every_method_can_be_run_by_lines_that_the_real_parsers_take(faked):
    summary = run_demo(replace(faked, methods=FLIRA.methods))
    assert list(summary["rows"]) == list(FLIRA.methods)
    assert place("--modality early") < place("--baseline early")
    assert place("searchable") < place("--baseline sum --match_parameters runs/search-search")
    assert place("--baseline concat_conv --match_parameters") > 0
    assert "--random_genotype 5" in commands()[place("--random_genotype")]
    words = commands()[place("--box_fusion wbf")].split()
    fused = summary["rows"]["box_nms"]
    thermal, rgb = (summary["rows"][m] for m in ("thermal", "rgb"))
    assert words[words.index("--eval_exp_dir") + 1] == thermal["run"]
    assert words[words.index("--partner_exp_dir") + 1] == rgb["run"]
    assert (fused["params"], fused["pair_passes"]) == (200, 36)  # both detectors
    assert fused["run"].startswith("runs/test-box_nms")
    assert summary["gains"]["best_hand_made"]["AP"]["over"] == "box_nms"  # random counts as nothing hand-made
    check_by_real_parsers(commands())


def check_by_real_parsers(lines: list[str]) -> None:
    """The fakes take anything; the real parsers read the very same words."""
    sections = {"main_pretrain_flira.py": "pretrain", "main_darts_searchable_flira.py": "search"}
    for line in lines:
        script, *argv = line.split()
        if script == "datasets.road_scenes":
            assert parse_scenes(argv).test == SIZES["test"]
        else:
            assert parse_command(parser_of(TASKS["flira"]), argv, sections.get(script, "found")).data == "out/scenes"


def test_boxes_are_fused_of_detectors_that_nobody_asked_for(faked):
    summary = run_demo(replace(faked, methods=("box_nms",)))
    assert list(summary["rows"]) == ["box_nms"]
    assert summary["gains"] == {}
    assert not any("searchable" in line for line in commands())
    assert not Path("out/genotype.png").exists()
    assert Path("out/detections.png").exists()


def test_unequal_training_is_no_comparison(faked, monkeypatch):
    monkeypatch.setenv("FAKE_SHORT", "sum")
    with pytest.raises(AssertionError, match="'sum': 9"):
        run_demo(faked)


def test_an_earlier_folder_is_kept(faked, capsys):
    methods = replace(faked, methods=("rgb",))
    run_demo(methods)
    Path("out/mine.txt").write_text("precious")
    run_demo(methods)
    run_demo(methods)
    kept = sorted(Path().glob("out-*"))
    assert len(kept) == 2
    assert "precious" in [f.read_text() for folder in kept for f in folder.glob("mine.txt")]
    assert not Path("out/mine.txt").exists()
    assert f"out: the earlier one is now {kept[0]}" in capsys.readouterr().out


def test_own_data_is_not_rendered_nor_moved(faked, scenes):
    run_demo(replace(faked, methods=("rgb",), data=str(scenes)))
    assert not any("road_scenes" in line for line in commands())
    assert str(scenes) in commands()[0]
    assert main(["--data", "out/scenes", "--out", "out", "--config", "demo.yaml"]) == 2
    assert main(["--data", str(scenes), "--train", "3"]) == 2
    assert Path("out/summary.json").exists()


def test_only_a_folder_of_ours_is_moved(faked, capsys):
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("precious")
    Path("file").write_text("x")
    for out in ("mine", "file", ".", "..", "/"):
        with pytest.raises(UserError, match="--out"):
            run_demo(replace(faked, out=out))
    assert Path("mine/thesis.tex").read_text() == "precious"


def test_mistakes_are_found_before_anything_is_moved(faked):
    run_demo(replace(faked, methods=("rgb",)))
    assert main(["--data", "nowhere", "--out", "out", "--config", "demo.yaml"]) == 2
    assert main(["--width", "9", "--out", "out", "--config", "demo.yaml"]) == 2
    assert main(["--seed", str(2**32)]) == 2
    assert not list(Path().glob("out-*"))


@pytest.mark.parametrize("commit", ["abc+", "unknown"])
def test_code_without_a_name_is_not_gone_on_with(faked, monkeypatch, commit):
    monkeypatch.setattr("tools.demo.__main__.commit", lambda: commit)
    for _ in range(2):
        run_demo(replace(faked, methods=("rgb",)), resume=True)
    assert len(list(Path().glob("out-*"))) == 1


def test_a_terminated_demo_says_so_and_stops_its_commands(faked, monkeypatch, capsys):
    def killed(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("tools.demo.__main__.Queue.run", killed)
    with pytest.raises(SystemExit) as stop:
        main(["--out", "out", "--config", "demo.yaml"])
    assert stop.value.code == 130
    assert "stopped" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_stopped_run_goes_on_where_it_was(faked, monkeypatch):
    monkeypatch.setenv("FAKE_BREAK", "searched")
    with pytest.raises(JobFailed):
        run_demo(replace(faked, slots=1), resume=True)
    before = commands()
    monkeypatch.delenv("FAKE_BREAK")
    summary = run_demo(faked, resume=True)
    assert not list(Path().glob("out-*"))
    assert len(set(commands()) - set(before)) == len(commands()) - len(before) - 1  # the failed one alone ran twice
    assert list(summary["rows"]) == list(faked.methods)
    more = run_demo(replace(faked, methods=("sum", "mean")), resume=True)  # other methods of the same scenes
    assert more["rows"]["sum"] == summary["rows"]["sum"]
    (Path("demo.yaml")).write_text("batchsize: 5\n")
    run_demo(replace(faked, methods=("sum",)), resume=True)  # another config: all anew
    assert len(list(Path().glob("out-*"))) == 1


def test_a_failing_command_ends_the_demo_with_its_words(faked, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_BREAK", "rgb")
    with pytest.raises(SystemExit) as stop:
        main(["--out", "out", "--config", "demo.yaml", "--slots", "1"])
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert "pretrain_rgb: ended with code 1" in err
    assert "error: broken on purpose" in err
    assert "log: out/logs/pretrain_rgb.log" in err
    assert not any("searchable" in line for line in commands())


def test_the_best_of_a_kind_is_the_best_in_that_number():
    rows = {
        "thermal": {"AP": 0.3, "AP50": 0.5},
        "rgb": {"AP": 0.2, "AP50": 0.6},
        "searched": {"AP": 0.25, "AP50": None},
    }
    single = gains(rows)["best_single"]
    assert single["AP"] == {"over": "thermal", "gain": pytest.approx(-0.05)}
    assert single["AP50"] == {"over": "rgb", "gain": pytest.approx(-0.6)}
    assert gains({"rgb": rows["rgb"]}) == {}


def test_options():
    assert parse([]) == Options()
    given = parse(["--methods", "searched", "rgb", "rgb", "--seed", "3", "--train", "50"])
    assert given == Options(methods=("rgb", "searched"), seed=3, sizes=SIZES | {"train": 50})
    films = parse(["--task", "mmimdb", "--dev", "50"])
    assert (films.out, films.seed, films.methods) == ("runs/demo-mmimdb", 1, DEMOS["mmimdb"].methods)
    assert films.sizes == {"train": 800, "dev": 50, "test": 500}
    assert main(["--task", "mmimdb", "--width", "64"]) == 2
    assert main(["--task", "mmimdb", "--methods", "thermal"]) == 2
    assert main(["--task", "mmimdb", "--data", "."]) == 2
    assert main(["--methods", "best"]) == 2
    assert main(["--slots", "0"]) == 2
    assert main(["--config", "missing.yaml"]) == 2


@pytest.mark.parametrize("task", ["flira", "fad"])
def test_the_config_is_valid(task):
    parsers = {name: parser_of(TASKS[task])(name) for name in SECTIONS}
    for section in SECTIONS:
        config = read_config(str(ROOT / DEMOS[task].config), parsers, section)
        assert config["image_size"] == (160, 192)


def test_jobs_stand_behind_what_they_wait_for():
    demos = [Options(methods=methods) for methods in (FLIRA.methods, ("searched",), ("box_wbf",), ("sum_widened",))]
    for options in (*demos, parse(["--task", "mmimdb"]), parse(["--task", "fad"])):
        seen = set()
        for job in demo_jobs(options):
            assert set(job.after) <= seen
            seen.add(job.name)
    assert {"pretrain_detector", "train_fcos_widened", "test_random"} <= seen


def test_the_benchmark_measures_what_has_no_row_yet(faked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path / "results")
    argv = ["--config", "demo.yaml", "--methods", "thermal", "sum", "--seeds", "2"]
    assert benchmark(argv) == 0
    first = commands()
    assert benchmark(argv) == 0
    assert commands() == first
    more = ["--config", "demo.yaml", "--methods", "thermal", "sum", "searched", "box_nms", "--seeds", "2", "3"]
    assert benchmark(more) == 0
    seed_2 = commands()[len(first) : -len(first) - 6]
    assert not any(
        "road_scenes" in line.split()[0] or "pretrain" in line or "--baseline sum" in line for line in seed_2
    )
    rows = read_rows("road_scenes")
    assert [(r["seed"], r["method"]) for r in rows] == [
        *(("2", m) for m in ("thermal", "sum", "box_nms", "searched")),
        *(("3", m) for m in ("thermal", "sum", "box_nms", "searched")),
    ]
    assert {r["scenes"] for r in rows} == {scenes_hash()}
    assert (rows[3]["AP"], rows[3]["AP_scene_night"], rows[3]["search_pair_passes"]) == ("0.33", "", "18")
    assert (rows[0]["search_pair_passes"], rows[0]["pair_passes"], rows[0]["train"]) == ("", "18", str(SIZES["train"]))
    out = capsys.readouterr().out
    assert "searched minus best single, AP: 13.0 ± 0.0 (2 seeds)" in out
    assert "seed 3: searched minus best hand made, AP: +2.0 (over box_nms)" in out
    (tmp_path / "demo.yaml").write_text("batchsize: 6\n")  # other settings under the same name
    assert benchmark(argv) == 0
    assert len(read_rows("road_scenes")) == 10


def test_a_deviation_is_of_several_runs():
    assert mean_deviation([0.1, 0.3]) == "20.0 ± 14.1"  # sample deviation: sqrt(2) * 0.1
    assert mean_deviation([0.1]) == "10.0"
    assert mean_deviation([]) == "-"
