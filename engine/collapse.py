"""Signs that a search collapses, rules that end it early, and the alarm in plain words.

Eigenvalue rule: Robust DARTS (1909.09656, section 5.1). Count rule: DARTS+ (1909.06035, section 3.2).
"""

import torch
from torch import Tensor, nn

from engine.progress import Row
from engine.step import Session, move
from models.search.hessian import dominant_eigenvalue

WINDOW = 5  # epochs of a mean, and how far back the other one lies
RISE = 1 / 0.75  # of the eigenvalue's mean over that of WINDOW epochs before
HESSIAN_ITERATIONS = 10
MOST_SHARE = 0.5  # of the choices between what learns and what does not that may go to what does not


def dominant_eigenvalue_of(session: Session, batches: list[dict], logits: list[nn.Parameter], seed: int) -> float:
    """Return the dominant eigenvalue of the Hessian of the mean loss on some batches, in eval mode.

    Args:
        seed: of the first vector of the power iteration.
    """
    session.model.eval()

    def gradients() -> list[Tensor]:
        moved = (move(batch, session.compute.device) for batch in batches)
        loss = torch.stack([session.task.losses(session.model, batch)["loss"] for batch in moved]).mean()
        return list(torch.autograd.grad(loss, logits, allow_unused=True, materialize_grads=True))

    return dominant_eigenvalue(gradients, logits, HESSIAN_ITERATIONS, torch.Generator().manual_seed(seed))


def eigenvalue_rises(values: list[float]) -> bool:
    """Tell whether the mean of the last five eigenvalues passes 1/0.75 of the mean five epochs earlier."""
    if len(values) < 2 * WINDOW:
        return False
    now, before = (sum(part) / WINDOW for part in (values[-WINDOW:], values[-2 * WINDOW : -WINDOW]))
    return before > 0 and now / before > RISE


def reason_to_stop(rows: list[Row], rule: str | None, most: int) -> str:
    """Return why a search is to end after these epochs, or nothing.

    Args:
        rows: of metrics.jsonl, with "eigenvalue" and "parameter_free".
        rule: "eigenvalue", "parameter_free" or None.
        most: choices without parameters that may be there.
    """
    if not rows or rule is None:
        return ""
    if rule == "eigenvalue":
        values = [row["eigenvalue"] for row in rows]
        return "the dominant eigenvalue of the logits' Hessian rises" if eigenvalue_rises(values) else ""
    found = rows[-1]["parameter_free"]
    return f"{found} choices without parameters, more than {most}" if found > most else ""


def alarm(row: Row, num_choices: int) -> str:
    """Return a warning in plain words where the present arg-max has collapsed, or nothing.

    Args:
        row: of the epoch.
        num_choices: of the whole genotype, between what learns and what does not.
    """
    found = row["parameter_free"]
    if found <= MOST_SHARE * num_choices:
        return ""
    return (
        f"ALARM: the search collapses: {found} of {num_choices} choices have nothing to learn. They win early "
        "since they need no training, not since they fuse better. What helps: --arch_warmup, --max_parameter_free, "
        "--select perturb, --early_stop, or --strategy fair or drnas"
    )
