"""Labels as a person lists them. Run: pytest tests/finetuning/test_label_file.py"""

import time

import pytest
from task_examples import write

from span_electra.errors import InputError
from span_electra.finetuning.label_file import LARGEST_FILE, labels_from_file, labels_from_value


def test_a_list_keeps_its_order_and_a_mapping_that_of_its_numbers():
    assert labels_from_value(["b", "a", 3]) == ("b", "a", "3")
    assert labels_from_value({"B-PER": 1, "O": 0}) == ("O", "B-PER")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "names no labels"), ({}, "names no labels"), ("a", "names no labels"), (3, "names no labels"),
        ({"a": 0, "b": 2}, "must be 0 to 1"), ({"a": 0, "b": 0}, "must be 0 to 1"),
        ({"a": 1}, "must be 0 to 0"), ({"a": True, "b": 0}, "must be 0 to"), ({"a": "0"}, "must be 0 to"),
        ({"a": [0]}, "must be 0 to"), (["a", "b", "a"], "'a' stands there twice"), ([1, "1"], "twice"),
        ([True], "True is no label; put it in quotes"), ([None], "None is no label"), ([""], "is no label"),
        ([["a"]], "is no label"),
    ],
)  # fmt: skip
def test_what_names_no_labels_is_refused(value, problem):
    with pytest.raises(ValueError, match=problem):
        labels_from_value(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '["O", "é"]'), ("a.json", '{"é": 1, "O": 0}'), ("a.txt", "O\né\n"), ("a.txt", "O\r\né"),
        ("a.txt", "O\né\n\n \r\n"),
        ("labels", "\ufeffO\né\n"),
    ],
)  # fmt: skip
def test_a_file_has_json_or_a_label_a_line(tmp_path, name, text):
    assert labels_from_file(write(tmp_path, name, text)) == ("O", "é")


def test_many_labels_are_read_at_once():
    labels = [str(number) for number in range(50_000)]  # each compared with all before it, they take minutes
    began = time.process_time()
    assert labels_from_value(labels) == tuple(labels)
    assert time.process_time() - began < 2


def test_newlines_alone_part_labels_and_other_encodings_are_named(tmp_path):
    assert labels_from_file(write(tmp_path, "a.txt", "a\u2028b\nc\x85\n")) == ("a\u2028b", "c\x85")
    (tmp_path / "b.txt").write_bytes("O\né\n".encode("utf-16"))
    with pytest.raises(InputError, match="b.txt: UTF-16 text"):
        labels_from_file(tmp_path / "b.txt")


def test_a_label_a_line_may_look_like_json(tmp_path):
    assert labels_from_file(write(tmp_path, "a.txt", "[\n]\n")) == ("[", "]")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.json", "[", "Expecting"), ("a.json", "{}", "names no labels"), ("a.txt", "", "names no labels"),
        ("a.txt", "a\n\nb\n", "is no label"), ("a.txt", "a\na\n", "twice"),
    ],
)  # fmt: skip
def test_a_file_that_names_no_labels_is_refused_by_its_name(tmp_path, name, text, problem):
    with pytest.raises(InputError, match=rf"{name}: .*{problem}"):
        labels_from_file(write(tmp_path, name, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="a.json: .*recursion"):
        labels_from_file(write(tmp_path, "a.json", "[" * 99999))
    with pytest.raises(InputError, match="a.txt: more than 16 MiB"):
        labels_from_file(write(tmp_path, "a.txt", "x" * (LARGEST_FILE + 1)))
    (tmp_path / "a.txt").write_bytes(b"\x80\x04\x95")
    with pytest.raises(InputError, match="a.txt: not UTF-8 .byte 0x80"):
        labels_from_file(tmp_path / "a.txt")
    with pytest.raises(InputError, match="b.txt: No such file or directory; name a file of labels"):
        labels_from_file(tmp_path / "b.txt")
    with pytest.raises(InputError, match="directory"):
        labels_from_file(tmp_path)
