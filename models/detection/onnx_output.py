"""From the outputs of an ONNX detector to boxes, scores and classes of the data, in pixels of the picture.

A detector gives boxes, scores and labels apart, or in the columns of one output; a score of each class in the place of
score and label; with or without a batch axis; with columns as the last axis or the one before.

Shapes: N boxes, K class scores of a box.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from models.detection.onnx_input import Fit
from models.detection.postprocess import MAX_DETECTIONS, NUM_CANDIDATES
from utils.errors import UserError

# Of one output with all of a box: its columns, and how many each takes; class_scores takes one per class.
COLUMNS = {"box": 4, "score": 1, "label": 1, "objectness": 1, "other": 1, "class_scores": 0}
BOX_FORMS = ("xyxy", "xywh", "cxcywh", "yxyx")
UNITS = ("pixels", "relative")  # or a number: of pixels, the stride of a feature map
ACTIVATIONS = ("none", "sigmoid", "softmax")
PADDING = -1.0  # the score of rows without a box in some detectors
TOLERANCE = 1e-3  # by which rounding may bring a score out of 0..1, or a label or count off a whole number
FAR = 2.0  # a relative coordinate beyond this is one in pixels; boxes at the edge may reach a little beyond 1
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Outputs:
    """The outputs of a detector.

    Args:
        source: the file's name, for messages.
        parts: the output of "boxes", "scores", "labels", "count" and "detections"; those that there are.
        columns: of "detections", of COLUMNS.
        columns_first: the output's shape says that columns are its last axis but one; None: it says neither.
        box_form: of BOX_FORMS.
        unit: of UNITS, or pixels of the input in one.
        activation: of ACTIVATIONS, that scores still need.
        first_label: the label of the first name.
        nms: IoU of suppression among boxes of a class; None: none is needed.
        channels: the class channel of the data of each name, None where the data do not have it.
    """

    source: str
    parts: dict[str, str]
    channels: tuple[int | None, ...]
    columns: tuple[str, ...] = ()
    columns_first: bool | None = None
    box_form: str = "xyxy"
    unit: str | float = "pixels"
    activation: str = "none"
    first_label: int = 0
    nms: float | None = None

    def detections(self, arrays: Arrays, fit: Fit) -> dict[str, Tensor]:
        """Return "boxes_xyxy" (n, 4) in pixels of the picture, "scores" (n,), "labels" (n,), the best first, n <= 100.

        Raises:
            UserError: an output is not as described.
        """
        found = self._parts(arrays)
        choose = self._labelled if "labels" in found else self._of_class_scores
        places, scores, labels = choose(found)
        keep = scores > 0
        places, scores, labels = places[keep], scores[keep], labels[keep]
        boxes = fit.to_picture(self._checked_boxes(found["boxes"][places], fit))
        order = scores.argsort(descending=True, stable=True)
        if self.nms is not None:
            order = batched_nms(boxes, scores, labels, self.nms)
        order = order[:MAX_DETECTIONS]
        return {"boxes_xyxy": boxes[order], "scores": scores[order], "labels": labels[order]}

    @property
    def widths(self) -> tuple[int, ...]:
        """The numbers of columns that "detections" may have."""
        width = sum(COLUMNS[name] for name in self.columns)
        return _widths(width + self._least_scores) if "class_scores" in self.columns else (width,)

    @property
    def _least_scores(self) -> int:
        return len(self.channels) + self.first_label

    def _parts(self, arrays: Arrays) -> dict[str, Tensor]:
        """Return boxes (N, 4), scores (N,) or (N, K), labels and objectness (N,) where there are any, float32."""
        found = {}
        if "detections" in self.parts:
            found = self._split(self._rows("detections", arrays, self.widths, self.columns_first))
        if "boxes" in self.parts:
            found["boxes"] = self._rows("boxes", arrays, (4,))
        num_boxes = len(found["boxes"])
        if "labels" in self.parts:
            found["labels"] = self._column("labels", arrays, num_boxes)
        if "scores" in self.parts and "labels" in found:
            found["scores"] = self._column("scores", arrays, num_boxes)
        elif "scores" in self.parts:
            found["scores"] = self._rows("scores", arrays, _widths(self._least_scores), length=num_boxes)
        if "count" in self.parts:
            count = self._count(arrays[self.parts["count"]], num_boxes)
            found = {name: values[:count] for name, values in found.items()}
        return found

    def _count(self, array: np.ndarray, most: int) -> int:
        """Return the number of detections; refuse one that the rows cannot hold."""
        numbers = torch.from_numpy(np.asarray(array, np.float64)).flatten()
        if len(numbers) != 1 or not _are_whole(numbers, most).all():
            found = f"{numbers[0].item():g}" if len(numbers) == 1 else f"shape {tuple(array.shape)}"
            raise self._wrong("count", f"a whole number from 0 to {most}, as there are rows", found)
        return round(numbers.item())

    def _split(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the parts that stand in the columns of one output."""
        places, start = {}, 0
        num_scores = rows.shape[1] - sum(COLUMNS[name] for name in self.columns)
        for name in self.columns:
            width = COLUMNS[name] or num_scores
            places[name] = rows[:, start : start + width]
            start += width
        found = {"boxes": places["box"]} if "box" in places else {}
        found |= {"scores": places["class_scores"]} if "class_scores" in places else {}
        single = {"score": "scores", "label": "labels", "objectness": "objectness"}
        return found | {part: places[name][:, 0] for name, part in single.items() if name in places}

    def _rows(
        self,
        part: str,
        arrays: Arrays,
        widths: tuple[int, ...],
        columns_first: bool | None = None,
        length: int | None = None,
    ) -> Tensor:
        """Return an output as (N, columns).

        Args:
            widths: the numbers of columns that it may have.
            columns_first: None: as the shape says, the last axis where both could be.
            length: N, where it is known.
        """
        array = arrays[self.parts[part]]
        shape = list(array.shape)
        while len(shape) > 2 and 1 in shape[:-1]:  # batch axes
            shape.remove(1)
        if len(shape) == 1 and 1 in widths:
            shape.append(1)
        fits = [len(shape) == 2 and shape[axis] in widths and length in (None, shape[1 - axis]) for axis in (1, 0)]
        if not any(fits):
            expected = f"shape (N, {' or '.join(map(str, widths))})".replace("N", str(length or "N"))
            raise self._wrong(part, expected, str(tuple(array.shape)))
        rows = torch.from_numpy(np.asarray(array, np.float32)).reshape(shape)
        transposed = fits[1] if columns_first else not fits[0]
        return rows.T if transposed else rows

    def _column(self, part: str, arrays: Arrays, length: int) -> Tensor:
        array = arrays[self.parts[part]]
        if array.size != length:
            raise self._wrong(part, f"{length} numbers, one for each box", f"shape {tuple(array.shape)}")
        return torch.from_numpy(np.asarray(array, np.float32)).flatten()

    def _labelled(self, found: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return places, scores and labels of the boxes whose class the data have."""
        scores = self._checked(self._activated(found["scores"]))
        places = (scores > 0).nonzero().squeeze(1)  # labels of padding may be anything
        numbers, most = found["labels"][places], self._least_scores - 1
        wrong = numbers[~_are_whole(numbers, most)]
        if len(wrong):
            hint = "names and first_label of the description say which name a label has"
            expected = f"whole labels from 0 to {most}, as there are names"
            raise self._wrong("labels", expected, f"{wrong[0].item():g}; {hint}")
        channels = (None,) * self.first_label + self.channels
        labels = torch.tensor([-1 if channel is None else channel for channel in channels])[numbers.round().long()]
        shared = labels >= 0
        return places[shared], scores[places[shared]], labels[shared]

    def _of_class_scores(self, found: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return places, scores and labels of the best pairs of a box and a class that the data have."""
        scores = self._activated(found["scores"])
        if "objectness" in found:
            objectness = found["objectness"]
            scores = scores * (objectness if self.activation == "none" else objectness.sigmoid())[:, None]
        scores = self._checked(scores)
        shared = [(name, channel) for name, channel in enumerate(self.channels) if channel is not None]
        columns = torch.tensor([name + self.first_label for name, _ in shared])
        scores = scores[:, columns].flatten()
        best = scores.argsort(descending=True, stable=True)[: NUM_CANDIDATES[-1]]
        labels = torch.tensor([channel for _, channel in shared])[best % len(shared)]
        return best // len(shared), scores[best], labels

    def _activated(self, scores: Tensor) -> Tensor:
        if self.activation == "softmax":
            return scores.softmax(dim=1)
        return scores.sigmoid() if self.activation == "sigmoid" else scores

    def _checked(self, scores: Tensor) -> Tensor:
        """Refuse scores that are no probabilities; those of padding become 0."""
        wrong = scores[~((scores >= -TOLERANCE) & (scores <= 1 + TOLERANCE)) & (scores != PADDING)]
        if len(wrong):
            hint = "activation of the description: sigmoid or softmax"
            part = "scores" if "scores" in self.parts else "detections"
            raise self._wrong(part, "scores in 0..1", f"{wrong[0].item():g}; {hint}")
        return scores.clamp(0, 1)

    def _checked_boxes(self, boxes: Tensor, fit: Fit) -> Tensor:
        """Return boxes as xyxy in pixels of the input; refuse other numbers, and another unit or form of most boxes.

        One box may be odd: detectors without a threshold give boxes of all but no score that lie anywhere.
        """
        pixels = self._in_pixels(boxes, fit)
        if not pixels.isfinite().all():
            raise self._wrong("boxes", "finite numbers", "others")
        far = boxes.abs().amax(dim=1) > FAR
        if self.unit == "relative" and _are_most(far):
            raise self._wrong("boxes", "coordinates in 0..1, as box_unit is relative", _words(boxes[far][0]))
        inverted = (pixels[:, 2:] < pixels[:, :2]).any(dim=1)
        if _are_most(inverted):
            expected = f"x1 <= x2 and y1 <= y2 of boxes in box_form {self.box_form}"
            raise self._wrong("boxes", expected, _words(boxes[inverted][0]))
        return pixels

    def _in_pixels(self, boxes: Tensor, fit: Fit) -> Tensor:
        """Return boxes as xyxy in pixels of the input."""
        if self.box_form == "yxyx":
            boxes = boxes[:, [1, 0, 3, 2]]
        elif self.box_form != "xyxy":
            boxes = box_convert(boxes, self.box_form, "xyxy")
        height, width = fit.input
        pixels = {"pixels": [1.0] * 4, "relative": [width, height] * 2}
        return boxes * torch.tensor(pixels.get(self.unit, [self.unit] * 4))

    def _wrong(self, part: str, expected: str, found: str) -> UserError:
        name = self.parts.get(part, self.parts.get("detections"))
        return UserError(f"{self.source}: output {name}: expected {expected}, found {found}")


def _are_whole(numbers: Tensor, most: int) -> Tensor:
    """Return which numbers are whole, but for rounding, and in 0..most; NaN is not."""
    return ((numbers - numbers.round()).abs() <= TOLERANCE) & (numbers.round() >= 0) & (numbers.round() <= most)


def _are_most(odd: Tensor) -> bool:
    """Return whether at least half of the boxes are odd; False of none."""
    return len(odd) > 0 and 2 * int(odd.sum()) >= len(odd)


def _words(box: Tensor) -> str:
    return f"[{', '.join(f'{number:g}' for number in box.tolist())}]"


def _widths(least: int) -> tuple[int, int]:
    """Return how many columns class scores may need: one more where the last one stands for no object."""
    return least, least + 1
