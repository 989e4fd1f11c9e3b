"""Rate random genotypes by a supernet: minus the loss on `val` of each, on the supernet's weights.

    python -m benchmarks.rate_genotypes RUN --genotypes 20 --out FILE

RUN is a search run; genotype N is that of `main_darts_found_flira.py --random_genotype N`.
FILE gets a JSON list of {"number", "genotype", "score"}. What the ratings are worth: benchmarks/fusion_study.py.
"""

import sys
from pathlib import Path

from engine.guard import Guard
from engine.step import Session
from main_darts_searchable_flira import build_model
from models.search.random_genotypes import random_genotype
from models.search.relaxations import EVALUATION
from utils import checkpoint
from utils.args import Parser, command, parse
from utils.caching import cached
from utils.experiment import open_data, pick_compute
from utils.options import make_parser, positive
from utils.reporting import TASK
from utils.resume import take_up
from utils.run_folder import RunFolder, write_json
from utils.searching import Searching
from utils.seed import seed_everything


@command
def main(argv: list[str]) -> None:
    parser = Parser("Rate random genotypes by the supernet of a search.")
    parser.add_argument("run", metavar="RUN", help="search run")
    parser.add_argument("--genotypes", type=positive, default=20, help="rate genotypes 0 to N - 1 (20)")
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON to write")
    own = parser.parse_args(argv)
    searching = finished_search(own.run)
    space, names = searching.model.fusions[0].space, searching.names
    rows = []
    for number in range(own.genotypes):
        genotype = random_genotype(space, *names, number, searching.args.max_parameter_free)
        rows.append({"number": number, "genotype": genotype.id, "score": searching.fitness(genotype)})
        print(f"genotype {number}: {rows[-1]['score']:.5f}", flush=True)
    write_json(Path(own.out), rows)


def finished_search(folder: str) -> Searching:
    """Return a finished search, its best supernet in place."""
    args = take_up(parse(make_parser, ["--resume", folder], "search"), "search", make_parser)
    seed_everything(args.seed)
    compute, parts = pick_compute(args), open_data(args)
    model = compute.place(build_model(args, parts))
    checkpoint.load_state(model, checkpoint.load(Path(folder) / "best.pt")["model"], f"{folder}/best.pt")
    parts = cached(args, parts, model, compute, print, (), ("val",))
    session, run = Session(model, TASK, compute, Guard(compute.device)), RunFolder(Path(folder))
    searching = Searching(args, session, parts, run, {})
    searching.on_stage(EVALUATION)
    return searching


if __name__ == "__main__":
    sys.exit(main())
