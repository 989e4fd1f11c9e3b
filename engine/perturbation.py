"""From a searched supernet to a genotype by trying: inherited weights, and selection by perturbation.

A supernet is rated with the norms' statistics of each batch, since running ones belong to mixtures that no longer run.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.step import Session, move
from models.search.fusion_cells.choices import SKIP
from models.search.fusion_cells.supernet import SearchableFusion
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


Cells = list[tuple]  # places in a mask, one per alternative of a choice


def select_by_perturbation(
    fusions: list[SearchableFusion],
    rate: Callable[[], float],
    fine_tune: Callable[[], None],
    rng: random.Random,
    log: Callable[[str], None],
) -> None:
    """Settle the choices of the supernets by what a removal costs (2108.04392, algorithm 1); masks say what is left.

    First, in random order, the operation of each inner step and the two states of each step; then, in random order,
    what the edges of these states do, where there is more than one thing. Inner edges are left to the logits.

    Args:
        rate: the loss of the supernet as it is now; removing what matters raises it.
        fine_tune: called after each choice.
    """
    for choices in (operations_and_states, edges_of_states):
        left = [(mask, cells, keep) for fusion in fusions for mask, cells, keep in choices(fusion)]
        rng.shuffle(left)
        for mask, cells, keep in bar(left, "perturbation"):
            costs = [_loss_without(mask, cell, rate) for cell in cells]
            kept = sorted(range(len(cells)), key=lambda n: -costs[n])[:keep]  # stable: the first of equals
            for n in set(range(len(cells))) - set(kept):
                mask[cells[n]] = -torch.inf
            log(f"  perturbation: of {len(cells)} alternatives {sorted(kept)} stay")
            fine_tune()


def operations_and_states(fusion: SearchableFusion) -> Iterator[tuple[Tensor, Cells, int]]:
    """Yield (mask, cells, how many stay) of the operation of each inner step, and of the states of each step."""
    space, first = fusion.space, 0
    for step in range(space.steps):
        for k in range(space.node_steps):
            yield fusion.mask_ops, [(step, k, o) for o in range(len(space.op_names))], 1
        yield fusion.mask_edges, [(slice(None), first + j, slice(SKIP, None)) for j in range(space.num_inputs)], 2
        first += space.num_inputs + step


def edges_of_states(fusion: SearchableFusion) -> Iterator[tuple[Tensor, Cells, int]]:
    """Yield (mask, cells, how many stay) of what each edge does whose state was kept."""
    space, first = fusion.space, 0
    names = range(SKIP, len(space.edge_ops))
    for step in range(space.steps):
        edges = [first + j for j in range(space.num_inputs)]
        for edge in edges if len(names) > 1 else []:
            if not torch.isinf(fusion.mask_edges[:, edge, SKIP:]).all():
                yield fusion.mask_edges, [(slice(None), edge, o) for o in names], 1
        first += space.num_inputs + step


def _loss_without(mask: Tensor, cell: tuple, rate: Callable[[], float]) -> float:
    before = mask[cell].clone()
    mask[cell] = -torch.inf
    try:
        return rate()
    finally:
        mask[cell] = before
