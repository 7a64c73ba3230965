"""The order of an epoch of several tasks: which rows make a batch, and which task has its turn.

It is that of (seed, epoch) alone, so that a resumed run, and every process of one, works it out for itself.

Shapes are in the names:
  R  rows (pieces) of a task   B  rows of a batch
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BUCKET_SPAN = 16  # batches whose rows are sorted by length together: little padding, and still by chance
LEAST_ANNEALED = 0.2  # exponent of the last epoch under annealed sampling (Stickland and Murray 2019, 3.2)
# Draws for different purposes share nothing, also where their other keys are the same numbers.
ROWS, TASKS, REPLIES = 1, 2, 3


@dataclass(frozen=True)
class Order:
    """How the rows of several tasks become an epoch."""

    batch_size: int = 8  # rows, all processes together
    sampling: str = "proportional"  # how many of an epoch's batches a task gets; see `quotas`
    epochs: int = 1  # of the whole run, over which annealed sampling goes
    seed: int = 0
    shuffle_buffer_size: int = 0  # rows shuffled together; 0: all


def plan_tasks(lengths: Sequence[np.ndarray], order: Order, epoch: int) -> list[tuple[int, np.ndarray]]:
    """Return (task, pieces) of each batch of an epoch; a task given more than it has begins anew."""
    own = [-(-len(lengths_R) // order.batch_size) for lengths_R in lengths]
    queues = []
    for task, quota in enumerate(quotas(own, order, epoch)):
        queue: list[np.ndarray] = []
        while len(queue) < quota:
            # Each pass over the rows has draws of its own: `len(queue)` is another number every time.
            rng = np.random.default_rng([ROWS, order.seed, epoch, task, len(queue)])
            queue += _cut(lengths[task], order, rng)
        queues.append(queue[:quota])
    # The tasks take turns by chance; each one's batches keep their order, so that its buffer holds.
    turns = np.repeat(np.arange(len(queues)), [len(queue) for queue in queues])
    turns = np.random.default_rng([TASKS, order.seed, epoch]).permutation(turns)
    sources = [iter(queue) for queue in queues]
    return [(int(task), next(sources[task])) for task in turns]


def quotas(own: Sequence[int], order: Order, epoch: int) -> list[int]:
    """How many batches of an epoch each task gets; together always as many as they have.

    proportional: its own; square_root: in proportion to their square roots; annealed: to their powers, from
    1 in the first epoch to LEAST_ANNEALED in the last.
    Example: square_root, tasks of 4 and 16 batches -> 7 and 13
    """
    # A small task given its own share alone is forgotten; given too much, it is learnt by heart. So annealed
    # sampling begins with what there is and ends with nearly equal turns.
    progress = epoch / max(1, order.epochs - 1)
    annealed = 1.0 - (1.0 - LEAST_ANNEALED) * min(1.0, progress)
    # One law with three exponents: shares are proportional to sizes to that power.
    power = {"proportional": 1.0, "square_root": 0.5, "annealed": annealed}[order.sampling]
    weights = np.array(own, np.float64) ** power
    shares = weights / weights.sum() * sum(own)
    counts = np.floor(shares).astype(int)
    # Largest remainders first; what rounding in the last digit would turn is held by the stable sort.
    rest = np.argsort(-(shares - counts).round(9), kind="stable")[: sum(own) - counts.sum()]
    counts[rest] += 1
    return counts.tolist()


def _cut(lengths_R: np.ndarray, order: Order, rng: np.random.Generator) -> list[np.ndarray]:
    """All rows in batches: shuffled, sorted by length within a span of batches, the batches shuffled.

    With a shuffle buffer all this happens within windows of its size, in whole batches, from a row that is
    drawn to the end and on from the first.
    """
    size, buffer = order.batch_size, order.shuffle_buffer_size
    # Whole batches: else each window would end in a batch too small, many in an epoch instead of one.
    window = max(size, buffer // size * size) if buffer else len(lengths_R)
    # From the first row each time, a task given less than it has would never see the end of its file.
    rows_R = np.roll(np.arange(len(lengths_R)), -rng.integers(len(lengths_R)) if buffer else 0)
    batches = []
    for begin in range(0, len(lengths_R), window):
        shuffled = rows_R[begin + rng.permutation(min(window, len(lengths_R) - begin))]
        for first in range(0, len(shuffled), size * BUCKET_SPAN):
            span = shuffled[first : first + size * BUCKET_SPAN]
            span = span[np.argsort(lengths_R[span], kind="stable")]
            # The sort is stable, and the batches are shuffled after it: their order tells nothing of lengths.
            cut = [span[place : place + size] for place in range(0, len(span), size)]
            batches += [cut[number] for number in rng.permutation(len(cut))]
    return batches
