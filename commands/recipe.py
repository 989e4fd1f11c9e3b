"""From options to the recipe that weights learn by (engine/recipes.py)."""

from engine.recipes import Recipe
from utils.args import Options
from utils.errors import UserError, flags

SGD = ("sgd_steps", "sgd_cosine")
READ_BY = {  # option -> the recipes that read it; all read the others
    **dict.fromkeys(("Ti", "Tm"), ("adam_restarts",)),
    "eta_min": ("adam_restarts", "sgd_cosine"),
    "marks": ("sgd_steps",),
    **dict.fromkeys(("momentum", "warmup_steps", "warmup_kind"), SGD),
}


def recipe_of(options: Options) -> Recipe:
    """Return the recipe of a search or of a training."""
    values = options.keywords("weight_decay", "momentum", "warmup_steps", "biases_apart", "stream_lr", lr="eta_max")
    values |= options.keywords(lr_min="eta_min", cycle_epochs="Ti", cycle_factor="Tm", warmup="warmup_kind")
    return Recipe(options.recipe, marks=tuple(options.marks or ()), **values)


def pretraining_recipe(options: Options) -> Recipe:
    """Return the recipe of a pretraining."""
    values = options.keywords("lr", "weight_decay", warmup_share="warmup")
    return Recipe("adamw_onecycle", stream_lr=options.encoder_lr or 0.0, **values)


def check_recipe(options: Options) -> None:
    """Refuse options that were typed and that the recipe does not read."""
    unread = [name for name, recipes in READ_BY.items() if options.is_typed(name) and options.recipe not in recipes]
    if unread:
        advice = "remove it, or choose another recipe"
        raise UserError(f"{flags(unread)}: no effect with --recipe {options.recipe}: {advice}")
    if options.marks and list(options.marks) != sorted(options.marks):
        raise UserError(f"--marks: expected epochs in rising order, found {' '.join(map(str, options.marks))}")
