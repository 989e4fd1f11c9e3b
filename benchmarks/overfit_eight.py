r"""Overfit the found network to the first eight training pairs by name: a network that cannot learn these has a fault.

    python -m benchmarks.overfit_eight DIR --search_exp_dir RUN --image_size 512 --epochs 60 --drpt 0 \
        --norm_momentum 0.1

The streams are those of checkpointdir, frozen, as in every training; no augmentation; AP50 is of the same eight pairs.
Row: results/overfit_eight.csv.
"""

import sys
import time

import torch

from benchmarks.rows import append_row
from commands.options import make_parser
from datasets.detection.collate import collate
from datasets.detection.dataset import DetectionDataset
from datasets.detection.transforms import DetectionTransform
from datasets.loader import make_loader
from engine.nonfinite import Guard
from engine.step import Session, evaluate, optimisation_step, run_pass
from main_darts_found_flira import assemble, head_file, inherit_sizes, load_genotype
from models.search.parameters import weight_parameters
from tasks.detection import task as detection
from utils.args import command, parse
from utils.errors import UserError
from utils.experiment import load_head, load_streams, open_data, pick_compute
from utils.seed import seed_everything


@command
def main(argv: list[str]) -> None:
    args = parse(make_parser, argv, "found")
    if not args.search_exp_dir:
        raise UserError("--search_exp_dir: expected the search run whose genotype is overfitted, found none")
    inherit_sizes(args, "search_exp_dir")
    seed_everything(args.seed)
    compute = pick_compute(args)
    parts = open_data(args)
    records = sorted(parts.data.records["train"], key=lambda r: r.file_name)[:8]
    transform = DetectionTransform(args.image_size, parts.data.fill, train=False)
    dataset = DetectionDataset(records, transform, parts.data.channels)
    loaders = [make_loader(dataset, collate, 4, args.seed, train, args.workers) for train in (True, False)]
    streams = load_streams(args)
    genotype = load_genotype(args, "search_exp_dir", streams.tap_names, streams.level_names)
    model = compute.place(assemble(args, streams, load_head(args, head_file(args)), genotype, parts.data.normalization))
    optimizer = torch.optim.Adam(weight_parameters(model), lr=args.eta_max, fused=True)

    session = Session(model, detection, compute, Guard(compute.device))

    def step(batches: list[dict]) -> None:
        optimisation_step(session, batches, optimizer)

    def score() -> dict:
        classes = parts.data.category_ids, parts.data.classes
        evaluator = detection.DetectionEvaluator(parts.data.ground_truth["train"], *classes)
        return evaluate(session, loaders[1], evaluator, "evaluate")

    started, best = time.perf_counter(), {"AP50": -1.0}
    for epoch in range(args.epochs):
        loaders[0].set_epoch(epoch)
        session.progress.passes.clear()
        run_pass(session, loaders[0], step, "train")
        loss = session.progress.meters("train").means("train")["train_loss"]
        if epoch % 10 == 9:
            metrics = score()
            print(f"epoch {epoch}  loss {loss:.4f}  AP {metrics['AP']:.4f}  AP50 {metrics['AP50']:.4f}", flush=True)
            if metrics["AP50"] > best["AP50"]:
                best = {"epoch": epoch, "loss": round(loss, 4)} | {k: round(metrics[k], 4) for k in ("AP", "AP50")}
    facts = {"pairs": len(records), "boxes": sum(len(r.labels) for r in records), "seed": args.seed}
    sizes = {"image_size": "x".join(map(str, args.image_size)), "genotype": genotype.id}
    append_row("overfit_eight", facts | sizes | best | {"seconds": round(time.perf_counter() - started)})


if __name__ == "__main__":
    sys.exit(main())
