"""FCOS's targets, losses and detections against numbers of the public FAD modules, in float64, to 1e-9."""

import json

import pytest
import torch

from models.detection.anchors import level_sizes
from models.detection.heads.fcos import FCOSHead, PointOutput
from models.detection.heads.fcos_targets import assign_points, make_points
from tests.models.search.tower_cells.fad_reference import check, made, reference

IMAGE_SIZE = (512, 640)
LEVELS = ("P3", "P4", "P5", "P6", "P7")
SIZES = level_sizes(IMAGE_SIZE, 5)


@pytest.fixture(scope="module")
def batch() -> dict:
    """Both images of the part `targets`; the second has fewer boxes."""
    stored = reference("targets")
    boxes, labels = torch.zeros(2, 14, 4, dtype=torch.float64), torch.full((2, 14), -1)
    for image in range(2):
        found = torch.from_numpy(stored[f"image{image}/boxes"])
        boxes[image, : len(found)] = found
        labels[image, : len(found)] = torch.from_numpy(stored[f"image{image}/labels"]) - 1
    return {"boxes_xyxy": boxes, "labels": labels, "image_size": IMAGE_SIZE}


def test_points():
    stored = json.loads(str(reference("targets")["points"]))
    levels = make_points(IMAGE_SIZE, 5).split([rows * columns for rows, columns in SIZES])
    for name, points in zip(LEVELS, levels, strict=True):
        first, last, number = stored[name]
        assert points[0, :2].tolist() == first
        assert points[-1, :2].tolist() == last
        assert len(points) == number


@pytest.mark.parametrize(("stored_radius", "radius"), [("1.5", 1.5), ("0.0", None)])
def test_targets(batch, stored_radius, radius):
    stored = reference("targets")
    targets = assign_points(make_points(IMAGE_SIZE, 5), batch["boxes_xyxy"], batch["labels"], radius)
    parts = [part.split([rows * columns for rows, columns in SIZES], dim=1) for part in targets]
    for image in range(2):
        for level, name in enumerate(LEVELS):
            classes, distances, centerness = (part[level][image] for part in parts)
            key = f"radius{stored_radius}/image{image}/{name}/"
            places = (classes >= 0).nonzero().squeeze(1)
            assert places.tolist() == stored[key + "positions"].tolist()
            assert (classes[places] + 1).tolist() == stored[key + "labels"].tolist()
            if len(places):
                check(distances[places], stored[key + "ltrb"])
                check(centerness[places], stored[key + "centerness"])


def output_of(prefix: str, sizes: list[tuple[int, int]], num_images: int, factor: float) -> PointOutput:
    def maps(kind: str, channels: int) -> list[torch.Tensor]:
        named = zip(LEVELS, sizes, strict=True)
        return [made(f"{prefix}/{kind}/{name}", num_images, channels, *size) for name, size in named]

    return PointOutput(maps("logits", 3), [x.abs() * factor for x in maps("boxes", 4)], maps("centerness", 1))


def losses_of(batch: dict, box_loss: str) -> torch.Tensor:
    losses = FCOSHead(8, 3, box_loss=box_loss).losses(output_of("losses", SIZES, 2, 3), batch)
    names = ("class_loss", "box_loss", "centerness_loss")
    assert losses.keys() == {"loss", *names}
    assert losses["loss"] == sum(losses[name] for name in names)
    return torch.stack([losses[name] for name in names])


@pytest.mark.parametrize("box_loss", ["giou", "iou", "linear_iou"])
def test_losses(batch, box_loss):
    check(losses_of(batch, box_loss), reference("losses")[box_loss])


def test_losses_without_positives(batch):
    tiny = {
        "boxes_xyxy": torch.tensor([[[1.0, 1, 3, 3]]] * 2, dtype=torch.float64),
        "labels": torch.zeros(2, 1, dtype=torch.int64),
    }
    check(losses_of(batch | tiny, "giou"), reference("losses")["without_positives"])


@pytest.mark.parametrize(("name", "most"), [("all", 1000), ("top40", 40)])
def test_detections(monkeypatch, name, most):
    stored, size = reference("detections"), (64, 96)
    monkeypatch.setattr("models.detection.heads.level_detections.LEVEL_CANDIDATES", most)
    output = output_of("detections", level_sizes(size, 5), 1, 6)
    output = output._replace(class_logits=[x - 1 for x in output.class_logits])
    batch = {"image_size": size, "scales": torch.ones(1), "original_sizes": torch.tensor([[10**6, 10**6]])}
    (found,) = FCOSHead(8, 3).detect(output, batch)
    check(found["boxes_xyxy"], stored[f"{name}/boxes"])
    check(found["scores"], stored[f"{name}/scores"])
    assert (found["labels"] + 1).tolist() == stored[f"{name}/labels"].tolist()
