"""A detector as one function of tensors, as deployment formats want it: pictures in, a fixed number of boxes out.

The same steps as postprocess.py, without loops over images or classes. For suppression, boxes of different images and
classes are shifted apart, so that one call serves a batch; at 90 classes and 640 px this rounds places by 0.004 px.

Shapes: B images, H W letterboxed size, N locations, K classes, V box values, k candidates, D detections.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from models.detection.detector import FusionDetector
from models.detection.postprocess import MAX_DETECTIONS
from models.detection.streams import images_of


class RawDetector(nn.Module):
    """Pictures to class logits (B, N, K) and box values (B, N, V) of every location, in the order of `Head.flatten`."""

    def __init__(self, model: FusionDetector):
        super().__init__()
        self.model = model
        self.names = images_of(model.streams.modalities)

    def forward(self, *images: Tensor) -> tuple[Tensor, Tensor]:
        """Args: letterboxed pictures in the order of `names`, uint8 (B, 3 or 1, H, W)."""
        return self.model.head.flatten(self.model(dict(zip(self.names, images, strict=True))))


class ExportedDetector(nn.Module):
    """Pictures to boxes.

    Args:
        model: in eval mode.
        image_size: (height, width) of the letterboxed pictures.
        with_logits: also return the logits and box values behind the boxes, so that both can be checked.
    """

    def __init__(self, model: FusionDetector, image_size: tuple[int, int], with_logits: bool = False):
        super().__init__()
        self.raw, self.image_size, self.with_logits = RawDetector(model), image_size, with_logits
        self.names = self.raw.names
        self.register_buffer("locations", model.head.locations(image_size))

    def forward(self, extent: Tensor, *images: Tensor) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            extent: float32 (B, 2), height and width in px of what a picture fills of its letterbox, from the top left.
            images: letterboxed pictures, uint8 (B, 3 or 1, H, W).

        Returns:
            boxes (B, D, 4) xyxy px of the letterbox, scores (B, D) in 0..1, the best first, 0 where there are no more
            detections, and labels (B, D) int64; D is 100, or all candidates where these are fewer. With `with_logits`
            also class logits (B, N, K) and box values (B, N, V).
        """
        logits, values = self.raw(*images)
        found = self.boxes_of(logits, values, extent)
        return (*found, logits, values) if self.with_logits else found

    def boxes_of(self, logits: Tensor, values: Tensor, extent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels as `forward`, of class logits (B, N, K) and box values (B, N, V)."""
        head = self.raw.model.head
        scores, places, labels = head.candidates(logits, values, self.image_size)
        chosen = values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))
        boxes = head.decode(chosen.flatten(0, 1), self.locations[places.flatten()]).unflatten(0, scores.shape)
        boxes = boxes.clamp(min=0).minimum(extent.flip(1).repeat(1, 2)[:, None])
        if not head.keeps_empty_boxes:
            scores = scores * (boxes[..., 2:] > boxes[..., :2]).all(-1)
        kept = self._suppress(boxes, scores, labels)
        scores, order = (scores * kept).topk(min(MAX_DETECTIONS, scores.shape[1]))
        return boxes.gather(1, order[..., None].expand(-1, -1, 4)), scores, labels.gather(1, order)

    def _suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Return 1 for each candidate (B, k) that stays, 0 for the others."""
        height, width = self.image_size
        images = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand_as(labels)
        apart = torch.stack((labels * (width + 1), images * (height + 1)), dim=-1).to(boxes.dtype)
        kept = nms((boxes + apart.repeat(1, 1, 2)).flatten(0, 1), scores.flatten(), self.raw.model.head.nms_iou)
        stays = torch.zeros_like(scores).flatten().scatter(0, kept, torch.ones_like(kept, dtype=scores.dtype))
        return stays.view_as(scores)
