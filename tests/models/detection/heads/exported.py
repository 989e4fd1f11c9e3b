"""The exported steps of a head, which have no loops, against its own detections."""

import torch

from models.detection.export import ExportedDetector


def check_exported_steps(model, head, maps, batch, image_size, atol: float) -> None:
    """Check that the exported steps find what `detect` finds, and no boxes without area in the picture.

    Args:
        model: a detector that gives the head's output.
        atol: by how many pixels boxes may differ.
    """
    batch["original_sizes"] = torch.tensor([[80, 100], [90, 154]])
    exported = ExportedDetector(model, image_size).eval()
    boxes, scores, labels = exported.boxes_of(*head.flatten(head(maps)), batch["original_sizes"].float())
    for image, found in enumerate(head.detect(head(maps), batch)):
        number = len(found["scores"])
        assert number > 10
        assert not scores[image, number:].any()
        torch.testing.assert_close(scores[image, :number], found["scores"])
        torch.testing.assert_close(boxes[image, :number], found["boxes_xyxy"], rtol=1e-4, atol=atol)
        assert torch.equal(labels[image, :number], found["labels"])
