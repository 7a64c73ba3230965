"""Masks with a course: how spans are drawn at which step of a run.

The masking of a step depends on the step and the length of the run alone, and a row's spans then on (seed,
epoch, row), so a resumed run, or one on more processes, hides what the uninterrupted one hides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from span_electra.config import MaskingConfig, MaskingPhase
from span_electra.errors import InputError


@dataclass(frozen=True)
class MaskingSchedule:
    """How spans are drawn, phase by phase, and the step that each phase begins with."""

    first_steps: tuple[int, ...]  # ascending, from 0
    maskings: tuple[MaskingConfig, ...]

    @property
    def highest_ratio(self) -> float:
        """The largest share that is ever hidden: what batches of static shapes need room for."""
        return max(masking.mask_ratio for masking in self.maskings)

    def phases_of(self, steps_N: np.ndarray) -> np.ndarray:
        """The number of the phase that each step belongs to, int64."""
        # The right side: a phase's first step belongs to it, not to the one before.
        return np.searchsorted(self.first_steps, np.asarray(steps_N), side="right") - 1


@dataclass(frozen=True)
class EpochPhases:
    """What holds at each step of an epoch; by default both networks learn, on the features' own spans."""

    schedule: MaskingSchedule | None = None  # None: the features' own, or others like them
    first_step: int = 0  # the step of the run that the epoch begins with
    alone_until: int = 0  # the first step in which both networks learn; before it the generator does alone
    next_token_share: float = 0.0  # of the steps before it, those from left to right


def masking_schedule(
    phases: tuple[MaskingPhase, ...], total_steps: int, base: MaskingConfig
) -> MaskingSchedule:
    """Lay phases out over a run of `total_steps`; what a phase does not name is as in `base`.

    A phase that begins at 1 or less begins at that share of all steps. No phases: `base` for the whole run.

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
    firsts = [round(first) for first in exact]
    maskings = [replace(base, **phase.settings) for phase in phases]
    return MaskingSchedule(tuple(firsts) or (0,), tuple(maskings) or (base,))
