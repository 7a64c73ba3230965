"""Readers of task files. Run: pytest tests/finetuning/test_readers.py

The last ones need the folder ../shared/data/eval beside the repository and are skipped without it.
"""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from task_examples import read, write

from span_electra.errors import InputError
from span_electra.finetuning.readers import Example, known_labels, label_map, read_examples
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_types import TASK_TYPES

SINGLE, PAIR, NER = "SingleSenClassification", "SentencePairClassification", "NER"
MULTI, SCORE, SELECT, TALK = "MultiLabelClassification", "Regression", "ResponseSelection", "Conversation"
WORDS, SEQUENCE = "SpellingWords", "SpellingSequence"
EVAL = Path(__file__).resolve().parents[3] / "shared/data/eval"


def task(task_type: str, **settings) -> Task:
    return Task("t", task_type, {}, **settings)


# --- headerless -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_type", "text", "example"),
    [
        (SINGLE, "u1\tgood\tA \"text.\n", Example("u1", ('A "text.',), None, "good")),
        (PAIR, "u1\t1\tOne.\tTwo.\n", Example("u1", ("One.", "Two."), None, "1")),
        (SCORE, "u1\t-2.50\tOne.\n", Example("u1", ("One.",), None, "-2.50")),
        (SCORE, "u1\t3\tOne.\tTwo.\n", Example("u1", ("One.", "Two."), None, "3")),
        (MULTI, "u1\ta, b\tOne.\n", Example("u1", ("One.",), None, ("a", "b"))),
        (MULTI, 'u1\t["a,b", "c"]\tOne.\tTwo.\n', Example("u1", ("One.", "Two."), None, ("a,b", "c"))),
        (MULTI, "u1\t\tOne.\n", Example("u1", ("One.",), None, ())),
        (NER, "u1\t['O','B-A']\t['My','name']\n", Example("u1", ("My name",), ("My", "name"), ("O", "B-A"))),
        (NER, 'u1\t["O"]\t["it\'s"]', Example("u1", ("it's",), ("it's",), ("O",))),
    ],
)  # fmt: skip
def test_headerless_rows(tmp_path, task_type, text, example):
    assert read(write(tmp_path, "a.tsv", text), task_type) == [example]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
# Without control characters: a file with a good many of them is taken for UTF-16.
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1))
def test_rows_in_are_rows_out_in_order(tmp_path, texts):
    path = write(tmp_path, "a.tsv", "".join(f"u{at}\tx\t{text}\n" for at, text in enumerate(texts)))
    assert read(path, SINGLE) == [Example(f"u{at}", (text,), None, "x") for at, text in enumerate(texts)]
    rows = [text.split() or ["."] for text in texts]
    path = write(tmp_path, "b.tsv", "".join(f"u{at}\t{row!r}\t{row!r}\n" for at, row in enumerate(rows)))
    found = [(example.words, example.label) for example in read(path, NER)]
    assert found == [(tuple(row), tuple(row)) for row in rows]


@pytest.mark.parametrize(
    ("task_type", "text", "problem"),
    [
        (SINGLE, "1\tx\ta\n2\ta\n", "line 2: 2 columns where 3 belong"),
        (SINGLE, "1\tx\ta\tb\n", "line 1: 4 columns where 3 belong"),
        (PAIR, "1\tx\ta\n", r"line 1: 3 columns where 4 belong \(uid, label, text, pair\)"),
        (SCORE, "1\t2\ta\tb\n1\t2\ta\n", "line 2: 3 columns where 4 belong"),
        (SCORE, "1\thigh\ta\n", "line 1: label 'high' is no number"),
        (SCORE, "1\tnan\ta\n", "line 1: label 'nan' is no number"),
        (SINGLE, "1\t\ta\n", "line 1: label is empty"),
        (SINGLE, "\tx\ta\n", "line 1: uid is empty"),
        (SINGLE, "1\tx\ta\n\n2\tx", "line 3: 2 columns where 3 belong"),
        (SINGLE, "uid\tlabel\ttext\n", "line 1: looks like a header .*columns:"),
        (NER, "1\t['O']\t['a']\n2\t['O']\t['a', 'b']\n", "line 2: 1 label for 2 words"),
        (NER, "1\t['O']\t['a']\n2\tO\t['a']\n", r"line 2: 'O' is no list; write labels as"),
        (NER, "1\t['O']\t['a']\n2\t['O']\t['a'\n", r"line 2: .* is no list; write words as"),
        (NER, "1\t[['O']]\t['a']\n", r"line 1: .* is no list; write labels as"),
    ],
)  # fmt: skip
def test_a_bad_headerless_row_is_refused_by_file_and_line(tmp_path, task_type, text, problem):
    with pytest.raises(InputError, match=f"a.tsv: {problem}"):
        read(write(tmp_path, "a.tsv", text), task_type)


def test_rows_before_a_bad_one_are_read_as_they_come(tmp_path):
    stream = read_examples(task(SINGLE), write(tmp_path, "a.tsv", "1\tx\ta\nbad\n"))
    assert next(stream).uid == "1"
    with pytest.raises(InputError, match="line 2"):
        next(stream)


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_a_file_without_rows_is_refused(tmp_path, task_type):
    name = "a.jsonl" if task_type in (TALK, SELECT) else "corrupt.txt"
    write(tmp_path, "correct.txt", "")
    with pytest.raises(InputError, match=f"{name}: empty"):
        read(write(tmp_path, name, ""), task_type)
    for packed in (tmp_path / f"{name}.gz", tmp_path / "correct.txt.gz"):
        packed.write_bytes(gzip.compress(b""))
    (tmp_path / "correct.txt").unlink()
    with pytest.raises(InputError, match=f"{name}.gz: no rows"):
        read(tmp_path / f"{name}.gz", task_type)


def test_named_columns_must_be_named(tmp_path):
    for name in ("a.csv", "a.jsonl", "a.ndjson", "a.parquet"):
        with pytest.raises(InputError, match=f"{name}: has named columns"):
            read(write(tmp_path, name, "x"), SINGLE)


# --- tables ---------------------------------------------------------------------------------------------

RECORDS = [{"id": 7, "s": "One.", "t": "Two.", "y": "1"}, {"id": 8, "s": "", "t": "Three, four", "y": "0"}]


def table(folder: Path, name: str) -> Path:
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(RECORDS), folder / name)
        return folder / name
    lines = [[str(value) for value in record.values()] for record in RECORDS]
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(record) + "\n" for record in RECORDS)
    elif name.endswith(".csv"):
        text = "id,s,t,y\n" + "".join('"' + '","'.join(line) + '"\n' for line in lines)
    else:
        text = "id\ts\tt\ty\n" + "".join("\t".join(line) + "\n" for line in lines)
    return write(folder, name, text)


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.csv", "a.jsonl", "a.parquet"])
def test_files_with_columns_give_the_same_examples(tmp_path, name):
    path = table(tmp_path, name)
    columns = {"text": "s", "pair": "t", "label": "y", "uid": "id"}
    expected = [Example("7", ("One.", "Two."), None, "1"), Example("8", ("", "Three, four"), None, "0")]
    assert read(path, PAIR, columns=columns) == expected
    assert read(path, PAIR, columns={"text": ["s", "t"], "label": "y", "uid": "id"}) == expected
    assert read(path, SINGLE, columns={"text": "t", "label": "y"})[1] == Example(
        "2", ("Three, four",), None, "0"
    )
    # One file serves several tasks by its label columns.
    assert read(path, SCORE, columns={"text": "s", "label": "id"})[0].label == "7"
    with pytest.raises(InputError, match=f"{name}: .*no column 'absent'; there are id, s, t, y"):
        read(path, SINGLE, columns={"text": "s", "label": "absent"})


def test_words_and_their_labels_in_columns(tmp_path):
    columns = {"text": "words", "label": "tags"}
    expected = [Example("1", ("My name",), ("My", "name"), ("O", "3"))]
    record = {"words": ["My", "name"], "tags": ["O", 3]}
    assert read(write(tmp_path, "a.jsonl", json.dumps(record)), NER, columns=columns) == expected
    assert read(write(tmp_path, "a.tsv", "words\ttags\nMy name\tO 3\n"), NER, columns=columns) == expected
    with pytest.raises(InputError, match="line 2: 3 labels for 2 words"):
        read(write(tmp_path, "a.tsv", "words\ttags\nMy name\tO O O\n"), NER, columns=columns)
    path = write(tmp_path, "b.tsv", "words\ttags\n[sic] nmae\t0 1\n")
    assert read(path, WORDS, columns=columns) == [
        Example("1", ("[sic] nmae",), ("[sic]", "nmae"), ("0", "1"))
    ]
    expected = [Example("1", ("Teh cat",), ("Teh", "cat"), ("1", "0"))]
    listed = json.dumps({"words": ["Teh", "cat"], "tags": [1, 0]})
    assert read(write(tmp_path, "c.jsonl", listed), WORDS, columns=columns) == expected
    path = write(tmp_path, "c.tsv", "words\ttags\n['Teh', 'cat']\t[1, 0]\n")
    assert read(path, WORDS, columns=columns) == expected


def test_several_labels_in_columns_of_their_own(tmp_path):
    path = write(tmp_path, "a.csv", "s,rude,loud\nOne.,1,0\nTwo.,true,1\nThree.,0,0\n")
    settings = {"columns": {"text": "s", "label": ["loud", "rude"]}}
    labels = [example.label for example in read(path, MULTI, **settings)]
    assert labels == [("rude",), ("loud", "rude"), ()]
    assert label_map(task(MULTI, **settings), []) == ("loud", "rude")
    with pytest.raises(InputError, match="line 2: loud is 'maybe'"):
        read(write(tmp_path, "a.csv", "s,rude,loud\nOne.,1,maybe\n"), MULTI, **settings)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"s": "a", "y": None}, "label holds nothing"), ({"s": None, "y": 1}, "s holds nothing"),
        ({"s": ["a"], "y": 1}, "s holds a list"), ({"s": "a", "y": ""}, "label is empty"),
        ({"s": "\ud83d", "y": 1}, "s holds a NUL or half"), ({"s": "a", "y": "b\nc"}, "label holds a tab or"),
    ],
)  # fmt: skip
def test_values_that_are_no_text_are_refused_by_line(tmp_path, record, problem):
    path = write(tmp_path, "a.jsonl", json.dumps({"s": "a", "y": True}) + "\n" + json.dumps(record))
    with pytest.raises(InputError, match=f"a.jsonl: line 2: {problem}"):
        read(path, SINGLE, columns={"text": "s", "label": "y"})


# --- CoNLL ----------------------------------------------------------------------------------------------

SENTENCES = [
    Example("1", ("My name",), ("My", "name"), ("O", "B-PER")),
    Example("2", ("[ 1 ]",), ("[", "1", "]"), ("O", "O", "[x]")),
]


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.conll", "a.conll.gz"])
@pytest.mark.parametrize("gap", ["\t", " "])
def test_a_token_a_line(tmp_path, name, gap):
    text = "\n\nMy O\nname B-PER\n\n\t\n[ O\n1 O\n] [x]".replace(" ", gap)
    path = write(tmp_path, name, text)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    assert read(path, NER) == SENTENCES


def test_a_conll_file_may_begin_with_brackets(tmp_path):
    path = write(tmp_path, "a.conll", "(\t[O]\n")
    assert read(path, NER) == [Example("1", ("(",), ("(",), ("[O]",))]


def test_blank_lines_alone_are_no_rows(tmp_path):
    with pytest.raises(InputError, match="a.txt: no rows"):
        read(write(tmp_path, "a.txt", "\n\n"), NER)


def test_numbered_columns_are_those_of_conll(tmp_path):
    path = write(
        tmp_path, "a.conllu", "# text = My name\n1\tMy\tmy\tPRON\n2-3\tname\t_\t_\n2\tname\tname\tNOUN\n"
    )
    words = ("My", "name")
    assert read(path, NER, columns={"text": 2, "label": 4}) == [
        Example("1", ("My name",), words, ("PRON", "NOUN"))
    ]
    with pytest.raises(InputError, match="line 4: the train file has no label 'NOUN'"):
        read(path, NER, columns={"text": 2, "label": 4}, labels=("PRON",))


# --- labels ---------------------------------------------------------------------------------------------


def examples(*labels) -> list[Example]:
    return [Example("1", ("a",), None, label) for label in labels]


def test_the_label_map_has_a_fixed_order():
    assert label_map(task(SINGLE), examples("b", "a", "b")) == ("a", "b")
    assert label_map(task(SINGLE), examples("10", "2", "-1.5", "2")) == ("-1.5", "2", "10")
    assert label_map(task(SINGLE), examples("10", "2", "x")) == ("10", "2", "x")
    assert label_map(task(NER), examples(("I-A", "B-A"), ("O", "B-A"))) == ("O", "B-A", "I-A")
    assert label_map(task(SINGLE), examples("O", "B")) == ("B", "O")
    assert label_map(task(MULTI), examples(("b", "a"), ())) == ("a", "b")


def test_the_task_decides_where_it_says_its_labels():
    assert label_map(task(SINGLE, labels=("b", "a")), examples("c")) == ("b", "a")
    assert label_map(task(SINGLE, class_num=3), []) == ("0", "1", "2")
    assert label_map(task(WORDS), []) == label_map(task(SEQUENCE), []) == ("0", "1")
    for task_type in (SCORE, SELECT, TALK):
        assert label_map(task(task_type), examples(None)) == ()
    assert known_labels(task(SCORE, class_num=1)) is None


def test_an_unknown_label_is_refused_by_file_and_line(tmp_path):
    train = write(tmp_path, "train.tsv", "1\tgood\ta\n2\tbad\tb\n")
    dev = write(tmp_path, "dev.tsv", "1\tgood\ta\n2\tgod\tb\n")
    plain = task(SINGLE)
    learnt = replace(plain, labels=label_map(plain, read_examples(plain, train)))
    with pytest.raises(InputError, match="line 2: the train file has no label 'god'; did you mean 'good'"):
        list(read_examples(learnt, dev))
    listed = replace(learnt, listed=True)
    with pytest.raises(InputError, match="dev.tsv: line 2: label 'god' is not known; did you mean 'good'"):
        list(read_examples(listed, dev))
    with pytest.raises(InputError, match="dev.tsv: line 1: label 'good' is not known; known are 0, 1"):
        read(dev, SINGLE, class_num=2)
    with pytest.raises(InputError, match="a.txt: line 2: the train file has no label 'B-LOC'; did"):
        read(write(tmp_path, "a.txt", "a O\nb B-LOC\n"), NER, labels=("O", "B-LOK"))
    with pytest.raises(InputError, match="b.tsv: line 1: the train file has no label 'x'; list all"):
        read(write(tmp_path, "b.tsv", "1\t['O', 'x']\t['a', 'b']\n"), NER, labels=("O",))
    marks = {"text": "s", "label": ["toxic", "insult"]}
    with pytest.raises(InputError, match="d.tsv: line 2: label 'insult' is not known; known are toxic, rude"):
        path = write(tmp_path, "d.tsv", "s\ttoxic\tinsult\na\t0\t1\n")
        read(path, MULTI, columns=marks, labels=("toxic", "rude"))
    with pytest.raises(InputError, match="^.*c.tsv: line 1: label 'x' is not known; known are a$"):
        read(write(tmp_path, "c.tsv", "1\ta,x\tb\n"), MULTI, labels=("a",), listed=True)


def test_a_label_that_train_lacks_is_no_misspelling_of_one_that_is_hardly_alike(tmp_path):
    dev = write(tmp_path, "dev.tsv", "1\tsadness\ta\n")
    for labels, near in ((("anger", "gladness", "joy"), True), (("anger", "madly", "joy"), False)):
        with pytest.raises(InputError, match="no label 'sadness'; .*list all labels in label_map") as error:
            read(dev, SINGLE, labels=labels)
        assert ("did you mean" in str(error.value)) == near


# --- real files -----------------------------------------------------------------------------------------

ONE = {"text": "sentence1", "label": "label"}
TWO = {"text": ["sentence1", "sentence2"], "label": "label"}
REAL = [
    (SINGLE, "glue-like/cola/train.tsv", ONE, 8551, ("0", "1")),
    (SINGLE, "glue-like/sst2/dev.tsv", ONE, 872, ("0", "1")),
    (PAIR, "glue-like/mrpc/train.tsv", TWO, 3668, ("0", "1")),
    (SINGLE, "intent/snips/train.tsv", ONE, 13084, 7),
    (NER, "intent/snips/slots_dev.tsv", {}, 700, "O"),
    (NER, "ner/wnut17/dev.tsv", {}, 1009, 13),
    (NER, "ner/uner_ewt/dev.tsv", {}, 2001, 7),
    (NER, "pos/dev.tsv", {}, 2001, 17),
    (TALK, "conversation/train.jsonl", {}, 1078, ()),
    (SELECT, "conversation/valid.jsonl", {}, 505, ()),
    (WORDS, "spelling/test/sed_words/wikidump/realistic", {}, 10000, ("0", "1")),
    (SEQUENCE, "spelling/dev/sed_words/wikidump/realistic/corrupt.txt", {}, 10000, ("0", "1")),
]


@pytest.mark.skipif(not EVAL.is_dir(), reason="no ../shared/data/eval beside the repository")
@pytest.mark.parametrize(("task_type", "name", "columns", "count", "labels"), REAL, ids=str)
def test_real_files_are_read_whole(task_type, name, columns, count, labels):
    plain = task(task_type, columns=columns)
    found = list(read_examples(plain, EVAL / name))
    assert len(found) == count
    made = label_map(plain, found)
    if isinstance(labels, int):
        assert len(made) == labels
    elif isinstance(labels, str):
        assert made[0] == labels and "O" not in made[1:]
    else:
        assert made == labels
