"""Combinations of search options that are refused, and what follows from several of them."""

import argparse

from commands.recipe import check_recipe
from models.search.strategies import STRATEGIES
from utils.errors import UserError

UNREAD = {  # options that other strategies do not read
    "candidates": ("random",),
    "population": ("evolution",),
    "tournament": ("evolution",),
    "rounds": ("evolution",),
}
OF_LOGITS = ("arch_learning_rate", "arch_weight_decay", "alternate", "arch_warmup", "pair_inputs", "hessian")
OF_LOGITS += ("early_stop", "lambda_cost", "cost")
OF_TOPK = ("topk_epochs", "topk_weights")


def check_combinations(args: argparse.Namespace) -> None:
    """Refuse what the space does not define and what would be ignored."""
    strategy = STRATEGIES[args.strategy]
    if args.num_keep_edges != 2:
        told = f"expected 2 (derivation keeps two edges per node), found {args.num_keep_edges}"
        raise UserError(f"--num_keep_edges: {told}")
    check_recipe(args)
    if args.amp and strategy.second_order:
        raise UserError("--strategy darts2: expected float32, found --amp: finite differences need the digits")
    if args.accum > 1 and strategy.second_order:
        raise UserError(f"--strategy darts2: expected --accum 1 (its gradient is of one batch), found {args.accum}")
    if args.compile and (strategy.searcher != "gradient" or strategy.relaxation == "gumbel"):
        raise UserError(f"--strategy {args.strategy}: expected no --compile, as another network runs in each step")
    unread = [name for name, readers in UNREAD.items() if args.strategy not in readers]
    unread += OF_LOGITS if strategy.searcher != "gradient" else []
    unread += [] if args.topk > 1 else list(OF_TOPK)
    unread += [] if args.lambda_cost else ["cost"]
    unread += ["select"] if strategy.searcher != "gradient" else []
    for name in (name for name in unread if name in args.typed):
        why = f"with --strategy {args.strategy}" if name not in (*OF_TOPK, "cost") else "alone"
        beside = dict.fromkeys(OF_TOPK, ": expected --topk of at least 2")
        beside["cost"] = ": expected --lambda_cost above 0"
        raise UserError(f"--{name}: no effect {why}{beside.get(name, '')}")
    if strategy.partial > 1 and args.topk > 1:
        why = "brief trainings run on the supernet's operations, which see a part of the channels only"
        raise UserError(f"--topk: expected 1 with --strategy {args.strategy} ({why}), found {args.topk}")
    if args.strategy == "random" and args.topk > 1:
        raise UserError("--topk: no effect with --strategy random, which trains each of its genotypes already")
    if args.arch_warmup >= args.epochs and strategy.searcher == "gradient":
        raise UserError(f"--arch_warmup: expected less than the {args.epochs} epochs, found {args.arch_warmup}")
    if args.strategy == "random" and args.epochs % candidates(args):
        raise UserError(f"--candidates: expected a divisor of {args.epochs} epochs, found {args.candidates}")


def candidates(args: argparse.Namespace) -> int:
    """Return the number of genotypes of a random search: one per epoch unless told."""
    return args.candidates or args.epochs
