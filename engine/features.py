"""Fill a feature cache: run each frozen stream once over every image, and its mirror image where training mirrors.

A store belongs to everything that decides its numbers: the stream's tensors, the image size, how pixels are prepared,
the type, the device, the libraries and our own code. All of that is in its key.

Shapes: B batch; K maps of one shape, C channels, H W theirs.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import PIL
import timm
import torch
import torchvision
from torch import Tensor

from datasets import images, resize
from datasets.detection import paired_transforms
from datasets.feature_store import Shapes, Store
from engine.step import Compute, move
from models.detection import backbones, layers, streams
from models.detection.detector import FusionDetector
from models.detection.necks import bifpn
from models.detection.streams import INPUTS
from utils.progress_bar import bar

KINDS = ("taps", "encoder")
CACHE_KEY_MODULES = (
    images,
    paired_transforms,
    resize,
    backbones,
    bifpn,
    layers,
    streams,
)  # from a file to its features


def store_key(model: FusionDetector, stream: str, kind: str, facts: dict[str, object], compute: Compute) -> str:
    """Return what names a store: a hash of all that decides the numbers in it but the images.

    Args:
        kind: one of KINDS.
        facts: plain values that decide how images are prepared and records kept: sizes, counts, fill, type.
    """
    device = {"device": compute.device.type, "amp": compute.amp}
    parts = tuple(f"{stream}_{part}." for part in (("backbone",) if kind == "encoder" else ("backbone", "fpn")))
    tensors = {k: v for k, v in model.streams.state_dict().items() if k.startswith(parts)}
    tensors |= {k: v for k, v in model.normalize.state_dict().items() if k.rpartition("_")[0] in INPUTS[stream]}
    return content_name([stream, kind, facts, device], tensors, CACHE_KEY_MODULES)


def content_name(facts: list, tensors: dict[str, Tensor], code: Iterable[ModuleType]) -> str:
    """Return a hash of plain values, tensors, the source of modules, and the versions of the libraries."""
    versions = {library.__name__: library.__version__ for library in (torch, torchvision, timm, PIL)}
    hashed = hashlib.blake2b(json.dumps([facts, versions], sort_keys=True).encode())
    for module in code:
        hashed.update(Path(module.__file__).read_bytes())
    for name, tensor in tensors.items():
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()[:16]


def record_shapes(
    model: FusionDetector, stream: str, kind: str, image_size: tuple[int, int], compute: Compute
) -> Shapes:
    """Return the shapes (K, H, W, C) of the maps of one image, by running the stream on a black one."""
    black = {m: torch.zeros(1, 3 if m == "rgb" else 1, *image_size, dtype=torch.uint8) for m in INPUTS[stream]}
    return tuple(tuple(m.shape[1:]) for m in per_image(model, black, stream, kind, compute))


def fill(
    store: Store,
    model: FusionDetector,
    stream: str,
    kind: str,
    batches: Iterable[dict],
    keys: list[str],
    compute: Compute,
    title: str,
) -> None:
    """Add the records of a stream on the images of some batches, whose image ids are places in `keys`.

    Those that are there already are not replaced.
    """
    for batch in bar(batches, title):
        maps = per_image(model, batch["images"], stream, kind, compute)
        places = [(i, keys[place]) for i, place in enumerate(batch["image_ids"]) if keys[place] not in store]
        store.add({key: [m[i] for m in maps] for i, key in places})


def per_image(
    model: FusionDetector, pictures: dict[str, Tensor], stream: str, kind: str, compute: Compute
) -> list[Tensor]:
    """Return a stream's maps of a batch, (B, K, H, W, C) on the CPU."""
    model.eval()
    # Each image is met once, which compiling does not pay for; and records are the same with and without it.
    with compute.autocast(), torch.compiler.set_stance("force_eager"):
        maps = model.features(move(pictures, compute.device), stream, kind)
    return [m.permute(1, 0, 3, 4, 2).contiguous().cpu() for m in maps]
