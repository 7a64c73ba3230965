"""A fine-tuned network with what is needed to use it, opened from its run or a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from span_electra.errors import InputError
from span_electra.finetuning.decoding import direction
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.metadata import kept_shift
from span_electra.finetuning.task import Task
from span_electra.hub.opening import config_of, open_model
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.text.vocabulary import Vocabulary
from span_electra.training import checkpoint


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
