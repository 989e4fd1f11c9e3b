"""The README's commands: every one is accepted by the real parsers, and the short ones run."""

import csv
import re
import shlex
import statistics
from pathlib import Path

import pytest

import main_darts_found_flira
import main_darts_searchable_flira
import main_pretrain_flira
from benchmarks.road_scenes import mean_deviation
from commands.options import parser_of
from datasets.road_scenes import parse as parse_scenes
from datasets.scenes import scenes_hash
from tasks import TASKS
from tools.demo.__main__ import config_hash
from utils.args import parse

REPO = Path(__file__).resolve().parent.parent
README = (REPO / "README.md").read_text(encoding="utf-8")
MAINS = {
    "main_pretrain_flira.py": ("pretrain", main_pretrain_flira),
    "main_darts_searchable_flira.py": ("search", main_darts_searchable_flira),
    "main_darts_found_flira.py": ("found", main_darts_found_flira),
}
PARSERS = {name: parser_of(task) for name, task in TASKS.items()}
PUBLISHED = (
    "python main_darts_searchable_flira.py <dir of FLIR-Aligned Dataset> --batchsize=8 --epochs=10 --wandb",
    "python main_darts_found_flira.py <dir of FLIR-Aligned Dataset> --search_exp_dir=<dir of search exp> "
    "--epochs=50 --batchsize=8",
    "python main_darts_found_flira.py <dir of FLIR-Aligned Dataset> --search_exp_dir=<dir of search exp> "
    "--eval_exp_dir=<dir of eval exp> --batchsize=8",
)


def commands() -> list[str]:
    """Return every command line of ours in the README and docs, comments cut off."""
    found = []
    for page in (REPO / "README.md", *(REPO / "docs").glob("*.md"), REPO / "checkpoints/README.md"):
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith("    python main_"):
                found.append(line.partition("  #")[0].strip())
    return found


NEEDS_MORE = ("_exp_dir", " exp>", "--genotype", "early", "my_set.yaml", "--dataset voc", "--resume", "onnx:")
NEEDS_MORE += ("--folds", "--encoder_weights", "--init")


def argv_of(line: str, data: str) -> list[str]:
    line = line.replace("<grey>/set.yaml", "set.yaml")  # that datasets.prepare_grey writes
    folders = dict.fromkeys(("<dir of FLIR-Aligned Dataset>", "<dir>", "<scenes>", "<grey>"), data)
    for placeholder, value in (folders | {"FILE": "genotype.json"}).items():
        line = line.replace(placeholder, value)
    return shlex.split(re.sub(r"<dir of (search|eval) exp>", r"\1_run", line))[1:]


def test_published_commands_stand_verbatim():
    assert set(PUBLISHED) <= set(commands())


@pytest.mark.parametrize("line", commands())
def test_every_command_is_accepted(line, tiny_flir, monkeypatch):
    monkeypatch.chdir(REPO)
    script, *argv = argv_of(line, str(tiny_flir))
    kind, name = script.removeprefix("main_").removesuffix(".py").rsplit("_", 1)
    section = {"pretrain": "pretrain", "darts_searchable": "search", "darts_found": "found"}[kind]
    assert parse(PARSERS[name], argv, section).data == str(tiny_flir)


def test_commands_without_a_run_pass_a_dry_run(in_work, tiny_flir, tiny_config, capsys):
    """On tiny data and streams: the README's own options, with the tiny config where it names one."""
    done = 0
    for line in (line for line in commands() if "_flira.py" in line):
        if any(word in line for word in NEEDS_MORE):
            continue  # these need a run, a file, a stream or other data; tests/test_resume.py, test_own_data.py
        script, *argv = argv_of(line, str(tiny_flir))
        argv = [str(tiny_config) if a.startswith("configs/") else a for a in argv]
        argv += ["--dry_run"] + (["--config", str(tiny_config)] if "--config" not in argv else [])
        assert MAINS[script][1].main(argv) == 0, capsys.readouterr().err
        done += 1
    assert done >= 5


def test_shipped_configs_are_read():
    for path in set((REPO / "configs").glob("*.yaml")) - set((REPO / "configs").glob("study*.yaml")):
        task = TASKS["fad" if "fad" in path.stem else "flira"]
        for section in ("pretrain", "search", "found"):
            parse(parser_of(task), ["data", "--config", str(path)], section)


def test_links_lead_somewhere():
    for page in (*REPO.glob("*.md"), *(REPO / "docs").glob("*.md"), REPO / "checkpoints/README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_manual_lists_every_page():
    listed = set(re.findall(r"\]\(([a-z_]+\.md)\)", text_of("docs/README.md")))
    assert listed == {path.name for path in (REPO / "docs").glob("*.md")} - {"README.md"}


def test_the_scenes_command_is_accepted():
    page = (REPO / "docs/road_scenes.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^    python -m datasets.road_scenes (.*)$", page, flags=re.MULTILINE)
    assert parse_scenes(shlex.split(line)).folder == "DIR"


def text_of(page: str) -> str:
    return (REPO / page).read_text(encoding="utf-8")


def rows_of(name: str) -> list[dict[str, str]]:
    with open(REPO / f"results/{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_results_are_those_of_the_rows():
    """Every number of both tables of docs/flir_aligned.md is the mean over the seeds of results/flir_mini.csv."""
    rows, page = rows_of("flir_mini"), text_of("docs/flir_aligned.md")
    table = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$", page, flags=re.MULTILINE)
    configs = list(dict.fromkeys(row["config"] for row in rows))
    size = len(table) // len(configs)
    assert [line[0] for line in table[:size]] * len(configs) == [line[0] for line in table]
    assert {line[0] for line in table} == {row["method"] for row in rows}
    for place, (method, *numbers, runs) in enumerate(table):
        of_method = [row for row in rows if (row["config"], row["method"]) == (configs[place // size], method)]
        assert len(of_method) == int(runs)
        for name, number in zip(("AP_val", "AP", "AP50"), numbers, strict=True):
            mean = statistics.mean(float(row[name]) for row in of_method)
            assert float(number) == pytest.approx(mean, abs=5.1e-4), (method, name)


def in_points(values: list[float]) -> str:
    """Return the mean, and of several values the standard deviation, in points of 100."""
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{spread}"


def random_of_the_richer_space() -> list[float]:
    """Return the AP of each of the ten random genotypes of fusion_v2 on seed 11, the mean of its two trainings."""
    rows = [row for row in rows_of("fusion_ranking") if row["config_hash"] == "5ee32e08"]
    assert {(row["seed"], row["dataset"]) for row in rows} == {("11", "road_scenes")}
    return [(float(row["AP_1"]) + float(row["AP_2"])) / 2 for row in rows]


def test_the_table_of_the_readme_is_of_the_rows():
    """Seed 11 of the study; the random genotypes of the richer space are those of the ranking on that seed."""
    study = [row for row in rows_of("fusion_study") if (row["dataset"], row["seed"]) == ("road_scenes", "11")]
    handmade = [row for row in study if row["kind"] in ("handmade", "widened")]
    values = {row["method"]: [float(row["AP"])] for row in study if row["kind"] != "random"}
    best = max(handmade, key=lambda row: float(row["AP"]))["method"]
    expected = {
        "thermal alone": values["thermal"],
        "RGB alone": values["rgb"],
        "`sum` of": values["sum"],
        "`concat_conv` of": values["concat_conv"],
        f"`{best}` to": values[best],
        "random, published": [float(row["AP"]) for row in study if row["method"].startswith("random v1")],
        "random, richer": random_of_the_richer_space(),
        "searched, richer": values["evolution v2"],
    }
    table = re.findall(r"^\| (.*) \| ([\d.]+(?: ± [\d.]+)?) \| (\d+) \|$", README, flags=re.MULTILINE)
    assert len(table) == len(expected)
    for (name, number, count), (start, numbers) in zip(table, expected.items(), strict=True):
        assert name.startswith(start)
        assert (number, int(count)) == (in_points(numbers), len(numbers)), name


def test_what_the_pages_say_of_the_search_is_of_the_rows():
    rows = [row for row in rows_of("fusion_ranking") if row["config_hash"] == "5ee32e08"]
    single = [float(row[name]) for row in rows for name in ("AP_1", "AP_2")]
    (searched,) = [
        float(row["AP"])
        for row in rows_of("fusion_study")
        if (row["method"], row["dataset"], row["seed"]) == ("evolution v2", "road_scenes", "11")
    ]
    gain = 100 * (searched - statistics.mean(random_of_the_richer_space()))
    assert f"{gain:.1f} above their mean" in README
    assert f"reached {100 * max(single):.2f}" in README
    demo = " ".join(text_of("docs/demo.md").split())
    assert f"have {in_points(random_of_the_richer_space())} AP" in demo
    assert f"single trainings have {in_points(single)}, the best {100 * max(single):.2f}" in demo
    study = text_of("docs/results.md")  # made from the rows, tests/benchmarks/fusion_study
    for text, cell in (("7.3 ± 1.5 AP above the better", "| +7.3 ± 1.5 |"), ("0.7 ± 0.3 above", "| +0.7 ± 0.3 |")):
        assert text in " ".join(README.split())
        assert cell in study


def test_the_readme_is_short():
    assert len(README.split()) <= 1500
    assert len(README.splitlines()) <= 150


NUMBER = r"([\d.]+(?: ± [\d.]+)?|-)"
LINE = rf"^\| (\w+) \| {NUMBER} \| {NUMBER} \| {NUMBER} \| {NUMBER} \| ([\d,]+) \|"
ROAD_SCENES = {
    "now": (config_hash(str(REPO / "configs/demo.yaml")), LINE + "$"),
    "earlier": ("6e383cf0", LINE + r" (\d) \|$"),
}


@pytest.mark.parametrize("recipe", ROAD_SCENES)
def test_results_on_road_scenes_are_those_of_the_rows(recipe):
    """Mean and deviation over the seeds, in points of 100, of results/road_scenes.csv under the renderer as it is."""
    config, line = ROAD_SCENES[recipe]
    rows = [row for row in rows_of("road_scenes") if row["config_hash"] == config]
    assert {row["scenes"] for row in rows} == {scenes_hash()}
    page = text_of("docs/demo.md")
    table = re.findall(line, page, flags=re.MULTILINE)
    assert {found[0] for found in table} == {row["method"] for row in rows}
    assert recipe == "now" or config in page
    for method, *numbers, params, runs in [found if recipe == "earlier" else (*found, "1") for found in table]:
        own = [row for row in rows if row["method"] == method]
        assert len(own) == int(runs)
        for name, told in zip(("AP", "AP50", "AP_val", "LAMR_person"), numbers, strict=True):
            values = [float(row[name]) for row in own if row[name]]
            assert told == mean_deviation(values), (method, name)
        assert int(params.replace(",", "")) == round(statistics.mean(int(row["params"]) for row in own))
