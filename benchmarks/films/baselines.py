"""What needs no network of ours: shares of genres, and logistic regression on plot vectors and frozen poster features.

Shapes: N films, K genres, F features.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.films.intervals import THRESHOLD
from datasets.classification.examples import Example, LabelledData
from models.classification.encoders.timm_maps import TimmEncoder
from models.classification.fused_classifier import normalised
from tasks.classification.build import load_encoder

C = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # inverse strength of the regularisation, one is chosen on the dev list
LEARNING = ("train", "dev")
BATCH = 16


def labels_of(data: LabelledData, *lists: str) -> np.ndarray:
    """Return the genres of the films of lists, bool (N, K)."""
    films = [film for name in lists for film in data.records[name]]
    return np.array([[genre in film.label for genre in range(len(data.classes))] for film in films])


def plots(data: LabelledData, *lists: str) -> np.ndarray:
    """Return the vectors of plots (N, D)."""
    films = [film for name in lists for film in data.records[name]]
    return np.stack([data.load(film, ("text",), None)["text"].numpy() for film in films])


def posters(data: LabelledData, encoder: TimmEncoder, *lists: str) -> np.ndarray:
    """Return the means of a frozen encoder's two deepest maps (N, F)."""
    films = [film for name in lists for film in data.records[name]]
    batches = [films[start : start + BATCH] for start in range(0, len(films), BATCH)]
    return np.concatenate([_means(data, encoder.eval(), batch) for batch in batches])


def _means(data: LabelledData, encoder: TimmEncoder, films: list[Example]) -> np.ndarray:
    images = torch.stack([data.load(film, ("image",), None)["image"] for film in films])
    with torch.no_grad():
        taps = encoder.taps(normalised(images, encoder.statistics))[-2:]
    return torch.cat([tap.mean(dim=(2, 3)) for tap in taps], dim=1).numpy()


def frozen_encoder(backbone: str, num_classes: int, file: Path) -> TimmEncoder:
    """Return the poster encoder of a checkpointdir, which reads pictures as its start weights do."""
    encoder = TimmEncoder(backbone, num_classes)
    load_encoder(encoder, file, f"--backbone {backbone}")
    encoder.use_pretrained_statistics()
    return encoder


def shares(data: LabelledData) -> np.ndarray:
    """Return the share of each genre in the train list as its probability, for every test film (N, K)."""
    return np.tile(labels_of(data, "train").mean(axis=0), (len(data.records["test"]), 1))


def logistic(data: LabelledData, features: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
    """Return the probabilities of the test films (N, K), and C, by one regression for each genre.

    C is chosen on the dev list by weighted F1; then the regressions learn on the train and the dev list.

    Args:
        features: (N, F) by list.
    """
    dev, joined = labels_of(data, "dev"), np.concatenate([features[name] for name in LEARNING])

    def on_dev(c: float) -> float:
        found = _regression(c, features["train"], labels_of(data, "train")).predict_proba(features["dev"])
        return f1_score(dev, found > THRESHOLD, average="weighted", zero_division=0)

    best = max(C, key=on_dev)
    return _regression(best, joined, labels_of(data, *LEARNING)).predict_proba(features["test"]), best


def _regression(c: float, features: np.ndarray, labels: np.ndarray):
    regression = OneVsRestClassifier(LogisticRegression(C=c, max_iter=1000))
    return make_pipeline(StandardScaler(), regression).fit(features, labels.astype(int))
