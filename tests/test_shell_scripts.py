"""run.sh and environment.sh, with stand-ins for what they call. Run: pytest tests/test_shell_scripts.py

train.sh has its own in tests/training/test_launch.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Writes down what it is called with, and makes the file that a later line of run.sh looks for.
PYTHON = """#!/usr/bin/env bash
[ "$1" = -c ] || printf '%s\\n' "$*" >> calls
if [ "$3" = data/train.txt ] || [ "$3" = data/valid.txt ]; then mkdir -p features/tiny; : > "$5"; fi
"""


def bash(program: str, place: Path, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [shutil.which("bash"), "-c", program],
        cwd=place,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("splits", [["train"], ["train", "valid"]])
def test_run_names_a_validation_file_only_where_there_is_one(tmp_path, splits):
    shutil.copy(ROOT / "run.sh", tmp_path)
    (tmp_path / "environment.sh").write_text("PATH=$PWD/bin:$PATH\n")
    for name, content in [("bin/python", PYTHON), *((f"data/{split}.txt", "a\n") for split in splits)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "bin/python").chmod(0o755)
    done = bash("./run.sh", tmp_path)
    assert done.returncode == 0, done.stderr
    training = (tmp_path / "calls").read_text().splitlines()[-1]
    assert "--train_file features/tiny/train.arrow" in training and "--out_dir runs/tiny" in training
    assert ("--valid_file features/tiny/valid.arrow" in training) == ("valid" in splits)


@pytest.mark.parametrize("left", ["without pip", "without its python"])
def test_an_environment_that_failed_is_made_again(tmp_path, left):
    """What a Python without ensurepip, or one that is gone, leaves of .venv."""
    shutil.copy(ROOT / "environment.sh", tmp_path)
    (tmp_path / "none.txt").write_text("# nothing to install\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    (tmp_path / ".venv/mine").touch()
    if left == "without its python":
        for path in (tmp_path / ".venv/bin").glob("python*"):
            path.unlink()
            path.symlink_to(tmp_path / "gone/python3")
    entered = '. ./environment.sh none.txt && echo "in $VIRTUAL_ENV" && python -c "import pip"'
    done = bash(entered, tmp_path, PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("making .venv") == 1 and f"in {tmp_path / '.venv'}" in done.stdout
    assert (tmp_path / ".venv/mine").exists() == (left == "without pip"), "what works is kept"
    again = bash(entered, tmp_path, PYTHON=sys.executable)
    assert again.stdout == f"in {tmp_path / '.venv'}\n"


def test_a_shell_that_is_entered_by_hand_outlives_an_error(tmp_path):
    shutil.copy(ROOT / "environment.sh", tmp_path)
    done = bash(". ./environment.sh none.txt; echo alive $?", tmp_path, PATH="/nowhere", PYTHON="")
    assert done.stdout == "alive 2\n" and "no Python from 3.10 to 3.14 found" in done.stderr
