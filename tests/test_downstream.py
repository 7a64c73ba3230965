"""Which numbers benchmarks/downstream.py takes from an earlier call, and what it may remove.

Run: pytest tests/test_downstream.py
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from network_examples import exported

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def downstream(benchmark_script, monkeypatch, tmp_path):
    """The script in a folder with data/ for its tasks, whose every fine-tuning has a number of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = benchmark_script("downstream")
    monkeypatch.chdir(tmp_path)
    for name in ("train", "dev", "test"):
        (tmp_path / "data/pos").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"data/pos/{name}.tsv").write_text("cat\tNOUN\n\ndog\tNOUN\n\nbark\tVERB\n\n")
    made = []

    def run_script(script, *arguments, folder=None):
        if script == "prepare_tasks_SE.py":
            (folder / "tasks_prepared_data").mkdir()
        else:
            made.append(arguments)
            (folder / "run").mkdir()
            results = {"pos": {"test": {"accuracy": float(len(made))}}}
            (folder / "run/results.json").write_text(json.dumps(results))
        return 1.0

    monkeypatch.setattr(module, "run_script", run_script)
    return module


@pytest.fixture
def number(downstream, monkeypatch, capsys):
    """Called with flags: which fine-tuning the table's number is of."""

    def asked(*arguments):
        flags = ["--data", "data", "--tasks", "pos"]
        monkeypatch.setattr(sys, "argv", ["downstream.py", *map(str, arguments), *flags])
        downstream.main()
        cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")]
        return int(float(cells[3]))

    return asked


def test_numbers_are_of_the_encoder_that_is_asked_for(number):
    exported(Path("a/exported"))
    exported(Path("b/exported"), seed=1)
    asked = [number(f"{name}/exported") for name in "abab"]
    assert asked == [1, 2, 1, 2]
    named = ["--work_dir", "work"]  # where a folder is named for both, each takes the other's place
    asked = [number(f"{name}/exported", *named) for name in "abb"]
    assert asked == [3, 4, 4]


def test_numbers_of_other_weights_data_or_settings_are_made_anew(downstream, monkeypatch, number):
    def asked(*arguments):
        return number("model", "--work_dir", "work", *arguments)

    exported(Path("model"))
    assert [asked(), asked()] == [1, 1]
    exported(Path("model"), seed=1)  # trained on: the same folder, other weights
    assert [asked(), asked()] == [2, 2]
    assert [asked("--rows", 2), asked("--rows", 2)] == [3, 3]
    job = downstream.JOBS["pos"]
    monkeypatch.setitem(downstream.JOBS, "pos", replace(job, epochs=job.epochs + 1))
    assert [asked("--rows", 2), asked("--rows", 2)] == [4, 4]
    monkeypatch.setitem(downstream.FLAGS, "lr", 0.5)
    assert [asked("--rows", 2), asked("--rows", 2)] == [5, 5]
    Path("data/pos/dev.tsv").write_text("cat\tNOUN\n\n")  # another set under the same name
    assert [asked("--rows", 2), asked("--rows", 2)] == [6, 6]


def test_what_an_interrupted_call_left_is_made_anew(downstream, monkeypatch, number):
    exported(Path("model"))
    whole = downstream.run_script

    def interrupted(script, *arguments, folder=None):
        whole(script, *arguments, folder=folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(downstream, "run_script", interrupted)
    with pytest.raises(KeyboardInterrupt):
        number("model")
    monkeypatch.setattr(downstream, "run_script", whole)
    assert number("model") == 1


def test_folders_of_others_stay(number):
    exported(Path("model"))
    before = {path: path.read_bytes() for path in Path("data").rglob("*.tsv")}
    for more in (["--work_dir", "data"], ["--work_dir", ".", "--rows", "1"]):
        Path("pos").mkdir(exist_ok=True)
        with pytest.raises(
            SystemExit, match="pos: stands there and is none of ours; name another --work_dir"
        ):
            number("model", *more)
    assert before == {path: path.read_bytes() for path in Path("data").rglob("*.tsv")}
    Path("pos").rmdir()  # the copies of first rows are not put into a folder of the same name
    assert number("model", "--work_dir", ".", "--rows", "1") == 1
    assert before == {path: path.read_bytes() for path in Path("data").rglob("*.tsv")}
