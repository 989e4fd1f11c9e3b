"""The commands of a fold on stand-ins: what is run, which rows come out, and what is not run again."""

import json
from pathlib import Path

import pytest

from benchmarks import in_process
from benchmarks.cross_validation import fold as one_fold
from benchmarks.cross_validation.__main__ import main as benchmark
from benchmarks.cross_validation.study import METHODS, parse
from benchmarks.rows import read_rows, shown
from commands.options import parser_of
from tests.run_commands import refused, run
from tests.tiny_data import make_tiny_flir
from utils import args
from utils.errors import UserError
from utils.subprocesses import ROOT


@pytest.fixture
def argv(tmp_path, monkeypatch):
    """The command line of a study of three folds with one further set, in a folder of its own."""
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.yaml").write_text("batchsize: 2\nfound: {cache_features: disk}\n")
    make_tiny_flir(tmp_path / "data", step=20)
    (tmp_path / "other").mkdir()
    (tmp_path / "out").mkdir()
    return ["data", "--config", "short.yaml", "--folds", "3", "--out", "out", "--more", "llvip:other"]


@pytest.fixture
def commands(monkeypatch):
    """What is run, in place of the commands: each writes what the fold reads of it."""
    called: list[tuple[str, args.Options]] = []

    def stand_in(section: str, task, argv: list[str]) -> None:
        options = args.parse(parser_of(task), argv, section)
        called.append((section, options))
        kind = "test" if options.eval_exp_dir else section
        run = Path("runs") / f"{kind}-{options.save}-{len(called)}"
        run.mkdir(parents=True, exist_ok=True)
        results = {"AP": 0.5, "AP50": 0.75, "AP_val": 0.25, "epoch": 3, "pairs": 5, "split": "abc"}
        files = {"results.json": results, "detections.json": [], "timing.json": {"wall_seconds": 2}}
        for file, content in files.items():
            (run / file).write_text(json.dumps(content))
        ends = {"search": "search_exp_dir", "found": "eval_exp_dir", "pretrain": "run"}
        print(f"results: {run}/results.json" if kind == "test" else f"{ends[kind]}: {run}")

    monkeypatch.setattr(in_process, "run_command", stand_in)
    return called


def kinds(commands) -> list[str]:
    return ["test" if options.eval_exp_dir else section for section, options in commands]


def test_every_method_is_trained_once_and_tested_on_every_set(argv, commands):
    one_fold.main([*argv, "--fold", "2"])
    rows = read_rows("cross_validation")
    assert [(row["method"], row["test_set"]) for row in rows] == [(m, t) for m in METHODS for t in ("fold", "llvip")]
    assert {(row["fold"], row["folds"], row["seed"], row["dataset"]) for row in rows} == {("2", "3", "2", "data")}
    counted = kinds(commands)
    assert (counted.count("pretrain"), counted.count("search"), counted.count("found")) == (1, 2, 8)
    learning = [options for kind, options in zip(kinds(commands), [o for _, o in commands]) if kind != "test"]
    assert {(o.folds, o.fold, o.checkpointdir, o.resume) for o in learning} == {(3, 2, "checkpoints/fold2", "auto")}
    assert len({(kind, options.save) for kind, (_, options) in zip(counted, commands) if kind != "test"}) == 11
    assert {o.cache_dir for s, o in commands if s == "found"} == {"cache/fold2"}
    assert {o.eval_dataset for s, o in commands if o.eval_exp_dir} == {None, "llvip"}
    by_method = {row["method"]: row for row in rows if row["test_set"] == "fold"}
    assert by_method["box_nms"]["seconds"] == "4"  # both trainings
    assert by_method["darts"]["seconds"] == "4"  # search and training
    assert by_method["box_wbf"]["AP_val"] == "0.5"  # tested on val as well
    assert (Path("out") / "detections/evolution/fold2.json").exists()
    truth = json.loads(Path("out/truth/fold2.json").read_text())
    assert len(truth["image_ids"]) == 5


def test_rows_that_are_there_are_not_measured_again(argv, commands):
    some = ["--fold", "1", "--methods", "sum", "rgb"]
    one_fold.main([*argv[:-2], *some])
    assert kinds(commands) == ["pretrain", "found", "test", "found", "test"]
    commands.clear()
    one_fold.main([*argv[:-2], *some])
    assert commands == []
    one_fold.main([*argv, *some])  # with a further set
    assert [row["test_set"] for row in read_rows("cross_validation")] == ["fold"] * 2 + ["llvip"] * 2
    Path("short.yaml").write_text("batchsize: 3\n")
    assert len(parse([*argv, *some])[0].missing(1)) == 4


def test_cached_features_stay_until_all_folds_are_done(argv, commands, monkeypatch):
    """Each fold is run here in place of its process."""

    class Here:
        def __init__(self, jobs, *values, **options):
            self.jobs = jobs

        def run(self):
            cache.mkdir(exist_ok=True)
            for job in self.jobs:
                one_fold.main(job.line({})[3:])

    monkeypatch.setattr("benchmarks.cross_validation.__main__.Queue", Here)
    some, cache = [*argv, "--methods", "sum"], Path("out/cache")
    for fold, left in ((1, True), (2, True), (3, False)):
        assert benchmark([*some, "--fold", str(fold)]) == 0
        assert cache.exists() is left
    assert parse(some)[0].is_done
    assert not parse([*argv, "--methods", "rgb"])[0].is_done


def test_the_pretraining_starts_from_files_named_from_where_the_study_is_called(argv, commands):
    Path("weights.pth").write_bytes(b"1")
    some = ["--fold", "1", "--methods", "sum"]
    before = parse([*argv, *some])[0].key["config_hash"]
    one_fold.main([*argv, *some, "--encoder_weights", "weights.pth", "rgb=weights.pth"])
    path = str(Path("weights.pth").resolve())
    assert commands[0][1].encoder_weights == [path, f"rgb={path}"]
    Path("short.yaml").write_text("batchsize: 2\npretrain: {encoder_weights: weights.pth}\n")
    study = parse([*argv, *some])[0]
    assert study.start_words == ["--encoder_weights", path]
    first = study.key["config_hash"]
    Path("weights.pth").write_bytes(b"2")
    assert len({before, first, parse([*argv, *some])[0].key["config_hash"]}) == 3


def test_a_command_that_fails_ends_the_fold(argv, commands, monkeypatch):
    def broken(section: str, task, argv: list[str]) -> None:
        raise UserError("broken on purpose")

    monkeypatch.setattr(in_process, "run_command", broken)
    with pytest.raises(SystemExit, match="2"):
        one_fold.main([*argv, "--fold", "1"])
    assert Path.cwd().name != "out"
    assert read_rows("cross_validation") == []


def test_the_tables_are_printed_without_measuring(argv, commands, capsys):
    one_fold.main([*argv, "--fold", "1", "--methods", "thermal", "sum"])
    text = run(benchmark, capsys, "--summary")
    assert "## data: short, 3 folds" in text
    assert "| sum | 25.0 | 50.0 | - | 75.0 |" in text
    assert run(benchmark, capsys, *argv, "--summary").count("##") == 1
    assert "| minus thermal |" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--fold", "4"), "--fold: expected one of the folds 1 to 3, found 4"),
        (("--methods", "som"), "--methods: no such method: som"),
        (("--more", "llvip:nowhere"), "--more llvip:nowhere: expected NAME:DIR"),
        (("--init", "nowhere"), "--init nowhere: expected a file or folder, found none"),
        (("--encoder_weights", "rgb=nowhere"), "--encoder_weights rgb=nowhere: expected a file or folder"),
        (("--more", "llvip:.", "llvip:."), "--more llvip:.: expected another name than llvip, which is taken"),
        (("--more", "nothing:other"), "--more nothing:other: expected flir_aligned,"),
    ],
)
def test_what_does_not_exist_is_refused(argv, capsys, options, expected):
    assert expected in refused(benchmark, capsys, *argv, *options)
    assert "--config: expected one" in refused(benchmark, capsys, "data")


def test_rows_do_not_name_places_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.rows.RESULTS", ROOT / "results")
    words = [
        str(tmp_path),
        f"m3fd:{tmp_path}",
        f"{tmp_path}/own.yaml:{tmp_path}",
        str(ROOT / "configs/laptop.yaml"),
        "a:b",
    ]
    (tmp_path / "own.yaml").touch()
    words.append(f"{ROOT}/examples/m3fd_person_car.yaml:{tmp_path}")
    expected = ["DIR", "m3fd:DIR", "own.yaml:DIR", "configs/laptop.yaml", "a:b", "examples/m3fd_person_car.yaml:DIR"]
    assert list(map(shown, words)) == expected
