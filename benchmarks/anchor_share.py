"""Share of a data set's training boxes that own an anchor (IoU 0.5 or more) at an input size, by anchor scale.

    python -m benchmarks.anchor_share DIR --image_size 256x320 --scales 1 1.5 2 3 4

Rows: results/anchor_share.csv.
"""

import argparse
from pathlib import Path

import torch
from torchvision.ops import box_iou

from benchmarks.rows import append_row
from datasets.registry import open_data_set
from models.detection.anchors import make_anchors
from utils.options import image_size


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--image_size", type=image_size, default=(256, 320))
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 1.5, 2, 3, 4])
    args = parser.parse_args(argv)
    boxes = scaled_boxes(args.data, args.image_size)
    for scale in args.scales:
        anchors = make_anchors(args.image_size, 5, scale)
        owners = sum(int((box_iou(anchors, own).amax(dim=0) >= 0.5).sum()) for own in boxes if len(own))
        num = sum(map(len, boxes))
        facts = {"dataset": Path(args.data).name, "image_size": "x".join(map(str, args.image_size))}
        append_row("anchor_share", facts | {"anchor_scale": scale, "boxes": num, "share": round(owners / num, 4)})
        print(scale, owners / num, flush=True)


def scaled_boxes(folder: str, size: tuple[int, int]) -> list[torch.Tensor]:
    """Return each training pair's boxes (N, 4) in pixels of the letterboxed input."""
    records = open_data_set(folder).records["train"]
    return [torch.tensor(r.boxes_xyxy) * min(size[0] / r.height, size[1] / r.width) for r in records]


if __name__ == "__main__":
    main()
