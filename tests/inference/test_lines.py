"""Lines in, answers out. Run: pytest tests/inference/test_lines.py"""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from network_examples import by_hand, exported, frequencies, spotter

from span_electra.errors import InputError
from span_electra.inference.lines import (
    BLOCK_CHARACTERS,
    Reads,
    blocks_of,
    check_file,
    deliver,
    line_function,
    predict,
)
from span_electra.inference.predictor import Predictor

ROOT = Path(__file__).resolve().parents[2]
LINES = ["the cats", "", "the [MASK] sleeps", "  cat <b>  "]


@pytest.fixture
def predictor():
    networks = by_hand(frequencies({"dog": 1.0}), spotter({"cats": 3.0}))
    return Predictor(replace(networks, batch_size=2))


def answers(predictor, task, texts, as_text=False):
    return line_function(predictor, task, as_text=as_text, threshold=0.5, top_k=2)(texts)


def written(folder, lines=LINES):
    path = folder / "lines.txt"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("task", ["fill", "detect", "correct", "embed"])
def test_every_line_has_its_answer_in_its_place(task, predictor, tmp_path):
    out = tmp_path / "answers.jsonl"
    predict(predictor, task, in_file=written(tmp_path), out_file=str(out), output="json")
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(found) == len(LINES)
    if task == "embed":
        assert found[0] == pytest.approx(predictor.embed(LINES)[0].tolist())
    else:
        assert [line["text"] for line in found] == LINES


def test_what_the_records_hold(predictor):
    detected = json.loads(answers(predictor, "detect", ["the cats"])[0])
    assert (detected["words"], detected["wrong"]) == (["the", "cats"], [False, True])
    filled = json.loads(answers(predictor, "fill", ["the [MASK] [MASK]"])[0])
    assert filled["filled"] == "the dog dog"
    assert [len(filled["blanks"][0]["tokens"]), len(filled["blanks"][0]["whole"])] == [2, 2]
    corrected = json.loads(answers(predictor, "correct", ["the cats"])[0])
    assert corrected["doubted"][0]["before"] == "cats"


def test_text_for_the_eye(predictor):
    sure = Predictor(by_hand(frequencies({"cat": 8.0}), spotter({"cats": 3.0})))
    assert answers(sure, "correct", ["the cats"], as_text=True) == ["the cat"]
    assert answers(predictor, "fill", ["[MASK] the"], as_text=True)[0].startswith("dog the\n  [1] dog ")


def test_vectors_as_an_array(predictor, tmp_path):
    out = tmp_path / "vectors.npy"
    predict(predictor, "embed", in_file=written(tmp_path), out_file=str(out))
    assert np.array_equal(np.load(out), predictor.embed(LINES))
    with pytest.raises(InputError, match="stands there already"):
        predict(predictor, "embed", in_file=written(tmp_path), out_file=str(out))
    predict(predictor, "detect", in_file=written(tmp_path), out_file=str(tmp_path / "new" / "a.jsonl"))
    assert (tmp_path / "new" / "a.jsonl").stat().st_size
    with pytest.raises(InputError, match="only --task embed"):
        predict(predictor, "detect", in_file=written(tmp_path), out_file=str(tmp_path / "other.npy"))
    (tmp_path / "empty.txt").write_text("")
    predict(predictor, "embed", in_file=str(tmp_path / "empty.txt"), out_file=str(tmp_path / "none.npy"))
    assert np.load(tmp_path / "none.npy").shape == (0, 1)


def test_what_another_command_has_put_there_meanwhile_stays(tmp_path):
    out = tmp_path / "answers.txt"

    def answer(texts):
        out.write_text("another's")
        return texts

    with pytest.raises(InputError, match="answers.txt: stands there already; move it or name another"):
        deliver(answer, in_file=written(tmp_path), out_file=str(out), hint="")
    assert out.read_text() == "another's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.txt", "lines.txt"]


def test_bad_lines_are_named_and_nothing_half_written_stays(predictor, tmp_path):
    (tmp_path / "lines.txt").write_bytes(b"good\r\nbad \xff\n")
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        predict(
            predictor,
            "detect",
            in_file=str(tmp_path / "lines.txt"),
            out_file=str(tmp_path / "out.txt"),
        )
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        deliver(list, in_file=str(tmp_path / "lines.txt"), out_file=str(tmp_path / "new/a/out.txt"), hint="")
    assert [path.name for path in tmp_path.iterdir()] == ["lines.txt"], "nor a new folder"
    with pytest.raises(InputError, match="nowhere.txt"):
        next(blocks_of("nowhere.txt"))


def test_a_bad_line_at_the_end_is_told_before_the_network_runs(predictor, tmp_path, monkeypatch):
    (tmp_path / "lines.txt").write_bytes(b"good\n" * 3000 + b"bad \xff\n")
    calls = []
    monkeypatch.setattr(Predictor, "detect", lambda *asked: calls.append(asked))
    monkeypatch.setattr(Predictor, "embed", lambda *asked: calls.append(asked))
    for task, out in (("detect", "a.txt"), ("embed", "a.npy"), ("detect", None)):
        with pytest.raises(InputError, match="line 3001: not UTF-8"):
            predict(
                predictor,
                task,
                in_file=str(tmp_path / "lines.txt"),
                out_file=out and str(tmp_path / out),
            )
    assert not calls and [path.name for path in tmp_path.iterdir()] == ["lines.txt"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "text\n", "a table, and lines of text"),
        ("a.parquet", "PAR1", "a table, and lines of text"),
        ("a.txt.gz", "x", r"packed \(.gz\)"),
        ("a.CSV.zst", "x", r"packed \(.zst\)"),
        ("a.tsv", "id\tsentence\n7\tA cat.\n", r"line 1: a table's \(id, sentence\)"),
        ("a.jsonl", '{"text": "A cat."}\n', r"line 1: a table's \(text\)"),
        ("a.conll", "Riga B-LOC\n", "a token a line"),
        ("a.CONLLU", "1\tRiga\n", "a token a line"),
        ("a.tsv", "7\t0\tA cat.\n8\t1\tA dog.\n", "all lines have 2 TABs, as those of a table"),
        ("a.txt", "Riga\tB-LOC\n\nRiga\tB-LOC\n", "all lines have 1 TAB, as those of a table"),
        ("a.txt", "\tan indent\n\tand another\n", None),
        ("a.txt", "a text\tand more\nanother\n", None),
        ("a.jsonl", '"A caf\\u00e9"\n', "line 1: a JSON string"),
        ("a.ndjson", '["Hello.", "Hi!"]\n', "line 1: a JSON list"),
        ("a.jsonl", '{"turns": [], "candidates": []}\n', r"line 1: a table's \(turns, candidates\)"),
        ("a.jsonl", "{a brace\n", None),
        ("a.jsonl", "A cat.\n", None),
        ("a.txt", '["Hello.", "Hi!"]\n', None),
        ("a.txt", "", None),
    ],
)
def test_what_holds_no_lines_of_text_is_named(name, text, told, tmp_path):
    (tmp_path / name).write_text(text)
    if told is None:
        check_file(str(tmp_path / name))
    else:
        with pytest.raises(InputError, match=f"{name}: {told}"):
            check_file(str(tmp_path / name))


@pytest.mark.parametrize(
    ("part", "able", "unable"), [("generator", "fill", "detect"), ("discriminator", "detect", "fill")]
)
def test_what_one_network_alone_can_do_is_told(part, able, unable, tmp_path):
    networks = by_hand(frequencies({"dog": 1.0}), spotter({"cats": 3.0}))
    other = "discriminator" if part == "generator" else "generator"
    alone = Predictor(replace(networks, **{other: None}))
    for task in (unable, "correct"):
        told = f"--task {task}: by hand has a {part} alone; give --task {able} or embed, or name a model"
        with pytest.raises(InputError, match=told):
            predict(alone, task, in_file="not read")
    predict(alone, able, in_file=written(tmp_path), out_file=str(tmp_path / "out"))


def test_what_a_task_reads_is_no_table(tmp_path):
    for name, text, reads in (
        ("a.tsv", "A cat.\tA dog.\n", Reads(pairs=True)),
        ("a.jsonl", '["Hello.", "Hi!"]\n', Reads(lists=True)),
        ("a.jsonl", '{"turns": ["Hello."], "candidates": ["Hi!"]}\n', Reads(candidates=True)),
    ):
        (tmp_path / name).write_text(text)
        check_file(str(tmp_path / name), reads=reads)
    (tmp_path / "a.tsv").write_text("7\tA cat.\tA dog.\n")
    with pytest.raises(InputError, match="2 TABs"):
        check_file(str(tmp_path / "a.tsv"), reads=Reads(pairs=True))
    (tmp_path / "a.jsonl").write_text('"Hello."\n')
    with pytest.raises(InputError, match="a JSON string"):
        check_file(str(tmp_path / "a.jsonl"), reads=Reads(lists=True))


def test_a_table_in_a_pipe_is_known_by_its_first_line(predictor, tmp_path, monkeypatch, capsys):
    def piped(text):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    for out in ("a.jsonl", "a.npy"):
        piped(b"\n7\tthe cat\n8\tthe dog\n")
        with pytest.raises(InputError, match="standard input: all lines have 1 TAB"):
            predict(predictor, "embed", out_file=str(tmp_path / out))
    piped(b"the cat\nthe\tcat\nthe\tdog\n")
    predict(predictor, "detect", output="text")
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_what_can_be_read_but_once_is_not_read_before(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    check_file(str(tmp_path / "pipe"))  # which would wait for a writer, and take the lines away
    check_file("/dev/stdin")
    check_file(None)


def test_a_person_is_answered_line_by_line(predictor, monkeypatch, capsys):
    typed = iter(["the cats", "the cat", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    predict(predictor, "detect", output="text")
    assert capsys.readouterr().out == "the cats{.95}\nthe cat\n"


def test_typed_lines_leave_no_prompt_among_answers_and_no_bad_byte_ends_them(predictor, monkeypatch, capsys):
    prompts, lines = [], iter(["caf\udce9", "the cats", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: (prompts.append(prompt), next(lines))[1])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    predict(predictor, "detect", output="text")
    found = capsys.readouterr()
    assert found.out == "the cats{.95}\n" and "that line is not UTF-8" in found.err
    assert set(prompts) == {""}


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


def test_lines_end_at_newlines_alone(predictor, tmp_path):
    lines = ["a\u2028cat", "a\x0bcat\x85", "the\rcat"]
    found = [line for block in blocks_of(written(tmp_path, lines)) for line in block]
    assert found == lines


def test_answers_come_in_small_blocks_and_long_lines_by_themselves(predictor, tmp_path, monkeypatch):
    path = written(tmp_path, ["the cat"] * 70 + ["x" * BLOCK_CHARACTERS, "the cat"])
    assert [len(block) for block in blocks_of(path)] == [71, 1]
    asked = []
    correct = Predictor.correct
    monkeypatch.setattr(Predictor, "correct", lambda *given: asked.append(len(given[1])) or correct(*given))
    predict(predictor, "correct", in_file=written(tmp_path, ["the cat"] * 70), out_file=str(tmp_path / "out"))
    assert asked == [32, 32, 6]
    assert (tmp_path / "out").read_text() == "the cat\n" * 70


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_that_is_not_utf_8_is_written_all_the_same(encoding, tmp_path):
    exported(tmp_path / "model")
    command = [sys.executable, str(ROOT / "predict_SE.py"), str(tmp_path / "model"), "--task", "detect"]
    done = subprocess.run(
        [*command, "--device", "cpu", "--output", "text"],
        input="the кот 🐈\n".encode(),
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert "кот" in done.stdout.decode()
