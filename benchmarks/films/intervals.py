"""F1 of multi-label predictions over bootstrap resamples of the films: percentile intervals, and paired differences.

Every run is scored on the same resamples, so that differences of runs are paired film by film. Networks of several
seeds have one score, the mean over seeds, in each resample.

Shapes: N films, K genres, R resamples.
"""

import numpy as np

KINDS = ("weighted", "macro")
THRESHOLD = 0.3  # of probabilities, as published for MM-IMDB
RESAMPLES, SEED = 2000, 0
PERCENTILES = (2.5, 97.5)

Scores = dict[str, np.ndarray]  # by kind of F1: of all films, then of the R resamples, (1 + R,)


def weights(num_films: int) -> np.ndarray:
    """Return how often each film counts, (1 + R, N): once, then as drawn with replacement."""
    drawn = np.random.default_rng(SEED).multinomial(num_films, np.full(num_films, 1 / num_films), RESAMPLES)
    return np.concatenate([np.ones((1, num_films), dtype=drawn.dtype), drawn])


def scores(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """Return F1 of all films and of each resample, 0 for a genre without films and decisions, as in scikit-learn.

    Args:
        probabilities: (N, K).
        labels: bool (N, K).
    """
    counts, decided = weights(len(labels)).astype(np.float64), probabilities > THRESHOLD
    hits, decisions, films = (counts @ found for found in (decided & labels, decided, labels))
    f1 = np.divide(2 * hits, decisions + films, out=np.zeros_like(hits), where=decisions + films > 0)
    return {"weighted": (f1 * films).sum(axis=1) / films.sum(axis=1), "macro": f1.mean(axis=1)}


def mean_scores(runs: list[Scores]) -> Scores:
    """Return the mean over runs in each resample."""
    return {kind: np.mean([run[kind] for run in runs], axis=0) for kind in KINDS}


def difference(run: Scores, other: Scores) -> Scores:
    """Return the paired difference in each resample."""
    return {kind: run[kind] - other[kind] for kind in KINDS}


def columns(found: Scores) -> dict[str, float]:
    """Return the value and the ends of its 95 % interval by kind, as columns of a row."""
    row = {}
    for kind in KINDS:
        low, high = np.percentile(found[kind][1:], PERCENTILES)
        values = {"": found[kind][0], "_low": low, "_high": high}
        row |= {f"F1_{kind}{end}": round(float(value), 4) for end, value in values.items()}
    return row
