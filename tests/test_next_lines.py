"""The lines that scripts print for whoever goes on, run as they stand, in folders with blanks in their names.

Run: pytest tests/test_next_lines.py
"""

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from shell_examples import ROOT, SMALL, Shell, book

from span_electra.console import COMMANDS, command_line

COMMAND = re.compile(r"(?:^|: |\()(python \S*\.py[^)\n]*)", re.MULTILINE)
EXAMPLE = ["--task_file", str(ROOT / "examples/sentiment.yaml"), "--data_dir", str(ROOT / "examples/data")]


class FollowingShell(Shell):
    """A shell that is told a line and what to add to it, and returns the commands that were printed."""

    def __call__(self, line: str, *more: str) -> list[str]:
        words = shlex.split(line)
        assert Path(words[1]).is_file(), line
        return COMMAND.findall(self.run([*words, *more]))


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """A shell in a folder with text, at another place than the scripts."""
    place = tmp_path / "a place"
    (place / "my text").mkdir(parents=True)
    (place / "my text" / "a book.txt").write_text(book(300))
    monkeypatch.chdir(place)
    return FollowingShell(monkeypatch, capsys)


def first(script: str, *words: object) -> str:
    return shlex.join(["python", str(ROOT / f"{script}.py"), *map(str, words)])


def test_each_stage_names_the_next_with_all_that_it_needs(shell):
    flags = ["--data_dir", "my text", "--out_dir", "../v 3", "--vocab_size", "300", "--min_fre", "1"]
    (features,) = shell(first("create_vocab_SE", *flags))
    (train,) = shell(features, "--max_seq_len", "600", "--out_file", "my features/train.arrow")
    stopped = ["--max_minutes", "1e-9", "--epochs", "2"]
    (go_on, export) = shell(train, "--out_dir", "my runs/first", *stopped, *SMALL)
    (fill,) = shell(export)
    shell(fill)
    (fill,) = shell(go_on, "--max_minutes", "0")
    shell(fill)
    (report,) = shell(first("evaluate_SE", "my runs/first", "--text", "my text"))
    shell(report)


def test_fine_tuning_names_how_to_go_on_conclude_and_predict(shell):
    flags = ["--data_dir", "my text", "--vocab_size", "300", "--min_fre", "1"]
    (features,) = shell(first("create_vocab_SE", *flags))
    (train,) = shell(features, "--max_seq_len", "64")
    shell(train, "--out_dir", "my runs/first", *("--max_steps", "2"), *SMALL)
    flags = [*EXAMPLE, "--encoder", "my runs/first", "--max_seq_len", 32]
    (tune,) = shell(first("prepare_tasks_SE", *flags))
    stopped = ["--max_minutes", "1e-9", "--epochs", "2"]
    (go_on, conclude) = shell(tune, "--out_dir", "my runs/mood", *stopped)
    (predict,) = shell(conclude)
    shell(predict)
    (predict,) = shell(go_on, "--max_minutes", "0")
    shell(predict)
    state = json.loads(Path("my runs/mood/run.json").read_text())
    assert state["state"] == "finished"


def test_bare_stages_follow_each_other_bare(shell):
    Path("my text").rename("data")
    (features,) = shell(first("create_vocab_SE", "--vocab_size", "300", "--min_fre", "1"))
    assert features == first("create_feature_SE")
    (train,) = shell(features, "--max_seq_len", "64")
    assert train == first("joint_train_span_electra")


def test_a_file_without_a_split_beside_splits_is_told(shell, capsys):
    flags = ["--data_dir", "my text", "--vocab_size", "300", "--min_fre", "1"]
    shell(first("create_vocab_SE", *flags))
    Path("my text").rename("data")
    Path("data/train.txt").write_text("the cat\n" * 50)
    shell.patch.setattr(sys, "argv", [str(ROOT / "create_feature_SE.py")])
    importlib.import_module("create_feature_SE").main()
    assert "note: data/: a book.txt: left out" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_names_its_own_kind(monkeypatch, name):
    monkeypatch.setattr(sys, "argv", ["span-electra vocab"])
    assert command_line(COMMANDS[name], "a b", 3) == f"span-electra {name} 'a b' 3"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest"])
    assert command_line(COMMANDS[name]) == f"python {COMMANDS[name]}.py"
