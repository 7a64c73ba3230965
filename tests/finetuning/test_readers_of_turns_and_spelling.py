"""Readers of conversations and of spelling sets.

Run: pytest tests/finetuning/test_readers_of_turns_and_spelling.py
"""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from task_examples import read, write

from span_electra.errors import InputError
from span_electra.finetuning.readers import Example

SELECT, TALK = "ResponseSelection", "Conversation"
WORDS, SEQUENCE = "SpellingWords", "SpellingSequence"

# --- conversations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_type", [TALK, SELECT])
def test_a_conversation_a_line(tmp_path, task_type):
    text = '["Hello.", "Hi!", "Bye."]\n["One", "two"]\n'
    expected = [Example("1", ("Hello.", "Hi!", "Bye.")), Example("2", ("One", "two"))]
    assert read(write(tmp_path, "a.jsonl", text), task_type) == expected
    objects = "".join(f'{{"turns": {line}, "other": 1}}\n' for line in text.splitlines())
    path = write(tmp_path, "b.jsonl", objects)
    assert read(path, task_type, columns={"text": "turns"}) == expected
    with pytest.raises(InputError, match=r"b.jsonl: line 1: an object \(turns, other\); name the one"):
        read(path, task_type)
    path = write(tmp_path, "c.tsv", "q\ta\nHello.\tHi!\n")
    assert read(path, task_type, columns={"text": ["q", "a"]}) == [Example("1", ("Hello.", "Hi!"))]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[]", "0 turns; ResponseSelection needs at least 2"), ('["a"]', "1 turn;"), ("3", "no list of"),
        ('["a", null]', "a turn holds nothing"), ('["a", ["b"]]', "a turn holds a list"),
        ('["a"', "not JSON"), ('["a", "b", ""]', "turn 3 of 3 is empty"), ('["a", " "]', "turn 2 of 2 is"),
    ],
)  # fmt: skip
def test_a_bad_conversation_is_refused_by_line(tmp_path, line, problem):
    with pytest.raises(InputError, match=f"a.jsonl: line 2: {problem}"):
        read(write(tmp_path, "a.jsonl", f'["a", "b"]\n{line}\n["a", "b"]\n'), SELECT)


CELLS = [
    (("a", "b", "c"), ("a", "b", "c")), (("a", "b", ""), ("a", "b")), (("a", "b", " "), ("a", "b")),
    (("a", "", ""), "1 turn; ResponseSelection needs at least 2"), (("a", "", "c"), "turn 2 of 3 is empty"),
    (("", "b", ""), "turn 1 of 2 is empty"), (("", "", ""), "0 turns; "),
]  # fmt: skip


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize(("cells", "turns"), CELLS)
def test_cells_that_a_shorter_conversation_leaves_empty_are_no_turns(cells, turns, name, tmp_path):
    columns = {"text": ["q", "r", "s"]}
    row = dict(zip(columns["text"], cells, strict=True))
    if name in ("a.jsonl", "a.parquet"):
        row = {key: cell or None for key, cell in row.items()}  # where nothing is null
        path = write(tmp_path, name, json.dumps(row))
        if name == "a.parquet":
            pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        gap = "," if name == "a.csv" else "\t"
        path = write(tmp_path, name, gap.join(row) + "\n" + gap.join(cells) + "\n")
    if isinstance(turns, tuple):
        for task_type in (SELECT, TALK):
            assert read(path, task_type, columns=columns) == [Example("1", turns)]
        return
    inner_null = "" in cells[: len("".join(cells))] and name in ("a.jsonl", "a.parquet")
    with pytest.raises(InputError, match="a turn holds nothing" if inner_null else turns):
        read(path, SELECT, columns=columns)


def test_one_turn_is_enough_to_talk(tmp_path):
    assert read(write(tmp_path, "a.jsonl", '["Hello."]'), TALK) == [Example("1", ("Hello.",))]


# --- spelling -------------------------------------------------------------------------------------------


def test_misspelt_sentences_by_word_and_whole(tmp_path):
    corrupt = write(tmp_path, "set/corrupt.txt", "Early õears.\n\nAll fine\n")
    write(tmp_path, "set/correct.txt", "0 1\n\n0 0\n")
    by_word = [
        Example("1", ("Early õears.",), ("Early", "õears."), ("0", "1")),
        Example("2", ("",), (), ()),
        Example("3", ("All fine",), ("All", "fine"), ("0", "0")),
    ]
    labels = ["1", "0", "0"]
    for path in (corrupt, corrupt.parent):
        assert read(path, WORDS) == by_word
        whole = read(path, SEQUENCE)
        assert [(example.words, example.label) for example in whole] == [(None, label) for label in labels]
    for name in ("corrupt.txt", "correct.txt"):
        plain = corrupt.with_name(name)
        corrupt.with_name(f"{name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    assert read(corrupt.parent, WORDS) == by_word


@pytest.mark.parametrize(
    ("marks", "problem"),
    [
        ("0 0\n0\n", "correct.txt: line 2 is no 0 or 1 for each of 2 words"),
        ("0 0\n0 2\n", "line 2 is no 0"),
        ("A corrected\nsentence here\n", "line 1 is no 0 or 1"),
        ("0 0\n", "correct.txt: ends before .*corrupt"),
        ("0 0\n0 0\n0\n", "corrupt.txt: ends before .*correct.txt"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused_by_line(tmp_path, marks, problem):
    write(tmp_path, "correct.txt", marks)
    with pytest.raises(InputError, match=problem):
        read(write(tmp_path, "corrupt.txt", "two words\nand two\n"), WORDS)


def test_blank_lines_at_the_end_of_either_file_are_no_sentences(tmp_path):
    write(tmp_path, "correct.txt", "0 1\n\n0 0\n\n\n")
    path = write(tmp_path, "corrupt.txt", "Early ears\n\nAll fine\n")
    assert [example.label for example in read(path, WORDS)] == [("0", "1"), (), ("0", "0")]


def test_clean_text_waits_for_its_noise(tmp_path):
    path = write(tmp_path, "clean.txt", "Some text.\n")
    expected = [Example("1", ("Some text.",), ("Some", "text."))]
    assert read(path, WORDS, noise={"kind": "artificial"}) == expected
    # Its blank lines part paragraphs: without labels to stand beside them they are no rows.
    path = write(tmp_path, "clean.txt", "\n \nSome text.\n\n\n")
    assert read(path, WORDS, noise={"kind": "artificial"}) == expected
    with pytest.raises(InputError, match="clean.txt: no labels; name a corrupt.txt"):
        read(path, WORDS)
