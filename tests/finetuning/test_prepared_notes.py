"""What is told of prepared data. Run: pytest tests/finetuning/test_prepared_notes.py"""

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_examples import prepared as from_files
from finetune_examples import write_task
from task_examples import write

from span_electra.errors import InputError
from span_electra.finetuning.prepare import ALIKE, HEADER
from span_electra.finetuning.prepared import Prepared, PreparedTask
from span_electra.finetuning.prepared_notes import check_labels_differ, notes, summary_lines
from span_electra.finetuning.task import Task


def prepared(labels=("no", "yes"), **changes) -> Prepared:
    known = {"cut": {}, "settings": {}, "noted": {}, "key": "k"} | changes
    task = PreparedTask(labels, {"train": 1000, "dev": 7}, **known)
    return Prepared(*(Path("out"), "data", "f00", 32), lowercase=False, tasks={"t": task})


SINGLE, TALK = (Task("t", name, {}) for name in ("SingleSenClassification", "Conversation"))


def test_a_line_for_each_task():
    assert summary_lines(prepared(), [SINGLE]) == ["t: train 1,000, dev 7; 2 labels"]
    assert summary_lines(prepared(()), [TALK]) == ["t: train 1,000, dev 7"]
    assert notes(prepared(), [SINGLE]) == notes(prepared(cut={"train": 0}), [SINGLE]) == []


def test_it_is_told_which_label_f1_and_a_threshold_are_of():
    for task, said in (
        (SINGLE, ""),
        (replace(SINGLE, metrics=("f1",)), "; f1 is of 'yes' (label 1); label_map_or_file gives another"),
        (replace(SINGLE, metrics=("accuracy",), tuned_threshold=True), "; the threshold is of 'yes' (label"),
        (replace(SINGLE, metrics=("accuracy", "f1"), tuned_threshold=True), "; f1 and the threshold are of "),
        (replace(SINGLE, task_type="MultiLabelClassification", metrics=("f1",)), ""),
    ):
        [line] = summary_lines(prepared(), [task])
        start = f"t: train 1,000, dev 7; 2 labels{said}"
        assert line.startswith(start) if said else line == start
    spelling = replace(SINGLE, task_type="SpellingSequence", metrics=("f1",))
    assert summary_lines(prepared(("0", "1")), [spelling])[0].endswith("; f1 is of '1' (label 1)")


def test_rows_that_lost_text_are_told():
    [note] = notes(prepared(cut={"train": 1000, "dev": 0}), [SINGLE])
    assert note.startswith(
        "t: 1,000 rows are longer than 32 tokens and lost the end (train 1,000); --max_seq_len"
    )
    assert "a turn's beginning" in notes(prepared((), cut={"dev": 1}), [TALK])[0]


def test_one_label_is_nothing_to_learn():
    check_labels_differ(prepared(), [SINGLE])
    task = replace(SINGLE, files={"train": ("a.tsv",)})
    with pytest.raises(InputError, match="data/a.tsv: every row has the label 'yes'; t needs at least two"):
        check_labels_differ(prepared(only_label="yes"), [task])
    with pytest.raises(InputError, match=r"a.tsv: each of the first 4 rows \(limit\) has the label 'yes'"):
        check_labels_differ(prepared(only_label="yes"), [replace(task, limit=4)])


@pytest.mark.parametrize("label", ["nan", "NaN", "<NA>", "-", "?", "None", "NA"])
def test_a_label_that_is_a_missing_value_is_told(label):
    assert notes(prepared(("a", label)), [SINGLE])[0].startswith(
        f"t: the label {label!r} looks like a missing"
    )


@pytest.mark.parametrize(
    ("labels", "kind", "told"),
    [
        (("-1", "0", "1", "2"), "SingleSenClassification", True),
        (("-1", "1"), "SingleSenClassification", False),
        (("-2", "-1", "0", "1"), "SingleSenClassification", False),
        (("-1", "0", "x"), "SingleSenClassification", False),
        (("-1",), "SingleSenClassification", False),
        (("-100", "0", "1"), "NER", True),
        (("-100", "0", "1"), "SingleSenClassification", False),
        (("-100", "O", "B-X"), "NER", False),
    ],
)
def test_numbers_that_mark_a_missing_label_are_told(labels, kind, told):
    found = notes(prepared(labels), [Task("t", kind, {})])
    assert [f"the label {labels[0]!r} looks like a missing" in note for note in found] == [True] * told


def test_what_reading_has_counted_is_told_once():
    made = prepared(("no", "yes", "a", "b"), noted={"numbers": 1200, "quotes": 1, "tokenless": 2})
    numbers, quotes, tokenless = notes(made, [SINGLE])
    assert numbers == (
        "t: 1,200 labels are numbers, taken as labels are listed: 0 is 'no', 1 is 'yes', 2 is 'a', ..."
    )
    assert quotes.startswith("t: 1 row has a field in quotes, which are learned as part of it:")
    assert tokenless.startswith("t: 2 words have no token in this vocabulary: ")


def test_text_that_the_vocabulary_does_not_know_is_told_from_one_percent_on():
    assert notes(prepared(noted={"lost": 10, "characters": 1000}), [SINGLE]) == []
    [note] = notes(prepared(noted={"lost": 11, "characters": 1000}), [SINGLE])
    assert note.startswith("t: 1.1% of the texts' characters are unknown to the vocabulary")


def test_a_listed_label_is_meant():
    assert notes(prepared(("none", "-", "a")), [replace(SINGLE, listed=True)]) == []


def test_labels_that_are_one_number_are_told():
    assert notes(prepared(("-1.0", "-1", "1.5", "a.0")), [SINGLE]) == [
        "t: the labels '-1.0' and '-1' are one number, and count as 2"
    ]


def test_labels_that_differ_in_blanks_are_told():
    [note] = notes(prepared(("good", "good ", "so so", "so  so", "bad")), [SINGLE])[:1]
    assert note == "t: the labels 'good' and 'good ' differ in blanks alone, and count as 2"
    assert len(notes(prepared(("good", "good ", "so so", "so  so", "bad")), [SINGLE])) == 2


@pytest.mark.parametrize("mark", "，、،؛；;|")
def test_labels_of_a_row_that_other_marks_part_are_told(mark):
    """Each combination of them would be a class of its own."""
    several = Task("t", "MultiLabelClassification", {})
    [note] = notes(prepared(("a", f"a{mark}b")), [several])
    assert note == f"t: the label {f'a{mark}b'!r} is one: labels of a row are parted by ',' alone"
    for task in (SINGLE, replace(several, listed=True), replace(several, columns={"label": ["a", "b"]})):
        assert not notes(prepared(("a", f"a{mark}b")), [task])


@pytest.mark.parametrize("label", ["phủ định", "が", "é", "각"])
def test_labels_that_differ_in_their_encoding_alone_are_told(label):
    forms = [unicodedata.normalize(form, label) for form in ("NFC", "NFD")]
    [note] = notes(prepared((*forms, "other")), [SINGLE])
    assert note.endswith("are one text in two ways to encode its letters (NFC, NFD), and count as 2")


def test_a_split_of_one_label_is_told_where_a_metric_compares_rows(tmp_path):
    """The test rows of GLUE's STS-B as the hub has them: each is -1.0, and a correlation of them 0."""
    task = write_task(tmp_path, "Regression") | {"metrics": ["pearson", "spearman"]}
    write(tmp_path / "data", "t/test.tsv", "".join(f"{n}\t-1.0\tthe cat\n" for n in range(3)))
    made = from_files(tmp_path, {"t": task})
    asked = Task("t", "Regression", {}, metrics=("pearson", "spearman"))
    said = "t, test: every row has the label '-1.0', of which pearson and spearman say nothing; are labels "
    assert [note.startswith(said) for note in notes(made, [asked])] == [True]
    [note] = notes(made, [replace(asked, metrics=("pearson",))])
    assert note.endswith("of which pearson says nothing; are labels missing?")
    assert not notes(prepared(noted={f"{ALIKE}dev: yes": 3}), [replace(SINGLE, metrics=("accuracy",))])
    assert notes(prepared(noted={f"{ALIKE}dev: yes": 3}), [replace(SINGLE, metrics=("matthews",))])


def test_a_first_row_that_may_be_a_header_is_told():
    [note] = notes(prepared(noted={f"{HEADER}标签": 1}), [SINGLE])
    assert note.startswith("t: the first row has the label '标签', which no other has; if it is a header, ")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train": ("a.tsv",), "dev": ("b.tsv",)}, []),
        ({"train": ("a.tsv",), "dev": ("a.tsv",)}, ["a.tsv (train) and data/a.tsv (dev)", "tried on itself"]),
        ({"train": ("a.tsv",), "test": ("again.tsv",)}, ["(train) and data/again.tsv (test)", "on itself"]),
        ({"train": ("b.tsv",), "dev": ("a.tsv",), "test": ("again.tsv",)}, ["(dev) and", "the same numbers"]),
        ({"train": ("a.tsv", "b.tsv", "again.tsv")}, ["its rows count 2 times"]),
        ({"train": ("a.tsv",), "dev": ("gone.tsv",)}, []),
    ],
)  # fmt: skip
def test_one_content_in_two_files_is_told(files, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("a", "1\tx\ta\n"), ("again", "1\tx\ta\n"), ("b", "1\ty\ta\n")):
        write(tmp_path / "data", f"{name}.tsv", text)
    found = notes(prepared(), [replace(SINGLE, files=files)])
    assert len(found) == bool(said) and all(part in found[0] for part in said)


def test_of_spelling_text_and_labels_together_are_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text, marks in (("a", "the cat", "0 1"), ("b", "the dog", "0 1"), ("c", "the cat", "0 1")):
        write(tmp_path / "data", f"{name}/corrupt.txt", text)
        write(tmp_path / "data", f"{name}/correct.txt", marks)
    files = {"train": ("a",), "dev": ("b",), "test": ("c/corrupt.txt",)}
    [note] = notes(prepared(("0", "1")), [Task("t", "SpellingWords", files)])
    assert "data/a (train) and data/c/corrupt.txt (test) have the same content" in note
