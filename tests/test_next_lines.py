"""The lines that scripts print for whoever goes on, run as they stand, in folders with blanks in their names.

Run: pytest tests/test_next_lines.py
"""

import importlib
import io
import json
import random
import re
import shlex
import sys
import warnings
from pathlib import Path

import pytest

from span_electra.commandline import run_script
from span_electra.console import COMMANDS, command_line

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
WORDS = ["the", "small", "red", "cat", "dog", "house", "runs", "sleeps", "sees", "in", "under", "a", "tree"]
COMMAND = re.compile(r"(?:^|: |\()(python \S*\.py[^)\n]*)", re.MULTILINE)
SMALL = [
    *("--embedding_size", "16", "--precision", "fp32", "--epochs", "2"),
    *(
        word
        for network in ("generator", "discriminator")
        for name, size in (("hidden_size", 16), ("num_hidden_layers", 1), ("num_attention_heads", 2))
        for word in (f"--model.{network}.{name}", str(size))
    ),
]
EXAMPLE = ["--task_file", str(ROOT / "examples/sentiment.yaml"), "--data_dir", str(ROOT / "examples/data")]


class Shell:
    """Runs commands in a folder, in this process, and keeps what they print."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
        self.patch, self.capsys = patch, capsys

    def __call__(self, line: str, *more: str) -> list[str]:
        """Run a command, with words more than it says; return the commands that it prints."""
        python, script, *words = shlex.split(line)
        assert python == "python" and Path(script).is_file(), line
        self.patch.setattr(sys, "argv", [script, *words, *more])
        stdin = io.TextIOWrapper(io.BytesIO(b"the [MASK] sleeps\n"))
        self.patch.setattr(sys, "stdin", stdin)
        self.patch.setattr(warnings, "formatwarning", warnings.formatwarning)
        main = importlib.import_module(Path(script).stem).main
        with pytest.raises(SystemExit) as end:
            run_script(main)
        said = self.capsys.readouterr()
        assert end.value.code == 0, said.err
        return COMMAND.findall(said.out)


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """A shell in a folder with text, at another place than the scripts."""
    place = tmp_path / "a place"
    (place / "my text").mkdir(parents=True)
    dice = random.Random(0)
    text = "".join(" ".join(dice.choices(WORDS, k=12)) + ".\n" for _ in range(300))
    (place / "my text" / "a book.txt").write_text(text)
    monkeypatch.chdir(place)
    return Shell(monkeypatch, capsys)


def first(script: str, *words: object) -> str:
    return shlex.join(["python", str(ROOT / f"{script}.py"), *map(str, words)])


def test_each_stage_names_the_next_with_all_that_it_needs(shell):
    flags = ["--data_dir", "my text", "--out_dir", "../v 3", "--vocab_size", "300", "--min_fre", "1"]
    (features,) = shell(first("create_vocab_SE", *flags))
    (train,) = shell(features, "--max_seq_len", "600", "--out_file", "my features/train.arrow")
    (go_on, export) = shell(train, "--out_dir", "my runs/first", "--max_minutes", "1e-9", *SMALL)
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
    shell(train, "--out_dir", "my runs/first", "--max_steps", "2", *SMALL)
    (tune,) = shell(first("prepare_tasks_SE", *EXAMPLE, "--encoder", "my runs/first", "--max_seq_len", 32))
    (go_on, conclude) = shell(tune, "--out_dir", "my runs/mood", "--max_minutes", "1e-9", "--epochs", "2")
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
    shell(first("create_vocab_SE", "--data_dir", "my text", "--vocab_size", "300", "--min_fre", "1"))
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
