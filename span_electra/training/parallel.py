"""One model over several devices, a process each: DDP or FSDP2; gradients are summed.

A process's loss is its share of the whole batch's mean, so gradients must be added; DDP and FSDP average, and
the loss is multiplied by the number of processes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from span_electra.config import TrainingConfig
from span_electra.training.devices import Process


def wrap_model(model: nn.Module, process: Process, config: TrainingConfig) -> nn.Module:
    """Return the module to call for training; `model` keeps its names and stays the one to save."""
    if process.world_size == 1:
        return model
    if is_sharded(process, config):
        return _shard(model, process)
    # None elsewhere: then DDP goes by where the module is.
    devices = [process.device] if process.device.type == "cuda" else None
    # No find_unused_parameters, which searches each graph: the experiment knows them (`with_unused`).
    return DistributedDataParallel(model, devices, gradient_as_bucket_view=True)


def is_sharded(process: Process, config: TrainingConfig) -> bool:
    """Whether each process keeps a shard of every parameter (FSDP)."""
    return config.parallel == "fsdp" and process.world_size > 1


def _shard(model: nn.Module, process: Process) -> nn.Module:
    """FSDP2: each layer's parameters are sharded and are gathered while it computes; then the rest.

    The model may still be on the CPU: a layer's weights go to the device whole, and all but a shard leave it
    before the next layer's come, so that a model need not fit one device.
    Under bf16 or fp16 they travel and compute in that type, while gradients are added up in float32; so do
    states between layers, in fp16 too, where one device would keep them in float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(process.device.type, (process.world_size,))
    policy = MixedPrecisionPolicy()
    if process.precision is not torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=process.precision, reduce_dtype=torch.float32)
    # Layers first: what they hold the call for the whole model leaves alone.
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList):
            for layer in module:
                fully_shard(layer, mesh=mesh, mp_policy=policy)
    # The batch stays as it is: in 16 bits its counts and the samples' random numbers would be others.
    return fully_shard(model, mesh=mesh, mp_policy=replace(policy, cast_forward_inputs=False))


def no_sync(network: nn.Module, *, enabled: bool) -> AbstractContextManager:
    """Context of one backward pass; enabled: its gradients stay on this process, to be added to.

    Of a step's batches only the last lets gradients travel, so that accumulation costs no network.
    """
    if hasattr(network, "set_requires_gradient_sync"):  # FSDP's, which holds until it is set anew
        network.set_requires_gradient_sync(not enabled)
    ddp = isinstance(network, DistributedDataParallel)
    return network.no_sync() if ddp and enabled else nullcontext()


def with_unused(loss: Tensor, unused: Iterable[nn.Parameter], network: nn.Module) -> Tensor:
    """The loss, to which under DDP unused parameters add nothing: it expects a gradient of each."""
    if not isinstance(network, DistributedDataParallel):
        return loss
    # The sum of no elements: nothing is read, and whatever the weights are, their gradients are zeros.
    return sum((parameter.flatten()[:0].sum() for parameter in unused), loss)


def uses_dropout_keys(network: nn.Module, process: Process) -> bool:
    """Whether dropout draws its masks from a key (in numpy); else from torch's generator, seeded each step.

    A GPU would compile anew for each key, and memory that numpy has seen cannot be freed, as FSDP must.
    """
    return process.device.type == "cpu" and not hasattr(network, "set_requires_gradient_sync")


def sum_over_processes(sums: Tensor, process: Process) -> Tensor:
    """Return the sums of all processes; `sums` stays as it is."""
    # A copy: the counters go on as this process's own, and must not be added twice.
    total = sums.clone()
    if process.world_size > 1:
        dist.all_reduce(total)
    return total


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor in one piece if it is sharded (FSDP; all processes must ask), else as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local_part(tensor: Tensor) -> Tensor:
    """Return this process's shard of a tensor (FSDP), in the same memory, or the tensor where it is whole."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def gather_tensors(tensors: dict[str, Tensor], process: Process) -> dict[str, Tensor]:
    """Tensors whole and on the main process's CPU, shared ones shared; the other processes get nothing.

    One at a time, so that no device ever holds more than its shards and one whole tensor. All must come.
    """
    pieces: dict[int, Tensor] = {}
    for tensor in {id(tensor): tensor for tensor in tensors.values()}.values():
        whole = full_tensor(tensor.detach())
        if process.is_main_process:
            pieces[id(tensor)] = whole.cpu()
    return {name: pieces[id(tensor)] for name, tensor in tensors.items() if id(tensor) in pieces}


def sharded_as(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor that every process has whole, cut over the devices as the parameter is (FSDP)."""
    if not hasattr(parameter, "device_mesh") or hasattr(tensor, "device_mesh"):  # cut already
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    # Not distribute_tensor, which sends the first process's copy to all: each takes its shard of its own.
    mesh = parameter.device_mesh
    same = DTensor.from_local(tensor.to(parameter.device), mesh, [Replicate()], run_check=False)
    return same.redistribute(placements=parameter.placements)
