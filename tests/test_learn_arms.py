"""Every arm of benchmarks/learn.py is a setting that the presets take.

Run: pytest tests/test_learn_arms.py
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from argument import JointTrainingConfig  # noqa: E402
from span_electra.commandline import parse  # noqa: E402


@pytest.fixture
def learn(monkeypatch):
    spec = importlib.util.spec_from_file_location("learn", ROOT / "benchmarks/learn.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "learn", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("preset", ["tiny", "quick"])
def test_every_arm_is_taken_by_the_presets(learn, tmp_path, preset):
    # A preset may gain a setting that an arm's contradicts, and the arm fails when somebody needs it.
    for name, changes in learn.ARMS.items():
        own = {key: value for key, value in changes.items() if key not in ("preset", "rows")}
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(learn.nested(own)))
        parse(
            JointTrainingConfig, "", ["--preset", changes.get("preset", preset), "--config_file", str(file)]
        )
