"""One optimizer step: batches -> gradients -> update, without the host ever waiting for the device.

A step whose loss or gradients are not finite is skipped, on the device itself where the optimizer can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from span_electra.accelerators import exact_sums_dtype
from span_electra.random_keys import subkey
from span_electra.training.devices import Process
from span_electra.training.experiment import Batch, Experiment
from span_electra.training.optim import Optimizers
from span_electra.training.parallel import full_tensor, no_sync, uses_dropout_keys, with_unused

COUNTED = ("loss", "steps", "skipped")  # follow the experiment's own tally in the vector of sums
LOSS, STEPS, SKIPPED = range(-len(COUNTED), 0)  # their places, counted from its end

FIRST_SCALE = 2.0**16  # fp16: the loss is multiplied by this so that small gradients do not vanish
GROWTH_STEPS = 2000  # fp16: finite steps after which the scale is doubled


@dataclass
class Counters:
    """What is counted on the device, in float64 where it has it, and read seldom."""

    sums: Tensor  # [tally, COUNTED]; over the steps since the last line of the log, this process's share
    in_a_row: Tensor  # scalar; steps skipped one after another until now
    scale: Tensor  # scalar; fp16's factor on the loss, else 1
    good: Tensor  # scalar; finite steps since the scale changed

    @classmethod
    def fresh(cls, process: Process, tally: int) -> Counters:
        """Counters of a run that has not begun; `tally`: how many sums the experiment gives."""
        numbers = {"sums": [0.0] * (tally + len(COUNTED)), "in_a_row": 0.0}
        return cls.from_lists(numbers | cls.first_scale(process), process, tally)

    @staticmethod
    def first_scale(process: Process) -> dict[str, float]:
        """The factor on the loss that a process begins with, and no steps made with it yet."""
        return {"scale": FIRST_SCALE if process.precision is torch.float16 else 1.0, "good": 0.0}

    @classmethod
    def from_lists(cls, lists: dict, process: Process, tally: int) -> Counters:
        """Take back what `to_lists` gave; sums that an older version did not know begin at 0."""
        sums, counted = lists["sums"][:LOSS], lists["sums"][LOSS:]
        lists = lists | {"sums": [*sums, *[0.0] * (tally - len(sums)), *counted]}
        dtype = exact_sums_dtype(process.device)
        return cls(
            *(torch.tensor(lists[entry.name], dtype=dtype, device=process.device) for entry in fields(cls))
        )

    def to_lists(self) -> dict:
        """Plain numbers for a checkpoint; exact, since JSON keeps every bit of a float64."""
        return {entry.name: getattr(self, entry.name).tolist() for entry in fields(self)}


def train_step(
    experiment: Experiment,
    network: nn.Module,
    batches: Sequence[Batch],
    *,
    optimizers: Optimizers,
    counters: Counters,
    process: Process,
    key: int,
    lr_multiplier: float,
) -> None:
    """Make one optimizer step from the batches, whose totals are counted together.

    Args:
        network: the experiment's model, or what wraps it over several devices.
        key: of this step and process; all its random numbers follow from it.
        lr_multiplier: of the peak learning rates.
    """
    # On the device throughout: a number that the host reads would empty the queue of what is to be computed.
    tally = torch.zeros_like(counters.sums)
    unused = [set(experiment.unused_parameters(batch)) for batch in batches]
    for number, batch in enumerate(batches):
        batch = batch.to(process.device, non_blocking=True)
        batch_key = subkey(key, number)
        torch.manual_seed(batch_key % 2**63)
        dropout_key = batch_key if uses_dropout_keys(network, process) else None
        with no_sync(network, enabled=number + 1 < len(batches)):
            with process.autocast():
                output = network(batch, dropout_key=dropout_key)
            # A loss that is not finite makes every gradient so, on every process: all skip the step.
            factor = torch.where(output.loss.isfinite(), counters.scale * process.world_size, math.nan)
            loss = with_unused(output.loss, unused[number], network)
            loss.backward(factor.to(loss.dtype))
        tally[:LOSS] += output.tally
        tally[LOSS] += output.loss.detach()
    # Optimizers tell a gradient of zeros from none: they would decay the unused, and count the step.
    for parameter in set.intersection(*unused):
        parameter.grad = None
    # The norm is of all processes' gradients, so that all come to the same verdict without asking.
    skip = _clip(optimizers, counters.scale)
    optimizers.set_lr(lr_multiplier)
    optimizers.step(skip)
    optimizers.zero_grad()
    _count(counters, tally, skip, process)


def _clip(optimizers: Optimizers, scale: Tensor) -> Tensor:
    """Scale the gradients to the allowed norm; return 1. (float32) where the norm is not finite, else 0."""
    gradients = [parameter.grad for parameter in optimizers.parameters if parameter.grad is not None]
    norm = full_tensor(nn.utils.get_total_norm(gradients))
    # fp16: the norm is that of the scaled gradients; unscaling and clipping are one multiplication.
    most = optimizers.config.max_gradient_norm
    clip = (most / (norm / scale + 1e-6)).clamp(max=1.0) if most else 1.0
    torch._foreach_mul_(gradients, (clip / scale).to(norm.dtype))
    return (~norm.isfinite()).float()


def _count(counters: Counters, tally: Tensor, skip: Tensor, process: Process) -> None:
    """Add the step to the sums: a skipped one counts as skipped alone."""
    good = 1.0 - skip.to(counters.sums.dtype)
    if process.is_main_process:  # each process would count it once more
        tally[STEPS], tally[SKIPPED] = good, 1.0 - good
    # Not tally * good: what is not finite would stay so.
    counted = torch.where(good > 0, tally, torch.zeros_like(tally))
    counted[SKIPPED] = tally[SKIPPED]
    counters.sums += counted
    counters.in_a_row = torch.where(good > 0, 0.0, counters.in_a_row + 1.0)
    if process.precision is torch.float16:
        counters.good = torch.where(good > 0, counters.good + 1.0, 0.0)
        grown = counters.good >= GROWTH_STEPS
        counters.scale = torch.where(good > 0, counters.scale * (1.0 + grown), counters.scale / 2.0)
        counters.good = torch.where(grown, 0.0, counters.good)
