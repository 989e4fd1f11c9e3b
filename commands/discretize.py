"""From the searched supernets to one architecture: what is tried on `val` after the last epoch.

The supernets are those of the best epoch. The effect of discretisation is measured: the score of the supernets as
mixtures, and that of the derived network on their weights. All but brief trainings starts again in a resumed run.
"""

import json

from commands.recipe import recipe_of
from commands.recorder import Recorder
from commands.strategy import StrategyRunner
from engine.bilevel import cycle_batches
from engine.epochs import run_epochs
from engine.evolution import evolve
from engine.perturbation import mean_loss, select_by_perturbation
from engine.recipes import make_optimizer
from engine.step import Session, optimisation_step
from models.search.architecture import Architecture
from models.search.relaxations import EVALUATION
from utils import checkpoint
from utils.seed import seed_everything
from utils.tracking import Tracker

PERTURB_STEPS = 5  # of the weights after each choice
PHASE = "topk"


def discretize(runner: StrategyRunner, tracker: Tracker, meta: dict) -> Architecture:
    """Return the architecture that a search ends with; writes discretisation.json.

    Args:
        runner: of the search whose epochs are over.
        meta: plain values that the genotypes carry.
    """
    seed_everything(runner.options.seed)
    path, progress = runner.run.path / "best.pt", runner.session.progress
    ranks = runner.session.compute.ranks
    runner.model.load_state_dict(ranks.broadcast_from_first(lambda: checkpoint.load(path)["model"]))
    runner.space.set_stage(EVALUATION)
    runner.space.activate(None)
    session, metric = runner.new_session(), f"{runner.session.task.metric}_val"
    found = _choose(runner, session)
    inherits = runner.strategy.partial == 1 and runner.strategy.searcher != "random"
    supernet = progress.best if runner.learns_logits else None
    inherited = _inherited_score(runner, session, found[0]) if inherits else None
    facts = {f"{metric}_supernet": supernet, f"{metric}_inherited": inherited, "genotype": found[0].id}
    chosen, more = found[0], {}
    if len(found) > 1:
        chosen = _train_briefly(runner, found, tracker)
        more = {"topk": [architecture.id for architecture in found]}
    runner.run.write_json("discretisation.json", facts | more | {"chosen": chosen.id})
    words = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in facts.items()}
    runner.run.log(f"discretisation: {json.dumps(words)}")
    return chosen.with_meta(meta | {name: value for name, value in facts.items() if name.startswith(metric)})


def _choose(runner: StrategyRunner, session: Session) -> list[Architecture]:
    """Return the best architectures by the supernets: one, or as many as --topk says."""
    options, best_epoch = runner.options, runner.session.progress.best_epoch
    if runner.strategy.searcher == "random":
        return [runner.architecture(best_epoch)]
    if runner.strategy.searcher == "evolution":
        return _evolve(runner)[: options.topk]
    if options.select == "perturb":
        _perturb(runner, session)
    first = runner.architecture(best_epoch)
    if options.topk == 1:
        return [first]
    return [first, *(a for a in runner.space.top_k(options.topk) if a.id != first.id)][: options.topk]


def _evolve(runner: StrategyRunner) -> list[Architecture]:
    """Return the fittest architectures of an evolution on the supernets' weights."""
    sizes = runner.options.keywords("seed", "population", "tournament", "rounds")
    scored = evolve(runner.space, runner.fitness, **sizes)
    rows = [{"loss_val": -score, "genotype": found.id, "argmax": found.words} for score, found in scored]
    runner.run.write_json("evolution.json", rows)
    runner.run.log(f"evolution: {len(scored)} genotypes, loss on val {-scored[0][0]:.4f} to {-scored[-1][0]:.4f}")
    return [architecture for _, architecture in scored]


def _perturb(runner: StrategyRunner, session: Session) -> None:
    """Remove from the supernets the alternatives that cost least on `val`."""
    options = runner.options
    loader = runner.data.loader("train", train=True)
    loader.set_epoch(options.epochs)
    optimizer, batches = make_optimizer(recipe_of(options), runner.model), cycle_batches(loader)
    for group in optimizer.param_groups:
        group["lr"] = options.eta_max / 10

    def fine_tune() -> None:
        runner.model.train()
        for _ in range(PERTURB_STEPS):
            optimisation_step(session, [next(batches)], optimizer)
            session.progress.steps += 1

    val, choices = runner.data.loader("val", train=False), runner.space.choices()
    select_by_perturbation(choices, lambda: mean_loss(session, val), fine_tune, options.seed, runner.run.log)


def _inherited_score(runner: StrategyRunner, session: Session, architecture: Architecture) -> float | None:
    """Return the score on `val` of the derived network on the supernets' weights."""
    runner.space.activate(architecture)
    score = runner.rating_of_active(session)()[runner.session.task.metric]
    runner.space.activate(None)
    return score


def _train_briefly(runner: StrategyRunner, found: list[Architecture], tracker: Tracker) -> Architecture:
    """Return the architecture that is best on `val` after a brief training, which starts as --topk_weights says."""
    options, session, epochs_each = runner.options, runner.new_session(), runner.options.topk_epochs
    # Before the checkpointer, which loads the weights of a stopped phase: each genotype starts from the supernet's.
    learner, validate = runner.in_turn(session, found.__getitem__, epochs_each, options.topk_weights == "supernet")
    checkpointer = runner.context.checkpointer(runner.run, session, PHASE)
    with checkpointer.running(**learner.stateful):
        epochs, describe = len(found) * epochs_each, lambda: runner.space.describe(learner.scored)
        run_epochs(learner, validate, epochs, Recorder(checkpointer, tracker), describe)
    chosen = found[session.progress.best_epoch // epochs_each]
    best = session.progress.in_words(runner.session.task.metric)
    runner.run.log(f"top {len(found)}: {chosen.id} is best after brief training, {best}")
    return chosen
