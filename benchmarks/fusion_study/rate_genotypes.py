"""Rate random genotypes by a supernet, in two ways: as they are on its weights, and after brief training from these.

    python -m benchmarks.fusion_study.rate_genotypes RUN --genotypes 20 --out FILE

RUN is a search run; genotype N is that of `main_darts_found_flira.py --random_genotype N`. FILE gets a JSON list of
{"number", "genotype", "weights", "brief"}: minus the loss on `val` on the supernet's weights, by which evolution rates;
and AP on `val` after --epochs of training from them, by which a search with `--topk_weights supernet` picks.
What the ratings are worth: benchmarks/fusion_study/__main__.py.
"""

import random
import sys
from pathlib import Path

from commands.options import make_parser, positive
from commands.run import resume_options
from commands.strategy import CACHED_PARTS, StrategyRunner
from engine.bilevel import search
from engine.feature_caching import cached
from engine.nonfinite import Guard
from engine.progress import Row
from engine.step import Session
from main_darts_searchable_flira import build_model
from models.search.architecture import Architecture
from models.search.relaxations import EVALUATION
from models.search.space import JointSpace
from tasks.detection import task as detection
from utils import checkpoint
from utils.args import Parser, command, parse
from utils.experiment import cache_options, open_data, pick_compute
from utils.run_folder import RunFolder, write_json
from utils.seed import seed_everything


@command
def main(argv: list[str]) -> None:
    parser = Parser("Rate random genotypes by the supernet of a search.")
    parser.add_argument("run", metavar="RUN", help="search run")
    parser.add_argument("--genotypes", type=positive, default=20, help="rate genotypes 0 to N - 1 (20)")
    parser.add_argument("--epochs", type=positive, default=1, help="epochs of the brief training of each (1)")
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON to write")
    own = parser.parse_args(argv)
    runner = finished_search(own.run)
    genotypes = [runner.space.sample(random.Random(number)) for number in range(own.genotypes)]
    scored = zip(genotypes, map(runner.fitness, genotypes), strict=True)
    rows = [{"number": n, "genotype": genotype.id, "weights": score} for n, (genotype, score) in enumerate(scored)]
    for row, score in zip(rows, after_brief_training(runner, genotypes, own.epochs), strict=True):
        row["brief"] = score
        print(f"genotype {row['number']}: loss {-row['weights']:.4f}, AP after brief training {score:.4f}")
    write_json(Path(own.out), rows)


def after_brief_training(runner: StrategyRunner, genotypes: list[Architecture], epochs: int) -> list[float]:
    """Return the AP on `val` of each genotype after epochs of training from the supernet's weights."""
    session = runner.new_session()
    sides, validate = runner.fine_tuned_in_turn(session, genotypes.__getitem__, epochs)
    scores = []

    def on_epoch(row: Row, is_best: bool) -> None:
        scores.append(row[f"{detection.METRIC}_val"])
        print(f"epoch {len(scores)} of {epochs * len(genotypes)}: AP_val {scores[-1]:.4f}", flush=True)

    search(sides, validate, dict, epochs * len(genotypes), on_epoch)
    return scores[epochs - 1 :: epochs]


def finished_search(folder: str) -> StrategyRunner:
    """Return a finished search, its best supernet in place."""
    args = resume_options(parse(make_parser, ["--resume", folder], "search"), "search", make_parser)
    seed_everything(args.seed)
    compute, parts = pick_compute(args), open_data(args)
    model = compute.place(build_model(args, parts))
    checkpoint.load_state(model, checkpoint.load(Path(folder) / "best.pt")["model"], f"{folder}/best.pt")
    parts = cached(parts, model=model, compute=compute, log=print, **CACHED_PARTS, **cache_options(args))
    session, run = Session(model, detection, compute, Guard(compute.device)), RunFolder(Path(folder))
    runner = StrategyRunner(args, session, parts, run, JointSpace.of(model.searchables()), {})
    runner.space.set_stage(EVALUATION)
    return runner


if __name__ == "__main__":
    sys.exit(main())
