"""Names of devices, what they compute in, and which errors are lack of memory.

Run: pytest tests/test_accelerators.py
"""

from types import SimpleNamespace

import pytest
import torch

from span_electra import accelerators
from span_electra.accelerators import (
    automatic_precision,
    bf16_speedup,
    count_devices,
    describe_precision,
    exact_sums_dtype,
    find_device,
    lacks_memory,
    name_precision,
)
from span_electra.errors import InputError


@pytest.fixture
def machine(monkeypatch):
    """A machine with other devices than this one."""

    def make(**devices: int) -> None:
        monkeypatch.setattr(accelerators, "count_devices", lambda kind: devices.get(kind, int(kind == "cpu")))

    return make


@pytest.mark.parametrize(
    ("devices", "name", "found"),
    [
        ({}, "auto", "cpu"),
        ({"cuda": 2}, "auto", "cuda"),
        ({"mps": 1}, "auto", "mps"),
        ({"xpu": 1, "cuda": 1}, "auto", "cuda"),
        ({"cuda": 2}, "cuda:1", "cuda:1"),
        ({"cuda": 2}, "cpu", "cpu"),
    ],
)
def test_a_name_means_the_device_that_is_here(machine, devices, name, found):
    machine(**devices)
    assert str(find_device(name)) == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:2", r"--device cuda:2: there is no such device here; use cuda \(2\) or auto"),
        ("mps", "no such device here"),
        ("gpu", "is no device; use auto, cpu, cuda"),
        ("cpu:1", "is no device"),
        ("cuda:x", "is no device"),
    ],
)
def test_a_device_that_is_not_here_is_refused_with_what_is(machine, name, message):
    machine(cuda=2)
    with pytest.raises(InputError, match=message):
        find_device(name)


def test_counts_agree_with_torch():
    assert count_devices("cpu") == 1
    assert count_devices("cuda") == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_sums_are_float32_where_there_is_no_float64():
    assert exact_sums_dtype(torch.device("mps")) is torch.float32
    assert exact_sums_dtype(torch.device("cpu")) is torch.float64


@pytest.mark.parametrize(
    ("properties", "dtype"),
    [({"has_fp64": False}, torch.float32), ({"has_fp64": True}, torch.float64), ({}, torch.float64)],
)
def test_intels_devices_say_whether_they_have_float64(monkeypatch, properties, dtype):
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda device: SimpleNamespace(**properties))
    assert exact_sums_dtype(torch.device("xpu")) is dtype


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, torch.bfloat16), (False, torch.float16)])
def test_older_cuda_devices_compute_in_fp16(monkeypatch, has_bf16, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert automatic_precision(torch.device("cuda")) is precision


@pytest.mark.parametrize(
    ("speedup", "precision"), [(0.3, "fp32"), (1.1, "fp32"), (1.7, "bf16"), (4.0, "bf16")]
)
def test_a_cpu_takes_bf16_where_its_products_gain_enough(monkeypatch, speedup, precision):
    monkeypatch.setattr(accelerators, "bf16_speedup", lambda: speedup)
    assert name_precision(automatic_precision(torch.device("cpu"))) == precision


def test_the_speedup_is_measured():
    assert 0.01 < bf16_speedup(side=64) < 100


@pytest.mark.parametrize(("several", "said"), [(False, "the device has"), (True, "not all devices have")])
def test_fp16_says_which_devices_have_no_bf16(several, said):
    text = describe_precision(torch.float16, torch.device("cuda"), "auto", several=several)
    assert text.startswith(f"fp16, loss scaled (auto: {said} ")


def test_fp32_says_whether_it_is_tf32(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert "TF32" in describe_precision(torch.float32, cuda)
    assert describe_precision(torch.float32, torch.device("cpu")) == "fp32"
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "highest")
    assert describe_precision(torch.float32, cuda) == "fp32"


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("XPU out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (
            RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
            True,
        ),
        (RuntimeError("unable to mmap 4096 bytes from file <a>: Cannot allocate memory (12)"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB, max allowed: 9 GB)"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376"), False),
        (RuntimeError("Triton: out of memory: shared memory"), False),
        (RuntimeError("cannot pin 'torch.LongTensor': pin_memory thread exited"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_only_lack_of_memory_is_called_so(error, memory):
    assert lacks_memory(error) is memory
