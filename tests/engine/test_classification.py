"""The classification task: losses and metrics against sums written down anew."""

from types import SimpleNamespace

import pytest
import torch

from tasks.classification.presets import MMIMDB, NTU
from tasks.classification.task import THRESHOLD, Classification

PARTS = SimpleNamespace(data=SimpleNamespace(classes=["a", "b", "c"]))


def f1(truth: list[bool], found: list[bool]) -> float:
    hits = sum(t and f for t, f in zip(truth, found, strict=True))
    return 2 * hits / (sum(truth) + sum(found)) if sum(truth) + sum(found) else 0.0


@pytest.mark.parametrize("f1_type", ["weighted", "micro", "macro", "samples"])
def test_f1_of_each_type_is_that_of_its_definition(f1_type):
    torch.manual_seed(1)
    probabilities, labels = torch.rand(40, 3), (torch.rand(40, 3) < torch.tensor([0.5, 0.3, 0.1])).float()
    task = Classification(MMIMDB, f1_type)
    evaluator = task.make_evaluator(PARTS, "val", full=True)
    for start in (0, 25):
        own = slice(start, 25 if start == 0 else 40)
        names = [f"film{n}" for n in range(own.start, own.stop)]
        evaluator.add({"labels": labels[own], "file_names": names}, probabilities[own])
    found, truth = (probabilities > THRESHOLD).tolist(), labels.bool().tolist()
    by_class = [f1([row[k] for row in truth], [row[k] for row in found]) for k in range(3)]
    counts = labels.sum(dim=0).tolist()
    expected = {
        "macro": sum(by_class) / 3,
        "weighted": sum(c * s for c, s in zip(counts, by_class, strict=True)) / sum(counts),
        "micro": f1([t for row in truth for t in row], [t for row in found for t in row]),
        "samples": sum(map(f1, truth, found)) / 40,
    }
    told = evaluator.compute()
    assert next(iter(told)) == task.metric == f"F1_{f1_type}"
    for kind, value in expected.items():
        assert told[f"F1_{kind}"] == pytest.approx(value)
    assert [told[f"F1_class_{name}"] for name in "abc"] == pytest.approx(by_class)
    assert [one["name"] for one in evaluator.answers] == [f"film{n}" for n in range(40)]


def test_accuracy_of_one_class_each():
    task = Classification(NTU)
    evaluator = task.make_evaluator(PARTS, "val", full=True)
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    evaluator.add({"labels": torch.tensor([0, 1, 1, 0]), "file_names": list("wxyz")}, probabilities)
    told = evaluator.compute()
    assert told["accuracy"] == 0.5
    assert (told["F1_class_a"], told["F1_class_b"], told["F1_class_c"]) == (0.5, 0.5, None)
    assert task.make_evaluator(PARTS, "val").compute() == {"accuracy": None, "F1_macro": None}


def test_losses_are_means_over_examples():
    scores, one = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([0])
    task, batch = Classification(NTU), {"inputs": None, "labels": one}
    told = task.losses(lambda inputs: scores, batch)["loss"]
    torch.testing.assert_close(told, scores.logsumexp(1)[0] - scores[0, 0])
    several = {"inputs": None, "labels": torch.tensor([[1.0, 0.0, 1.0]])}
    told = Classification(MMIMDB).losses(lambda inputs: scores, several)["loss"]
    right = torch.tensor([2.0, 1.0, 0.5])  # the score of what is true
    torch.testing.assert_close(told, torch.log1p(torch.exp(-right)).mean())
    torch.testing.assert_close(Classification(MMIMDB).predict(lambda inputs: scores, several), torch.sigmoid(scores))
