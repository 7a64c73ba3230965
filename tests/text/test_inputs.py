"""Laws of finding inputs: a fixed order, notes for what is passed over, refusals by name.

Run: pytest tests/text/test_inputs.py
"""

import os

import pytest

from span_electra.errors import InputError
from span_electra.text.inputs import find_inputs


def test_folders_are_walked_in_order_without_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b.txt", ".git/x.txt", "a/.x.txt", "empty.txt", "index.tsv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("" if "empty" in name else f"{name}\n")
    inputs = find_inputs(tmp_path)
    names = [os.path.relpath(file.path, tmp_path) for file in inputs.files]
    assert names == ["b.txt", "a/b.txt", "a/z.txt"]
    notes = "\n".join(inputs.notes)
    assert "2 hidden" in notes and "empty.txt: empty" in notes and "no column 'text'" in notes
    globbed = find_inputs([tmp_path / "a" / "*.txt", str(tmp_path / "a" / "b.txt")])
    assert [os.path.basename(file.path) for file in globbed.files] == ["b.txt", "z.txt"]
    assert "named twice" in globbed.notes[0]


def test_missing_and_special_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("absent.txt", "No such file"), ("*.txt", "no file matches"), ("pipe", "regular")):
        with pytest.raises(InputError, match=message):
            find_inputs(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no text files"):
        find_inputs(tmp_path / "folder")
    with pytest.raises(InputError, match="nosuchscheme"):
        find_inputs("nosuchscheme://bucket/a.txt")
