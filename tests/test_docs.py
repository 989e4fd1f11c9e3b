"""The docs' commands and snippets: short commands run on tiny data, others exist; pages that are made are as made.

The three mains' commands: tests/test_readme.py.
"""

import importlib.util
import re
import runpy
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from main_darts_found_flira import main as found
from models.search.fusion_cells.cell_space import CellSpace
from models.search.fusion_cells.choices import OUR_FUSIONS, PUBLISHED_FUSIONS, SPACES
from models.search.fusion_cells.derive import derive
from models.search.fusion_cells.found import FoundFusion
from models.search.fusion_cells.operations import FUSION_OPS
from models.search.fusion_cells.supernet import SearchableFusion
from tools.options import page
from utils import __version__

REPO = Path(__file__).resolve().parent.parent
PAGES = [
    REPO / "README.md",
    REPO / "CONTRIBUTING.md",
    REPO / "checkpoints/README.md",
    *sorted((REPO / "docs").glob("*.md")),
]
LINE = re.compile(r"^    ((?:python|make|pip|conda|git) .*)$", re.MULTILINE)
INLINE = re.compile(r"`(python -m [^`]+|make [a-z-]+)`")
MINUTES = ("tools.demo", "datasets.road_scenes")  # run by other tests, or by `make demo`
NEEDS_MORE = {
    "my_set.yaml": "tests/test_own_data.py",
    "--onnx": "tests/tools/test_export.py",
    "predict_onnx": "the same",
}


def lines() -> list[str]:
    """Return the commands of the pages, comments cut off, each once; of optional parts both forms."""
    found = [
        line.partition("  #")[0].strip() for path in PAGES for line in LINE.findall(path.read_text(encoding="utf-8"))
    ]
    forms = [
        form for line in found for form in (re.sub(r" \[[^]]*\]", "", line), line.replace("[", "").replace("]", ""))
    ]
    return list(dict.fromkeys(forms))


SHORT = [
    line
    for line in lines()
    if line.startswith("python -m tools.") and not any(w in line for w in (*MINUTES, *NEEDS_MORE))
]


@pytest.fixture(scope="module")
def work(tmp_path_factory, pretrained, tiny_flir, tiny_config) -> Path:
    """A folder with a trained network and a pair of pictures."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(pretrained / "checkpoints", folder / "checkpoints")
    for sensor in ("rgb", "thermal"):
        source = next((tiny_flir / f"images_{sensor}_test/data").iterdir())
        shutil.copy(source, folder / f"a_{sensor}.jpg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in ("1", "2"):
            assert (
                found([str(tiny_flir), "--random_genotype", seed, "--config", str(tiny_config), "--epochs", "1"]) == 0
            )
    return folder


def filled(line: str, work: Path, data: Path, out: Path) -> list[str]:
    """Return the words of a command with real files in the place of what it stands for."""
    one, other = sorted(map(str, work.glob("runs/found-*")))
    line = line.replace("<dir of eval exp> <dir of eval exp>", f"{one} {other}").replace("<dir of eval exp>", one)
    for word, value in {"<dir>": data, "RUN": one, "A": "a_rgb.jpg", "B": "a_thermal.jpg", "DIR": out / "out"}.items():
        line = re.sub(rf"(?<![\w.]){re.escape(word)}(?![\w.])", str(value), line)
    line = line.replace("NAME", "flir_aligned").replace("--out found", f"--out {out}/found")
    return shlex.split(line)


@pytest.mark.parametrize("line", SHORT)
def test_short_commands_run(line, work, tiny_flir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(work)
    _, _, module, *argv = filled(line, work, tiny_flir, tmp_path)
    argv += ["--rounds", "2"] if module == "tools.profile" else []
    code = importlib.import_module(module).main(argv)
    assert code == 0, capsys.readouterr().err


def test_there_are_commands_to_run():
    tools = {line.split()[2] for line in SHORT}
    assert tools >= {
        f"tools.{name}" for name in ("check_data", "dataset_stats", "predict", "profile", "report", "export")
    }


@pytest.mark.parametrize("line", [*lines(), *(line for path in PAGES for line in INLINE.findall(path.read_text()))])
def test_what_a_command_names_is_there(line):
    words = shlex.split(line)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[0] == "python" and words[1] == "-m":
        assert importlib.util.find_spec(words[2]), words[2]
    elif words[0] == "python":
        assert (REPO / words[1]).exists(), words[1]
    else:
        files = [word for word in words if word.endswith((".txt", ".yml"))]
        assert all((REPO / name).exists() for name in files)


FOLDER = re.compile(
    r"`((?:benchmarks|commands|configs|datasets|engine|examples|models|report|tasks|tests|tools|utils)/[^`]*)`"
)


def expanded(path: str) -> list[str]:
    """Return the paths of one with alternatives in braces."""
    head, brace, tail = path.partition("{")
    if not brace:
        return [path]
    names, _, rest = tail.partition("}")
    return [head + name + more for name in names.split(",") for more in expanded(rest)]


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "options.md"], ids=lambda page: page.name)
def test_paths_on_the_pages_are_there(page):
    paths = [one for path in FOLDER.findall(page.read_text(encoding="utf-8")) for one in expanded(path)]
    missing = {path for path in paths if "NAME" not in path and not list(REPO.glob(path.rstrip("/")))}
    assert not missing


def test_three_lines_of_python_detect(work, monkeypatch):
    monkeypatch.chdir(work)
    network = next(work.glob("runs/found-*"))
    for path in (REPO / "README.md", REPO / "docs/predict.md"):
        (snippet,) = re.findall(
            r"(?:^    (?:from|predictor|objects).*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        names: dict = {}
        source = "\n".join(line.strip() for line in snippet.splitlines())
        exec(source.replace("runs/found-EXP-TIME", str(network)), names)  # the page's own lines
        assert isinstance(names["objects"], list)


def test_the_page_of_options_is_as_made():
    assert (REPO / "docs/options.md").read_text(encoding="utf-8") == page()


def test_the_version_is_the_newest_of_the_changelog():
    headings = re.findall(r"^## (.*)$", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    headings = headings[headings[0] == "Unreleased" :]
    assert headings[0] == __version__
    assert headings == sorted(headings, key=lambda version: [int(n) for n in version.split(".")], reverse=True)


def test_the_citation_is_yaml_of_the_format():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)  # the fields that the format requires
    assert "version" not in citation  # it stands in one place


def test_an_operation_is_added_as_the_page_says(monkeypatch):
    """A class, an entry and a name are all: the supernet mixes it, derivation takes it, the found network has it."""
    monkeypatch.setitem(FUSION_OPS, 4, dict(FUSION_OPS[4]))
    blocks = re.findall(r"```python\n(.*?)```", (REPO / "docs/extending.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {"nn": torch.nn, "Tensor": torch.Tensor, "FUSION_OPS": FUSION_OPS, "OUR_FUSIONS": OUR_FUSIONS}
    for block in blocks:
        exec(block, names)
    richer = replace(SPACES["fusion_v2"], fusions=PUBLISHED_FUSIONS + names["OUR_FUSIONS"])
    monkeypatch.setitem(SPACES, "fusion_v2", richer)
    space = CellSpace(4, 8, name="fusion_v2")
    assert space.op_names[-1] == "Difference"
    fusion = SearchableFusion(space)
    with torch.no_grad():
        fusion.alpha_ops[..., -1] = 3
    taps = [torch.rand(1, 8, 4, 4) for _ in range(4)]
    assert fusion(taps).shape == (1, 8, 4, 4)
    inputs = ("thermal/bifpn1", "thermal/bifpn2", "rgb/bifpn1", "rgb/bifpn2")
    genotype = derive([fusion], inputs, ("P3",))
    assert {op for step in genotype.cells[0].steps for op in step.inner_steps} == {"Difference"}
    assert FoundFusion(genotype.cells[0], space.features)(taps).shape == (1, 8, 4, 4)


def run_example(name: str, monkeypatch, *argv: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, argv)])
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which an example adds
    runpy.run_path(str(REPO / "examples" / name), run_name="__main__")


@pytest.mark.parametrize("name", sorted(path.name for path in (REPO / "examples").glob("*.py")))
def test_examples_explain_themselves(name, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run_example(name, monkeypatch, "--help")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert (REPO / "examples" / name).read_text().split('"""')[1].partition("\n")[0][:40] in " ".join(told.split())


def test_the_example_of_python_detects(work, monkeypatch, capsys):
    monkeypatch.chdir(work)
    pictures = "--rgb", "a_rgb.jpg", "--thermal", "a_thermal.jpg", "--score", 0.0
    with pytest.raises(SystemExit) as ended:
        run_example("predict.py", monkeypatch, next(work.glob("runs/found-*")), *pictures)
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    with pytest.raises(SystemExit) as ended:
        run_example("predict.py", monkeypatch, "nowhere", *pictures)
    assert ended.value.code == 2
    assert all(re.fullmatch(r"(person|bike|car) 0\.\d\d at x -?\d+ to \d+, y -?\d+ to \d+ px", line) for line in lines)


def test_a_module_of_ones_own_is_searched(monkeypatch, capsys):
    """In 40 lines; what the module learns needs both of its inputs, and the derived cell reads both."""
    run_example("search_your_own_module.py", monkeypatch)
    (line,) = capsys.readouterr().out.splitlines()
    first, second = re.fullmatch(r"cell: (\d\+\d) \w+, (\d\+\d) \w+", line).groups()
    read = {int(number) for number in (*first.split("+"), *second.split("+"))}
    assert read & {0, 1}
    assert read & {2, 3}
    assert len((REPO / "examples/search_your_own_module.py").read_text().splitlines()) <= 40
