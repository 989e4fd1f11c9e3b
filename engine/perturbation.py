"""Ratings of supernets, and selection by perturbation.

A supernet is rated with the statistics of each batch in its norms, since running statistics are of other mixtures.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.progress import Log
from engine.step import Session, move
from models.search.space import Choice
from utils.errors import UserError
from utils.progress_bar import bar


def set_for_rating(model: nn.Module) -> list[nn.Module]:
    """Put a model into eval mode but for the norms that learn, so that nothing drops out; returns these norms."""
    model.train()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    model.eval()
    for norm in norms:
        norm.train()
    return norms


@torch.no_grad()
def mean_loss(session: Session, batches: Iterable[dict]) -> float:
    """Return the mean loss over batches, each with its own statistics; nothing learns, running statistics stay.

    Ranks take turns at the batches.
    """
    set_for_rating(session.model)
    ranks, forget, losses = session.compute.ranks, session.guard.snapshot_buffers(session.model), []
    for number, batch in enumerate(batches):
        with session.compute.autocast():
            loss = session.task.losses(session.model, move(batch, session.compute.device))["loss"]
        losses.append((batch.get("number", number), loss))
    forget(torch.zeros((), dtype=torch.bool, device=session.compute.device))
    if ranks.count > 1:
        losses = sorted(ranks.all_gather([(number, loss.cpu()) for number, loss in losses]), key=lambda one: one[0])
    if not losses:  # of one process the loader says it
        raise UserError("val: expected pairs that can be read, found none")
    return float(torch.stack([loss for _, loss in losses]).mean())


@contextmanager
def fresh_statistics(session: Session, batches: Iterable[dict]) -> Iterator[None]:
    """Inside, running statistics of norms are means over some batches; afterwards they are as before."""
    norms = set_for_rating(session.model)  # not those of frozen streams
    kept = [({k: b.clone() for k, b in m.named_buffers()}, m.momentum) for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative
    with torch.no_grad():
        for batch in batches:
            with session.compute.autocast():
                session.task.losses(session.model, move(batch, session.compute.device))
    try:
        yield
    finally:
        for norm, (buffers, momentum) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])


def select_by_perturbation(
    rounds: Iterable[list[Choice]], rate: Callable[[], float], fine_tune: Callable[[], None], seed: int, log: Log
) -> None:
    """Decide choices of supernets by what a removal costs (2108.04392, algorithm 1); masks hold the decisions.

    Args:
        rounds: of choices; those of a round are decided in random order.
        rate: returns the loss of the supernets as they are; removing what matters raises it.
        fine_tune: called after each choice.
    """
    rng = random.Random(seed)
    for choices in rounds:
        rng.shuffle(choices)
        for choice in bar(choices, "perturbation"):
            count = len(choice.alternatives)
            costs = [_loss_without(choice.mask, place, rate) for place in choice.alternatives]
            kept = sorted(range(count), key=lambda n: -costs[n])[: choice.num_kept]  # stable: the first of equals
            for n in set(range(count)) - set(kept):
                choice.mask[choice.alternatives[n]] = -torch.inf
            log(f"  perturbation: of {count} alternatives {sorted(kept)} stay")
            fine_tune()


def _loss_without(mask: Tensor, place: tuple, rate: Callable[[], float]) -> float:
    before = mask[place].clone()
    mask[place] = -torch.inf
    try:
        return rate()
    finally:
        mask[place] = before
