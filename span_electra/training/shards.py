"""Tensors sharded over processes <-> safetensors files, of which every process writes its own.

torch.distributed.checkpoint does it, so that any number of processes reads what any other number wrote, each
its shards alone. Its own format is pickle, its safetensors are not.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from span_electra.errors import InputError, reason_of

SHARD = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")  # as the library names them
Described = dict[str, tuple[torch.Size, torch.dtype]]


def write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write every process's shards into `folder`. All processes must come; a failure of one is each one's.

    Raises InputError with what the first process says that could not write.
    """
    import torch.distributed.checkpoint as dcp

    try:
        dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except dcp.CheckpointException as error:
        raise _refusal(folder, error) from error


def describe_shards(folder: Path) -> Described:
    """The shape and type of each tensor whose shards lie in `folder`."""
    import torch.distributed.checkpoint as dcp

    try:
        found = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        return {name: (tensor.size, tensor.properties.dtype) for name, tensor in found.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: its shards cannot be read ({error})") from error


def read_shards(folder: Path, tensors: dict[str, Tensor], *, together: bool) -> None:
    """Fill tensors with what `folder` has by their names.

    together: each process its shards of them; all processes must come. Else this one reads for itself.
    """
    import torch.distributed.checkpoint as dcp

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as asked for
            reader = dcp.HuggingFaceStorageReader(str(folder))
            dcp.load(tensors, storage_reader=reader, no_dist=not together)
    except dcp.CheckpointException as error:
        raise _refusal(folder, error) from error


def read_whole(folder: Path) -> dict[str, Tensor]:
    """All tensors, put together on the CPU of this process."""
    described = describe_shards(folder)
    # The library fills tensors that are there; it makes none.
    tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in described.items()}
    read_shards(folder, tensors, together=False)
    return tensors


def _refusal(folder: Path, error: BaseException) -> InputError:
    rank, (reason, _) = next(iter(error.failures.items()))
    return InputError(f"{folder}: process {rank}: {reason_of(reason, joined=True)}")


def of_optimizer(name: str) -> bool:
    """Whether a tensor is of the optimizer's state: `<what>:<parameter name>`; parameters have no colon."""
    return ":" in name


def load_sharded(folder: Path, aliases: dict[str, str], model: nn.Module) -> dict[str, Tensor]:
    """Read the weights into `model`; return the optimizer's state, sharded as its parameters are.

    aliases: further names of a weight -> the one it is stored by. All processes must come. Raises InputError
    naming the first tensor that does not fit.
    """
    described, own = describe_shards(folder), model.state_dict(keep_vars=True)
    stored = {name: facts for name, facts in described.items() if not of_optimizer(name)}
    aliased = {alias: stored[name] for alias, name in aliases.items() if name in stored}
    # Before anything is read: a half-filled model would train on.
    check_fit(own, stored | aliased, str(folder))
    parameters, optimizer = dict(model.named_parameters()), {}
    for label, (shape, dtype) in described.items():
        like = parameters.get(label.partition(":")[2])
        if like is not None and like.shape == shape:
            optimizer[label] = torch.empty_like(like, dtype=dtype, requires_grad=False)
        elif label not in stored:  # a step count, or what `Optimizers.load` will refuse
            optimizer[label] = torch.empty(shape, dtype=dtype)
    read_shards(folder, {name: own[name].detach() for name in stored} | optimizer, together=True)
    return optimizer


def check_fit(own: dict[str, Tensor], described: Described, source: str) -> None:
    """Raise InputError naming `source` and the first tensor that a model lacks, or has otherwise."""
    if missing := sorted(own.keys() - described.keys()) or sorted(described.keys() - own.keys()):
        where = "missing" if missing[0] in own else "unknown to this model"
        raise InputError(f"{source}: tensor {missing[0]!r} is {where}; it was written by another model")
    for name, (shape, dtype) in described.items():
        want = own[name]
        if shape != want.shape or dtype != want.dtype:
            raise InputError(
                f"{source}: tensor {name!r} is {tuple(shape)} {dtype}, the model's "
                f"{tuple(want.shape)} {want.dtype}; train with the settings it was written with"
            )
