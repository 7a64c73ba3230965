"""A network and the rows of a task -> predictions in the rows' order, and the task's metrics.

Shapes are in the names:
  R  rows   G  candidates of a reply   W  words of a row   S  those of them with tokens   C  classes
  L  tokens of a row   D  width of a vector
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from span_electra.errors import InputError
from span_electra.finetuning.batching import (
    TEST_CANDIDATES,
    TaskRows,
    collate,
    marked,
    rows_and_targets,
    turn_windows,
    windows_and_targets,
)
from span_electra.finetuning.decoding import (
    IMPOSSIBLE,
    OUTSIDE,
    TUNABLE,
    best_shift,
    best_tags,
    direction,
    orders_of,
)
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.metrics import compute_metric, perplexity
from span_electra.hub.networks import batch_rows, check_numbers, length_batches
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.training.checkpoint import more_is_better
from span_electra.training.devices import Process

HELD_OUT = 0  # the epoch whose noise and candidates are those of every evaluation
# Tags that say where chunks are: O, and a letter with the type. BIO (IOB1 and IOB2) has B and I, BIOES
# adds E, the end of a chunk, and S, one of a single word, which BILOU calls L(ast) and U(nit). BMES has M,
# the middle, for I, and BMEWO besides W, a whole chunk, for S.
CHUNK_TAG = re.compile(r"O|[BIESLUMW](-.+)?")


@dataclass(frozen=True)
class TaskPredictions:
    """What the network says of one split of one task, a value a row."""

    uids: list[str]
    predictions: list[Any]  # class, classes, number, label a word, scores [G], or (nats, tokens)
    targets: list[Any]  # labels alike; of turns, which bring their truth with them, None
    shift: float = 0.0  # of the scores by which these were decided


@torch.no_grad()
def predict_rows(
    network: TaskNetwork,
    task: int,
    source: TaskRows,
    batch_size: int,
    process: Process,
    stop: Callable[[], bool] = lambda: False,
    shift: float | None = 0.0,
) -> TaskPredictions | None:
    """Return the predicted of all rows, or None when `stop` says so in between. Leaves the network's mode.

    shift: of the scores that labels are decided by (decoding.py); None: the one that these rows ask for.
    Raises InputError where the network's answers are not numbers.
    """
    found: list[Any] = [None] * len(source)
    targets: list[Any] = [None] * len(source)
    uids = [""] * len(source)
    network.eval()
    for rows_B in length_batches(_tokens_R(source), batch_size):
        # Seed 0 for every run: the same errors are asked for, or two runs could not be compared.
        rows = source.rows(rows_B, 0, HELD_OUT)
        if source.spec.type.is_conversation:
            answers = _perplexity_counts(
                network, task, source=source, rows=rows, batch_size=batch_size, process=process
            )
        else:
            answers = _answers(network, task, source=source, rows_B=rows_B, rows=rows, process=process)
            if shift is not None:  # at once: the scores of all rows may be more than memory holds
                answers = decided(answers, source.spec, network.tasks[task], shift)
        for row, entry, answer in zip(rows_B, rows, answers, strict=True):
            found[row], targets[row], uids[row] = answer, entry.get("label"), entry["uid"]
        if stop():
            return None
    predicted = TaskPredictions(uids, found, targets, shift or 0.0)
    return predicted if shift is not None else _tuned(predicted, source, network.tasks[task])


def _tokens_R(source: TaskRows) -> np.ndarray:
    """Tokens that each row takes in the network, about; those of all its candidates at most."""
    if not source.spec.type.has_candidates:
        return source.lengths_R
    # Each in a row of its own, as long as the longest last turn of any conversation may make it.
    padded_R = np.minimum(source.lengths_R + max(map(len, source.last_turns)), source.spec.max_seq_len)
    return padded_R * (TEST_CANDIDATES + source.spec.type.compares_vectors)


def _tuned(scored: TaskPredictions, source: TaskRows, head: HeadConfig) -> TaskPredictions:
    """Predictions by the threshold at which their first metric is best."""

    def at(shift: float) -> TaskPredictions:
        labels = decided(scored.predictions, source.spec, head, shift)
        return replace(scored, predictions=labels, shift=shift)

    def metric_at(shift: float) -> float:
        name = source.spec.task.metrics[0]
        return compute_metrics(at(shift), source, (name,))[name]

    return at(best_shift(metric_at))


def _answers(
    network: TaskNetwork, task: int, source: TaskRows, rows_B: np.ndarray, rows: list[dict], process: Process
) -> list[Any]:
    """What the network says of each row: scores [C], or of words [W, C], where labels are decided by them."""
    kind = source.spec.type.head
    unpadded = rows_and_targets(source, rows_B, rows, 0, HELD_OUT, training=False)
    # Targets and their total are not looked at: there is no loss here.
    batch = collate(task, unpadded, source.vocabulary.pad_id, 1.0, rows_B)
    with process.autocast():
        logits = network.logits(batch.to(process.device)).cpu().numpy()
    padded = source.spec.type.by_word and batch.attention_mask_BL is not None
    asked = logits[batch.attention_mask_BL.cpu().numpy()] if padded else logits
    # The likeliest label of NaN would be the first one, and an accuracy like any other.
    check_numbers(not np.isnan(asked).any(), source.spec.task.name)
    if kind == "ranking":
        return list(logits.reshape(len(rows_B), -1))
    if source.spec.type.compares_vectors:
        return list(scores_of_vectors(logits.reshape(len(rows_B), -1, logits.shape[-1])))
    if kind == "number":
        head = network.tasks[task]
        return (logits[:, 0].astype(np.float64) * head.target_deviation + head.target_mean).tolist()
    if kind in ("sequence", "several"):
        return list(logits)
    if kind == "replaced":
        return [called_replaced(row, logits_L) for row, logits_L in zip(rows, logits, strict=True)]
    labels = source.spec.labels
    return [
        word_scores(logits_LC, np.array(row["word_ids"]), row["words"], labels)[0]
        for row, logits_LC in zip(rows, logits, strict=True)
    ]


def decided(answers: list[Any], spec: TaskSpec, head: HeadConfig, shift: float) -> list[Any]:
    """The labels that scores of rows stand for: a class, classes, or a class a word; other answers as is."""
    kind = spec.type.head
    if kind not in TUNABLE:
        return answers
    if shift:
        moved_C = shift * direction(kind, spec.labels)
        answers = [scores + moved_C for scores in answers]
    if kind == "sequence":
        return [int(scores_C.argmax()) for scores_C in answers]
    if kind == "several":
        # A logit of 0 is a probability of one half.
        return [np.flatnonzero(scores_C > 0).tolist() for scores_C in answers]
    return [best_tags(scores_WC, spec.labels, head.orders).tolist() for scores_WC in answers]


def scores_of_vectors(vectors_RGD: np.ndarray) -> np.ndarray:
    """How near each candidate's vector is to the first, that of the turns: cosines, [R, G - 1]."""
    # All have length 1, so that products are cosines.
    return np.einsum("rgd,rd->rg", vectors_RGD[:, 1:], vectors_RGD[:, 0])


def called_replaced(row: dict[str, Any], logits_L: np.ndarray) -> list[int]:
    """1 for each word any of whose tokens is called replaced; of words beyond the row none is."""
    # A misspelt word falls into several tokens, and one that is out of place gives it away.
    called = [0] * row["words"]
    for place, word in enumerate(row["word_ids"]):
        if word >= 0:
            called[word] |= int(logits_L[place] > 0)
    return called


def word_scores(
    logits_LC: np.ndarray, word_L: np.ndarray, words: int, labels: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of each word [W, C], those of its first token, and that token's place [W].

    word_L: the word of each token; below 0 there is none. A word without tokens has the place -1 and is O, or
    where that is none any label: the first, or what the order of tags leaves.
    """
    first_W = np.full(words, -1)
    seen_S, place_S = np.unique(word_L, return_index=True)
    seen_S, place_S = seen_S[seen_S >= 0], place_S[seen_S >= 0]
    # What nothing was seen of is no part of a name: label 0 may be any, in the order of a label file.
    scores_WC = np.zeros((words, len(labels)))
    if OUTSIDE in labels:
        scores_WC[:] = [0.0 if label == OUTSIDE else IMPOSSIBLE for label in labels]
    if len(seen_S):  # a row of no words has no scores either
        first_W[seen_S], scores_WC[seen_S] = place_S, logits_LC[place_S]
    return scores_WC, first_W


def _perplexity_counts(
    network: TaskNetwork, task: int, source: TaskRows, rows: list[dict], batch_size: int, process: Process
) -> list[tuple[float, int]]:
    """Nats and tokens of each conversation; every turn is counted once, in the window it is in."""
    longest = source.spec.max_seq_len
    windows = [
        (number, row["turns"][begin:end])
        for number, row in enumerate(rows)
        for begin, end in turn_windows(row["turns"], longest)
    ]
    nats_R, tokens_R = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    size = batch_rows(longest, batch_size)
    for first in range(0, len(windows), size):
        owner_B = np.array([number for number, _ in windows[first : first + size]])
        unpadded = windows_and_targets(source, [turns for _, turns in windows[first : first + size]])
        batch = collate(task, unpadded, source.vocabulary.pad_id, 1.0, owner_B).to(process.device)
        with process.autocast():
            loss_N = network.losses(batch).cpu().double().numpy()
        check_numbers(not np.isnan(loss_N).any(), source.spec.task.name)
        # A loss for each token but a row's first, which nothing foretells; summed in float64 by conversation.
        owner_N = np.repeat(owner_B, [len(ids) - 1 for ids in unpadded.ids])
        nats_R += np.bincount(owner_N, loss_N, len(rows))
        tokens_R += np.bincount(owner_N, minlength=len(rows))
    return list(zip(nats_R.tolist(), tokens_R.tolist(), strict=True))


# --- metrics ------------------------------------------------------------------------------------------


def check_metrics(spec: TaskSpec) -> None:
    """Refuse metrics and thresholds that the task's labels do not have, before they are trained for."""
    if spec.task.tuned_threshold and direction(spec.type.head, spec.labels) is None:
        raise InputError(
            f"{spec.task.name}.tuned_threshold: a threshold decides between two labels, on each of several, "
            f"or between O and other tags, and here are {', '.join(spec.labels[:5])}; leave it out"
        )
    # Of rows with several labels f1 is of all; of one of three it would be that of whichever is called 1.
    if "f1" in spec.task.metrics and spec.type.head == "sequence" and len(spec.labels) != 2:
        raise InputError(
            f"{spec.task.name}.metrics: f1 is that of one of two labels, and here are {len(spec.labels)} "
            f"({', '.join(spec.labels[:5])}{', ...' if len(spec.labels) > 5 else ''}); write macro_f1"
        )
    # That the type has such metrics was seen when the task file was read; the labels may come from the data.
    # conlleval's chunks are defined by the tags' letters; of other tags it would count nonsense.
    strange = [label for label in spec.labels if not CHUNK_TAG.fullmatch(label)]
    if strange and any(metric.startswith("chunk_") for metric in spec.task.metrics):
        raise InputError(
            f"{spec.task.name}.metrics: chunk_f1 needs tags O, B-... and I-..., not {strange[0]!r}; "
            "write metrics: [accuracy], or name tags that are numbers by label_map_or_file"
        )


def tag_orders(source: TaskRows) -> tuple[str, ...]:
    """Which tags follow each other in rows; () of labels that are no tags of chunks: these stand anywhere."""
    labels = source.spec.labels
    if source.spec.type.head != "tokens" or not all(map(CHUNK_TAG.fullmatch, labels)):
        return ()
    rows = (source.stored(row)["label"] for row in range(len(source)))
    return orders_of([labels[label] for label in row] for row in rows)


def compute_metrics(
    predicted: TaskPredictions, source: TaskRows, names: tuple[str, ...] | None = None
) -> dict[str, float]:
    """The task's metrics by name; or those of `names`."""
    spec, predictions, targets = source.spec, predicted.predictions, predicted.targets
    if spec.type.is_conversation:  # nats and tokens
        predictions, targets = (sum(counts[part] for counts in predictions) for part in (0, 1))
    elif spec.type.has_candidates:
        predictions = np.stack(predictions)
    elif spec.type.head == "several":
        predictions, targets = (marked(rows, len(spec.labels)) for rows in (predictions, targets))
    elif spec.type.head in ("sequence", "number"):
        predictions, targets = np.array(predictions), np.array(targets)
    names = names or spec.task.metrics
    return {name: compute_metric(name, predictions, targets, spec.labels) for name in names}


def one_score(metric: str, value: float) -> float:
    """A metric's value so that more is better: perplexity as its inverse."""
    return value if more_is_better(metric, "auto") or not value else 1.0 / value


# --- to the eye ---------------------------------------------------------------------------------------


def prediction_lines(predicted: TaskPredictions, source: TaskRows) -> Iterator[str]:
    """Lines of a TSV: uid, prediction and label; in the rows' order."""
    yield "uid\tprediction\tlabel\n"
    truth = "1" if source.spec.type.has_candidates else ""  # of turns
    for uid, prediction, target in zip(predicted.uids, predicted.predictions, predicted.targets, strict=True):
        if source.spec.type.head == "number":
            prediction = float(f"{prediction:.9g}")  # nine digits tell any two of float32 apart
        label = truth if source.spec.type.in_turns else shown(target, source)
        fields = (uid, shown(prediction, source), label)
        # What ends fields and lines alone is folded: other white space may tell two labels apart.
        yield "\t".join(re.sub(r"[\t\r\n]+", " ", field) for field in fields) + "\n"


def shown(prediction: Any, source: TaskRows) -> str:
    """A prediction in the words of the task's labels."""
    kind, labels = source.spec.type.head, source.spec.labels
    if source.spec.type.is_conversation:  # its perplexity
        return f"{perplexity(prediction[0], max(1, prediction[1])):.4g}"
    if source.spec.type.has_candidates:  # the place of the true reply among its candidates
        return str(1 + int((prediction[1:] >= prediction[0]).sum()))
    if kind == "number":
        return repr(prediction).removesuffix(".0")
    if kind == "sequence":
        return labels[prediction]
    if kind == "several":  # a set: in the labels' order, whatever the row's
        return _listed(sorted(set(prediction)), labels, ",")
    return _listed(prediction, labels, " ")


def _listed(numbers: list[int], labels: tuple[str, ...], separator: str) -> str:
    """Several labels in one field: with the separator between, or as JSON where one of the task's holds it.

    Example: labels "a" and "b" -> a,b; labels "a" and "b, c" -> ["a", "b, c"], and ["a"] of a row of one
    """
    names = [labels[number] for number in numbers]
    # By all labels, not by the row's: a file is read in one way.
    held = any(mark in label for label in labels for mark in (separator, "\t", "\r", "\n"))
    return json.dumps(names, ensure_ascii=False) if held else separator.join(names)
