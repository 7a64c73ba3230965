"""What checkpoints of fine-tuning tell of their run, and what of it may differ when the run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from span_electra.errors import InputError
from span_electra.finetuning.task import Task

SCORE = "score"  # the metric of a validation that says which model is best


def measured(tasks: Sequence[Task], monitor: str) -> list[list[Any]]:
    """What a monitored metric is taken of, as JSON gives it back; task files may be edited on the way.

    Of each task with dev rows: its name, the metric that decides, and whether that decides a threshold too.
    """
    return [
        [task.name, task.metrics[0] if monitor == SCORE or task.tuned_threshold else "", task.tuned_threshold]
        for task in tasks
        if task.val_split or "dev" in task.files
    ]


def kept_shift(shift: float, before: Task, now: Task) -> float:
    """The threshold of a checkpoint's head where the task is tuned by the same metric now, else none: 0."""
    return shift if now.tuned_threshold and before.metrics[:1] == now.metrics[:1] else 0.0


def check_same_tasks(facts: dict, meta: Mapping[str, Any], source: str) -> None:
    """Refuse to go on with other tasks or data. Raises InputError naming what differs."""
    before, now = _identity(meta), _identity(facts)
    for key in now:
        if before.get(key) != now[key]:
            raise InputError(
                f"{source}: was trained with {key} {before.get(key)!r}, this is {now[key]!r}; go on with the "
                "data and settings it had, or start anew without --resume_train"
            )


def _identity(facts: Mapping[str, Any]) -> dict:
    """What a run cannot change on the way, by the names that users know."""
    heads = facts.get("heads", [])
    return {
        "vocabulary": facts.get("vocabulary_sha256"),
        "tasks": [head.get("kind") for head in heads],
        "pooling": [head.get("pooling", "cls") for head in heads],
        # In their order: a head is known by its number, and heads of one kind fit each other's tasks.
        "rows": [f"{name} {key[:12]}" for name, key in facts.get("prepared", {}).items()],
        "seed": facts.get("order", {}).get("seed"),
    }


def order_of(facts: Mapping[str, Any]) -> dict:
    """What decides which rows come when."""
    order = dict(facts.get("order", {}))
    epochs = order.pop("epochs", None)
    # Where sampling changes from the first epoch to the last, their number decides its course.
    course = {"epochs": epochs} if order.get("sampling") == "annealed" else {}
    return order | course | {"together": facts.get("training", {}).get("gradient_accumulation_steps")}
