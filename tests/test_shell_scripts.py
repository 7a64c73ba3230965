"""run.sh, with stand-ins for what they call. Run: pytest tests/test_shell_scripts.py

train.sh has its own in tests/training/test_launch.py.
"""

import os
import shutil
import subprocess
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
