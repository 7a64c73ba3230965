"""The default corpus. Run: pytest tests/text/test_sample.py"""

import pytest

from span_electra.text import sample

CODE_AND_PROSE = '''"""This module walks through a tree of nodes and gives each of them back once.

>>> walk(1)
[1]

Parameters
----------
x : int

The ``root`` comes first, and :class:`~a.Node` objects follow it in the order of their keys.
"""

class Node:
    """Short."""

    def visit(self):
        """Visit the node and all that hangs below it, deepest first, without ever using recursion."""
'''


def test_prose_is_kept_and_code_and_tables_are_dropped(tmp_path):
    path = tmp_path / "tree.py"
    path.write_text(CODE_AND_PROSE)
    assert sample.prose_of(path) == [
        "This module walks through a tree of nodes and gives each of them back once.",
        "The root comes first, and ~a.Node objects follow it in the order of their keys.".replace("~", ""),
        "Visit the node and all that hangs below it, deepest first, without ever using recursion.",
    ]


def test_a_file_that_does_not_parse_has_no_prose(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text('"""A broken file has no prose that anybody could read out of it."""\ndef f(:')
    assert sample.prose_of(path) == []


@pytest.fixture
def few_files(tmp_path, monkeypatch):
    sentences = [
        f"Sentence number {n} of this small module says something about nothing in words." for n in range(9)
    ]
    for n in range(40):
        body = f"Module {n} has a line of its own that no other module has, and here it is now."
        shared = sentences[n % 9]
        (tmp_path / f"m{n:02}.py").write_text(f'"""{body}\n\n{shared}\n\nAlso {shared}\n"""\n')
    files = [(path.stem, path) for path in sorted(tmp_path.glob("*.py"))]
    monkeypatch.setattr(sample, "python_files", lambda: iter(files))
    monkeypatch.setattr(sample, "VALID_SHARE", 0.3)


def test_no_paragraph_stands_twice_and_the_splits_share_none(few_files, tmp_path):
    sample.write_sample(tmp_path / "data", workers=1)
    train, valid = ((tmp_path / "data" / name).read_text().split("\n") for name in ("train.txt", "valid.txt"))
    lines = [line for line in train + valid if line]
    assert len(lines) == len(set(lines)) and any(train) and any(valid)


def test_the_same_packages_give_the_same_bytes(few_files, tmp_path):
    for folder in ("a", "b"):
        sample.write_sample(tmp_path / folder, workers=1)
    assert (tmp_path / "a/train.txt").read_bytes() == (tmp_path / "b/train.txt").read_bytes()


def test_a_file_that_is_there_is_left_alone(few_files, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        sample.write_sample(tmp_path / "data", workers=1)
    assert (tmp_path / "data/train.txt").read_text() == "mine"


def test_this_machine_has_prose():
    name, paragraphs = next(iter(sample.sample_documents(workers=1)))
    assert name and all(sample.is_prose(paragraph) for paragraph in paragraphs)
