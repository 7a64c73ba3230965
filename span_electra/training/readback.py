"""Numbers on their way from the device to the host, read some steps after they were asked for.

Reading a number at once makes the host wait until the device has done all that was asked of it, and then the
device wait until the host has asked for more. Some steps later the number has long been there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Steps until a number is read, by kind of device; elsewhere copies wait anyway, and it is read at once.
LATE = {"cuda": 10, "xpu": 10}


class _Copy(NamedTuple):
    step: int
    numbers: Tensor  # on the host
    arrived: torch.Event | None  # None: at once
    use: Callable[[Tensor], None]


class Readback:
    """Copies under way, first in, first out."""

    def __init__(self, device: torch.device) -> None:
        self.late = LATE.get(device.type, 0)
        self.kind = device.type
        self.under_way: deque[_Copy] = deque()

    def ask(self, step: int, numbers: Tensor, use: Callable[[Tensor], None]) -> None:
        """Have `use` called with a copy of the numbers on the host, `late` steps after this one."""
        # A copy even on the CPU: the counters go on being added to.
        copy = numbers.detach().to("cpu", non_blocking=self.late > 0, copy=True)
        arrived = None
        if self.late and self.kind != "cpu":
            arrived = torch.Event(self.kind)
            arrived.record()
        self.under_way.append(_Copy(step, copy, arrived, use))
        self.read(step)

    def read(self, step: float) -> None:
        """Use the copies that were asked for `late` steps before this one, or earlier."""
        while self.under_way and self.under_way[0].step + self.late <= step:
            copy = self.under_way.popleft()
            if copy.arrived is not None:
                copy.arrived.synchronize()
            copy.use(copy.numbers)

    def finish(self) -> None:
        """Use all copies; this waits for the device."""
        self.read(math.inf)
