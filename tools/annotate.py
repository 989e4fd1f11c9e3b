"""A pair with what was found on it: thermal beside RGB, the same boxes on both."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from report.plots import BOX_COLOURS
from tasks.detection.predictor import Pair

FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
SHARE = 32  # of the height is a line of text
LEAST_TEXT = 9  # px


def annotated(pair: Pair, found: list[dict[str, Any]], classes: list[str]) -> Tensor:
    """Return uint8 (3, h, w), or (3, h, 2 w) where both pictures are there, with boxes, classes and scores.

    Args:
        found: as of `Predictor.detect`, in pixels of the pair.
        classes: a colour each.
    """
    shown = [image.expand(3, -1, -1) for image in (pair.thermal, pair.rgb) if image is not None]
    return torch.cat([_draw(image, found, classes) for image in shown], dim=2)


def _draw(image: Tensor, found: list[dict[str, Any]], classes: list[str]) -> Tensor:
    if not found:
        return image
    size = max(image.shape[-2] // SHARE, LEAST_TEXT)
    boxes = torch.tensor([one["box_xyxy"] for one in found])
    colours = [BOX_COLOURS[classes.index(one["class"]) % len(BOX_COLOURS)] for one in found]
    lined = draw_bounding_boxes(image, boxes, colors=colours, width=max(round(size / 8), 1))
    picture = Image.fromarray(np.ascontiguousarray(lined.permute(1, 2, 0).numpy()))
    draw, font = ImageDraw.Draw(picture), ImageFont.truetype(str(FONT), size)
    for one, colour in zip(found, colours, strict=True):
        left, top = one["box_xyxy"][:2]
        place = (left, top - 1.3 * size if top > 1.3 * size else top)  # above the box, where there is room
        words = f"{one['class']} {one['score']:.2f}"
        draw.text(place, words, fill=colour, font=font, stroke_width=max(size // 8, 1), stroke_fill="black")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
