"""What a detector can be made of: one table per bracket of the frame, name -> builder.

A new encoder, neck, tower or head is a file of its own and one line here. Hand-made fusions: BASELINES in baselines.py.
"""

from collections.abc import Callable

from torch import nn

from models.detection.heads.efficientdet import DetectionHead
from models.detection.heads.fcos import FCOSHead
from models.detection.heads.head import Head
from models.detection.heads.retinanet import RetinaNetHead
from models.detection.streams import Streams

ENCODERS: dict[str, Callable[..., nn.Module]] = {"bifpn": Streams}  # taps after every repeat of a BiFPN
NECKS: dict[str, Callable[..., nn.Module | None]] = {"none": lambda **sizes: None}  # the encoders' pyramid is all
TOWERS: dict[str, Callable[..., nn.Module | None]] = {"none": lambda **sizes: None}  # EfficientDet's head has its own
HEADS: dict[str, Callable[..., Head]] = {
    "efficientdet": DetectionHead,
    "fcos": lambda channels, num_classes, num_levels, **anchors: FCOSHead(channels, num_classes, num_levels),
    "retinanet": lambda channels, num_classes, num_levels, **anchors: RetinaNetHead(channels, num_classes, num_levels),
}
TABLES: dict[str, dict] = {"encoder": ENCODERS, "neck": NECKS, "towers": TOWERS, "head": HEADS}  # by option
