"""A detector that others trained, read from an ONNX file: one sensor's pictures as decoded to boxes, one at a time.

It has no parameters that learn here. To the commands it is a detector of one stream whose taps are the picture itself,
so that pictures and cached or corrupted ones take the same way as in `FusionDetector`.

Shapes: B pictures of one size h, w.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.detection.onnx_input import EXTRA_INPUTS, Fit, PictureInput
from models.detection.onnx_output import Arrays, Outputs

Raw = list[tuple[Arrays, Fit]]  # the outputs of each picture, and where it lay in the input


class Picture(nn.Module):
    """Stands for the streams: the sensor that is read."""

    def __init__(self, modality: str):
        super().__init__()
        self.modalities = (modality,)


class OnnxHead(nn.Module):
    """Turns outputs into detections.

    Args:
        outputs: what each output is.
    """

    def __init__(self, outputs: Outputs):
        super().__init__()
        self.outputs = outputs

    def detect(self, raw: Raw, batch: dict[str, Any]) -> list[dict[str, Tensor]]:
        """Return "boxes_xyxy", "scores" and "labels" of each picture, as `Head.detect`."""
        return [self.outputs.detections(arrays, fit) for arrays, fit in raw]


class OnnxDetector(nn.Module):
    """The detector.

    Args:
        run: from arrays by the input's name to arrays by the output's name.
        modality: the sensor whose pictures it reads.
        picture: the input that takes the picture.
        extra: further inputs, by name what of EXTRA_INPUTS they are, and the type of NumPy that they have.
        outputs: what each output is.
    """

    memory_format = torch.contiguous_format
    feature_kinds = ()  # nothing of it is cached

    def __init__(
        self,
        run: Callable[[Arrays], Arrays],
        modality: str,
        picture: PictureInput,
        extra: dict[str, tuple[str, str]],
        outputs: Outputs,
    ):
        super().__init__()
        self.run, self.picture, self.extra = run, picture, extra
        self.streams, self.fusions, self.head = Picture(modality), nn.ModuleList(), OnnxHead(outputs)

    def forward(self, inputs: dict[str, Any]) -> Raw:
        """Run the file on each picture of a batch, uint8 (B, 3 or 1, h, w) by modality, or as `features` gives them."""
        (modality,) = self.streams.modalities
        pictures = inputs["taps"][0][0] if "taps" in inputs else inputs[modality]
        return [self._detect(picture) for picture in pictures.cpu()]

    def _detect(self, picture: Tensor) -> tuple[Arrays, Fit]:
        fit = self.picture.fit(*picture.shape[1:])
        arrays = {name: np.array([EXTRA_INPUTS[kind](fit)], dtype) for name, (kind, dtype) in self.extra.items()}
        return self.run(arrays | {self.picture.name: self.picture.array(picture, fit)}), fit

    def features(self, images: dict[str, Tensor], stream: str, kind: str) -> list[Tensor]:
        """Return the only tap: the pictures, (1, B, 3 or 1, h, w)."""
        return [images[stream][None]]

    def blocks(self) -> list[nn.Module]:
        """Return the modules that torch.compile compiles: none."""
        return []
