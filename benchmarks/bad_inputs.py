"""Reads damaged files with the real readers: each must be refused in one line, repaired as documented, or harmless.

    python -m benchmarks.bad_inputs [--count 200] [--seed 0]

For each reader, COUNT damaged files are made from a valid file of a small generated data set (tests/spoil.py).
Outcomes:

- refused: a UserError of one line that names the file or the data folder;
- repaired: the reader dropped or clipped something, and its notes or warnings say so;
- harmless: the file is still valid. This is checked: a checkpoint must hold the values that it held before.

Any other exception, more than five seconds, or code executed from a file ends the benchmark with a traceback. Prints a
JSON object per reader. Rows: results/bad_inputs.csv.
"""

import contextlib
import functools
import json
import random
import re
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.in_process import inside
from benchmarks.rows import append_row
from commands.options import parser_of
from datasets.detection.opening import open_data_set
from datasets.images import read_rgb, read_thermal
from models.detection.fusions import found_fusions
from models.search.architecture import Architecture, read_architecture
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.genotype_file import FusionReader
from models.search.fusion_cells.space import fusion_space, random_genotype
from tasks import TASKS
from tasks.detection.flira import FLIRA
from tests import spoil
from tests.tiny_sets import make_tiny_own
from utils import checkpoint
from utils.args import Parser, command, parse
from utils.errors import UserError, printable
from utils.option_types import count, positive
from utils.untrusted import FORMAT, check_fields

SECONDS = 5  # limit for reading a file
INPUTS, LEVELS, CHANNELS = ("thermal/bifpn1", "thermal/bifpn2", "rgb/bifpn1", "rgb/bifpn2"), ("P3", "P4"), 8
OUTCOMES = ("refused", "repaired", "harmless")
CONFIG = """\
C: 16
image_size: 64x80
scale_jitter: [0.8, 1.2]
wandb: false
device: cpu
pretrain: {no-imagenet: true, epochs: 1}
search: {epochs: 2, alternate: step}
found: {epochs: 2, eta_max: 1e-2}
"""
# The content of best.pt besides the weights; a single layer stands for the detector.
OPTIONS = {"backbone": "lcnet_050", "C": 16, "num_input_nodes": 4, "fusion_levels": 3, "anchor_scale": 2.0, "seed": 2}
OPTIONS |= {"num_classes": 3, "image_size": (64, 80), "dataset": "flir_aligned", "split_seed": 0}
OPTIONS |= {"paper_protocol": False, "baseline": "sum", "widen": None}
RUN = {"kind": "found", "format": FORMAT, "args": OPTIONS, "split": "0" * 16, "protocol": "train/arch/val"}
RUN |= {"checkpoint_split": "same", "data": {"classes": ["person"]}, "bad_files": [], "genotype": None}
RUN |= {"progress": {"best": 0.5, "best_epoch": 1}}


class Reader(NamedTuple):
    """A reader and its files.

    Attributes:
        make: writes the valid files into a folder and returns the one to damage.
        spoil: changes the content of that file.
        read: reads it; returns whether something was repaired. Raises if an accepted file is not valid.
    """

    make: Callable[[Path], Path]
    spoil: Callable[[random.Random, bytes], bytes]
    read: Callable[[Path], bool]


def make_genotype(folder: Path, form: str) -> Path:
    genotype = random_genotype(fusion_space(INPUTS, LEVELS, CHANNELS), 0)
    path = folder / f"genotype.{form}"
    path.write_text(json.dumps(Architecture({"fusion": genotype}).to_json()) if form == "json" else text_form(genotype))
    return path


def text_form(genotype: Genotype) -> str:
    """Return the public text form."""
    cells = []
    for cell in (cell.to_json() for cell in genotype.cells):
        steps = [f"StepGenotype({', '.join(f'{k}={v!r}' for k, v in step.items())})" for step in cell["steps"]]
        edges = [tuple(edge) for edge in cell["edges"]]
        cells.append(f"Genotype(edges={edges!r}, steps=[{', '.join(steps)}], concat={cell['concat']!r})")
    return f"[{', '.join(cells)}]"


def read_a_genotype(path: Path) -> bool:
    readers = {"fusion": FusionReader(INPUTS, LEVELS, CHANNELS)}
    architecture = read_architecture(path, readers)
    again = path.with_name("again.json")
    again.write_text(json.dumps(architecture.to_json()))
    assert read_architecture(again, readers) == architecture
    taps = [torch.zeros(1, CHANNELS, 2, 2) for _ in INPUTS]
    assert all(
        fusion.eval()(taps).shape == taps[0].shape for fusion in found_fusions(architecture.parts["fusion"], 0.0)
    )
    return False


def make_config(folder: Path) -> Path:
    (folder / "config.yaml").write_text(CONFIG)
    return folder / "config.yaml"


def read_a_config(path: Path) -> bool:
    for section in ("pretrain", "search", "found"):
        options = parse(parser_of(TASKS["flira"]), ["DIR", "--config", str(path)], section)
        assert options.plain().keys() <= vars(parser_of(TASKS["flira"])(section).parse_args(["DIR"])).keys()
    return False


def make_set(folder: Path, form: str, file: str) -> Path:
    """Write an own set; returns one of its files."""
    make_tiny_own(folder, form, more="aliases: {pedestrian: person}\nthermal_counts: [10, 200]\n")
    return folder / file


def read_a_set(path: Path) -> bool:
    """Open the data set that a file belongs to: the file is in its folder or below it."""
    folder = next(parent for parent in path.parents if (parent / "my_set.yaml").exists())
    data = open_data_set(folder, str(folder / "my_set.yaml"))
    for record in (record for records in data.records.values() for record in records):
        x1, y1, x2, y2 = record.boxes_xyxy.T
        assert ((x1 >= 0) & (x1 < x2) & (x2 <= record.width)).all()
        assert ((y1 >= 0) & (y1 < y2) & (y2 <= record.height)).all()
        assert record.labels.size == 0 or 0 <= record.labels.min() <= record.labels.max() < len(data.classes)
        # The description is written by the user and may name any path; annotations may not.
        assert path.suffix == ".yaml" or all(
            p.resolve().is_relative_to(folder.resolve()) for p in map(Path, record.paths.values())
        )
    notes = Counter(name for notes in data.notes.values() for name, value in notes.items() if value)
    return bool(data.warnings) or any(n in ("clipped", "crowd", "empty") or n.startswith("dropped_") for n in notes)


def make_checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    checkpoint_data = RUN | {"model": torch.nn.Linear(8, 8).state_dict()}
    torch.save(checkpoint_data, folder / "best.pt")
    return folder / "best.pt"


def read_a_checkpoint(path: Path) -> bool:
    state = checkpoint.load(path)
    check_fields(state, str(path), options=FLIRA.rebuilt_from, fields=FLIRA.fields)
    checkpoint.load_state(torch.nn.Linear(8, 8), state["model"], str(path))
    return False


def read_changed_bytes(path: Path) -> bool:
    """Read a checkpoint with changed bytes: accepted values must be the values that were written."""
    read_a_checkpoint(path)
    with tempfile.TemporaryDirectory() as folder:
        before = checkpoint.load(make_checkpoint(Path(folder)))
    after = checkpoint.load(path)
    model = after.pop("model")
    assert all(torch.equal(model[name], tensor) for name, tensor in before.pop("model").items())
    assert after == before
    return False


def make_image(folder: Path, form: str) -> Path:
    """Write an image of noise: "rgb" or "thermal", and the suffix."""
    modality, suffix = form.split(".")
    values = np.random.default_rng(0).integers(0, 256, (48, 64) if modality == "thermal" else (48, 64, 3))
    deep = modality == "thermal" and suffix != "jpg"
    image = Image.fromarray((values * 200).astype(np.uint16) if deep else values.astype(np.uint8))
    image.save(folder / form, **({"progressive": True} if form == "rgb.jpg" else {}))
    return folder / form


def read_an_image(path: Path) -> bool:
    image = read_rgb(str(path)) if path.stem == "rgb" else read_thermal(str(path))
    assert image.dtype == torch.uint8
    assert image.dim() == 3
    assert len(image) == (3 if path.stem == "rgb" else 1)
    assert image.numel() > 0
    return False


READERS = {
    "genotype JSON": Reader(lambda folder: make_genotype(folder, "json"), spoil.spoil_json, read_a_genotype),
    "genotype text": Reader(lambda folder: make_genotype(folder, "txt"), spoil.spoil_text, read_a_genotype),
    "config YAML": Reader(make_config, spoil.spoil_yaml, read_a_config),
    "own-set YAML": Reader(lambda folder: make_set(folder, "coco", "my_set.yaml"), spoil.spoil_yaml, read_a_set),
    "COCO JSON": Reader(lambda f: make_set(f, "coco", "annotations/train.json"), spoil.spoil_coco, read_a_set),
    "VOC XML": Reader(lambda folder: make_set(folder, "voc", "xml/000001.xml"), spoil.spoil_xml, read_a_set),
    "list of names": Reader(lambda f: make_set(f, "voc", "lists/train.txt"), spoil.spoil_list, read_a_set),
    "checkpoint": Reader(make_checkpoint, spoil.spoil_checkpoint, read_a_checkpoint),
    "checkpoint bytes": Reader(make_checkpoint, spoil.spoil_bytes, read_changed_bytes),
} | {
    f"image {form}": Reader(functools.partial(make_image, form=form), spoil.spoil_bytes, read_an_image)
    for form in ("rgb.jpg", "rgb.png", "thermal.jpg", "thermal.png", "thermal.tif")
}


@command
def main(argv: list[str]) -> None:
    parser = Parser("Read damaged files with the real readers.")
    parser.add_argument("--count", type=positive, default=200, help="files per reader (200)")
    parser.add_argument("--seed", type=count, default=0, help="seed of the damage (0)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    for name, reader in READERS.items():
        row = {"reader": name, "count": args.count, "seed": args.seed} | measure(reader, args.count, args.seed)
        append_row("bad_inputs", row)
        print(json.dumps(row))


def measure(reader: Reader, number: int, seed: int) -> dict[str, float]:
    """Return the number of files per outcome, and the seconds of the slowest file."""
    outcomes, slowest = Counter(), 0.0
    with tempfile.TemporaryDirectory() as place, inside(place):
        path = reader.make(Path(place))
        good = path.read_bytes()
        assert outcome(reader, path, good) != "refused", "the valid file itself"
        for draw in range(number):
            content = reader.spoil(random.Random(f"{seed} {draw}"), good)
            started = time.perf_counter()
            outcomes[outcome(reader, path, content)] += 1
            slowest = max(slowest, time.perf_counter() - started)
    return {name: outcomes[name] for name in OUTCOMES} | {"slowest_s": round(slowest, 3)}


def outcome(reader: Reader, path: Path, content: bytes) -> str:
    """Write content to the file and read it; returns the outcome. Raises if it is none of the three."""
    path.write_bytes(content)
    try:
        with warnings.catch_warnings(), time_limit():
            warnings.simplefilter("ignore")
            repaired = reader.read(path)
    except UserError as error:
        line = printable(str(error))
        assert line.isprintable(), line
        assert named(line, path), f"{path} is not named: {line}"
        result = "refused"
    except Exception as error:
        raise AssertionError(f"{path.name}: neither refused nor taken: {content[:2000]!r}") from error
    else:
        result = "repaired" if repaired else "harmless"
    assert not Path(spoil.WITNESS).exists(), f"{path.name} was run: {content[:2000]!r}"
    return result


def named(line: str, path: Path) -> bool:
    """Return whether a message names the file, or another file that it refers to."""
    return path.name in line or str(Path.cwd()) in line or re.match(r"(/|\.\./)[^:]*: ", line) is not None


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raise TimeoutError in the block after `SECONDS`."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not read within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    raise SystemExit(main())
