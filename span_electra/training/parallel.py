"""One model over several devices: DDP, FSDP2 and DataParallel, with gradients summed over the processes.

A process's loss is its share of the whole batch's mean, so gradients must be added; DDP and FSDP average, and
the loss is multiplied by the number of processes first.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from span_electra.batch import StepOutput
from span_electra.config import TrainingConfig
from span_electra.training.devices import Place


def spread(model: nn.Module, place: Place, config: TrainingConfig, all_learn: bool = True) -> nn.Module:
    """Return the module to call for training; `model` keeps its names and stays the one to save.

    all_learn: every parameter that learns has a part in every batch's loss.
    """
    if place.world == 1:
        return RowParallel(model, device_ids=list(place.ids)) if len(place.ids) > 1 else model
    if config.parallel == "fsdp":
        return _shard(model, place)
    devices = [place.device] if place.device.type == "cuda" else None
    return DistributedDataParallel(
        model, devices, gradient_as_bucket_view=True, find_unused_parameters=not all_learn
    )


def _shard(model: nn.Module, place: Place) -> nn.Module:
    """FSDP2: each layer's parameters lie in shares and are gathered while it computes; then the rest."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(place.device.type, (place.world,))
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList):
            for layer in module:
                fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


@contextmanager
def _unsynced(network: Any) -> Any:
    network.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        network.set_requires_gradient_sync(True)


def gathering(network: nn.Module, last: bool) -> AbstractContextManager:
    """Context of one backward pass: gradients travel between processes at a step's last batch alone."""
    if last:
        return nullcontext()
    if isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return _unsynced(network) if hasattr(network, "set_requires_gradient_sync") else nullcontext()


def draws_by_key(network: nn.Module, place: Place) -> bool:
    """Whether dropout draws its masks from a key (in numpy); else from torch's generator, seeded each step.

    A GPU would compile anew for each key, and memory that numpy has seen cannot be freed, as FSDP must.
    """
    return place.device.type == "cpu" and not hasattr(network, "set_requires_gradient_sync")


def add_over_processes(sums: Tensor, place: Place) -> Tensor:
    """Return the sums of all processes; `sums` stays as it is."""
    total = sums.clone()
    if place.world > 1:
        dist.all_reduce(total)
    return total


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor in one piece if it lies in shares (FSDP; all processes must ask), else as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


# --- DataParallel -------------------------------------------------------------------------------------


class RowParallel(nn.DataParallel):
    """torch.nn.DataParallel for our records: a batch's rows go to the devices in turn, losses are added."""

    def scatter(self, inputs: tuple, kwargs: dict | None, device_ids: list[int]) -> tuple[tuple, tuple]:
        parts = inputs[0].split_rows(len(device_ids))
        moved = [
            (part.to(torch.device("cuda", number)),) for part, number in zip(parts, device_ids, strict=True)
        ]
        return tuple(moved), tuple(dict(kwargs or {}) for _ in moved)

    def gather(self, outputs: list[StepOutput], output_device: int) -> StepOutput:
        device = torch.device("cuda", output_device)
        return add_outputs([output.to(device) for output in outputs])


def add_outputs(outputs: list[StepOutput]) -> StepOutput:
    """Losses and tallies are shares of the whole batch's, so they add up."""
    return StepOutput(sum(output.loss for output in outputs), sum(output.tally for output in outputs))
