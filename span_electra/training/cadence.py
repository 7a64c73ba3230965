"""How often: whether an interval of steps, samples, epochs, evaluations or minutes has just gone by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from span_electra.config import Interval


@dataclass(frozen=True)
class Progress:
    """How far a run has come, in every unit of an interval."""

    steps: int
    samples: int  # rows
    epochs: float
    evaluations: int
    minutes: float  # of training; as all processes agree


def passed(every: Interval, before: Progress, after: Progress) -> bool:
    """Whether a multiple of the interval lies beyond `before` and not beyond `after`.

    It depends on the two alone, so that a resumed run keeps its hours. Example: every 100 samples, from 96 to
    104 -> True; an interval of 0 never passes.
    """
    if not every.number:
        return False
    # Multiples passed, not a remainder of 0: samples and minutes go by several at a time.
    # Rounded first: a tenth of an epoch, ten times, is the whole of it.
    was, now = (round(getattr(progress, every.unit) / every.number, 9) for progress in (before, after))
    return math.floor(now) > math.floor(was)
