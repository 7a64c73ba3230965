"""run.sh and environment.sh, with stand-ins for what they call. Run: pytest tests/test_shell_scripts.py

train.sh has its own in tests/training/test_launch.py.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shell_examples import ROOT, SCHEMAS

from span_electra.commandline import Parser
from span_electra.training.run_folder import write_mark

# Writes down what it is called with, and makes the file that a later line of run.sh looks for.
PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> calls
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


def clone(place: Path, python: str, *text: str) -> None:
    """A folder like a clone, with files in data/ and a stand-in for Python."""
    shutil.copy(ROOT / "run.sh", place)
    (place / "environment.sh").write_text("touch .venv\nPATH=$PWD/bin:$PATH\n")
    for name, content in [("bin/python", python), *((f"data/{name}", "a\n") for name in text)]:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(content)
    (place / "bin/python").chmod(0o755)


@pytest.mark.parametrize("splits", [["train"], ["train", "valid"]])
@pytest.mark.parametrize("left", ["", "valid"])
def test_run_validates_on_a_text_of_its_own_alone(tmp_path, splits, left):
    """`left`: features of a text that data/ holds no more."""
    clone(tmp_path, PYTHON, *(f"{split}.txt" for split in splits))
    if left:
        (tmp_path / "features/tiny").mkdir(parents=True)
        (tmp_path / "features/tiny/valid.arrow").touch()
    done = bash("./run.sh", tmp_path)
    assert done.returncode == 0, done.stderr
    training = (tmp_path / "calls").read_text().splitlines()[-1]
    assert "--train_file features/tiny/train.arrow" in training and "--out_dir runs/tiny" in training
    assert ("--valid_file features/tiny/valid.arrow" in training) == ("valid" in splits)
    # However slow the machine is, a first run ends soon.
    assert "--by_clock" in training and "--max_minutes" in training


@pytest.mark.parametrize(
    ("call", "text", "named"),
    [
        ("./run.sh", ["a.txt"], "data/ holds no train.txt"),
        ("./run.sh", ["valid.txt"], "data/ holds no train.txt"),
        ("./run.sh --out_dir 'my run'", ["train.txt"], "was given: --out_dir my run"),
    ],
)
def test_run_refuses_in_a_line_what_it_would_not_do_before_anything_is_made(tmp_path, call, text, named):
    clone(tmp_path, PYTHON, *text)
    before = sorted(tmp_path.rglob("*"))
    done = bash(call, tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout
    assert done.stderr.startswith("error: ") and named in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("splits", [["train"], ["train", "valid"]])
def test_a_run_that_is_done_is_told_with_a_command_that_trains_anew(tmp_path, splits):
    clone(tmp_path, PYTHON)
    for name in ("runs/tiny/discriminator", "features/tiny"):
        (tmp_path / name).mkdir(parents=True)
    write_mark(tmp_path / "runs/tiny", "finished", step=9)
    for split in splits:
        (tmp_path / f"features/tiny/{split}.arrow").touch()
    done = bash("./run.sh", tmp_path)
    assert done.returncode == 0 and "done already" in done.stdout, done.stderr
    assert "trained on features/tiny/" in done.stdout and "move vocab/ and runs/tiny/ away" in done.stdout
    (words,) = [line.split() for line in done.stdout.splitlines() if line.startswith("    python ")]
    given = Parser(SCHEMAS[words[1]], "").read(words[2:])
    assert ("valid_data.valid_file" in given) == ("valid" in splits) and given["out_dir"] != "runs/tiny"
    assert not (tmp_path / "calls").exists()


def test_features_are_asked_for_each_time_for_the_stage_knows_what_is_made(tmp_path):
    clone(tmp_path, PYTHON, "train.txt", "valid.txt")
    for _ in range(2):
        assert bash("./run.sh", tmp_path).returncode == 0
    calls = (tmp_path / "calls").read_text()
    assert calls.count("--in_file data/train.txt") == calls.count("--in_file data/valid.txt") == 2


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_run_that_is_not_done_is_gone_on_with_and_what_is_kept_of_earlier_text_is_told(tmp_path, state):
    clone(tmp_path, PYTHON, "train.txt")
    for name in ("runs/tiny/discriminator", "runs/tiny/checkpoints/step-000009", "vocab"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "vocab/x BPE-vocab.json").touch()
    write_mark(tmp_path / "runs/tiny", state, step=9)
    done = bash("./run.sh", tmp_path)
    assert done.returncode == 0 and "taking the vocabulary in vocab/; to have one of other" in done.stdout
    assert "going on with it; to train on other text, move it and vocab/ away first" in done.stdout
    assert (tmp_path / "calls").read_text().splitlines()[-1].endswith(" --resume runs/tiny")


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_is_gone_on_with_keeps_its_features_whatever_data_holds_by_now(tmp_path, there):
    clone(tmp_path, PYTHON, "train.txt")
    for name in ("runs/tiny/checkpoints/step-000009", "features/tiny"):
        (tmp_path / name).mkdir(parents=True)
    if there:
        (tmp_path / "features/tiny/train.arrow").touch()
    assert bash("./run.sh", tmp_path).returncode == 0
    assert ("create_feature_SE.py" not in (tmp_path / "calls").read_text()) == there


@pytest.mark.parametrize("script", [*ROOT.glob("*.sh"), *ROOT.glob("*/*.sh")], ids=lambda path: path.name)
def test_lists_that_may_be_empty_are_asked_for_so_that_older_bash_takes_them(script):
    """Before 4.4 an empty list is an unset variable, which `set -u` refuses."""
    text = re.sub(r"(?m)^\s*#.*", "", script.read_text())
    for name in set(re.findall(r"(\w+)=\((?:\)|\$\{\w+:\+)", text)):
        assert len(re.findall(rf"\$\{{{name}\[@\]", text)) == 2 * text.count(
            f'${{{name}[@]+"${{{name}[@]}}"}}'
        )


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
