"""The strategy of a search under way: what learns, which architecture counts in an epoch, and when the search ends.

Everything that a strategy asks of an architecture it asks the search space (models/search/space.py).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from commands.options import candidates
from commands.recipe import recipe_of
from commands.run import RunContext
from datasets.data_module import DataModule
from engine.bilevel import Bilevel
from engine.collapse import dominant_eigenvalue_of, reason_to_stop
from engine.epochs import Training
from engine.perturbation import fresh_statistics, mean_loss
from engine.progress import Row
from engine.sampled import Sampled
from engine.step import Session, validator
from engine.task import Metrics
from models.search.architecture import Architecture
from models.search.costs import MEASURES
from models.search.parameters import arch_parameters
from models.search.penalties import PENALTIES
from models.search.space import JointSpace
from models.search.strategies import STRATEGIES, Strategy
from utils.args import Options
from utils.distributed import SINGLE_PROCESS
from utils.run_folder import RunFolder, read_json

HESSIAN_BATCHES = 2
STATISTICS_BATCHES = 16
COSTS_FILE = "costs.json"
Rate = Callable[[], Metrics]


def learning_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state of what learns in a search, under its names: all but frozen streams."""
    rest = ("streams.",) if model.streams.frozen else ()
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if not name.startswith(rest)}


@dataclass(frozen=True)
class StrategyRunner:
    """A strategy with the context, the session, the data and the run of a search.

    Args:
        data: the data of the context, with its cache.
        space: of all parts that are searched.
        initial: the state of what learns at the start, from which each genotype starts that is trained on its own.
    """

    context: RunContext
    session: Session
    data: DataModule
    run: RunFolder
    space: JointSpace
    initial: dict[str, Tensor]

    @property
    def options(self) -> Options:
        return self.context.options

    @property
    def model(self) -> nn.Module:
        return self.session.model

    @property
    def strategy(self) -> Strategy:
        return STRATEGIES[self.options.strategy]

    @property
    def learns_logits(self) -> bool:
        return self.strategy.searcher == "gradient"

    def architecture(self, epoch: int) -> Architecture:
        """Return the architecture that counts in an epoch: the derived one, or the one that is rated in it.

        Evolution rates the same one in every epoch.
        """
        if self.learns_logits:
            return self.space.derive()
        return self.drawn(epoch // self.epochs_each if self.strategy.searcher == "random" else 0)

    @property
    def epochs_each(self) -> int:
        """Epochs of a candidate of a random search."""
        return self.options.epochs // candidates(self.options)

    def drawn(self, key: int | str) -> Architecture:
        """Return the architecture that the run's seed gives to a key."""
        return self.space.sample(random.Random(f"{self.options.seed} {key}"))

    def new_session(self) -> Session:
        """Return a session of the same model at the start of another phase."""
        return Session(self.model, self.session.task, self.session.compute, self.session.guard)

    def learner(self) -> tuple[Training, Rate]:
        """Return what learns, and what rates the supernet on `val` after an epoch: as mixture, or as what is active.

        They are not kept: in a circle of references, loaders would not end their workers.
        """
        if self.strategy.searcher == "random":
            return self.in_turn(self.session, self.drawn, self.epochs_each)
        if self.learns_logits:
            return self._bilevel(), validator(self.session, self.data, "val")[0]
        values = {"activate": self.space.activate, "candidate": self.drawn}
        values["of_step"] = lambda number: self.drawn(f"step {number}")
        loader = self.data.loader(*self.data.learning, train=True)
        learner = Sampled.make(self.session, recipe_of(self.options), loader, self.options.epochs, **values)
        return learner, self.rating_of_active(self.session)

    def in_turn(
        self, session: Session, candidate: Callable[[int], Architecture], epochs_each: int, of_supernet: bool = False
    ) -> tuple[Sampled, Rate]:
        """Return what trains architectures one after another, and what rates the present one on `val`.

        The schedule starts anew with each.

        Args:
            of_supernet: each starts from the supernet's weights of now, all on the same batches; otherwise each from
                the start of the search.
        """
        values = {"activate": self.space.activate, "candidate": candidate, "epochs_each": epochs_each}
        values |= {"start": learning_state(self.model) if of_supernet else self.initial, "same_batches": of_supernet}
        loader = self.data.loader(*self.data.learning, train=True)
        learner = Sampled.make(session, recipe_of(self.options), loader, epochs_each, repeat=True, **values)
        return learner, self.rating_of_active(session) if of_supernet else validator(session, self.data, "val")[0]

    def _bilevel(self) -> Bilevel:
        options = self.options
        values = options.keywords(lr="arch_learning_rate", weight_decay="arch_weight_decay")
        logits = torch.optim.Adam(arch_parameters(self.model), betas=(0.5, 0.999), fused=True, **values)
        loader, arch_loader = (self.data.loader(part, train=True) for part in ("train", "arch"))
        values = options.keywords("alternate", "epochs", warmup="arch_warmup")
        values |= {"arch_optimizer": logits, "arch_loader": arch_loader, "second_order": self.strategy.second_order}
        values |= {"set_stage": self.space.set_stage, "penalty": self._penalty()}
        return Bilevel.make(self.session, recipe_of(options), loader, options.epochs, **values)

    def _penalty(self) -> Callable[[], Tensor] | None:
        """Return what is added to the loss of the logits, or None."""
        penalty_of, weight = PENALTIES.get(self.strategy.penalty), self.options.lambda_cost
        logits = arch_parameters(self.model)
        cost = self._expected_cost() if weight else None
        if penalty_of is None and cost is None:
            return None

        def penalty() -> Tensor:
            total = sum(penalty_of(p) for p in logits) / len(logits) if penalty_of else 0
            return total + weight * cost() if cost else total

        return penalty

    def _expected_cost(self) -> Callable[[], Tensor]:
        """Return the expected cost by the run's table, which is made once: measured seconds differ each time."""
        path, device = self.run.path / COSTS_FILE, self.session.compute.device

        def table() -> dict:
            if not path.exists():
                measured = self.space.cost_table(MEASURES[self.options.cost], device)
                self.run.write_json(COSTS_FILE, {"cost": self.options.cost, "levels": measured})
            return read_json(path)["levels"]

        return self.space.expected_cost(self.session.compute.ranks.broadcast_from_first(table), device)

    def rating_of_active(self, session: Session) -> Rate:
        """Return what rates on `val` the architecture that the supernets run as.

        Its norms get statistics of their own first, as running ones are of all architectures.
        """
        validate, _ = validator(session, self.data, "val")
        least = session.task.least_batch(self.options)

        def rate() -> Metrics:
            batches = self.data.loader("train", train=False, ranks=SINGLE_PROCESS)
            large = (batch for batch in batches if batch["size"] >= least)  # the last one may be incomplete
            with fresh_statistics(session, islice(large, STATISTICS_BATCHES)):
                return validate()

        return rate

    def fitness(self, architecture: Architecture) -> float:
        """Return minus the loss on `val` of an architecture on the supernets' weights."""
        self.space.activate(architecture)
        loss = mean_loss(self.session, self.data.loader("val", train=False))
        self.space.activate(None)
        return -loss

    def describe(self) -> Row:
        """Return what a row of metrics.jsonl says of the architecture, and of the logits where these learn."""
        row = self.space.describe(self.architecture(self.session.progress.epochs_done))
        if not self.learns_logits:
            return row
        wanted = self.options.hessian or self.options.early_stop == "eigenvalue"
        return self.space.describe_logits() | row | ({"eigenvalue": self._eigenvalue()} if wanted else {})

    def _eigenvalue(self) -> float:
        """Return the dominant eigenvalue of the Hessian of the loss on some batches of `arch`."""
        batches = islice(self.data.loader("arch", train=False, ranks=SINGLE_PROCESS), HESSIAN_BATCHES)
        logits, seed = arch_parameters(self.model), self.options.seed
        value = dominant_eigenvalue_of(self.session, list(batches), logits, seed)
        return self.session.compute.ranks.broadcast_from_first(lambda: value)  # ranks may differ in the last digits

    def should_stop(self) -> str:
        """Return why the search is to end now, or nothing."""
        if not self.options.early_stop or not self.learns_logits:
            return ""

        def reason() -> str:
            cap, rows = self.options.max_parameter_free, [row for row in self.run.rows() if "phase" not in row]
            most = self.space.num_choices // 2 if cap is None else cap  # choices without parameters
            return reason_to_stop(rows, self.options.early_stop, most)

        return self.session.compute.ranks.broadcast_from_first(reason)
