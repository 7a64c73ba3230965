"""What tests of all rooms share. A test that takes `architecture` holds for every encoder type."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from span_electra.config import ARCHITECTURES

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


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
