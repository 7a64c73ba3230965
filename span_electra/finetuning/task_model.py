"""The network of a fine-tuning's tasks: what heads are told and begin from, and a saved one opened again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from span_electra.errors import InputError
from span_electra.finetuning.batching import TaskRows
from span_electra.finetuning.decoding import direction
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.metadata import kept_shift
from span_electra.finetuning.predictions import tag_orders
from span_electra.finetuning.task import Task
from span_electra.hub.opening import Pretrained, config_of, open_model
from span_electra.hub.weights import Joined, take_weights
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.text.vocabulary import Vocabulary
from span_electra.training import checkpoint

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


# --- opened again ---------------------------------------------------------------------------------------


class TaskModel(NamedTuple):
    """A fine-tuned network, on the CPU, and what is needed to use it."""

    network: TaskNetwork
    specs: tuple[TaskSpec, ...]  # one a head
    vocabulary: Vocabulary
    meta: dict  # of its checkpoint


def load_task_model(folder: str | Path, tasks: Iterable[Task] = ()) -> TaskModel:
    """Rebuild a fine-tuned network, whose scores decide labels and are numbers as they are.

    `folder`: a run of fine-tuning, of which the best checkpoint is taken, or a checkpoint.
    `tasks`: as a task file has them by now, which may want other thresholds. Raises InputError.
    """
    opened = open_model(folder)
    if not opened.fine_tuned:
        raise InputError(f"{folder}: no run of fine-tuning; name a folder that finetune_SE.py made")
    saved = checkpoint.load(opened.checkpoint)
    # All from the checkpoint itself: the task file may have been changed since, or be gone.
    try:
        heads = tuple(_read_head(head) for head in saved.meta["heads"])
        network = TaskNetwork(config_of(saved.meta["model"]), heads)
        specs = tuple(_read_spec(spec) for spec in saved.meta["recipes"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{opened.checkpoint}: describes no fine-tuned model of ours ({error})") from error
    checkpoint.restore_weights(network, saved.weights, str(opened.checkpoint))
    now, taken = {task.name: task for task in tasks}, []
    for head, spec, module in zip(heads, specs, network.heads, strict=True):
        head = replace(head, shift=kept_shift(head.shift, spec.task, now.get(spec.task.name, spec.task)))
        taken.append(_taken_into_weights(head, spec, module))
    network.tasks = tuple(taken)
    return TaskModel(network, specs, opened.vocabulary, saved.meta)


@torch.no_grad()
def _taken_into_weights(head: HeadConfig, spec: TaskSpec, module: nn.Module) -> HeadConfig:
    """Take a head's threshold and its targets' scale into the weights; returns what is left to be told."""
    # There they are those of every program which opens the exported task.
    if head.shift:
        module.score.bias += torch.from_numpy(head.shift * direction(head.kind, spec.labels))
    if head.kind == "number":
        module.score.weight *= head.target_deviation
        module.score.bias.mul_(head.target_deviation).add_(head.target_mean)
    return replace(head, shift=0.0, target_mean=0.0, target_deviation=1.0)


def _read_head(described: dict) -> HeadConfig:
    head = HeadConfig(**described)
    return replace(head, orders=tuple(head.orders))


def _read_spec(described: dict) -> TaskSpec:
    # JSON knows lists alone, and specs are compared and hashed as the tuples they were.
    task = dict(described["task"])
    task["files"] = {split: tuple(names) for split, names in task["files"].items()}
    for name in ("labels", "metrics"):
        task[name] = None if task[name] is None else tuple(task[name])
    return TaskSpec(
        Task(**task), tuple(described["labels"]), described["max_seq_len"], described["lowercase"]
    )
