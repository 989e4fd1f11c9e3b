"""From options to the recipe that weights learn by (engine/recipes.py)."""

import argparse

from engine.recipes import Recipe
from utils.errors import UserError

SGD = ("sgd_steps", "sgd_cosine")
READ_BY = {  # option -> the recipes that read it; all read the others
    "Ti": ("adam_restarts",),
    "Tm": ("adam_restarts",),
    "eta_min": ("adam_restarts", "sgd_cosine"),
    "marks": ("sgd_steps",),
    "momentum": SGD,
    "warmup_steps": SGD,
    "warmup_kind": SGD,
}


def recipe_of(args: argparse.Namespace) -> Recipe:
    """Return the recipe of a search or of a training."""
    return Recipe(
        args.recipe,
        lr=args.eta_max,
        weight_decay=args.weight_decay,
        lr_min=args.eta_min,
        cycle_epochs=args.Ti,
        cycle_factor=args.Tm,
        momentum=args.momentum,
        marks=tuple(args.marks or ()),
        warmup_steps=args.warmup_steps,
        warmup=args.warmup_kind,
        biases_apart=args.biases_apart,
    )


def pretraining_recipe(args: argparse.Namespace) -> Recipe:
    """Return the recipe of a pretraining."""
    return Recipe("adamw_onecycle", lr=args.lr, weight_decay=args.weight_decay, warmup_share=args.warmup)


def check_recipe(args: argparse.Namespace) -> None:
    """Refuse options that were typed and that the recipe does not read."""
    unread = [name for name, recipes in READ_BY.items() if name in args.typed and args.recipe not in recipes]
    if unread:
        names = ", ".join("--" + name for name in unread)
        raise UserError(f"{names}: no effect with --recipe {args.recipe}: remove it, or choose another recipe")
    if args.marks and list(args.marks) != sorted(args.marks):
        raise UserError(f"--marks: expected epochs in rising order, found {' '.join(map(str, args.marks))}")
