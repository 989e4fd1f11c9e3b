"""Detect in one pair with a file of tools/export.py, without PyTorch: NumPy, Pillow and onnxruntime alone.

    python examples/predict_onnx.py FILE.onnx --rgb A --thermal B [--score 0.3]

Prints a JSON object per line: class, score and box, in pixels of the thermal picture (of RGB without one).
"""

import argparse
import json

import numpy as np
import onnxruntime
from PIL import Image

PERCENTILES = (0.1, 99.9)  # of 16-bit thermal values that become black and white where the file names none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--rgb")
    parser.add_argument("--thermal")
    parser.add_argument("--score", type=float, default=0.3)
    args = parser.parse_args()
    if not args.rgb and not args.thermal:
        parser.error("expected --rgb, --thermal or both, found neither")
    session = onnxruntime.InferenceSession(args.file, providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["nas_dsf"])
    if facts["raw"]:
        parser.error(f"{args.file}: expected a file with boxes, found one that was exported with --raw")
    pictures = {"rgb": read_rgb(args.rgb), "thermal": read_thermal(args.thermal, facts["thermal_counts"])}
    for found in detect(session, facts, pictures, args.score):
        print(json.dumps(found))


def read_rgb(path: str | None) -> Image.Image | None:
    return Image.open(path).convert("RGB") if path else None


def read_thermal(path: str | None, counts: list[float] | None) -> Image.Image | None:
    if not path:
        return None
    image = Image.open(path)
    if not image.mode.startswith("I;16"):
        return image.convert("L")
    values = np.asarray(image).astype(np.float64)
    dark, bright = counts or np.percentile(values, PERCENTILES)
    return Image.fromarray((((values - dark) / max(bright - dark, 1)).clip(0, 1) * 255).round().astype(np.uint8))


def detect(session, facts: dict, pictures: dict, score: float) -> list[dict]:
    """Return the objects of one pair; a picture that is missing is black."""
    inputs = [one.name for one in session.get_inputs() if one.name != "extent"]
    shown = pictures["thermal"] or pictures["rgb"]
    height, width = facts["image_size"]
    scale = min(height / shown.height, width / shown.width)
    size = max(round(shown.width * scale), 1), max(round(shown.height * scale), 1)
    feed = {"extent": np.float32([[shown.height * scale, shown.width * scale]])}
    for name in inputs:
        picture = pictures[name] or Image.new("RGB" if name == "rgb" else "L", shown.size)
        canvas = np.empty((height, width, len(facts["fill"][name])), np.uint8)
        canvas[:] = facts["fill"][name]
        fitted = picture if picture.size == shown.size else picture.resize(shown.size, Image.Resampling.BILINEAR)
        pixels = np.asarray(fitted.resize(size, Image.Resampling.BILINEAR))
        canvas[: size[1], : size[0]] = pixels.reshape(*pixels.shape[:2], -1)
        feed[name] = canvas.transpose(2, 0, 1)[None]
    boxes, scores, labels = (one[0] for one in session.run(None, feed))
    return [
        {"class": facts["classes"][label], "score": float(number), "box_xyxy": (box / scale).tolist()}
        for box, number, label in zip(boxes, scores, labels)
        if number >= score and label < len(facts["classes"])
    ]


if __name__ == "__main__":
    main()
