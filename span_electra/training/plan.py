"""Where a run stands, how many steps it is to make in all, and whether an interval has just gone by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from span_electra.config import Interval, OptimizerConfig, TrainingConfig
from span_electra.counted import counted
from span_electra.errors import InputError
from span_electra.training.experiment import EpochBatches, Experiment
from span_electra.training.optim import lr_multiplier

TICKS = 10**9  # of a run by the clock; its schedules count them as others count steps


class Planned(NamedTuple):
    """What a run's steps were planned by."""

    steps_an_epoch: int
    epochs: int
    most_steps: int  # 0: as many as the epochs have


@dataclass
class LoopState:
    """Where the run stands; with weights, optimizer state and counters it is all that a resumed run needs."""

    step: int = 0  # optimizer steps made
    epoch: int = 0
    batch: int = 0  # batches of the epoch consumed
    samples: int = 0  # rows consumed, of all epochs
    epoch_samples: int = 0  # rows of the epoch consumed
    evaluations: int = 0  # validations finished
    agreed_seconds: int = 0  # spent training, whole, as all processes agree
    seconds: float = 0.0  # spent training
    tokens: float = 0.0  # real tokens seen, as far as logged
    logged_at: float = 0.0  # `seconds` at the last line of the log
    validation_due: bool = False  # a validation was due and could not be finished
    best: float | None = None  # of the monitored metric
    metric: float | None = None  # of the monitored metric, if validated at this very step
    valid: dict[str, float] = field(default_factory=dict)  # the last validation's metrics
    valid_step: int | None = None  # the step that was validated then
    warned: list[str] = field(default_factory=list)  # health warnings given, so that each comes once
    plan: Planned | None = None  # None: of a release without plans
    total: int = 0  # optimizer steps of the whole run, by the plan

    @classmethod
    def from_dict(cls, saved: dict) -> LoopState:
        """Read what a checkpoint holds, of any release. Raises TypeError for an unknown field."""
        state = cls(**{FORMER_NAMES.get(name, name): value for name, value in saved.items()})
        state.plan = Planned(*state.plan) if state.plan else None  # JSON has lists alone
        return state


# Fields of LoopState as checkpoints of earlier releases call them.
FORMER_NAMES = {
    "agreed": "agreed_seconds",
    "told_at": "logged_at",
    "untried": "validation_due",
    "told": "warned",
}


@dataclass(frozen=True)
class Progress:
    """How far a run has come, in every unit of an interval."""

    steps: int
    samples: int  # rows
    epochs: float
    evaluations: int
    minutes: float  # of training; as all processes agree


def progress(state: LoopState, batches: EpochBatches) -> Progress:
    """How far the run has come."""
    epochs = state.epoch + state.batch / len(batches)
    return Progress(state.step, state.samples, epochs, state.evaluations, state.agreed_seconds / 60)


def is_due(every: Interval, before: Progress, after: Progress) -> bool:
    """Whether a multiple of the interval lies beyond `before` and not beyond `after`.

    It depends on the two alone, so that a resumed run keeps its hours. Example: every 100 samples, from 96 to
    104 -> True; an interval of 0 is never due.
    """
    if not every.number:
        return False
    # Multiples passed, not a remainder of 0: samples and minutes go by several at a time.
    # Rounded first: a tenth of an epoch, ten times, is the whole of it.
    was, now = (round(getattr(place, every.unit) / every.number, 9) for place in (before, after))
    return math.floor(now) > math.floor(was)


def plan_steps(experiment: Experiment, config: TrainingConfig, state: LoopState) -> None:
    """Plan the steps of the whole run; the first epoch's count stands for each. By the clock there are 0.

    A resumed run keeps its plan. Where epochs or batches were changed it is planned anew from where it
    stands, in epochs and rows: what is left of them, in the new steps, comes after the steps that were made.
    Steps alone would say that 20 small ones are enough where 18 large ones are asked for.
    """
    size = config.gradient_accumulation_steps
    each = math.ceil(len(experiment.train_batches(0, 0)) / size)
    plan = Planned(each, config.epochs, config.max_steps)
    if config.by_clock:
        state.plan, state.total = Planned(each, 0, 0), 0
    elif state.plan != plan:
        made = state.epoch * each + math.ceil(state.batch / size)
        # A checkpoint of a release without plans, whose steps are these, has gone by this very plan.
        as_planned = state.plan is None and state.step == made
        steps = each * config.epochs if as_planned else state.step + max(0, each * config.epochs - made)
        state.plan, state.total = plan, min(steps, config.max_steps) if config.max_steps else steps


def recut_epoch(state: LoopState, experiment: Experiment, config: TrainingConfig) -> str:
    """Go on in an epoch whose batches are cut otherwise now, behind as many rows as it has had; say so.

    Rows come in another order, so that some of this epoch's come twice and others not at all; from the next
    epoch on each comes once again.
    """
    batches, together = experiment.train_batches(state.epoch, 0), config.gradient_accumulation_steps
    # Checkpoints of releases that did not count them: every epoch had as many rows.
    had = state.epoch_samples or state.samples - state.epoch * int(batches.ends_N[-1])
    # A step begins with the first of the batches that share its totals.
    groups = math.ceil((np.searchsorted(batches.ends_N, had) + 1) / together)
    state.batch = min(groups * together, len(batches))
    state.epoch_samples = int(batches.ends_N[state.batch - 1])
    rows = f"{state.epoch_samples:,} of {counted(batches.ends_N[-1], 'row')}"
    said = f"epoch {state.epoch + 1} goes on behind {rows}"
    if state.batch == len(batches):
        state.epoch, state.batch, state.epoch_samples = state.epoch + 1, 0, 0
        state.validation_due = True  # no step is left to bring it, and it may be the run's last
    return f"batches are cut otherwise now: {said}, in another order"


def schedule_position(state: LoopState, config: TrainingConfig) -> tuple[int, int]:
    """How far schedules are, and where they end: in steps or, by the clock, in ticks."""
    if not config.by_clock:
        return state.step, state.total
    return ticks_of(state.agreed_seconds, config.max_minutes), TICKS


def ticks_of(seconds: int, minutes: float) -> int:
    """The ticks, TICKS in all, of a run of so many minutes that are over after so many seconds."""
    return min(TICKS, round(TICKS * seconds / (60 * minutes)))


def elapsed_ticks(state: LoopState, config: TrainingConfig) -> int:
    """The ticks of a run by the clock that are over; 0 where steps and epochs decide."""
    return schedule_position(state, config)[0] if config.by_clock else 0


def is_over(state: LoopState, config: TrainingConfig) -> bool:
    """Whether all that was planned is done."""
    if config.by_clock:
        return schedule_position(state, config)[0] == TICKS
    return state.epoch >= config.epochs or state.step >= state.total


def check_by_clock(config: TrainingConfig, optimizer: OptimizerConfig) -> None:
    """Refuse numbers of steps in a schedule that is laid over the time. Raises InputError."""
    for name in ("warmup", *{"wsd": ["decay"], "step": ["step_size"]}.get(optimizer.schedule, [])):
        value = getattr(optimizer, name)
        if config.by_clock and value > 1:
            raise InputError(f"{name}: {value:g} steps, but by_clock knows shares of the time: at most 1")


def what_is_left(state: LoopState, config: TrainingConfig, optimizer: OptimizerConfig) -> str:
    """What a resumed run will do, in a line.

    Example: `epoch 4 of 6 done; 2 epochs, 6 steps to go; rate from 0.00012 to 0`
    """
    done, total = schedule_position(state, config)
    first, last = (optimizer.lr * lr_multiplier(at, total, optimizer) for at in (done, total))
    rates = f"rate from {first:.3g} to {last:.3g}"
    if config.by_clock:
        used = state.agreed_seconds / 60
        did = counted(state.step, "step")
        return f"{used:.1f} of {config.max_minutes:g} minutes used, {did} done; {rates}"
    left, steps = max(0, config.epochs - state.epoch), max(0, state.total - state.step)
    if not left or not steps:
        bound = "--max_steps" if left else "--epochs"
        return f"nothing is left to train, {counted(state.step, 'step')} done; more need a larger {bound}"
    begun = f", {counted(state.batch, 'batch', 'batches')} of the next" if state.batch else ""
    return (
        f"epoch {state.epoch} of {config.epochs} done{begun}; {counted(left, 'epoch')}, "
        f"{counted(steps, 'step')} to go; {rates}"
    )
