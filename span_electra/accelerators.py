"""Which device computes: the one place that knows the kinds of accelerators.

A name is `auto`, `cpu`, or a kind that torch knows (`cuda`, which is AMD's too, `mps`, `xpu`), with a number
where one of several is meant: `cuda:1`.
"""

from __future__ import annotations

import re
import timeit

import torch

from span_electra.errors import InputError

KINDS = ("cuda", "mps", "xpu")  # in the order in which `auto` looks for them
NAME = re.compile(rf"(auto|cpu|{'|'.join(KINDS)})(?::(\d+))?")
# How many times as fast bf16 products must be for a whole step to gain. On CPUs with units for them they are
# 1.6 to 5 times as fast, on others several times slower: far from the bound, so that noise decides nothing.
WORTHWHILE = 1.4


def count_devices(kind: str) -> int:
    """How many devices of a kind are here and usable; a cpu counts as one."""
    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    # A build for one maker's devices may lack the module of another's, and is_available tells of drivers.
    backend = getattr(torch, kind, None)
    return backend.device_count() if backend is not None and backend.is_available() else 0


def find_device(name: str, setting: str = "--device") -> torch.device:
    """Return the device that a name means; `auto` is the first accelerator that is here, else the CPU.

    Raises InputError, naming `setting`, for a name that means nothing and for a device that is not here.
    """
    match = NAME.fullmatch(name)
    if match is None or (match[2] and match[1] in ("auto", "cpu")):
        raise InputError(f"{setting} {name}: is no device; use auto, cpu, cuda, cuda:1, mps or xpu")
    kind, number = match[1], match[2]
    # The first kind that is here, in an order of our own, so that the same machine always gives the same.
    if kind == "auto":
        kind = next((kind for kind in KINDS if count_devices(kind)), "cpu")
    present = count_devices(kind)
    if int(number or 0) >= present:
        here = ", ".join(f"{other} ({count_devices(other)})" for other in KINDS if count_devices(other))
        raise InputError(f"{setting} {name}: there is no such device here; use {here or 'cpu'} or auto")
    return torch.device(kind) if number is None else torch.device(kind, int(number))


def exact_sums_dtype(device: torch.device) -> torch.dtype:
    """The widest floating-point type of a device, for sums over many steps.

    mps has no float64; Intel's GPUs say whether they have it (Arc A770 and the like have none).
    """
    if device.type == "xpu":
        wide = getattr(torch.xpu.get_device_properties(device), "has_fp64", True)
        return torch.float64 if wide else torch.float32
    return torch.float32 if device.type == "mps" else torch.float64


def automatic_precision(device: torch.device) -> torch.dtype:
    """What `--precision auto` computes in.

    bf16 where the hardware has it, on CPUs where a product shows it; fp16, with a scaled loss, on CUDA
    devices older than that (V100, T4); float32 elsewhere.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)  # emulated, it is slower than fp16
        return torch.bfloat16 if fast else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if bf16_speedup() >= WORTHWHILE else torch.float32
    return torch.bfloat16 if device.type == "xpu" else torch.float32


def bf16_speedup(side: int = 768) -> float:
    """How many times as fast as in float32 this CPU multiplies two square matrices in bf16.

    Names of instruction sets would not do: what counts is what torch's library makes of them. The two are
    timed in turn, the best of five each, so that other work on the machine slows down both.
    """
    matrices = {dtype: torch.ones(side, side, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    times: dict[torch.dtype, list[float]] = {dtype: [] for dtype in matrices}
    for _ in range(6):
        for dtype, matrix in matrices.items():
            times[dtype].append(timeit.timeit(lambda matrix=matrix: torch.mm(matrix, matrix), number=1))
    best = {dtype: min(taken[1:]) for dtype, taken in times.items()}  # the first call sets the library up
    return best[torch.float32] / best[torch.bfloat16]


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def name_precision(precision: torch.dtype) -> str:
    """The name by which settings and checkpoints know a precision."""
    return next(name for name, dtype in PRECISIONS.items() if dtype is precision)


def describe_precision(
    precision: torch.dtype, device: torch.device, asked: str | None = None, *, several: bool = False
) -> str:
    """A precision as a log says it, whether float32's products keep all their bits, and why it was chosen.

    asked: what --precision says; none: no reason is given. several: it is that of other devices too.
    """
    text = {torch.bfloat16: "bf16", torch.float16: "fp16, loss scaled", torch.float32: "fp32"}[precision]
    if text == "fp32" and device.type == "cuda" and torch.get_float32_matmul_precision() != "highest":
        text = "fp32, matrix products in TF32"
    if asked is None:
        return text
    if asked != "auto":
        return f"{text} (--precision {asked})"
    reasons = {
        ("cpu", torch.bfloat16): "this CPU multiplies faster in it",
        ("cpu", torch.float32): "this CPU multiplies no faster in bf16",
        ("cuda", torch.float16): "not all devices have bf16" if several else "the device has no bf16",
    }
    return f"{text} (auto: {reasons.get((device.type, precision), f'the best for {device.type}')})"


def memory_statistics(device: torch.device) -> dict[str, float]:
    """What a CUDA device's memory holds, in GiB: the most that tensors took, and what is reserved."""
    if device.type != "cuda":
        return {}
    return {
        "gpu_memory_peak": torch.cuda.max_memory_allocated(device) / 2**30,
        "gpu_memory_reserved": torch.cuda.memory_reserved(device) / 2**30,
    }


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the machine has no memory left.

    Other errors speak of memory too: an illegal access, a kernel's shared memory, pinning.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower().replace("_", " ")
    if not isinstance(error, RuntimeError) or "shared mem" in text:
        return False
    # The words of allocators (CUDA's, XPU's, Metal's, the CPU's), the system, drivers and NVIDIA's libraries.
    signs = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
    signs += ("out of device memory", "out of host memory", "status alloc failed")
    return any(sign in text for sign in signs)
