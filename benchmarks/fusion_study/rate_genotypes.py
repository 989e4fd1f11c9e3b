"""Rates random genotypes by a supernet: on its weights as they are, and after brief training from these weights.

    python -m benchmarks.fusion_study.rate_genotypes RUN --genotypes 20 --out FILE

RUN is a search run; genotype N is that of `main_darts_found_flira.py --random_genotype N`. FILE gets a JSON list of
objects with "number", "genotype", "weights" and "brief". "weights" is minus the loss on `val` on the supernet's
weights, the fitness of evolution. "brief" is AP on `val` after --epochs of training from these weights, by which a
search with `--topk_weights supernet` chooses.
"""

import random
from pathlib import Path

from commands.options import parser_of
from commands.resume import options_of_run
from commands.run import RunContext, cache_options, compute_of
from commands.search import CACHED_PARTS
from commands.strategy import StrategyRunner
from engine.epochs import run_epochs
from engine.feature_caching import cached
from engine.nonfinite import Guard
from engine.progress import Row
from engine.step import Session
from models.search.architecture import Architecture
from models.search.relaxations import EVALUATION
from models.search.space import JointSpace
from tasks import TASKS
from tasks.detection.flira import FLIRA
from utils import checkpoint
from utils.args import Parser, command, parse
from utils.option_types import positive
from utils.run_folder import RunFolder, write_json
from utils.seed import seed_everything


@command
def main(argv: list[str]) -> None:
    parser = Parser("Rate random genotypes by the supernet of a search.")
    parser.add_argument("run", metavar="RUN", help="search run")
    parser.add_argument("--genotypes", type=positive, default=20, help="rate genotypes 0 to N - 1 (20)")
    parser.add_argument("--epochs", type=positive, default=1, help="epochs of the brief training of each (1)")
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON to write")
    args = parser.parse_args(argv)
    runner = finished_search(args.run)
    genotypes = [runner.space.sample(random.Random(number)) for number in range(args.genotypes)]
    scored = zip(genotypes, map(runner.fitness, genotypes), strict=True)
    rows = [{"number": n, "genotype": genotype.id, "weights": score} for n, (genotype, score) in enumerate(scored)]
    for row, score in zip(rows, after_brief_training(runner, genotypes, args.epochs), strict=True):
        row["brief"] = score
        print(f"genotype {row['number']}: loss {-row['weights']:.4f}, AP after brief training {score:.4f}")
    write_json(Path(args.out), rows)


def after_brief_training(runner: StrategyRunner, genotypes: list[Architecture], epochs: int) -> list[float]:
    """Return the AP on `val` of each genotype after epochs of training from the supernet's weights."""
    session = runner.new_session()
    learner, validate = runner.in_turn(session, genotypes.__getitem__, epochs, of_supernet=True)
    scores = []

    def on_epoch(row: Row, is_best: bool) -> None:
        scores.append(row[f"{FLIRA.metric}_val"])
        print(f"epoch {len(scores)} of {epochs * len(genotypes)}: AP_val {scores[-1]:.4f}", flush=True)

    run_epochs(learner, validate, epochs * len(genotypes), on_epoch)
    return scores[epochs - 1 :: epochs]


def finished_search(folder: str) -> StrategyRunner:
    """Return a finished search with the weights of its best supernet."""
    make_parser = parser_of(TASKS["flira"])
    options = options_of_run(parse(make_parser, [], "search"), "search", Path(folder), make_parser)
    seed_everything(options.seed)
    compute, data = compute_of(options), FLIRA.open_data(options)
    model = compute.place(FLIRA.build_supernet(options, data))
    checkpoint.load_state(model, checkpoint.load(Path(folder) / "best.pt")["model"], f"{folder}/best.pt")
    context = RunContext("search", FLIRA, options, data, compute, model=model)
    data = cached(context.encoding(), cache_options(options), print, **CACHED_PARTS)
    session, run = Session(model, FLIRA, compute, Guard(compute.device)), RunFolder(Path(folder))
    runner = StrategyRunner(context, session, data, run, JointSpace.of(model.searchables()), {})
    runner.space.set_stage(EVALUATION)
    return runner


if __name__ == "__main__":
    raise SystemExit(main())
