"""Compares an exported network with PyTorch on real pairs: detections, size and time.

    python -m benchmarks.onnx_export RUN DIR [--pairs 20] [--rounds 20]

DIR is a FLIR-Aligned folder. Its test pairs are compared in batches of each size that an export is checked at. For
every box of PyTorch with a score of at least 0.01, the nearest box of onnxruntime is found. Both run in turn in one
process, on the same letterboxed images, with the same number of threads. Appends a row per batch size to
results/onnx_export.csv.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.rows import append_row
from datasets.detection.dataset import collate
from datasets.detection.opening import open_data_set
from tasks.detection.flira import FLIRA as detection
from tasks.detection.predictor import Predictor
from tools.export import BATCHES, export_onnx
from utils.args import Parser, command
from utils.option_types import positive

MIN_SCORE = 0.01  # boxes below are not compared
Feed = dict[str, np.ndarray]


@command
def main(argv: list[str]) -> None:
    parser = Parser("Compare an exported network with PyTorch on real pairs.")
    parser.add_argument("run", metavar="RUN", help="training run")
    parser.add_argument("data", metavar="DIR", help="FLIR-Aligned folder")
    parser.add_argument("--pairs", type=positive, default=20, help="test pairs (20)")
    parser.add_argument("--rounds", type=positive, default=20, help="timed passes (20)")
    args = parser.parse_args(argv)
    predictor = Predictor(args.run, "cpu")
    records = open_data_set(args.data).records["test"][: args.pairs]
    samples = [predictor.sample(predictor.pair(record.paths["rgb"], record.paths["thermal"])) for record in records]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export_onnx(predictor, file, raw=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        sizes = {"onnx_bytes": file.stat().st_size, "checkpoint_bytes": (Path(args.run) / "best.pt").stat().st_size}
    for size in BATCHES:
        batches = [collate(samples[i : i + size]) for i in range(0, len(samples), size)]
        facts = {"data": Path(args.data).name, "method": predictor.method, "pairs": len(samples), "batchsize": size}
        facts |= differences(predictor, session, batches) | sizes
        row = facts | times(predictor, session, batches[0], args.rounds)
        append_row("onnx_export", row)
        print(row)


def feed_of(session: onnxruntime.InferenceSession, batch: dict) -> Feed:
    extent = batch["original_sizes"] * batch["scales"][:, None]
    inputs = {"extent": extent} | batch["images"]
    return {node.name: inputs[node.name].numpy() for node in session.get_inputs()}


@torch.no_grad()
def differences(
    predictor: Predictor, session: onnxruntime.InferenceSession, batches: list[dict]
) -> dict[str, float | int]:
    """Return the largest distance of boxes, in original pixels, and of scores to the nearest box of the same label."""
    boxes, far, largest = 0, [0.0], [0.0]
    for batch in batches:
        exported = [torch.from_numpy(array) for array in session.run(None, feed_of(session, batch))]
        for n, expected in enumerate(detection.predict(predictor.model, batch)):
            for box, score, label in zip(expected["boxes_xyxy"], expected["scores"], expected["labels"], strict=True):
                if score >= MIN_SCORE:
                    apart = (exported[0][n] / batch["scales"][n] - box).abs().amax(dim=1)
                    nearest = apart.masked_fill(exported[2][n] != label, torch.inf).argmin()
                    boxes, far = boxes + 1, [*far, float(apart[nearest])]
                    largest.append(float((exported[1][n][nearest] - score).abs()))
    return {"boxes": boxes, "largest_box_px": round(max(far), 6), "largest_score": round(max(largest), 9)}


@torch.no_grad()
def times(
    predictor: Predictor, session: onnxruntime.InferenceSession, batch: dict, rounds: int
) -> dict[str, float | int]:
    """Return median milliseconds of a batch, from images to boxes, by both, and their ratio."""
    feed = feed_of(session, batch)
    works = {
        "torch_ms": lambda: detection.predict(predictor.model, batch),
        "onnx_ms": lambda: session.run(None, feed),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 3):  # the first three are warm-up
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if number >= 3:
                found[name].append(1000 * (time.perf_counter() - started))
    medians = {name: round(float(np.median(values)), 3) for name, values in found.items()}
    return medians | {"ratio": round(medians["onnx_ms"] / medians["torch_ms"], 3), "rounds": rounds}


if __name__ == "__main__":
    raise SystemExit(main())
