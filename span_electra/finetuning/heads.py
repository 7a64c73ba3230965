"""The heads of a fine-tuning's tasks: what the network is told of them, and what they begin from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from span_electra.finetuning.batching import TaskRows
from span_electra.finetuning.predictions import tag_orders
from span_electra.finetuning.task_model import TaskModel, load_task_model
from span_electra.hub.opening import Pretrained
from span_electra.hub.weights import Joined, take_weights
from span_electra.model.multi_task import HeadConfig, TaskNetwork

# By kinds of task heads, the network which was pretrained for just that: wrong words, the next token.
PRETRAINED_HEAD = {"replaced": "discriminator", "language": "generator"}


def head_configs(sources: Sequence[TaskRows]) -> tuple[HeadConfig, ...]:
    """What the network is told of each task, by its train rows."""
    heads = []
    for source in sources:
        task = source.spec.task
        mean, deviation = target_scale(source)
        heads.append(
            HeadConfig(
                task.type.head,
                task.type.outputs(source.spec.labels),
                dropout=task.dropout_prob,
                weight=task.loss_weight,
                pooling=task.pooling,
                orders=tag_orders(source),
                target_mean=mean,
                target_deviation=deviation,
            )
        )
    return tuple(heads)


def target_scale(source: TaskRows) -> tuple[float, float]:
    """Mean and deviation of the numbers of rows: 0 and 1 where the task has none, (x, 1) where all are x."""
    if source.spec.type.head != "number":
        return 0.0, 1.0
    labels_R = np.array([source.stored(row).get("label", 0.0) for row in range(len(source))], np.float64)
    # By the extremes: of equal numbers the deviation may be the rounding of their mean.
    return float(labels_R.mean()), float(labels_R.std()) if np.ptp(labels_R) else 1.0


def take_pretrained(network: TaskNetwork, pretrained: Pretrained) -> None:
    """Copy the encoder, and each head that was pretrained for its task, bit for bit.

    Raises InputError when something is missing or of another size; nothing has been copied then.
    """
    pairs = zip(network.heads, network.tasks, strict=True)
    heads = [head for head, task in pairs if PRETRAINED_HEAD.get(task.kind) == pretrained.part]
    names = ("encoder.", "head.") if heads else "encoder."
    taken = {name: weight for name, weight in pretrained.weights.items() if name.startswith(names)}
    # Heads of one part are alike: what fits the first fits all.
    for head in heads or [None]:
        take_weights(Joined(network.encoder, head), taken, pretrained.source)


def take_heads(network: TaskNetwork, sources: Sequence[TaskRows], folder: str) -> list[str]:
    """Take the heads of a saved model of ours for the tasks of the same name, type and labels.

    Returns, a line a task, whether its head was taken, or why it is new.
    """
    model, said = load_task_model(folder), []
    theirs = {spec.task.name: number for number, spec in enumerate(model.specs)}
    for head, config, source in zip(network.heads, network.tasks, sources, strict=True):
        task = source.spec.task
        number = theirs.get(task.name)
        why = f"the model has no task {task.name}" if number is None else _other(model, number, source)
        if not why:
            head.load_state_dict(model.network.heads[number].state_dict())
            _in_deviations(head, config)
        said.append(f"{task.name}: {f'new, as {why}' if why else 'taken'}")
    return said


def _other(model: TaskModel, number: int, source: TaskRows) -> str:
    """Why a head cannot be taken for these rows; empty where it can."""
    before, now = model.specs[number], source.spec
    if before.task.task_type != now.task.task_type:
        return f"it was a {before.task.task_type} there"
    # A label's row in the head is its number, and another order would swap them.
    if before.labels != now.labels:
        same = set(before.labels) == set(now.labels)
        how = "have another order" if same else f"differ ({len(before.labels)} there, {len(now.labels)} here)"
        return f"its labels {how}"
    return ""


@torch.no_grad()
def _in_deviations(head: nn.Module, config: HeadConfig) -> None:
    """Have a head of numbers say them by the mean and deviation that it will learn them by."""
    if config.kind == "number":
        head.score.weight /= config.target_deviation
        head.score.bias.sub_(config.target_mean).div_(config.target_deviation)
