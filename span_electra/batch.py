"""What travels between a network and whatever trains it: records of tensors, and what a step gives back."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Movable:
    """A record of tensors that can be sent to a device in one call."""

    def to(self, device: torch.device | str, non_blocking: bool = False):
        """Return the same record with every tensor on `device`."""
        moved = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if hasattr(value, "to"):
                moved[entry.name] = value.to(device, non_blocking=non_blocking)
        return replace(self, **moved)


@dataclass(frozen=True)
class StepOutput:
    """What one forward pass for training gives back."""

    loss: Tensor  # scalar; this process's share of the weighted mean loss, to be differentiated
    tally: Tensor  # float32, detached; sums over this process's rows, whose names the experiment knows
