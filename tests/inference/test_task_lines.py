"""Lines in, a fine-tuned model's answers out. Run: pytest tests/inference/test_task_lines.py"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from network_examples import vocabulary_of_words
from predictor_examples import finetuned, spec_of

import predict_SE
from argument import PredictArgs
from span_electra.errors import InputError
from span_electra.finetuning.task import Task
from span_electra.inference.arguments import refuse_unread
from span_electra.inference.lines import TASKS, one_task
from span_electra.inference.task_lines import line_function, predict_lines, record, shown, text_of_line
from span_electra.inference.tasks import (
    Label,
    Labels,
    Number,
    Ranking,
    Reply,
    TaskPredictor,
    Words,
    example_of,
)

ROOT = Path(__file__).resolve().parents[2]
LINES = ["the cat sleeps", "", "dogs\tbark", "the cat  sleeps"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    finetuned(place, *("film", "same", "topics", "tags", "select"))
    return place


@pytest.fixture(scope="module")
def predictor(folder):
    return TaskPredictor.from_folder(folder, "cpu", batch_size=2)


@pytest.mark.parametrize("names", [[], ["film"], ["tags", "film"]])
def test_every_line_has_its_answer_in_its_place(names, predictor, tmp_path):
    (tmp_path / "lines.txt").write_text("".join(line + "\n" for line in LINES))
    asked = {"in_file": str(tmp_path / "lines.txt"), "out_file": str(tmp_path / "out.jsonl")}
    predict_lines(predictor, names, **asked)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["text"] for line in found] == LINES
    expected = predictor(LINES, "film")["film"]
    assert [line["answers"]["film"]["label"] for line in found] == [answer.label for answer in expected]
    if names:
        assert all(list(line["answers"]) == names for line in found)
    else:
        assert ["same" in line["answers"] for line in found] == [False, True, True, False]
        pair = predictor([("dogs", "bark")], ["same", "topics"])
        assert found[2]["answers"]["same"]["label"] == pair["same"][0].label
        assert found[2]["answers"]["topics"]["labels"] == list(pair["topics"][0].labels)
        assert "select" in found[1]["answers"] and "select" not in found[0]["answers"]


def test_what_a_line_says_to_a_task():
    assert text_of_line(spec_of("same"), "a\tb") == ("a", "b")
    assert text_of_line(spec_of("same"), "a") is None and text_of_line(spec_of("same"), "a\tb\tc") is None
    assert text_of_line(spec_of("near"), "a") == "a" and text_of_line(spec_of("near"), "a\tb") == (
        "a",
        "b",
    )
    assert text_of_line(spec_of("film"), "a\tb") == "a\tb"
    # Types that take both were taught one of them; an earlier version's do not tell which.
    for paired, said in ((None, ("a", "b")), (True, ("a", "b")), (False, "a\tb")):
        for kind in ("MultiLabelClassification", "Regression"):
            spec = replace(spec_of("near"), task=Task("t", kind, {}, paired=paired))
            assert (
                text_of_line(spec, "a\tb") == said
                and example_of(spec, said, vocabulary_of_words()) is not None
            )
    assert text_of_line(spec_of("chat"), '["a", "b"]') == ["a", "b"]
    assert text_of_line(spec_of("tags"), '["New York", "b"]') == ["New York", "b"]
    assert [text_of_line(spec_of("tags"), line) for line in ("[a] b", "")] == ["[a] b", ""]
    assert text_of_line(spec_of("chat"), "[a") == ["[a"] and text_of_line(spec_of("chat"), "") == []
    asked = {"turns": ["a"], "candidates": ["b", "c"]}
    assert text_of_line(spec_of("select"), json.dumps(asked)) == (["a"], ["b", "c"])
    assert text_of_line(spec_of("select"), '["a"]') is None


def test_halves_of_letters_that_json_can_spell_are_refused():
    for name, line in (
        ("select", r'{"turns": ["\ud83d"], "candidates": ["a"]}'),
        ("chat", r'["a", "\ud83d"]'),
    ):
        with pytest.raises(InputError, match=r"'.ud83d' holds half a surrogate pair; mend the text"):
            example_of(spec_of(name), text_of_line(spec_of(name), line), vocabulary_of_words())


def test_lines_that_cannot_be_read_are_counted_over_blocks(predictor):
    answer = line_function(predictor, ["same"], as_text=False)
    answer(["a\tb", "c\td"])
    with pytest.raises(InputError, match="line 4: task 'same' .* one TAB"):
        answer(["a\tb", "no tab"])
    with pytest.raises(InputError, match="line 1: task 'select'"):
        line_function(predictor, ["select"], as_text=True)(['{"turns": 3, "candidates": []}'])
    with pytest.raises(InputError, match="did you mean 'film'"):
        predict_lines(predictor, ["flim"])
    with pytest.raises(InputError, match="answers are lines"):
        predict_lines(predictor, ["film"], out_file="vectors.npy")
    with pytest.raises(InputError, match="--task flil: .* did you mean 'fill'"):
        one_task(["flil"])
    with pytest.raises(InputError, match="one at a time"):
        one_task(["fill", "embed"])


def test_a_line_that_has_no_answer_is_told_before_the_network_runs(predictor, tmp_path, monkeypatch):
    (tmp_path / "lines.txt").write_text("a\tb\n" * 3000 + "no tab\n" + "a\tb\n")
    calls = []
    monkeypatch.setattr(TaskPredictor, "answers", lambda *asked: calls.append(asked))
    asked = {"in_file": str(tmp_path / "lines.txt"), "out_file": str(tmp_path / "out.jsonl")}
    with pytest.raises(InputError, match="line 3001: task 'same' .* one TAB"):
        predict_lines(predictor, ["same"], **asked)
    alone = replace(predictor, specs=(spec_of("same"),))
    with pytest.raises(InputError, match="line 3001: task 'same' .* one TAB"):
        predict_lines(alone, [], **asked)
    assert not calls and not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "file", "text", "told"),
    [
        ("film", "a.tsv", "7\tno\tthe cat\n8\tyes\tthe dog\n", "all lines have 2 TABs"),
        ("film", "a.tsv", "no\tthe cat\n", "all lines have 1 TAB,"),
        ("tags", "a.txt", "the\tO\ncat\tB-X\n\nthe\tO\n", "all lines have 1 TAB,"),
        ("film", "a.jsonl", '["the", "cat"]\n', "a JSON list"),
        ("tags", "a.jsonl", '["the", "cat"]\n', None),
        ("chat", "a.jsonl", '["the cat", "a dog"]\n', None),
        ("select", "a.jsonl", '{"turns": ["a"], "candidates": ["b"]}\n', None),
        ("near", "a.tsv", "the cat\tthe dog\n", None),
        ("same", "a.tsv", "the cat\tthe dog\n", None),
    ],
)
def test_the_files_of_a_task_are_not_read_as_its_texts(name, file, text, told, tmp_path):
    finetuned(tmp_path, name)
    predictor = TaskPredictor.from_folder(tmp_path, "cpu")
    (tmp_path / file).write_text(text)
    asked = {"in_file": str(tmp_path / file), "out_file": str(tmp_path / "out.jsonl")}
    if told is None:
        predict_lines(predictor, [], **asked)
    else:
        with pytest.raises(InputError, match=f"{file}: .*{told}"):
            predict_lines(predictor, [], **asked)


def test_text_for_the_eye():
    words = Words(("My", "name", "is", "Ann"), ("O", "O", "O", "B-PER"), (0.9, 0.9, 0.9, 0.8))
    assert shown({"a": Label("1", 0.97), "b": words}, True) == "a: 1 97.0%   b: My name is Ann{B-PER}"
    typo = Words(("teh", "cat"), ("1", "0"), (0.97, 0.02))
    assert shown({"w": typo}, False, {"w"}) == "teh{.97} cat"
    assert shown({"w": typo}, False) == "teh{1} cat{0}", "of tags, 0 and 1 are names like others"
    assert shown({"w": replace(typo, words=("x{0.5", "cat"))}, False, {"w"}) == "x{0.5{.97} cat"
    assert shown({"l": Labels(("x",), {"x": 0.8, "y": 0.1})}, False) == "x 80.0%"
    assert shown({"l": Labels((), {"x": 0.2})}, False) == "none"
    several = {"n": Number(2.5), "r": Ranking((0.1, 3.0)), "s": Reply("Hi."), "e": Ranking(())}
    assert shown(several, True) == "n: 2.5   r: 2 of 2   s: Hi.   e: no candidates"


def test_every_answer_for_the_eye_is_one_line():
    """A reply may have learned line ends, and a task's labels may hold some."""
    ends = "a\nb\r\nc\rd"
    words = Words(("x", "y"), ("O", ends), (0.9, 0.9))
    answers = {"r": Reply(ends), "l": Label(ends, 0.5), "s": Labels((ends,), {ends: 0.5}), ends: words}
    for with_names in (True, False):
        assert len(shown(answers, with_names).splitlines()) == 1
    assert shown({"r": Reply(ends)}, False) == "a b c d"


def test_numbers_for_a_program_keep_the_digits_of_float32():
    answers = {"n": Number(254317.40625), "r": Ranking((0.123456789, 0.123456701)), "l": Label("a", 0.99997)}
    found = json.loads(record("x", answers))["answers"]
    assert found["n"]["value"] == 254317.4 and found["l"]["probability"] == 0.99997
    assert len(set(found["r"]["scores"])) == 2, "no ties but those there are"


def test_lines_that_lost_their_end_are_told_once(predictor, tmp_path, capsys):
    lines = ["the cat", "cat " * 40, "", "dog " * 40, "a\tb"]
    (tmp_path / "lines.txt").write_text("".join(line + "\n" for line in lines))
    asked = {"in_file": str(tmp_path / "lines.txt"), "out_file": str(tmp_path / "out.jsonl")}
    predict_lines(predictor, [], **asked)
    said = "note: 2 lines were longer than 16 tokens and lost their end (first: line 2)\n"
    assert capsys.readouterr().err == said
    found = [json.loads(line)["answers"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["film"]["cut"] for line in found] == [False, True, False, True, False]
    (tmp_path / "lines.txt").write_text("cat " * 40)
    predict_lines(predictor, ["tags"], in_file=asked["in_file"], out_file=str(tmp_path / "tags.jsonl"))
    assert not capsys.readouterr().err, "of words none is left out"


SPOKEN = ("max_new_tokens", "temperature", "top_k", "top_p", "beams", "no_repeat_ngram", "seed")


def test_a_flag_that_no_task_reads_is_refused_whatever_its_value(tmp_path, monkeypatch):
    finetuned(tmp_path, "film", "wrong", "chat")
    (tmp_path / "lines.txt").write_text("the cat\n")
    given = {name: getattr(PredictArgs(), name) for name in ("threshold", *SPOKEN)}
    given |= {"top_k": 3, "top_p": 0.5, "max_new_tokens": 4}
    readers = {"threshold": ["wrong"]} | dict.fromkeys(SPOKEN, ["chat"])
    for task in ("film", "wrong", "chat"):
        argv = [str(tmp_path), "--task", task, "--in_file", str(tmp_path / "lines.txt"), "--device", "cpu"]
        argv += ["--out_file", str(tmp_path / f"{task}.jsonl")]
        for name, value in given.items():
            monkeypatch.setattr(sys, "argv", ["predict_SE.py", *argv, f"--{name}", str(value)])
            if task not in readers.get(name, ()):
                with pytest.raises(InputError, match=f"^--{name}: .*reads it.*leave it out"):
                    predict_SE.main()
        read = [f"--{name}={value}" for name, value in given.items() if task in readers.get(name, ())]
        monkeypatch.setattr(sys, "argv", ["predict_SE.py", *argv, *read])
        predict_SE.main()
        assert (tmp_path / f"{task}.jsonl").is_file()


@pytest.mark.parametrize("task", TASKS)
def test_flags_of_pretrained_models_too(task):
    for name in ("threshold", "top_k", *SPOKEN):
        read = {"threshold": ("detect", "correct"), "top_k": ("fill", "correct")}.get(name, ())
        if task in read:
            refuse_unread([name], [task])
        else:
            with pytest.raises(InputError, match=f"^--{name}: nothing that is asked for reads it"):
                refuse_unread([name], [task])
    refuse_unread(["threshold", "top_k"], TASKS)


def test_the_script_answers_a_pipe_before_it_ends(folder):
    command = [sys.executable, str(ROOT / "predict_SE.py"), str(folder), "--task", "same"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--device", "cpu"], text=True, **pipes) as running:
        for line in ("the cat\ta dog", "", "dogs\tbark"):
            running.stdin.write(line + "\n")
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["text"] == line
        running.stdin.close()
        assert running.wait(timeout=300) == 0, running.stderr.read()
