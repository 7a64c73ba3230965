"""The course of a run: which masks hold, and which networks learn, at each of its steps.

What a step hides depends on the step and the length of the run alone, and a row's spans then on (seed, epoch,
row), so a resumed run, or one on more processes, hides what the uninterrupted one hides.

Its phases are shares of the run. Of one that is made longer on the way, those that were left stay left: the
first of what is to come would else be what was over long ago.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from span_electra.config import TrainingConfig
from span_electra.counted import counted
from span_electra.data_config import MaskingConfig, MaskingPhase, masking_phases
from span_electra.errors import InputError
from span_electra.pretraining.settings import PretrainingSettings
from span_electra.training.plan import TICKS, ticks_of

NEVER = 1 << 40  # a step that no run comes to


@dataclass(frozen=True)
class Behind:
    """What a run has behind it, and does not come back to however long it is to be."""

    phases: int = 0  # of its masking schedule, how many were left
    alone: bool = False  # whether the generator has learned alone, and both learn now
    epoch_steps: int = 0  # of its epochs; 0: by the clock, or nothing changed on its way
    position: int = 0  # where in them it stands
    shift: int = 0  # its Course's

    def shifted(self, epoch_steps: int) -> int:
        """The shift of a run that goes on from there in epochs of so many steps.

        Example: 25 steps made in epochs of 10; in epochs of 20 they would be 50 -> -25
        """
        if not (epoch_steps and self.epoch_steps):
            return 0
        return self.position + self.shift - round(self.position * epoch_steps / self.epoch_steps)


NOTHING = Behind()


@dataclass(frozen=True)
class MaskingSchedule:
    """How spans are drawn, phase by phase, and the step that each phase begins with."""

    first_steps: tuple[int, ...]  # ascending, from 0
    maskings: tuple[MaskingConfig, ...]

    @classmethod
    def constant(cls, masking: MaskingConfig) -> MaskingSchedule:
        """One masking throughout."""
        return cls((0,), (masking,))

    @property
    def highest_ratio(self) -> float:
        """The largest share that is ever hidden: what batches of static shapes need room for."""
        return max(masking.mask_ratio for masking in self.maskings)

    def phases_of(self, steps_N: np.ndarray) -> np.ndarray:
        """The number of the phase that each step belongs to, int64."""
        # The right side: a phase's first step belongs to it, not to the one before.
        return np.searchsorted(self.first_steps, np.asarray(steps_N), side="right") - 1


@dataclass(frozen=True)
class Course:
    """What holds when. Steps are the optimizer's or, in a run by the clock, its ticks.

    As it stands by default both networks learn throughout, and rows are masked as their file says.
    """

    epoch_steps: int = 0  # of one epoch; 0 by the clock, whose ticks do not begin anew with an epoch
    alone_until: int = 0  # the step in which the discriminator begins
    next_token_share: float = 0.0  # of the steps in which the generator learns alone, from left to right
    schedule: MaskingSchedule | None = None  # where a run draws other spans than its features have
    # Steps made less those that its epochs would have by now: others than 0 once its batches were changed.
    shift: int = 0
    first_step: int = 0  # the one that the epoch at hand begins with

    @property
    def phase_starts(self) -> tuple[int, ...]:
        """Steps at which the masks, or the networks that learn, become others."""
        return (*(self.schedule.first_steps if self.schedule else ()), self.alone_until)

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint records of it, for `behind`."""
        firsts = list(self.schedule.first_steps) if self.schedule else []
        steps = {"epoch_steps": self.epoch_steps, "shift": self.shift}
        return steps | {"alone_until": self.alone_until, "first_steps": firsts}

    def at_epoch(self, epoch: int, ticks: int) -> Course:
        """The course as the batches of an epoch take it."""
        return replace(self, first_step=ticks + epoch * self.epoch_steps + self.shift)

    def for_validation(self, alone: bool) -> Course:
        """What holds for held-out rows: the last masking throughout; the generator's part while alone."""
        # The last one: a curve whose task grew harder on the way would seem to get worse.
        last = self.schedule.first_steps[-1] if self.schedule else 0
        # A generator that reads from left to right alone has seen no mask that it could be asked for.
        unmasked = float(self.next_token_share == 1) if alone else 0.0
        until = NEVER if alone else 0
        return replace(self, first_step=last, alone_until=until, next_token_share=unmasked)

    def alone_before(self, epoch: int, in_epoch: int, ticks: int) -> bool:
        """Whether the discriminator waits, and has waited in all steps before this one of an epoch."""
        waits = 0 < self.alone_until < NEVER
        return waits and self.at_epoch(epoch, ticks).first_step + in_epoch <= self.alone_until


def course_of(
    settings: PretrainingSettings,
    count_batches: Callable[[], int],
    base: MaskingConfig,
    before: Behind = NOTHING,
) -> Course:
    """The course that `settings` ask for over features that are masked by `base`.

    `count_batches`, those of an epoch, is asked only where something changes on the way. `before`: of a
    resumed run; what it has left is over from the first step. Raises InputError for phases that begin at
    steps in a run by the clock.
    """
    model, training = settings.model, settings.training
    phases = masking_phases(settings.train_loader.masking_schedule)
    first = model.generator_first if model.objective == "joint" else 0.0
    if not (phases or first or model.next_token_share):
        return Course()
    if training.by_clock and any(phase.begin > 1 for phase in phases):
        raise InputError("masking_schedule: by_clock knows shares of the time, at most 1, and no steps")
    epoch_steps, total, shift = _steps(training, count_batches, before)
    alone_until = 0 if before.alone else round(first * total)
    schedule = masking_schedule(phases, total, base) if phases else None
    if schedule:
        to_come = schedule.first_steps[before.phases + 1 :]
        schedule = replace(schedule, first_steps=(0,) * (len(phases) - len(to_come)) + to_come)
    alone_until = NEVER if model.objective == "generator" else alone_until
    return Course(epoch_steps, alone_until, model.next_token_share, schedule, shift)


def masking_schedule(
    phases: tuple[MaskingPhase, ...], total_steps: int, base: MaskingConfig
) -> MaskingSchedule:
    """Lay phases out over a run of `total_steps`; what a phase does not name is as in `base`.

    A phase that begins at 1 or less begins at that share of all steps.

    Example: begins 0, 0.5, 800 of 1,000 steps -> first steps 0, 500, 800

    Raises InputError for a phase that does not begin after the one before it, as only these steps tell.
    """
    exact = [phase.first_step(total_steps) for phase in phases]
    for number in range(1, len(exact)):
        # Not of the rounded ones: two shares of a short run may fall on one step, of which the latter holds.
        if exact[number] <= exact[number - 1]:
            raise InputError(
                f"masking_schedule: of {total_steps:,} steps, the phase of {phases[number].begin:g} begins "
                f"at {exact[number]:,.0f}, not after the one before it ({exact[number - 1]:,.0f}); put "
                "them in order, or write all as shares"
            )
    maskings = [replace(base, **phase.settings) for phase in phases]
    return MaskingSchedule(tuple(round(first) for first in exact), tuple(maskings))


def behind(settings: PretrainingSettings, meta: Mapping[str, Any], source: str) -> Behind:
    """What the run of a checkpoint has left of the course that `settings` ask for.

    Nothing of what they ask for otherwise than that run did, and nothing of checkpoints of releases that did
    not record its course. Raises InputError, naming `source`, where what it records is none.
    """
    if "course" not in meta:
        return NOTHING
    try:
        return _behind(settings, meta)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise InputError(f"{source}: its meta.json holds no course of ours ({error})") from error


def _behind(settings: PretrainingSettings, meta: Mapping[str, Any]) -> Behind:
    laid, loop, before = meta["course"], meta["loop"], meta["training"]
    shift = laid.get("shift", 0)  # of a release without it, batches were not changed
    if before["by_clock"]:
        at = ticks_of(loop["agreed_seconds"], before["max_minutes"])
    else:
        at = loop["epoch"] * laid["epoch_steps"] + loop["batch"] // before["gradient_accumulation_steps"]
        at += shift
    same_maskings = meta["loader"]["masking_schedule"] == list(settings.train_loader.masking_schedule)
    shares = ("objective", "generator_first")
    same_share = all(meta["model"][name] == getattr(settings.model, name) for name in shares)
    return Behind(
        max(0, bisect(laid["first_steps"], at) - 1) if same_maskings else 0,
        # After its very last step a validation still sees the generator alone.
        same_share and laid["alone_until"] < at,
        laid["epoch_steps"],
        at - shift,
        shift,
    )


def final_masking(settings: PretrainingSettings, base: MaskingConfig) -> MaskingConfig | None:
    """How spans are drawn at a run's end and in its validations; None: they are those of its features."""
    phases = masking_phases(settings.train_loader.masking_schedule)
    return replace(base, **phases[-1].settings) if phases else None


def describe_course(
    settings: PretrainingSettings, base: MaskingConfig, before: Behind = NOTHING, candidates: int = 0
) -> str:
    """In words: what becomes of rows, what the generator learns alone, and which of it is over.

    base: how the features are masked. candidates: among which next tokens are predicted; 0: the whole
    vocabulary.
    """
    model, loader = settings.model, settings.train_loader
    # In full: what a phase does not name is as in the features, and not as in the phase before it.
    phases = [
        f"{line.partition(':')[0]}: {replace(base, **phase.settings).in_words()}"
        for line, phase in zip(loader.masking_schedule, masking_phases(loader.masking_schedule), strict=True)
    ]
    said = ["; ".join(phases) or "as the features have them"]
    if before.phases:
        said[0] += f" ({counted(before.phases, 'phase')} over)"
    if loader.spelling_noise and model.objective != "generator":
        said.append(f"{loader.spelling_noise:.0%} of the words misspelt")
    if loader.paired_rows:
        said.append(f"{loader.paired_rows:.0%} of the rows made pairs")
    if model.generator_first and model.objective == "joint":
        over = " (over)" if before.alone else ""
        said.append(f"the generator alone for the first {model.generator_first:.0%}{over}")
    if model.next_token_share:
        among = f" (among {candidates:,} candidates)" if candidates else ""
        said.append(f"alone, {model.next_token_share:.0%} of its steps from left to right{among}")
    return ", ".join(said)


def _steps(
    training: TrainingConfig, count_batches: Callable[[], int], before: Behind
) -> tuple[int, int, int]:
    """Optimizer steps of an epoch and of the run, as plan.py has them, and its shift; by the clock: ticks."""
    if training.by_clock:
        return 0, TICKS, 0
    # Counted, not estimated: batches by tokens differ in rows. Epochs differ by a batch or two at most.
    epoch_steps = math.ceil(count_batches() / training.gradient_accumulation_steps)
    shift = before.shifted(epoch_steps)
    total = epoch_steps * training.epochs + shift
    return epoch_steps, min(total, training.max_steps) if training.max_steps else total, shift
