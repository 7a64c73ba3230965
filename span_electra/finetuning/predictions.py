"""A network and the rows of a task -> predictions in the rows' order, and the task's metrics.

Shapes are in the names:
  R  rows   G  candidates of a reply   W  words of a row   C  classes
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from span_electra.errors import InputError
from span_electra.finetuning.batching import (
    Laid,
    TaskRows,
    lay_rows,
    lay_windows,
    to_batch,
    turn_windows,
)
from span_electra.finetuning.encoding import Recipe
from span_electra.finetuning.metrics import HIGHER_IS_BETTER, measure
from span_electra.finetuning.task_types import BIO
from span_electra.model.multi_task import TaskNetwork
from span_electra.training.devices import Process

HELD_OUT = 0  # the epoch whose noise and candidates are those of every evaluation


@dataclass(frozen=True)
class Outcome:
    """What the network says of one split of one task, a value a row."""

    uids: list[str]
    predictions: list[Any]  # class, classes, number, label a word, scores [G], or (nats, tokens)
    targets: list[Any] | None  # None where the rows have no labels


def predict_rows(
    network: TaskNetwork,
    task: int,
    source: TaskRows,
    batch_size: int,
    process: Process,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome | None:
    """Return the outcome of all rows, or None when `stop` says so in between. Leaves the network's mode."""
    order_R = np.argsort(-source.lengths_R, kind="stable")  # longest first: memory runs out at once or never
    found: list[Any] = [None] * len(source)
    targets: list[Any] = [None] * len(source)
    uids = [""] * len(source)
    network.eval()
    for begin in range(0, len(order_R), batch_size):
        rows_B = order_R[begin : begin + batch_size]
        rows = source.rows(rows_B, 0, HELD_OUT)
        if source.recipe.type.head == "language":
            answers = _perplexity_counts(network, task, source, rows, batch_size, process)
        else:
            answers = _answers(network, task, source, rows_B, rows, process)
        for row, entry, answer in zip(rows_B, rows, answers, strict=True):
            found[row], targets[row], uids[row] = answer, entry.get("label"), entry["uid"]
        if stop():
            return None
    kind = source.recipe.type.head
    has_targets = kind in ("ranking", "language") or all(target is not None for target in targets)
    return Outcome(uids, found, targets if has_targets else None)


def _answers(
    network: TaskNetwork, task: int, source: TaskRows, rows_B: np.ndarray, rows: list[dict], process: Process
) -> list[Any]:
    kind = source.recipe.type.head
    laid = lay_rows(source, rows_B, rows, 0, HELD_OUT, training=False)
    logits = run_rows(network, task, source, laid, process)
    if kind == "ranking":
        return list(logits.reshape(len(rows_B), -1))
    if kind == "number":
        return logits[:, 0].tolist()
    if kind == "sequence":
        return logits.argmax(-1).tolist()
    if kind == "several":
        return [np.flatnonzero(row_C > 0).tolist() for row_C in logits]
    return [word_labels(row, answer, kind) for row, answer in zip(rows, logits, strict=True)]


@torch.no_grad()
def run_rows(network: TaskNetwork, task: int, source: TaskRows, laid: Laid, process: Process) -> np.ndarray:
    """The head's answer to rows that are laid out, float32."""
    batch = to_batch(task, laid, source.vocabulary.pad_id, 1.0, np.arange(len(laid.ids)))
    with process.autocast():
        return network.logits(batch.to(process.device)).float().cpu().numpy()


def word_labels(row: dict[str, Any], logits: np.ndarray, kind: str) -> list[int]:
    """The label of each word: its first token's class, or 1 where any of its tokens is called replaced.

    Words beyond the row, and words without tokens, get label 0.
    """
    labels, before = [0] * row["words"], -1
    for place, word in enumerate(row["word_ids"]):
        if word < 0:
            continue
        if kind == "replaced":
            labels[word] |= int(logits[place] > 0)
        elif word != before:
            labels[word] = int(logits[place].argmax())
        before = word
    return labels


@torch.no_grad()
def _perplexity_counts(
    network: TaskNetwork, task: int, source: TaskRows, rows: list[dict], batch_size: int, process: Process
) -> list[tuple[float, int]]:
    """Nats and tokens of each conversation; every turn is counted once, in the window it is in."""
    longest = source.recipe.max_seq_len
    windows = [
        (number, row["turns"][begin:end])
        for number, row in enumerate(rows)
        for begin, end in turn_windows(row["turns"], longest)
    ]
    nats_R, tokens_R = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    for first in range(0, len(windows), batch_size):
        owner_B = np.array([number for number, _ in windows[first : first + batch_size]])
        laid = lay_windows(source, [turns for _, turns in windows[first : first + batch_size]])
        batch = to_batch(task, laid, source.vocabulary.pad_id, 1.0, owner_B).to(process.device)
        with process.autocast():
            loss_N = network.losses(batch).double().cpu().numpy()
        owner_N = np.repeat(owner_B, [len(ids) - 1 for ids in laid.ids])
        nats_R += np.bincount(owner_N, loss_N, len(rows))
        tokens_R += np.bincount(owner_N, minlength=len(rows))
    return list(zip(nats_R.tolist(), tokens_R.tolist(), strict=True))


# --- metrics ------------------------------------------------------------------------------------------


def check_metrics(recipe: Recipe) -> None:
    """Refuse a metric that cannot be taken of the task, before it is trained for."""
    name, known = recipe.task.name, recipe.type.metrics
    for metric in recipe.task.metrics:
        if metric not in known:
            raise InputError(
                f"{name}.metrics: {metric} is none of {recipe.task.task_type}: {', '.join(known)}"
            )
    strange = [label for label in recipe.labels if not BIO.fullmatch(label)]
    if "chunk_f1" in recipe.task.metrics and strange:
        raise InputError(
            f"{name}.metrics: chunk_f1 needs tags O, B-... and I-..., not {strange[0]!r}; "
            "write metrics: [accuracy]"
        )


def metrics_of_task(outcome: Outcome, source: TaskRows) -> dict[str, float]:
    """The task's metrics by name; none where there are no labels."""
    recipe = source.recipe
    if outcome.targets is None:
        return {}
    if recipe.type.head == "language":
        nats, tokens = (sum(counts[part] for counts in outcome.predictions) for part in (0, 1))
        return {"perplexity": measure("perplexity", nats, tokens)}
    predictions, targets = outcome.predictions, outcome.targets
    if recipe.type.head == "ranking":
        return {"recall_at_1": measure("recall_at_1", np.stack(predictions), None)}
    if recipe.type.head == "several":
        predictions, targets = (marked(rows, len(recipe.labels)) for rows in (predictions, targets))
    elif recipe.type.head in ("sequence", "number"):
        predictions, targets = np.array(predictions), np.array(targets)
    return {name: measure(name, predictions, targets, recipe.labels) for name in recipe.task.metrics}


def marked(rows: list[list[int]], classes: int) -> np.ndarray:
    """Lists of classes as rows of 0 and 1, [R, C]."""
    marked_RC = np.zeros((len(rows), classes), np.int64)
    for number, row in enumerate(rows):
        marked_RC[number, row] = 1
    return marked_RC


def one_score(metric: str, value: float) -> float:
    """A metric's value so that more is better: perplexity as its inverse."""
    return value if HIGHER_IS_BETTER[metric] or not value else 1.0 / value


# --- to the eye ---------------------------------------------------------------------------------------


def prediction_lines(outcome: Outcome, source: TaskRows) -> Iterator[str]:
    """Lines of a TSV: uid, prediction, and the label where there is one; in the rows' order."""
    yield "uid\tprediction" + ("\tlabel" if outcome.targets is not None else "") + "\n"
    for number, (uid, prediction) in enumerate(zip(outcome.uids, outcome.predictions, strict=True)):
        fields = [uid, shown(prediction, source)]
        if outcome.targets is not None:
            fields.append(_shown_target(outcome.targets[number], source))
        yield "\t".join(" ".join(field.split()) for field in fields) + "\n"  # a uid may hold line ends


def shown(prediction: Any, source: TaskRows) -> str:
    """A prediction in the words of the task's labels."""
    kind, labels = source.recipe.type.head, source.recipe.labels
    if kind == "language":  # the conversation's perplexity
        return f"{math.exp(min(prediction[0] / max(1, prediction[1]), 700.0)):.4g}"
    if kind == "ranking":  # the place of the true reply among its candidates
        return str(1 + int((prediction[1:] >= prediction[0]).sum()))
    if kind == "number":
        return f"{prediction:.6g}"
    if kind == "sequence":
        return labels[prediction]
    names = [labels[number] for number in prediction]
    return ",".join(names) if kind == "several" else " ".join(names)


def _shown_target(target: Any, source: TaskRows) -> str:
    if source.recipe.type.head in ("ranking", "language"):
        return "1" if source.recipe.type.head == "ranking" else ""
    return shown(target, source)
