"""Every arm of benchmarks/learn.py is a setting that the presets take.

Run: pytest tests/test_learn_arms.py
"""

import json
from pathlib import Path

import pytest

from argument import JointTrainingConfig
from span_electra.commandline import parse


@pytest.fixture
def learn(benchmark_script):
    return benchmark_script("learn")


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


def test_numbers_are_of_the_arm_and_the_threads_that_are_asked_for(learn, tmp_path, monkeypatch):
    made = []

    def run_script(script, *arguments, threads):
        out = Path(arguments[arguments.index("--out_dir") + 1])
        out.mkdir()
        made.append(out)
        return float(arguments[arguments.index("--max_steps") + 1])  # a second a step

    for name in ("training_rows", "held_out_rows"):
        monkeypatch.setattr(learn, name, lambda *_: tmp_path / "rows.arrow")
    monkeypatch.setattr(learn, "run_script", run_script)
    monkeypatch.setattr(learn, "ROOT", tmp_path)
    (tmp_path / "configs").mkdir()
    preset = tmp_path / "configs" / "tiny.json"
    preset.write_text("{}")
    theirs, text = tmp_path / "trial", tmp_path / "mine"
    theirs.mkdir()
    text.mkdir()
    (text / "valid.txt").write_text("a\n")

    def trained(threads=1):
        """How many trainings there were for it: with two trials the first time, that measure a step."""
        before = len(made)
        learn.train_arm("spans", 0, learn.Workspace(tmp_path, text, "tiny", 1.0, threads))
        return len(made) - before

    assert [trained(), trained(), trained(threads=2), trained(threads=2)] == [3, 0, 3, 0]
    monkeypatch.setitem(learn.ARMS, "spans", {"optimizer.lr": 1.0})
    assert [trained(), trained()] == [3, 0]
    preset.write_text('{"model": {}}')
    assert [trained(), trained()] == [3, 0]
    (text / "train.txt").write_text("b\n")  # another text under the same name
    assert [trained(), trained()] == [3, 0]
    assert theirs.is_dir() and theirs not in made


def test_rows_and_vocabulary_are_of_the_text_that_is_asked_for(learn, tmp_path, monkeypatch):
    read = []

    def run_script(script, *arguments):
        flag, out = ("--data_dir", "--out_dir") if "vocab" in script else ("--in_file", "--out_file")
        source, made = (Path(arguments[arguments.index(name) + 1]) for name in (flag, out))
        read.append((source / "train.txt").read_text())
        if "vocab" in script:
            made.mkdir()
            made = made / "learn BPE-vocab.json"
        made.touch()

    monkeypatch.setattr(learn, "run_script", run_script)
    for name, text in (("a", "one\n"), ("b", "other\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text(text)
    workspaces = [learn.Workspace(tmp_path / "work", tmp_path / name, "tiny", 1.0, 1) for name in "ab"]
    rows = [learn.training_rows(workspace, "sentences") for workspace in [*workspaces, *workspaces]]
    assert read == ["one\n"] * 2 + ["other\n"] * 2 and rows[0] == rows[2] != rows[1] == rows[3]


def test_no_text_is_taken_unasked(learn, monkeypatch, capsys, tmp_path):
    for given in ([], ["--text", str(tmp_path)]):
        monkeypatch.setattr("sys.argv", ["learn.py", *given])
        with pytest.raises(SystemExit):
            learn.main()
        assert "name a folder of text with a valid.txt" in capsys.readouterr().err
