"""The heads of a fine-tuning's tasks: what the network is told of them, and what they begin from."""

from __future__ import annotations

from span_electra.finetuning.prepare import Prepared
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_model import load_task_model
from span_electra.model.multi_task import HeadConfig, TaskNetwork


def head_configs(tasks: tuple[Task, ...], prepared: Prepared) -> tuple[HeadConfig, ...]:
    """What the network is told of each task."""
    heads = []
    for task in tasks:
        outputs = task.type.outputs(prepared.labels[task.name])
        heads.append(HeadConfig(task.type.head, outputs, task.dropout_prob, task.loss_weight, task.pooling))
    return tuple(heads)


def take_heads(network: TaskNetwork, tasks: tuple[Task, ...], prepared: Prepared, folder: str) -> None:
    """Take the heads of a saved model of ours for the tasks of the same name, type and labels."""
    other = load_task_model(folder)
    # By name, type and labels: a label's row in the head is its number, and another order would swap them.
    theirs = {
        (spec.task.name, spec.task.task_type, spec.labels): head
        for spec, head in zip(other.specs, other.network.heads, strict=True)
    }
    for head, task in zip(network.heads, tasks, strict=True):
        found = theirs.get((task.name, task.task_type, prepared.labels[task.name]))
        if found is not None:
            head.load_state_dict(found.state_dict())
