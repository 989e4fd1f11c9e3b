"""The classification task: one class of K by cross entropy, or any number of them by binary cross entropy.

F1 at a threshold of 0.3 and accuracy by scikit-learn, as BM-NAS reports them (2104.09379, section 4).

Shapes: B batch, K classes; batches as collated by datasets/classification/examples.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.data_module import DataModule
from utils.distributed import SINGLE_PROCESS, Ranks

THRESHOLD = 0.3
F1_TYPES = ("weighted", "micro", "macro", "samples")


@dataclass(frozen=True)
class Classification:
    """The task of a data set.

    Args:
        multi_label: examples have any number of classes.
        f1_type: of multi-label data, the mean over classes by which an epoch is chosen, one of F1_TYPES.
    """

    multi_label: bool
    f1_type: str = "weighted"

    ANSWERS = "predictions.json"

    @property
    def METRIC(self) -> str:
        return f"F1_{self.f1_type}" if self.multi_label else "accuracy"

    @property
    def SHOWN(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.METRIC, "F1_weighted" if self.multi_label else "F1_macro")))

    def losses(self, model: nn.Module, batch: dict, ranks: Ranks = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Return "loss" of a batch, the mean over examples (and classes), or of this rank's share of one."""
        scores = model(batch["inputs"])
        measure = F.binary_cross_entropy_with_logits if self.multi_label else F.cross_entropy
        loss = measure(scores.float(), batch["labels"])
        return {"loss": loss if ranks.count == 1 else loss * len(scores) * ranks.count / batch["size"]}

    def predict(self, model: nn.Module, batch: dict) -> Tensor:
        """Return the probability of each class (B, K)."""
        scores = model(batch["inputs"]).float()
        return scores.sigmoid() if self.multi_label else scores.softmax(dim=1)

    def make_evaluator(self, parts: DataModule, part: str, full: bool = False) -> "ClassEvaluator":
        """Return the evaluator of a part; `full`: F1 of each class also."""
        return ClassEvaluator(self, parts.data.classes, full)


class ClassEvaluator:
    """Collects probabilities and labels; scores what was added."""

    def __init__(self, task: Classification, classes: list[str], full: bool):
        self.multi_label, self.metric, self.classes, self.full = task.multi_label, task.METRIC, classes, full
        self.probabilities: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.answers: list[dict] = []

    def add(self, batch: dict, predictions: Tensor) -> None:
        self.probabilities.append(predictions.cpu())
        self.labels.append(batch["labels"].cpu())
        for name, row in zip(batch["file_names"], predictions.tolist(), strict=True):
            self.answers.append({"name": name, "probabilities": [round(p, 5) for p in row]})

    def compute(self) -> dict[str, float | None]:
        """Return accuracy or F1 of each type, 0..1, the task's METRIC first; None where there are no examples."""
        if not self.labels:
            names = [f"F1_{kind}" for kind in F1_TYPES] if self.multi_label else ["accuracy", "F1_macro"]
            return dict.fromkeys([self.metric, *names])
        probabilities, labels = torch.cat(self.probabilities), torch.cat(self.labels)
        told = multi_label(probabilities, labels) if self.multi_label else one_class(probabilities, labels)
        told = {self.metric: told[self.metric]} | told
        return told | (self._by_class(probabilities, labels) if self.full else {})

    def _by_class(self, probabilities: Tensor, labels: Tensor) -> dict[str, float | None]:
        """Return F1 of each class; None of one that no example has."""
        from sklearn.metrics import f1_score

        if self.multi_label:
            there, truth, found = labels.any(dim=0), labels.numpy(), (probabilities > THRESHOLD).numpy()
        else:
            there, truth, found = labels.bincount(minlength=len(self.classes)) > 0, labels, probabilities.argmax(dim=1)
        every = range(len(self.classes))
        scores = f1_score(truth, found, labels=list(every), average=None, zero_division=0).tolist()
        return {f"F1_class_{name}": scores[n] if there[n] else None for n, name in enumerate(self.classes)}


def multi_label(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Return F1 of each type, from (N, K) probabilities and multi-hot labels."""
    from sklearn.metrics import f1_score  # takes its time to import

    truth, found = labels.bool().numpy(), (probabilities > THRESHOLD).numpy()
    return {f"F1_{kind}": float(f1_score(truth, found, average=kind, zero_division=0)) for kind in F1_TYPES}


def one_class(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Return top-1 accuracy and macro F1, from (N, K) probabilities and (N,) labels."""
    from sklearn.metrics import accuracy_score, f1_score

    found = probabilities.argmax(dim=1)
    macro = f1_score(labels, found, average="macro", zero_division=0)
    return {"accuracy": float(accuracy_score(labels, found)), "F1_macro": float(macro)}
