"""Golden command lines: a flag that was is still there. Run: pytest tests/golden/test_flags.py"""

import subprocess
import sys
from pathlib import Path

import pytest
from golden_examples import EXPECTED

ROOT = Path(__file__).resolve().parents[2]
NAMES = """
import sys, argument
from span_electra.commandline import Parser
print(*Parser(getattr(argument, sys.argv[1]), "").names, "--help")
"""
SCHEMAS = {
    "create_vocab_SE.py": "VocabularyArgs",
    "create_feature_SE.py": "FeatureArgs",
    "joint_train_span_electra.py": "JointTrainingConfig",
    "prepare_tasks_SE.py": "PrepareArgs",
    "finetune_SE.py": "FinetuneArgs",
    "evaluate_SE.py": "EvaluateArgs",
    "predict_SE.py": "PredictArgs",
    "report_SE.py": "ReportArgs",
    "export_SE.py": "ExportArgs",
}


@pytest.mark.parametrize("script", sorted(EXPECTED["flags"]))
def test_flags_are_neither_lost_nor_new_unsaid(script):
    """Users' scripts and notes name these flags; whoever adds one writes it into the list."""
    done = subprocess.run(
        [sys.executable, "-c", NAMES, SCHEMAS[script]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = set(done.stdout.split())
    stored = set(EXPECTED["flags"][script])
    assert not stored - found, (
        f"{script}: flags are gone: {sorted(stored - found)}; users have them in scripts"
    )
    assert not found - stored, (
        f"{script}: flags are new: {sorted(found - stored)}; put them into the list in "
        "tests/golden/stored/expected.json and into CHANGELOG.md"
    )
