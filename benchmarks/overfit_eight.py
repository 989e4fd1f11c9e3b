r"""Overfits the found network to the first eight training pairs by name; a network that cannot learn these is faulty.

    python -m benchmarks.overfit_eight DIR --search_exp_dir RUN --image_size 512 --epochs 60 --drpt 0 \
        --norm_momentum 0.1

The streams of --checkpointdir are frozen, as in every training. There is no augmentation, and AP50 is measured on the
same eight pairs. Row: results/overfit_eight.csv.
"""

import time
from pathlib import Path

import torch

from benchmarks.rows import append_row
from commands.architecture import load_architecture
from commands.options import parser_of
from commands.run import compute_of
from datasets.detection.dataset import DetectionDataset, collate
from datasets.detection.transforms import DetectionTransform
from datasets.loader import LoaderOptions, SampleLoader
from engine.nonfinite import Guard
from engine.step import Session, evaluate, optimisation_step, run_pass
from models.search.parameters import weight_parameters
from tasks import TASKS
from tasks.detection.flira import FLIRA
from tasks.detection.task import DetectionEvaluator
from utils.args import command, parse
from utils.errors import UserError
from utils.run_folder import read_json
from utils.seed import seed_everything
from utils.untrusted import options_from_run


@command
def main(argv: list[str]) -> None:
    options = parse(parser_of(TASKS["flira"]), argv, "found")
    if not options.search_exp_dir:
        raise UserError("--search_exp_dir: expected the search run whose genotype is overfitted, found none")
    path = Path(options.search_exp_dir) / "args.json"
    options = options_from_run(options, read_json(path), FLIRA.from_search, source=str(path))
    seed_everything(options.seed)
    compute, data = compute_of(options), FLIRA.open_data(options)
    options = FLIRA.complete(options, data)
    records = sorted(data.data.records["train"], key=lambda r: r.file_name)[:8]
    transform = DetectionTransform(options.image_size, data.data.fill, train=False)
    dataset = DetectionDataset(records, transform, data.data.channels)
    loading = LoaderOptions(4, options.seed, options.workers)
    loaders = [SampleLoader(dataset, collate, loading, train) for train in (True, False)]
    streams = FLIRA.build_streams(options, data)
    genotype = load_architecture(FLIRA, options, "search_exp_dir", streams)
    model = compute.place(FLIRA.build_network(options, data, streams, genotype))
    optimizer = torch.optim.Adam(weight_parameters(model), lr=options.eta_max, fused=True)

    session = Session(model, FLIRA, compute, Guard(compute.device))

    def step(batches: list[dict]) -> None:
        optimisation_step(session, batches, optimizer)

    def score() -> dict:
        classes = data.data.category_ids, data.data.classes
        evaluator = DetectionEvaluator(data.data.ground_truth["train"], *classes)
        return evaluate(session, loaders[1], evaluator, "evaluate")

    started, best = time.perf_counter(), {"AP50": -1.0}
    for epoch in range(options.epochs):
        loaders[0].set_epoch(epoch)
        session.progress.passes.clear()
        run_pass(session, loaders[0], step, "train")
        loss = session.progress.meters("train").means("train")["train_loss"]
        if epoch % 10 == 9:
            metrics = score()
            print(f"epoch {epoch}  loss {loss:.4f}  AP {metrics['AP']:.4f}  AP50 {metrics['AP50']:.4f}", flush=True)
            if metrics["AP50"] > best["AP50"]:
                best = {"epoch": epoch, "loss": round(loss, 4)} | {k: round(metrics[k], 4) for k in ("AP", "AP50")}
    facts = {"pairs": len(records), "boxes": sum(len(r.labels) for r in records), "seed": options.seed}
    sizes = {"image_size": "x".join(map(str, options.image_size)), "genotype": genotype.id}
    append_row("overfit_eight", facts | sizes | best | {"seconds": round(time.perf_counter() - started)})


if __name__ == "__main__":
    raise SystemExit(main())
