"""report.html: what it shows is what the run's files say; it stands alone; damaged files are refused in one line."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from main_darts_found_flira import main as found
from report.comparison import by_method, write_comparison
from report.formatting import points
from report.page import Page, Section, Table, write_page
from report.run import Run
from report.run_page import headline
from tests.run_commands import refused
from tools.report import main as report
from utils.errors import UserError
from utils.run_folder import read_json

OWN = ("data:", "#")  # what an address may begin with


class Reader(HTMLParser):
    """Gathers tags with their attributes, and the text."""

    def __init__(self):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def check_stands_alone(path: Path) -> Reader:
    """No scripts, no address of anything else, a text alternative for every picture."""
    page, source = read(path), path.read_text(encoding="utf-8")
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset"):
            assert attributes.get(name, "#").startswith(OWN), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
        if tag == "img":
            assert len(attributes["alt"]) > 5
        if tag == "svg":
            assert attributes["role"] == "img"
            assert len(attributes["aria-label"]) > 5
    assert not re.search(r"@import|url\((?!#)", source)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {a[name].removeprefix("#") for _, a in page.tags for name in ("href",) if a.get(name, "").startswith("#")}
    used |= set(re.findall(r"url\(#(\w+)\)", source))
    assert used <= set(ids)
    return page


SECTIONS = {
    "search-EXP": ("Genotype", "Logits over epochs", "Curves", "From supernet to genotype", "Scores", "Cost"),
    "search-evo": ("Genotype", "Curves", "From supernet to genotype", "Cost", "What was run"),
    "found-EXP": ("Scores", "Genotype", "Curves", "Precision and recall", "Gallery", "Cost", "What was run"),
    "test-EXP": ("Scores", "Robustness", "Precision and recall", "Gallery", "Genotype"),
    "found-rgb2": ("Scores", "Beside other methods", "Curves", "Precision and recall", "Gallery", "Cost"),
    "test-rgb2": ("Scores", "Beside other methods", "Precision and recall", "Gallery", "Cost", "What was run"),
    "pretrain-EXP": ("Curves", "Cost", "What was run"),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_phase_leaves_a_page_that_stands_alone(runs, name):
    page = check_stands_alone(runs[name] / "report.html")
    for section in SECTIONS[name]:
        assert section in page.text
    commit = next(line for line in (runs[name] / "env.txt").read_text().splitlines() if line.startswith("commit: "))
    assert commit.removeprefix("commit: ") in page.text


def test_numbers_are_those_of_the_files(runs):
    results = read_json(runs["test-EXP"] / "results.json")
    text = read(runs["test-EXP"] / "report.html").text
    for name in ("AP", "AP50", "LAMR_person", "AP_car"):
        assert f"{100 * results[name]:.1f}" in text, name
    assert f"{results['parameters']:,}" in text
    found_pictures = [a for tag, a in read(runs["test-EXP"] / "report.html").tags if tag == "img"]
    assert len(found_pictures) == 4 * 4  # all test pairs, each thermal, RGB, truth, found
    genotype = read_json(runs["search-EXP"] / "genotype.json")["id"]
    assert genotype in read(runs["search-EXP"] / "report.html").text


def test_logits_are_written_under_names_that_add_up(runs):
    rows = [json.loads(line) for line in (runs["search-EXP"] / "alphas.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    genotype = read_json(runs["search-EXP"] / "genotype.json")["parts"]["fusion"]
    for row in rows:
        assert list(row["levels"]) == genotype["levels"]
        for level in row["levels"].values():
            assert list(level["ops"]) == ["step 1", "step 2"]
            assert list(level["edges"]) == ["step 1 x", "step 1 y", "step 2 x", "step 2 y"]
            assert list(level["edges"]["step 2 x"]) == genotype["inputs"]  # as derivation has it
            for weights in level["ops"].values():
                assert sum(weights.values()) == pytest.approx(1, abs=1e-4)
    assert rows[0] != rows[1]
    assert not (runs["search-evo"] / "alphas.jsonl").exists()


def test_comparison_groups_runs_over_seeds(undrawn, runs, work, capsys):
    tests = [str(runs[name]) for name in ("test-EXP", "test-rgb1", "test-rgb2")]
    assert report([*tests, "--out", "all.html"]) == 0
    assert capsys.readouterr().out.count("report: ") == 3
    page = check_stands_alone(work / "all.html")
    values = [100 * read_json(Path(one) / "results.json")["AP"] for one in tests[1:]]
    mean = sum(values) / 2
    spread = ((values[0] - mean) ** 2 + (values[1] - mean) ** 2) ** 0.5
    assert f"{mean:.1f} ± {spread:.1f}" in page.text
    trainings = [str(runs[name]) for name in ("found-EXP", "found-rgb1", "found-rgb2")]
    assert report([*trainings, "--out", "trainings.html"]) == 0
    assert "What differs" in check_stands_alone(work / "trainings.html").text


def test_a_report_is_built_again_as_it_was(runs, work):
    for name in ("pretrain-EXP", "search-EXP"):
        before = (runs[name] / "report.html").read_bytes()
        assert report([str(runs[name].relative_to(work))]) == 0
        assert (runs[name] / "report.html").read_bytes() == before


def test_data_that_moved_are_named(runs, work, undrawn, capsys, tmp_path, tiny_flir):
    moved = tmp_path / "moved"
    shutil.copytree(tiny_flir, moved)
    run = tmp_path / runs["test-rgb1"].name
    shutil.copytree(runs["test-rgb1"], run)
    args = read_json(run / "args.json") | {"data": str(tmp_path / "gone")}
    (run / "args.json").write_text(json.dumps(args))
    assert "--data DIR names a folder that has moved" in refused(report, capsys, run)
    assert report([str(run), "--data", str(moved)]) == 0
    truth = moved / "meta/thermal/flir_test.json"
    truth.write_text(truth.read_text().replace('"category_id": 1', '"category_id": 3'))
    assert "data: expected those of the run" in refused(report, capsys, run, "--data", moved)


def test_what_cannot_be_compared_is_refused(runs, work, undrawn, capsys, tmp_path):
    assert "expected runs of one kind" in refused(report, capsys, runs["test-EXP"], runs["found-EXP"])
    assert "expected a run folder" in refused(report, capsys, tmp_path)
    assert "at least two runs" in refused(report, capsys, runs["test-EXP"], "--out", "one.html")
    both = runs["test-EXP"], runs["test-rgb1"]
    assert "a .html file in a folder that exists" in refused(report, capsys, *both, "--out", "nowhere/all.html")


DETECTION = {"image_id": "x", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
WRONG_DETECTIONS = (
    {"bbox": "x"},
    {"image_id": []},
    {"image_id": None},
    {"category_id": [1]},
    {"category_id": 99},
    {"score": "x"},
)
CLEAN = {"kind": "clean", "sensor": "none", "severity": 0, "AP": 0.1}
BLACK = {"kind": "black", "sensor": "rgb", "severity": 5, "AP": 0.1}
WRONG_ROWS = [
    [CLEAN],
    *([CLEAN, BLACK | wrong] for wrong in ({"AP": "x"}, {"sensor": "nose"}, {"kind": "rain"}, {"severity": 0.5})),
]
DAMAGED = {
    "args.json": ("[]", "{", '{"data": 3}', '{"data": "a\\u0000b"}'),
    "command.json": ("[]", '{"kind": "x"}', '{"kind": ["test"]}'),
    "split.json": ("[]", '{"parts": []}', "{"),
    "results.json": ("[]", '{"part": ["x"]}', '{"part": "nowhere", "AP": 0.1}'),
    "detections.json": ("{}", "[1]", *(json.dumps([DETECTION | wrong]) for wrong in WRONG_DETECTIONS)),
    "robustness.json": ("[]", '{"rows": 3}', '{"rows": []}', *(json.dumps({"rows": rows}) for rows in WRONG_ROWS)),
    "timing.json": ("[]",),
    "env.txt": (None,),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_of_a_test_are_one_line(runs, work, undrawn, capsys, tmp_path, name):
    for number, text in enumerate(DAMAGED[name]):
        run = tmp_path / str(number) / runs["test-EXP"].name
        shutil.copytree(runs["test-EXP"], run)
        before = (run / "report.html").read_bytes()
        if text is None:
            (run / name).unlink()
            (run / name).mkdir()
        else:
            (run / name).write_text(text)
        refused(report, capsys, run)
        assert (run / "report.html").read_bytes() == before


OF_SEARCH = {
    "alphas.jsonl": (
        '{"epoch": 0, "levels": 3}\n',
        '{"epoch": 0, "levels": {"P3": {"ops": {"step 1": {"Sum": "x"}}}}}\n',
    ),
    "metrics.jsonl": ("[]\n", '{"epoch": "x"}\n', '{"epoch": 0, "AP_val": "x"}\n', '{"epoch": 0, "count_Sum": "x"}\n'),
    "genotype.json": ("{}", "[", '{"format": 1}'),
    "evolution.json": ("[3]",),
    "discretisation.json": ("[]",),
}


@pytest.mark.parametrize("name", OF_SEARCH)
def test_damaged_files_of_a_search_are_one_line(runs, work, undrawn, capsys, tmp_path, name):
    for number, text in enumerate(OF_SEARCH[name]):
        run = tmp_path / str(number) / "run"
        shutil.copytree(runs["search-EXP"], run)
        (run / name).write_text(text)
        refused(report, capsys, run)


def test_what_others_wrote_is_shown_and_not_obeyed(tmp_path):
    words = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\x1b[31m$x_1$"
    table = Table(["a", *words], [[word] * 4 for word in words])
    page = Page(words[0], words[1], {words[0]: words[1]}, [Section(words[0], [table])])
    shown = check_stands_alone(write_page(page, tmp_path / "page.html"))
    assert words[0] in shown.text
    assert "\x1b" not in "".join(shown.text)


def test_methods_that_are_not_one_are_not_pooled(runs, work, tiny_flir, capsys, monkeypatch, tmp_path):
    """Another part, another genotype, other options: a line each; a test that is done again counts once."""
    config = [str(tiny_flir), "--config", "report.yaml", "--no_report"]
    on_val = ["--eval_exp_dir", str(runs["found-rgb1"].relative_to(work)), "--eval_part", "val"]
    tests = [Run(runs["test-rgb1"]), Run(runs["test-rgb2"]), Run(runs["test-EXP"])]
    for more in (on_val, on_val[:2]):
        assert found([*config, *more, "--save", "again"]) == 0
        tests.append(Run(max(work.glob("runs/test-again-*"), key=lambda path: path.stat().st_mtime_ns)))
    groups = by_method(tests)
    assert {label: len(own) for label, own in groups.items()} == {
        "rgb --eval_part test": 2,
        "searched": 1,
        "rgb --eval_part val": 1,
    }
    monkeypatch.chdir(tmp_path)  # as seen from anywhere else
    assert set(by_method([Run(one.path) for one in tests])) == set(groups)
    page = work / "parts.html"
    write_comparison([tests[0], tests[3]], page)
    assert "Caution" in page.read_text()


def test_a_random_genotype_is_another_method_than_a_searched_one(runs):
    searched = Run(runs["found-EXP"])
    random = Run(runs["found-EXP"])
    random.__dict__["args"] = searched.args | {"search_exp_dir": None, "random_genotype": 1}
    assert (searched.label, random.label) == ("searched", "random genotype")


def test_a_headline_is_of_the_genotype_that_was_chosen(runs):
    evolved = read_json(runs["search-evo"] / "discretisation.json")
    assert evolved["chosen"] == evolved["genotype"]
    shown = headline(Run(runs["search-evo"]))
    assert shown["genotype"] == evolved["chosen"]
    assert shown["AP on val, chosen, on its weights"] == points(evolved["AP_val_inherited"])
    topk = [json.loads(line) for line in (runs["search-EXP"] / "metrics.jsonl").read_text().splitlines()]
    best = max(row["AP_val"] for row in topk if row.get("phase") == "topk")
    assert headline(Run(runs["search-EXP"]))["AP on val, chosen, briefly trained"] == points(best)


def test_a_damaged_neighbour_is_no_reason_to_have_no_report(runs, work, undrawn, capsys, tmp_path, tiny_flir):
    folder = tmp_path / "runs"
    for name in ("test-rgb1", "test-rgb2", "found-rgb2"):
        shutil.copytree(runs[name], folder / runs[name].name)
    ours, neighbour = folder / runs["test-rgb1"].name, folder / runs["test-rgb2"].name
    results = read_json(neighbour / "results.json")
    for wrong in ({"parameters": None}, {"eval_exp_dir": "x" * 5000}, {"part": 3}):
        (neighbour / "results.json").write_text(json.dumps(results | wrong))
        assert report([str(ours)]) == 0
    (neighbour / "args.json").write_text('{"data": "a\\u0000b"}')
    assert report([str(ours)]) == 0


def test_pairs_that_were_left_out_are_left_out_here(work, scenes, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    config = [str(data), "--config", "report.yaml", "--baseline", "sum", "--epochs", "1", "--save", "spoilt"]
    (name, *_) = sorted(path.name for path in (data / "images_thermal_train_val/data").iterdir())
    picture = data / "images_thermal_train_val/data" / name
    picture.write_bytes(picture.read_bytes()[:100])
    assert found([*config, "--max_bad_files", "3", "--allow_split_mismatch"]) == 0
    (spoilt,) = work.glob("runs/found-spoilt-*")
    before = (spoilt / "report.html").read_bytes()
    assert len([a for tag, a in read(spoilt / "report.html").tags if tag == "img"]) == 2 * 4
    assert report([str(spoilt.relative_to(work))]) == 0
    assert (spoilt / "report.html").read_bytes() == before


def test_a_run_under_way_is_reported_without_what_is_not_settled(runs, work, capsys, tmp_path):
    run = tmp_path / runs["found-rgb1"].name
    shutil.copytree(runs["found-rgb1"], run)
    (run / "finished.json").unlink()
    (run / "detections.json").write_text("[]")  # of another epoch than the last row
    assert report([str(run)]) == 0
    page = check_stands_alone(run / "report.html")
    assert "under way, or stopped" in "".join(page.text)
    assert "Precision and recall" not in page.text
    tested = tmp_path / runs["test-rgb1"].name
    shutil.copytree(runs["test-rgb1"], tested)
    (tested / "results.json").unlink()
    assert report([str(tested)]) == 0


def test_runs_of_several_tasks_are_not_compared(tmp_path):
    runs = [SimpleNamespace(metric=metric, path=Path(metric)) for metric in ("AP", "AP", "accuracy")]
    with pytest.raises(UserError, match="accuracy: expected runs of one task, as AP, scored by AP, found accuracy"):
        write_comparison(runs, tmp_path / "page.html")
