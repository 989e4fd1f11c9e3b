"""The parts of a search from its options: who learns, what it costs, what an epoch tells, when it is enough."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from commands.options import candidates
from commands.recipe import recipe_of
from datasets.data_module import DataModule
from datasets.loader import SampleLoader
from engine.bilevel import Bilevel, Learner
from engine.collapse import alarm, reason_to_stop
from engine.perturbation import fresh_statistics, mean_loss
from engine.progress import Row
from engine.recipes import Recipe, make_optimizer, make_schedule
from engine.sampled import Sampled
from engine.step import Session, move, validator
from models.detection.anchors import level_sizes
from models.detection.detector import FusionDetector
from models.search.costs import MEASURES
from models.search.fusion_cells.choices import MAPS, input_names, level_inputs
from models.search.fusion_cells.costs import ExpectedCost, cost_table
from models.search.fusion_cells.derive import derive, describe, describe_genotype, named_weights
from models.search.fusion_cells.genotype import Genotype
from models.search.fusion_cells.random_genotypes import draw_genotype, limit_parameter_free, mutated
from models.search.hessian import dominant_eigenvalue
from models.search.parameters import arch_parameters
from models.search.penalties import PENALTIES
from models.search.relaxations import EVALUATION, Stage
from models.search.strategies import STRATEGIES, Strategy
from utils.args import Options
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.run_folder import RunFolder, read_json

HESSIAN_BATCHES, HESSIAN_ITERATIONS = 2, 10
STATISTICS_BATCHES = 16
COSTS_FILE = "costs.json"
# Parts of a feature cache: statistics and eigenvalues also read those that are trained on as they are.
CACHED_PARTS = {"learning": ("train", "arch"), "plain": ("val", "train", "arch")}
Metrics = dict[str, float | None]


def learning_state(model: FusionDetector) -> dict[str, Tensor]:
    """Return the state of what learns in a search, under its names: all but the frozen streams."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("streams.")}


@dataclass(frozen=True)
class Searching:
    """A search under way.

    Args:
        initial: the state of what learns at the start, which each genotype that is trained on its own starts from.
    """

    options: Options
    session: Session
    parts: DataModule
    run: RunFolder
    initial: dict[str, Tensor]

    @property
    def model(self) -> FusionDetector:
        return self.session.model

    @property
    def ranks(self) -> Ranks:
        return self.session.compute.ranks

    @property
    def strategy(self) -> Strategy:
        return STRATEGIES[self.options.strategy]

    @cached_property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of a cell's inputs, and of the levels."""
        streams = self.model.streams
        return input_names(self.options.space, streams.tap_names, streams.num_levels), streams.level_names

    def derived(self, facts: dict, epoch: int) -> Genotype:
        """Return the genotype that counts in an epoch: what the logits say now, or the one that is rated in it."""
        if self.strategy.searcher != "gradient":
            genotype = self.drawn(self.candidate_of(epoch))
            return Genotype(*self.names, genotype.channels, genotype.cells, facts, genotype.space)
        return derive(self.model.fusions, *self.names, facts, self.options.max_parameter_free)

    @property
    def epochs_each(self) -> int:
        """Epochs of a candidate of a random search."""
        return self.options.epochs // candidates(self.options)

    def candidate_of(self, epoch: int) -> int:
        """Return which genotype an epoch rates where genotypes are drawn: its candidate; of paths always the first."""
        return epoch // self.epochs_each if self.strategy.searcher == "random" else 0

    def drawn(self, key: int | str) -> Genotype:
        """Return the genotype that the run's seed gives to a key."""
        return self.draw(random.Random(f"{self.options.seed} {key}"))

    def draw(self, rng: random.Random) -> Genotype:
        return self.limit_parameter_free(draw_genotype(self.model.fusions[0].space, *self.names, rng), rng)

    def mutate(self, parent: Genotype, rng: random.Random) -> Genotype:
        return self.limit_parameter_free(mutated(parent, self.model.fusions[0].space, rng), rng)

    def limit_parameter_free(self, genotype: Genotype, rng: random.Random) -> Genotype:
        return limit_parameter_free(genotype, self.model.fusions[0].space, self.options.max_parameter_free, rng)

    def new_session(self) -> Session:
        """Return a session of the same model at the start of another phase."""
        return Session(self.model, self.session.task, self.session.compute, self.session.guard)

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.options)

    def weight_optimizer(self) -> Optimizer:
        return make_optimizer(self.recipe, self.model)

    def schedule(self, weights: Optimizer, loader: SampleLoader, epochs: int, repeat: bool = False) -> LRScheduler:
        steps = self.session.compute.num_steps(loader)
        return make_schedule(self.recipe, weights, steps_per_epoch=steps, epochs=epochs, repeat=repeat)

    def take(self, genotype: Genotype | None) -> None:
        """Make the supernets run as a genotype, on their own weights; None: as mixtures again."""
        for n, fusion in enumerate(self.model.fusions):
            fusion.take(genotype.cells[n] if genotype else None)

    def on_stage(self, stage: Stage) -> None:
        for fusion in self.model.fusions:
            fusion.stage = stage

    def learner(self) -> Learner:
        """Return what learns. It is not kept: in a circle of references, loaders would not end their workers."""
        options, weights = self.options, self.weight_optimizer()
        if self.strategy.searcher == "gradient":
            return self._bilevel(weights)
        loader = self.parts.loader(*self.parts.learning, train=True)
        if self.strategy.searcher == "random":
            return self.candidates_in_turn(self.session, weights, loader, self.drawn, self.epochs_each)
        schedule = self.schedule(weights, loader, options.epochs)
        how = self.take, self.drawn, lambda number: self.drawn(f"step {number}")
        return Sampled(self.session, weights, schedule, loader, *how)

    def candidates_in_turn(
        self,
        session: Session,
        weights: Optimizer,
        loader: SampleLoader,
        candidate: Callable[[int], Genotype],
        epochs_each: int,
        supernet: dict[str, Tensor] | None = None,
    ) -> Sampled:
        """Return what trains genotypes one after another; the schedule starts anew with each.

        Each starts where the search began, or from the supernet's weights, and then all meet the pairs alike.
        """
        schedule = self.schedule(weights, loader, epochs_each, repeat=True)
        start = self.initial if supernet is None else supernet
        how = self.take, candidate, None, lambda: self.restart(weights, start), epochs_each, supernet is not None
        return Sampled(session, weights, schedule, loader, *how)

    def fine_tuned_in_turn(
        self, session: Session, candidate: Callable[[int], Genotype], epochs_each: int
    ) -> tuple[Sampled, Callable[[], Metrics]]:
        """Return what trains genotypes in turn from the weights as they are now, and what rates the one under way."""
        supernet = {name: tensor.clone() for name, tensor in learning_state(self.model).items()}
        loader = self.parts.loader(*self.parts.learning, train=True)
        how = candidate, epochs_each, supernet
        return self.candidates_in_turn(session, self.weight_optimizer(), loader, *how), self.of_path(session)

    def _bilevel(self, weights: Optimizer) -> Bilevel:
        options = self.options
        loaders = [self.parts.loader(part, train=True) for part in ("train", "arch")]
        rates = {"lr": options.arch_learning_rate, "weight_decay": options.arch_weight_decay}
        logits = torch.optim.Adam(arch_parameters(self.model), betas=(0.5, 0.999), fused=True, **rates)
        schedule = self.schedule(weights, loaders[0], options.epochs)
        how = options.alternate, self.strategy.second_order, options.epochs, options.arch_warmup
        return Bilevel(self.session, weights, logits, schedule, *loaders, *how, self.on_stage, self._penalty())

    def restart(self, optimizer: Optimizer, start: dict[str, Tensor]) -> None:
        """Put what learns back to a start, and forget what the optimiser gathered."""
        self.model.load_state_dict(start, strict=False)
        optimizer.state.clear()

    def _penalty(self) -> Callable[[], Tensor] | None:
        """Return what is added to the loss of the logits, if anything is."""
        own, options = PENALTIES.get(self.strategy.penalty), self.options
        logits = arch_parameters(self.model)
        cost = self._expected_cost() if options.lambda_cost else None
        if own is None and cost is None:
            return None

        def penalty() -> Tensor:
            total = sum(own(p) for p in logits) / len(logits) if own else 0
            return total + options.lambda_cost * cost() if cost else total

        return penalty

    def _expected_cost(self) -> ExpectedCost:
        """Return the cost by the run's table, which is made once: seconds differ from measurement to measurement."""
        options, device = self.options, self.session.compute.device
        path, levels = self.run.path / COSTS_FILE, self.model.streams.level_names

        def measured() -> dict:
            if not path.exists():
                space = self.model.fusions[0].space
                maps = space.rank == MAPS
                sizes = level_sizes(options.image_size, options.fusion_levels) if maps else [(space.length,)]
                table = cost_table(space, sizes, MEASURES[options.cost], device)
                self.run.write_json(COSTS_FILE, {"cost": options.cost, "levels": dict(zip(levels, table, strict=True))})
            return read_json(path)["levels"]

        table = self.ranks.broadcast_from_first(measured)
        return ExpectedCost(list(self.model.fusions), [table[level] for level in levels], device)

    def validation(self) -> Callable[[], Metrics]:
        """Return what rates the supernet on `val` after an epoch: as mixture, or on the path of one genotype."""
        if self.strategy.searcher == "evolution":
            return self.of_path(self.session)
        return validator(self.session, self.parts, "val")[0]

    def of_path(self, session: Session) -> Callable[[], Metrics]:
        """Return what rates on `val` the path that the supernet runs.

        Its norms get statistics of their own first, as running ones are of all paths.
        """
        validate, _ = validator(session, self.parts, "val")

        def rate() -> Metrics:
            with fresh_statistics(session, self.statistics_batches()):
                return validate()

        return rate

    def statistics_batches(self) -> Iterator[dict]:
        """Give the batches that running statistics of a path's norms are means of."""
        return islice(self.parts.loader("train", train=False, ranks=SINGLE_PROCESS), STATISTICS_BATCHES)

    def fitness(self, genotype: Genotype) -> float:
        """Return minus the loss on `val` of a genotype on the supernet's weights."""
        self.take(genotype)
        loss = mean_loss(self.session, self.parts.loader("val", train=False))
        self.take(None)
        return -loss

    def describe(self) -> Row:
        """Return what an epoch tells of the genotype, and of the logits where these learn."""
        genotype = self.derived({}, self.session.progress.epochs_done)
        if self.strategy.searcher != "gradient":
            return describe_genotype(genotype, self.model.fusions[0].space)
        row = describe(self.model.fusions, genotype)
        wanted = self.options.hessian or self.options.early_stop == "eigenvalue"
        return row | ({"eigenvalue": self._eigenvalue()} if wanted else {})

    def alphas(self) -> dict[str, dict]:
        """Return the relaxed weights of each level, under names; {} where no logits learn."""
        if self.strategy.searcher != "gradient":
            return {}
        inputs, levels = self.names
        named = enumerate(zip(levels, self.model.fusions, strict=True))
        return {level: named_weights(fusion, level_inputs(inputs, n, levels)) for n, (level, fusion) in named}

    def _eigenvalue(self) -> float:
        """Return the dominant eigenvalue of the Hessian of the loss on some pairs of `arch`, norms at rest."""
        device, logits = self.session.compute.device, arch_parameters(self.model)
        batches = list(islice(self.parts.loader("arch", train=False, ranks=SINGLE_PROCESS), HESSIAN_BATCHES))
        self.on_stage(EVALUATION)
        self.model.eval()

        def gradients() -> list[Tensor]:
            losses = [self.session.task.losses(self.model, move(batch, device))["loss"] for batch in batches]
            loss = torch.stack(losses).mean()
            return list(torch.autograd.grad(loss, logits, allow_unused=True, materialize_grads=True))

        generator = torch.Generator().manual_seed(self.options.seed)
        value = dominant_eigenvalue(gradients, logits, HESSIAN_ITERATIONS, generator)
        return self.ranks.broadcast_from_first(lambda: value)  # whose last digits may differ

    def warn(self, row: Row) -> None:
        """Raise the alarm in the log where the arg-max has collapsed."""
        space = self.model.fusions[0].space
        if text := alarm(row, len(self.model.fusions) * space.num_choices):
            self.run.log(text)

    def should_stop(self) -> str:
        """Return why the search is to end now, or nothing."""
        if not self.options.early_stop or self.strategy.searcher != "gradient":
            return ""

        def reason() -> str:
            rows = [row for row in self.run.rows() if "phase" not in row]
            return reason_to_stop(rows, self.options.early_stop, self.most_parameter_free)

        return self.ranks.broadcast_from_first(reason)

    @property
    def most_parameter_free(self) -> int:
        """Choices without parameters that end a search: more than are allowed, or than half of all."""
        if self.options.max_parameter_free is not None:
            return self.options.max_parameter_free
        space = self.model.fusions[0].space
        return len(self.model.fusions) * space.num_choices // 2
