"""Readers: labels by their numbers, fields in quotes, one text or two, rows without words.

Run: pytest tests/finetuning/test_readers_of_labels_and_pairs.py
"""

import json
from collections import Counter

import pytest
from task_examples import read, write

from span_electra.errors import InputError
from span_electra.finetuning.readers import read_examples, with_pairs_settled
from span_electra.finetuning.task import Task

SINGLE, PAIR, NER, WORDS = "SingleSenClassification", "SentencePairClassification", "NER", "SpellingWords"
MULTI, SCORE, TALK = "MultiLabelClassification", "Regression", "Conversation"
NAMES = ("good", "bad", "so so")


@pytest.mark.parametrize(
    ("task_type", "text", "label", "numbers"),
    [
        (SINGLE, "1\t2\ta\n", "so so", 1),
        (SINGLE, "1\tbad\ta\n", "bad", 0),
        (MULTI, "1\t0,2\ta\n", ("good", "so so"), 2),
        (NER, "1\t[0, 'bad']\t['a', 'b']\n", ("good", "bad"), 1),
        (NER, "a 2\nb 1\n", ("so so", "bad"), 2),
    ],
)
def test_numbers_are_those_of_listed_names(task_type, text, label, numbers, tmp_path):
    path, noted = write(tmp_path, "a.tsv", text), Counter()
    listed = Task("t", task_type, {}, labels=NAMES, listed=True)
    assert [example.label for example in read_examples(listed, path, noted)] == [label]
    assert noted["numbers"] == numbers


def test_numbers_of_what_is_no_list_of_names_are_labels_like_others(tmp_path):
    path = write(tmp_path, "a.tsv", "1\t2\ta\n")
    for labels, listed in (
        (NAMES, False),  # in the order of the alphabet, which nobody meant
        (NAMES[:2], True),
        (("good", "7", "bad"), True),
    ):
        with pytest.raises(InputError, match="a.tsv: line 1: .*label '2'"):
            read(path, SINGLE, labels=labels, listed=listed)
    assert read(path, SINGLE, labels=("3", "2", "1"), listed=True)[0].label == "2"
    for wrong in ("-1", "1.0", "3", "²"):
        with pytest.raises(InputError, match=f"label '{wrong}' is not known"):
            read(write(tmp_path, "b.tsv", f"1\t{wrong}\ta\n"), SINGLE, labels=NAMES, listed=True)


@pytest.mark.parametrize(
    ("field", "quoted"),
    [
        ('"A text."', True),
        ('"He said ""no""."', True),
        ('"No," said he, "no."', False),
        ('"', False),
        ('He said "no"', False),
        ("a text", False),
    ],
)
def test_fields_in_quotes_are_kept_and_counted(field, quoted, tmp_path):
    columns = {"text": "s", "label": "y"}
    for name, text, named in (
        ("a.tsv", f"1\tx\t{field}\n2\tx\t{field}\n", {}),
        ("b.tsv", f"s\ty\tother\n{field}\tx\t\n{field}\tx\t\n", {"columns": columns}),
    ):
        noted = Counter()
        found = list(read_examples(Task("t", SINGLE, {}, **named), write(tmp_path, name, text), noted))
        assert [example.texts for example in found] == [(field,)] * 2
        assert noted["quotes"] == 2 * quoted
    noted, text = Counter(), json.dumps({"s": field, "y": "x"})
    list(read_examples(Task("t", SINGLE, {}, columns=columns), write(tmp_path, "c.jsonl", text), noted))
    assert not noted


# --- one text or two ------------------------------------------------------------------------------------

ONE_TEXT, TWO_TEXTS = "1\t2\tOne.\n", "1\t2\tOne.\tTwo.\n"


@pytest.mark.parametrize("task_type", [MULTI, SCORE])
@pytest.mark.parametrize(("train", "other"), [(ONE_TEXT, TWO_TEXTS), (TWO_TEXTS, ONE_TEXT)])
def test_the_train_file_says_for_all_files_whether_rows_hold_two_texts(task_type, train, other, tmp_path):
    for name, text in (("train.tsv", train), ("dev.tsv", train), ("other.tsv", other)):
        write(tmp_path, name, text)
    files = {"train": ("train.tsv",), "dev": ("other.tsv",)}
    settled = with_pairs_settled(Task("t", task_type, files), tmp_path)
    assert settled.pairs == settled.in_two_types == (train == TWO_TEXTS)
    assert len(list(read_examples(settled, tmp_path / "dev.tsv"))) == 1
    with pytest.raises(InputError, match="other.tsv: line 1: . columns where . belong"):
        list(read_examples(settled, tmp_path / "other.tsv"))


def test_nothing_is_settled_where_columns_or_the_type_say_it(tmp_path):
    write(tmp_path, "train.tsv", "s\tt\ty\n")
    files, columns = {"train": ("train.tsv",)}, {"text": "s", "label": "y"}
    for plain, pairs in (
        (Task("t", SCORE, files, columns=columns), False),
        (Task("t", SCORE, files, columns=columns | {"pair": "t"}), True),
        (Task("t", SCORE, files, columns=columns | {"text": ["s", "t"]}), True),
        (Task("t", PAIR, files), True),
        (Task("t", SINGLE, files), False),
        (Task("t", TALK, files), False),
    ):
        assert with_pairs_settled(plain, tmp_path) is plain and plain.pairs == pairs


def test_rows_without_a_word_are_refused_by_their_file(tmp_path):
    for name, text in (("a.tsv", "1\t[]\t[]\n2\t[]\t[]\n"), ("b.jsonl", '{"w": [], "l": []}\n')):
        columns = {"text": "w", "label": "l"} if name == "b.jsonl" else {}
        with pytest.raises(InputError, match=f"{name}: no row has a word"):
            read(write(tmp_path, name, text), NER, columns=columns)
    write(tmp_path, "correct.txt", "\n\n0\n")
    assert len(read(write(tmp_path, "corrupt.txt", "\n\na\n"), WORDS)) == 3
    assert len(read(write(tmp_path, "c.tsv", "1\t[]\t[]\n2\t['O']\t['a']\n"), NER)) == 2
