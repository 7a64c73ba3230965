"""Lines in, answers out. Run: pytest tests/inference/test_lines.py"""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from network_examples import by_hand, exported, frequencies, spotter

from span_electra.errors import InputError
from span_electra.inference.lines import answering, blocks_of, detected_text, predict
from span_electra.inference.predictor import Predictor

ROOT = Path(__file__).resolve().parents[2]
LINES = ["the cats", "", "the [MASK] sleeps", "  cat <b>  "]


@pytest.fixture
def predictor():
    return Predictor(by_hand(frequencies({"dog": 1.0}), spotter({"cats": 3.0})), batch_size=2)


def written(folder, lines=LINES):
    path = folder / "lines.txt"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("task", ["fill", "detect", "correct", "embed"])
def test_every_line_has_its_answer_in_its_place(task, predictor, tmp_path):
    out = tmp_path / "answers.jsonl"
    predict(predictor, task, written(tmp_path), str(out), output="json")
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(found) == len(LINES)
    if task == "embed":
        assert found[0] == pytest.approx(predictor.embed(LINES)[0].tolist())
    else:
        assert [line["text"] for line in found] == LINES


def test_what_the_records_hold(predictor):
    detected = json.loads(answering(predictor, "detect", False, 0.5, 2)(["the cats"])[0])
    assert (detected["words"], detected["wrong"]) == (["the", "cats"], [False, True])
    filled = json.loads(answering(predictor, "fill", False, 0.5, 2)(["the [MASK] [MASK]"])[0])
    assert filled["filled"] == "the dog dog"
    assert [len(filled["blanks"][0]["tokens"]), len(filled["blanks"][0]["whole"])] == [2, 2]
    corrected = json.loads(answering(predictor, "correct", False, 0.5, 2)(["the cats"])[0])
    assert corrected["doubted"][0]["before"] == "cats"


def test_text_for_the_eye(predictor):
    line = predictor.detect(["the  cats."])[0]
    assert detected_text(line, 0.5, coloured=False) == "the  cats.{.95}"
    assert detected_text(line, 0.5, coloured=True) == "the  \033[31;1mcats.\033[0m"
    assert detected_text(line, 0.99, coloured=True) == "the  \033[33mcats.\033[0m"
    sure = Predictor(by_hand(frequencies({"cat": 8.0}), spotter({"cats": 3.0})))
    assert answering(sure, "correct", True, 0.5, 3)(["the cats"]) == ["the cat"]
    assert answering(predictor, "fill", True, 0.5, 1)(["[MASK] the"])[0].startswith("dog the\n  [1] dog ")


def test_vectors_as_an_array(predictor, tmp_path):
    out = tmp_path / "vectors.npy"
    predict(predictor, "embed", written(tmp_path), str(out))
    assert np.array_equal(np.load(out), predictor.embed(LINES))
    with pytest.raises(InputError, match="stands there already"):
        predict(predictor, "embed", written(tmp_path), str(out))
    with pytest.raises(InputError, match="only --task embed"):
        predict(predictor, "detect", written(tmp_path), str(tmp_path / "other.npy"))
    (tmp_path / "empty.txt").write_text("")
    predict(predictor, "embed", str(tmp_path / "empty.txt"), str(tmp_path / "none.npy"))
    assert np.load(tmp_path / "none.npy").shape == (0, 1)


def test_bad_lines_are_named_and_nothing_half_written_stays(predictor, tmp_path):
    (tmp_path / "lines.txt").write_bytes(b"good\r\nbad \xff\n")
    with pytest.raises(InputError, match="line 2 is not UTF-8"):
        predict(predictor, "detect", str(tmp_path / "lines.txt"), str(tmp_path / "out.txt"))
    assert [path.name for path in tmp_path.iterdir()] == ["lines.txt"]
    with pytest.raises(InputError, match="nowhere.txt"):
        next(blocks_of("nowhere.txt"))


def test_a_person_is_answered_line_by_line(predictor, monkeypatch, capsys):
    typed = iter(["the cats", "the cat", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    predict(predictor, "detect", None, None, output="text")
    assert capsys.readouterr().out == "the cats{.95}\nthe cat\n"


def test_the_script_answers_a_pipe_before_it_ends(tmp_path):
    exported(tmp_path / "model")
    command = [sys.executable, str(ROOT / "predict_SE.py"), str(tmp_path / "model"), "--task", "detect"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen([*command, "--device", "cpu"], text=True, env=usual, **pipes) as running:
        for line in ("the cat", "", "dogs bark"):
            running.stdin.write(line + "\n")
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["text"] == line  # before the next is sent
        running.stdin.close()
        assert running.wait(timeout=60) == 0, running.stderr.read()
