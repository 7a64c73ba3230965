"""Where a run's time goes, and how much of the device's arithmetic it uses."""

from __future__ import annotations

import time
import timeit
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from span_electra.training.devices import Process

Item = TypeVar("Item")
# Of the square matrices whose product shows a device's peak; elsewhere 8192. Smaller ones leave units idle.
SIDE = {"cpu": 1024, "mps": 4096}


class Clock:
    """Seconds by part of the work, since they were last taken; what no part claims goes to `step`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.since = time.monotonic()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside the `with` for this part."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def timed(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """Hand the items on; the time until each is there counts for this part."""
        source, end = iter(items), object()  # an object of our own: an item may be None
        while True:
            with self.part(name):
                item = next(source, end)
            if item is end:
                return
            yield item

    def take(self) -> dict[str, float]:
        """Seconds by part since the last time, which together are all the time that went by."""
        now = time.monotonic()
        parts = self.seconds | {"step": max(0.0, now - self.since - sum(self.seconds.values()))}
        self.seconds, self.since = {}, now
        return parts


def matrix_peak(process: Process) -> float:
    """Floating-point operations a second of the fastest of some square matrix products, on one device."""
    side = SIDE.get(process.device.type, 8192)
    square = torch.ones(side, side, device=process.device, dtype=process.precision)

    def multiply() -> None:
        torch.mm(square, square)
        if process.device.type != "cpu":
            torch.accelerator.synchronize(process.device)

    # The fastest of five: the first sets the library up, and other work may slow down some.
    return 2 * side**3 / min(timeit.repeat(multiply, number=1, repeat=5))
