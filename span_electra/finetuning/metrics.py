"""How good predictions of a task are, each metric by its name in task files, all on one scale: 1 is perfect.

What a row has one of comes as an array [R], several labels a row as an array [R, C], and what each word of a
row has as a list of lists; there the words of all rows count alike.
  R  rows   C  candidates or labels of a row
Nothing to be found gives 0, as nothing found does. Perplexity alone has a scale of its own, and is lower
where it is better.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np


def compute_metric(name: str, predictions: Any, targets: Any, labels: tuple[str, ...] = ()) -> float:
    """Return one metric of predictions, as `METRICS[name]` takes them.

    accuracy, f1, macro_f1, matthews: classes [R], 0/1 [R, C], or tags by words
    pearson, spearman: numbers [R]
    chunk_f1, chunk_precision, chunk_recall: tags by words, word_f1: 0/1 (wrong) by words
    recall_at_1: predictions are scores_RC with the true candidate in column 0, targets are not looked at
    perplexity: predictions are the sum of nats, targets the number of tokens

    labels: names of the classes by id, where tags for chunks come as ids.

    Example: compute_metric("accuracy", [0, 1, 1, 0], [0, 1, 0, 0]) -> .75
    """
    if name.startswith("chunk_") and labels:
        predictions, targets = (
            [[labels[tag] for tag in row] for row in rows] for rows in (predictions, targets)
        )
    return float(METRICS[name](predictions, targets))


# --- classes and 0/1 labels ---------------------------------------------------------------------------


def accuracy(predictions: Any, targets: Any) -> float:
    """Return the share of rows that are right; with several labels a row, all of them must be."""
    found, wanted = paired(predictions, targets)
    return (found == wanted).reshape(len(found), -1).all(axis=1).mean()


def f1(predictions: Any, targets: Any) -> float:
    """Return the F1 of label 1, over all labels of all rows (micro) where a row has several.

    Example: found 1 1 0 of 1 0 1 -> 2 * 1 / (2 + 2) = .5
    """
    found, wanted = (array == 1 for array in paired(predictions, targets))
    # 2 P R / (P + R) without its fractions, so that nothing divides by 0 where nothing is found.
    marked = int(found.sum()) + int(wanted.sum())
    return 2 * int((found & wanted).sum()) / marked if marked else 0.0


def macro_f1(predictions: Any, targets: Any) -> float:
    """Return the mean of the labels' F1, each weighing the same; labels that occur nowhere are left out."""
    found, wanted = paired(predictions, targets)
    if found.ndim == 1:
        from sklearn.metrics import f1_score

        return f1_score(wanted, found, average="macro", zero_division=0.0)
    # Column by column: sklearn takes a single one for classes 0 and 1, and counts one that nobody has as 0.
    found_RC, wanted_RC = found == 1, wanted == 1
    marked_C = found_RC.sum(axis=0) + wanted_RC.sum(axis=0)
    right_C = (found_RC & wanted_RC).sum(axis=0)
    there_C = marked_C > 0
    return (2 * right_C[there_C] / marked_C[there_C]).mean() if there_C.any() else 0.0


def matthews(predictions: Any, targets: Any) -> float:
    """Return Matthews' correlation; 0 where predictions or targets are all of one class."""
    from sklearn.metrics import matthews_corrcoef

    found, wanted = (array.reshape(-1) for array in paired(predictions, targets))
    if (found == found[0]).all() or (wanted == wanted[0]).all():
        return 0.0  # 0 / 0
    return matthews_corrcoef(wanted, found)


# --- numbers ------------------------------------------------------------------------------------------


def correlation(kind: str, predictions: Any, targets: Any) -> float:
    """Return what scipy.stats calls by this name; 0 where either is constant, which explains nothing."""
    import scipy.stats

    found, wanted = (np.asarray(array, np.float64) for array in paired(predictions, targets))
    if np.ptp(found) == 0 or np.ptp(wanted) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an untrained head is nearly constant: no news to a person
        return getattr(scipy.stats, kind)(found, wanted).statistic


# --- words --------------------------------------------------------------------------------------------


def chunk_score(kind: str, predictions: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> float:
    """Return what seqeval.metrics calls by this name: found is a chunk of the same words and the same type.

    An I- that follows no chunk of its type begins one, as in conlleval. Tags are those of CHUNK_TAG.

    Example: f1_score, found B-PER I-PER O of B-PER O O -> 0.0  (its end is elsewhere)
    """
    import seqeval.metrics

    # Other tags were refused before the training (`check_metrics`): seqeval would count nonsense of them.
    # It reads BIO, IOB1 and BIOES together; BILOU, BMES and BMEWO have other letters for the parts of BIOES.
    other_letters = str.maketrans("LUMW", "ESIS")
    rows = [
        [[tag[0].translate(other_letters) + tag[1:] for tag in row] for row in rows]
        for rows in (targets, predictions)
    ]
    return getattr(seqeval.metrics, kind)(*rows, average="micro", zero_division=0)


# --- conversations ------------------------------------------------------------------------------------


def recall_at_1(scores_RC: Any, _: Any) -> float:
    """Return the share of rows whose true candidate, in column 0, has the highest score.

    A tie counts as a miss: a scorer that gives every candidate the same must not look perfect.
    """
    scores_RC = np.asarray(scores_RC, np.float64)
    assert scores_RC.ndim == 2 and scores_RC.shape[0] and scores_RC.shape[1] > 1, scores_RC.shape
    return (scores_RC[:, :1] > scores_RC[:, 1:]).all(axis=1).mean()


def perplexity(nats: float, tokens: float) -> float:
    """Return e to the mean loss of a token; infinite where that is too large for a number.

    Example: 10 tokens with ln(50) nats each -> 50
    """
    assert tokens > 0, tokens
    try:
        return math.exp(nats / tokens)
    except OverflowError:
        return math.inf


# --- shapes -------------------------------------------------------------------------------------------


def paired(predictions: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays of one shape, [R] or [R, C]; what is by words becomes one array of all words."""
    if not isinstance(predictions, np.ndarray) and isinstance(predictions[0], (list, tuple, np.ndarray)):
        lengths = [[len(row) for row in rows] for rows in (predictions, targets)]
        assert lengths[0] == lengths[1], "a row has another number of words than its target"
        predictions, targets = ([word for row in rows for word in row] for rows in (predictions, targets))
    found, wanted = np.asarray(predictions), np.asarray(targets)
    assert found.shape == wanted.shape and len(found), (found.shape, wanted.shape)
    return found, wanted


OF_DIFFERENT = ("matthews", "pearson", "spearman")  # 0 where all rows are of one label: it explains nothing
METRICS: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": partial(correlation, "pearsonr"),
    "spearman": partial(correlation, "spearmanr"),
    "word_f1": f1,  # of words marked 1, misspelt
    "chunk_f1": partial(chunk_score, "f1_score"),
    "chunk_precision": partial(chunk_score, "precision_score"),
    "chunk_recall": partial(chunk_score, "recall_score"),
    "recall_at_1": recall_at_1,
    "perplexity": perplexity,
}
