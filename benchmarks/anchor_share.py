"""Share of a data set's training boxes that own an anchor (IoU 0.5 or more) at an input size, by anchor scale.

    python -m benchmarks.anchor_share DIR --image_size 256x320 --scales 1 1.5 2 3 4

Rows: results/anchor_share.csv.
"""

import argparse
from pathlib import Path

from benchmarks.rows import append_row
from datasets.detection.opening import open_data_set
from models.detection.anchor_fit import anchor_shares
from tools.data_checks.box_statistics import letterboxed_boxes
from utils.option_types import image_size


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--image_size", type=image_size, default=(256, 320))
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 1.5, 2, 3, 4])
    args = parser.parse_args(argv)
    boxes_xyxy = letterboxed_boxes(open_data_set(args.data).records["train"], args.image_size)
    for scale, share in anchor_shares(boxes_xyxy, args.image_size, 5, tuple(args.scales)).items():
        facts = {"dataset": Path(args.data).name, "image_size": "x".join(map(str, args.image_size))}
        append_row("anchor_share", facts | {"anchor_scale": scale, "boxes": len(boxes_xyxy), "share": round(share, 4)})
        print(scale, share, flush=True)


if __name__ == "__main__":
    main()
