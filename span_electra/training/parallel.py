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
from span_electra.training.devices import Process


def wrap_model(
    model: nn.Module, process: Process, config: TrainingConfig, *, all_parameters_learn: bool = True
) -> nn.Module:
    """Return the module to call for training; `model` keeps its names and stays the one to save.

    all_parameters_learn: every parameter that learns has a part in every batch's loss.
    """
    if process.world_size == 1:
        several = len(process.replica_ids) > 1
        return RowParallel(model, device_ids=list(process.replica_ids)) if several else model
    if config.parallel == "fsdp":
        return _shard(model, process)
    devices = [process.device] if process.device.type == "cuda" else None
    return DistributedDataParallel(
        model, devices, gradient_as_bucket_view=True, find_unused_parameters=not all_parameters_learn
    )


def _shard(model: nn.Module, process: Process) -> nn.Module:
    """FSDP2: each layer's parameters lie in shares and are gathered while it computes; then the rest."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(process.device.type, (process.world_size,))
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


def no_sync(network: nn.Module, *, enabled: bool) -> AbstractContextManager:
    """Context of one backward pass; enabled: its gradients stay on this process, to be added to.

    Of a step's batches only the last lets gradients travel, so that accumulation costs no network.
    """
    if not enabled:
        return nullcontext()
    if isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return _unsynced(network) if hasattr(network, "set_requires_gradient_sync") else nullcontext()


def uses_dropout_keys(network: nn.Module, process: Process) -> bool:
    """Whether dropout draws its masks from a key (in numpy); else from torch's generator, seeded each step.

    A GPU would compile anew for each key, and memory that numpy has seen cannot be freed, as FSDP must.
    """
    return process.device.type == "cpu" and not hasattr(network, "set_requires_gradient_sync")


def sum_over_processes(sums: Tensor, process: Process) -> Tensor:
    """Return the sums of all processes; `sums` stays as it is."""
    total = sums.clone()
    if process.world_size > 1:
        dist.all_reduce(total)
    return total


def full_tensor(tensor: Tensor) -> Tensor:
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
