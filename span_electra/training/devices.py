"""Settings -> which devices compute, in how many processes, with what precision; and the group they form."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from span_electra.accelerators import (
    PRECISIONS,
    automatic_precision,
    count_devices,
    describe_precision,
    find_device,
    name_precision,
)
from span_electra.config import TrainingConfig
from span_electra.cores import available_cores, under_torchrun
from span_electra.counted import counted
from span_electra.errors import InputError


@dataclass(frozen=True)
class Plan:
    """Which devices of this machine a run takes, before any process is started."""

    kind: str  # cpu, cuda, mps or xpu
    ids: tuple[int, ...]  # devices, or numbers of CPU processes
    processes: int  # to be started by us; 1: this one does the work


@dataclass(frozen=True)
class Process:
    """One process of a run, and where it computes."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    precision: torch.dtype = torch.float32

    @property
    def is_main_process(self) -> bool:
        """Whether this is the one process that writes files and prints."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager:
        """The context in which a forward pass runs."""
        if self.precision is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)


def plan_devices(config: TrainingConfig) -> Plan:
    """Choose the devices. Raises InputError for devices that are not there; warns of a substitute."""
    # One chooser for training, prediction and evaluation: a name means the same device everywhere.
    named = find_device(config.device, "device:")
    kind, present = named.type, count_devices(named.type)
    ids = tuple(config.device_ids)
    if named.index is not None and ids not in ((), (named.index,)):
        raise InputError(f"device: {config.device} and device_ids {list(ids)} differ; name one of them")
    ids = ids or (named.index or 0,)
    if under_torchrun():
        # torchrun starts the processes and numbers them; our own list of devices has no say then.
        local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
        if ids != (0,) and not local:
            said = "torchrun numbers the devices, from 0; CUDA_VISIBLE_DEVICES chooses others"
            warnings.warn(f"device ids {' '.join(map(str, ids))} are left out: {said}", stacklevel=2)
        if kind != "cpu" and local >= present:
            there = counted(present, f"{kind} device")
            raise InputError(
                f"LOCAL_RANK {local}: this machine has {there}; start as many processes "
                "(--nproc-per-node, or DEVICES for train.sh), or give --device cpu"
            )
        return Plan(kind, ids, 1)
    if kind != "cpu":
        absent = [number for number in ids if number >= present]
        if absent:
            there = "1 (device 0); leave --device_ids out" if present == 1 else f"0 to {present - 1}"
            raise InputError(f"device_ids: {absent[0]} is not there; this machine has {there}")
    elif len(ids) > 1 or ids[0]:
        listed = " ".join(map(str, ids))
        started = counted(len(ids), "CPU process", "CPU processes")
        warnings.warn(f"no GPU in use: --device_ids {listed} starts {started}", stacklevel=2)
    if config.parallel == "dp" and len(ids) > 1:
        warnings.warn("parallel dp: a process for each device, as ddp", stacklevel=2)
    return Plan(kind, ids, len(ids))


def join(plan: Plan, config: TrainingConfig, *, rank: int, world_size: int, store: str | None) -> Process:
    """Settle this process on its device and join the group of the others.

    `store`: file through which processes that we started find each other; None: alone, or under torchrun.
    """
    local, local_world = rank, world_size
    if under_torchrun():  # which numbers processes over all machines, and locally those of this one
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
        local_world = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    if plan.kind != "cpu":
        device = torch.device(plan.kind, local if under_torchrun() else plan.ids[rank])
        # Allocations that name no number, the library's own among them, go to the current device.
        torch.accelerator.set_device_index(device.index)
        # TF32 where the hardware has it: ten bits of mantissa in products, sums in float32.
        torch.set_float32_matmul_precision("high")
    else:
        device = torch.device("cpu")
        share_cores(local_world)
        keep_freed_memory()
    if config.deterministic:
        # Without room of a fixed size cuBLAS may take other kernels, whose sums round otherwise.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if world_size > 1:
        _init_group(plan.kind, rank, world_size, store)
    return Process(device, rank, world_size, _precision(config.precision, device, world_size))


@contextmanager
def switches_kept() -> Iterator[None]:
    """Put back at the end what `join` sets for the whole process: how float32 is multiplied, determinism.

    What this process computes after a run, its results say, is not to be rounded as training was.
    """
    matmul, deterministic = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def share_cores(local_world: int) -> None:
    """Give each of several CPU processes its share of the cores; alone, torch's own choice stands.

    Several processes at full width would fight for the cores, and torchrun's OMP_NUM_THREADS=1 leaves some
    idle. Call it before the first computation: OpenMP may tie the main thread to one core, which then looks
    like all there are.
    """
    import numba

    threads = torch.get_num_threads()
    if local_world > 1 or under_torchrun():
        threads = max(1, available_cores() // local_world)
    # numba's threads are started here and now, because that sets OpenMP's number, and so torch's: in the
    # middle of the first step it would make other bits than those of the same step in a resumed run.
    numba.get_num_threads()
    torch.set_num_threads(threads)


def _init_group(kind: str, rank: int, world_size: int, store: str | None) -> None:
    backend = {"cuda": "nccl", "xpu": "xccl"}.get(kind, "gloo")
    if store is None:
        dist.init_process_group(backend)
        return
    if os.path.exists("/sys/class/net/lo"):  # all on this machine, whose own name may lead nowhere
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # Of the slowest start there is; a process that died is found by its parent much sooner.
    patience = timedelta(minutes=10)
    file = dist.FileStore(store, world_size)  # by its path: a URL would be cut at a #
    file.set_timeout(patience)
    dist.init_process_group(backend, store=file, rank=rank, world_size=world_size, timeout=patience)


def leave(process: Process) -> None:
    """Leave the group, if there is one. Call it where all went well: NCCL's waits here for all the others."""
    if process.world_size > 1 and dist.is_initialized():
        dist.destroy_process_group()


def _precision(name: str, device: torch.device, world_size: int) -> torch.dtype:
    if name != "auto":
        return PRECISIONS[name]
    chosen = [automatic_precision(device)]
    if world_size > 1:
        chosen *= world_size
        dist.all_gather_object(chosen, chosen[0])
    # A measurement may differ from process to process: the first one's holds. What a GPU has not got, none
    # takes: each in a type of its own, their gradients would not be those of one model.
    return torch.float16 if torch.float16 in chosen else chosen[0]


def go_on_in(process: Process, config: TrainingConfig, meta: dict) -> Process:
    """The process with the precision that a run's checkpoint was made in, if it was chosen automatically.

    So that a resumed run is exact even where the measurement would come out otherwise, or on another machine.
    On another kind of device, and where one of them lacks it, it is chosen anew. Checkpoints of releases that
    did not record it are of float32 on CPUs.
    """
    if config.precision != "auto" or meta.get("device", process.device.type) != process.device.type:
        return process
    name = meta.get("precision", "fp32" if process.device.type == "cpu" else None)
    # float16 is chosen where a device has no bf16 (`_precision`), and would compute it by emulation.
    if name is None or (name == "bf16" and process.precision is torch.float16):
        return process
    return replace(process, precision=PRECISIONS[name])


def other_device(process: Process, meta: dict) -> str | None:
    """A sentence where a run goes on on another kind of device, or in another precision, than it was on.

    Example: `begun on cuda in bf16, goes on on cpu in fp32: its numbers will not be those of one device`
    """
    kind, precision = process.device.type, name_precision(process.precision)
    before = meta.get("device", kind), meta.get("precision", precision)
    if before == (kind, precision):
        return None
    now = describe_precision(process.precision, process.device)
    return (
        f"begun on {before[0]} in {before[1]}, goes on on {kind} in {now}: "
        "its numbers will not be those of one device"
    )


def keep_freed_memory() -> None:
    """Have glibc keep freed memory, so that each step does not fault the same pages in again."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library: a little slower, nothing else
    mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own, which a free would give back
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, in bytes: nor does the heap's end


class Agreement:
    """Lets every process know what the others say; in the loop without waiting for them in the step.

    It goes over the host, where no collective of gradients holds it up.
    """

    def __init__(self, world_size: int) -> None:
        self.group = dist.new_group(backend="gloo") if world_size > 1 else None
        self.pending: tuple[torch.Tensor, dist.Work] | None = None

    def gather(self, value: Any) -> list[Any]:
        """What every process gives here, by rank. All must come."""
        values = [value]
        if self.group is not None:
            values *= dist.get_world_size(self.group)
            dist.all_gather_object(values, value, self.group)
        return values

    def largest(self, reason: int, seconds: int) -> list[int]:
        """Return the largest of each: alone, these; among several processes, those of the call before.

        An answer one call late costs a step at a stop; an answer at once would cost a wait in every step.
        """
        if self.group is None:
            return [reason, seconds]
        # Overlaps with the step: asked now, read in the next one.
        answer = self.finish()
        mine = torch.tensor([reason, seconds])
        self.pending = mine, dist.all_reduce(mine, dist.ReduceOp.MAX, self.group, async_op=True)
        return answer

    def finish(self) -> list[int]:
        """Wait for the reduction that is under way; return its answer, or zeros where there is none."""
        if self.pending is None:
            return [0, 0]
        answer, work = self.pending
        work.wait()
        self.pending = None
        return answer.tolist()
