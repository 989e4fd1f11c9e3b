"""From a searched supernet to the one genotype: what is tried on `val` after the last epoch, and what it showed.

The supernet is that of the best epoch. Discretisation is measured: the supernet's AP, and that of the found network on
the supernet's own weights. All of it begins anew where a run was stopped in it, but for the brief trainings.
"""

import json
import random
from collections.abc import Callable
from dataclasses import replace

from commands.recorder import Recorder
from commands.strategy import Searching
from datasets.loader import SampleLoader
from engine.bilevel import cycle_batches, search
from engine.checkpointer import Checkpointer
from engine.evolution import evolve
from engine.perturbation import mean_loss, select_by_perturbation
from engine.step import Session, optimisation_step, validator
from models.search.fusion_cells.derive import describe_genotype, in_words
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.top_k import top_k_genotypes
from models.search.relaxations import EVALUATION
from utils import checkpoint
from utils.seed import seed_everything
from utils.tracking import Tracker

PERTURB_STEPS = 5  # of the weights behind each choice
PHASE = "topk"
MakeCheckpointer = Callable[[Session, str], Checkpointer]


class Settling:
    """The end of a search.

    Args:
        searching: whose epochs are over.
        make_keeper: for the phase of brief trainings.
        meta: plain values that the genotype carries.
    """

    def __init__(self, searching: Searching, make_checkpointer: MakeCheckpointer, tracker: Tracker, meta: dict):
        self.searching, self.make_checkpointer, self.tracker, self.meta = searching, make_checkpointer, tracker, meta
        self.options, self.model, self.parts = searching.options, searching.model, searching.parts
        self.session, self.task = searching.new_session(), searching.session.task
        self.log = searching.run.log

    def settle(self) -> Genotype:
        """Return the genotype that the search ends with; writes discretisation.json."""
        seed_everything(self.options.seed)
        ranks, path = self.searching.ranks, self.searching.run.path / "best.pt"
        self.model.load_state_dict(ranks.broadcast_from_first(lambda: checkpoint.load(path)["model"]))
        self.searching.on_stage(EVALUATION)
        self.searching.take(None)
        best = self.searching.session.progress.best
        genotypes = self.choose()
        shares = self.model.fusions[0].partial == 1 and self.searching.strategy.searcher != "random"
        inherited = self.inherited(genotypes[0]) if shares else None
        of_mixture = best if self.searching.strategy.searcher == "gradient" else None
        metric = f"{self.task.metric}_val"
        facts = {f"{metric}_supernet": of_mixture, f"{metric}_inherited": inherited, "genotype": genotypes[0].id}
        genotype = self.train_briefly(genotypes, facts) if len(genotypes) > 1 else genotypes[0]
        self.searching.run.write_json("discretisation.json", facts | {"chosen": genotype.id})
        words = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in facts.items() if not isinstance(v, list)}
        self.log(f"discretisation: {json.dumps(words)}")
        return replace(genotype, meta=self.meta | {k: v for k, v in facts.items() if k.startswith(metric)})

    def choose(self) -> list[Genotype]:
        """Return the genotypes that the supernet puts first: one, or as many as --topk says."""
        searching, options = self.searching, self.options
        if searching.strategy.searcher == "random":
            return [searching.drawn(searching.candidate_of(searching.session.progress.best_epoch))]
        if searching.strategy.searcher == "evolution":
            return self.evolved()[: options.topk]
        if options.select == "perturb":
            self.perturb()
        first = searching.derived({}, searching.session.progress.best_epoch)
        if options.topk == 1:
            return [first]
        found = top_k_genotypes(list(self.model.fusions), *searching.names, options.topk, options.max_parameter_free)
        return [first, *(g for g in found if g.id != first.id)][: options.topk]

    def evolved(self) -> list[Genotype]:
        """Return the fittest genotypes of an evolution on the supernet's weights."""
        options, searching = self.options, self.searching
        sizes = options.population, options.tournament, options.rounds
        steps = searching.draw, searching.mutate, searching.fitness
        lived = evolve(*steps, random.Random(options.seed), *sizes)
        rows = [{"loss_val": -score, "genotype": one.id, "argmax": in_words(one)} for score, one in lived]
        self.searching.run.write_json("evolution.json", rows)
        self.log(f"evolution: {len(lived)} genotypes, loss on val {-lived[0][0]:.4f} to {-lived[-1][0]:.4f}")
        return [one for _, one in lived]

    def perturb(self) -> None:
        """Leave in the supernet what its loss on `val` needs."""
        loader = self.parts.loader("train", train=True)
        loader.set_epoch(self.options.epochs)
        optimizer, batches = self.searching.weight_optimizer(), cycle_batches(loader)
        for group in optimizer.param_groups:
            group["lr"] = self.options.eta_max / 10

        def fine_tune() -> None:
            self.model.train()
            for _ in range(PERTURB_STEPS):
                optimisation_step(self.session, [next(batches)], optimizer)
                self.session.progress.steps += 1

        val = self.parts.loader("val", train=False)
        rng = random.Random(self.options.seed)
        select_by_perturbation(list(self.model.fusions), lambda: mean_loss(self.session, val), fine_tune, rng, self.log)

    def inherited(self, genotype: Genotype) -> float | None:
        """Return the AP on `val` of the found network on the supernet's weights."""
        self.searching.take(genotype)
        score = self.searching.of_path(self.session)()[self.task.metric]
        self.searching.take(None)
        return score

    def train_briefly(self, genotypes: list[Genotype], facts: dict) -> Genotype:
        """Return the genotype that is best on `val` after a brief training, from where --topk_weights says."""
        searching, options = self.searching, self.options
        session = searching.new_session()
        checkpointer = self.make_checkpointer(session, PHASE)
        how = genotypes.__getitem__, options.topk_epochs
        if options.topk_weights == "supernet":
            sides, validate = searching.fine_tuned_in_turn(session, *how)
        else:
            loader: SampleLoader = self.parts.loader(*self.parts.learning, train=True)
            sides = searching.candidates_in_turn(session, searching.weight_optimizer(), loader, *how)
            validate, _ = validator(session, self.parts, "val")
        space = self.model.fusions[0].space
        with checkpointer.running(**sides.stateful):
            epochs = len(genotypes) * options.topk_epochs
            search(
                sides,
                validate,
                lambda: describe_genotype(sides.scored, space),
                epochs,
                Recorder(checkpointer, self.tracker),
            )
        chosen = genotypes[session.progress.best_epoch // options.topk_epochs]
        facts["topk"] = [g.id for g in genotypes]
        told = session.progress.in_words(self.task.metric)
        self.log(f"top {len(genotypes)}: {chosen.id} is best after brief training, {told}")
        return chosen
