"""What tests of all rooms share. A test that takes `architecture` holds for every encoder type."""

import importlib.util
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
import torch

from span_electra.config import ARCHITECTURES

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

# The first example of a compiled loop compiles it, and a busy machine takes its time with any.
# The same cases in every run: one that chance finds would fail whoever happens to land. To look for new ones:
# pytest --hypothesis-profile=default
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def own_random_numbers(request):
    """Each test draws from torch's generator what it draws alone, whichever ran before it."""
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder is the test's own: prepared data and runs go into it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_accelerator(here, monkeypatch):
    """A machine without one, where a run of the default sizes would take seven hours."""
    monkeypatch.setattr("span_electra.pretraining.defaults.has_accelerator", lambda: False)
    monkeypatch.setattr("span_electra.pretraining.defaults.estimated_hours", lambda layers: 7.0)


@pytest.fixture
def torchrun(monkeypatch) -> Callable[..., None]:
    """Sets the variables of a process that torchrun starts, of two unless others are given."""

    def set_variables(**others: str) -> None:
        of_first = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
        for name, value in (of_first | others).items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.fixture(params=ARCHITECTURES)
def architecture(request, monkeypatch):
    """Each encoder type in turn: what `small_config`, and all examples made with it, are of."""
    monkeypatch.setattr("model_examples.ARCHITECTURE", request.param)
    return request.param


@pytest.fixture
def benchmark_script(monkeypatch) -> Callable[[str], ModuleType]:
    """Imports a script of benchmarks/, anew for each test."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load
