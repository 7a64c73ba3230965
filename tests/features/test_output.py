"""Laws of the output: shards hold the same rows, nothing foreign is written over, a URL gets the same bytes.

Run: pytest tests/features/test_output.py
"""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from feature_examples import VOCABULARY, build, text

from span_electra.errors import InputError
from span_electra.features import output
from span_electra.features.output import check_place, staged
from span_electra.features.store import open_features


@pytest.fixture
def vocabulary():
    return VOCABULARY


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(text(300, 1))
    return tmp_path / "in"


def test_shards_hold_the_same_rows(tmp_path, corpus, vocabulary, capsys):
    build(corpus, vocabulary, tmp_path / "one.arrow")
    for shards in (3, 2):  # the second replaces the first
        build(corpus, vocabulary, tmp_path / "shards", shards=shards)
        assert len(os.listdir(tmp_path / "shards")) == shards + 1
        one, many = open_features(tmp_path / "one.arrow"), open_features(tmp_path / "shards")
        rows = np.arange(one.rows)
        assert np.array_equal(one.gather(rows, 64), many.gather(rows, 64))
        assert np.array_equal(one.spans(rows).starts_S, many.spans(rows).starts_S)
    build(corpus, vocabulary, tmp_path / "shards", shards=2, progress=True)
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(InputError, match="shards: 99999 are more than .* rows"):
        build(corpus, vocabulary, tmp_path / "more", shards=99999)
    assert not (tmp_path / "more").exists()


def test_shards_open_no_part_but_their_own(tmp_path, corpus, vocabulary, monkeypatch):
    read, opened = output.read_part, []
    monkeypatch.setattr(output, "read_part", lambda path, key: opened.append(path.name) or read(path, key))
    build(corpus, vocabulary, tmp_path / "shards", shards=16)
    parts = len(set(opened))
    # To count the rows and to write them; a part in which a shard ends is read for the next one too.
    assert parts > 3 and len(opened) <= 2 * (parts + 15)


def test_nothing_foreign_is_written_over(tmp_path, corpus, vocabulary):
    (tmp_path / "notes.txt").write_text("dear diary")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("dear diary")
    (tmp_path / "file").write_text("")
    for name, shards, message in (
        ("notes.txt", 0, "notes.txt: exists and is no feature file"),
        ("folder", 0, "folder: a folder"),
        ("folder", 2, "folder: holds 'notes.txt'"),
        ("notes.txt", 2, "notes.txt: a file"),
        ("notes.txt/sub", 0, "[.]sub.parts: cannot be written .Not a directory"),
        ("in/a.txt", 0, "a.txt: exists"),
    ):
        with pytest.raises(InputError, match=message):
            build(corpus, vocabulary, tmp_path / name, shards=shards)
    assert (tmp_path / "notes.txt").read_text() == "dear diary"


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_a_folder_without_a_name_is_no_output(name):
    with pytest.raises(InputError, match="give --out_file a name"):
        check_place(Path(name), 2)


@pytest.mark.parametrize("shards", [0, 2])
def test_an_output_url_gets_the_same_bytes(tmp_path, corpus, vocabulary, shards, monkeypatch):
    system = pytest.importorskip("fsspec").filesystem("memory")
    monkeypatch.chdir(tmp_path)
    url = f"memory://out-{vocabulary.kind}-{shards}"
    build("in", vocabulary, "local", shards=shards)
    for _ in range(2):  # the second time it replaces what is there
        build("in", vocabulary, url, shards=shards)
    assert not list(tmp_path.glob(".staged*"))
    if shards:
        system.get(url, "copy", recursive=True)
        assert open_features("copy").rows == open_features("local").rows
    else:
        assert system.cat(url) == Path("local").read_bytes()
        system.pipe("memory://diary", b"dear diary")
        with pytest.raises(InputError, match="memory://diary: exists and is no feature file"):
            build("in", vocabulary, "memory://diary")
    build("in", vocabulary, f"file://{tmp_path}/by-url")
    assert Path("by-url").exists()


def test_the_summary_names_the_url_and_not_the_place_where_it_was_built(
    tmp_path, corpus, vocabulary, monkeypatch, capsys
):
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    build(corpus, vocabulary, "memory://summary.arrow", progress=True)
    said = capsys.readouterr()
    assert "-> memory://summary.arrow" in said.out + said.err and ".staged" not in said.out + said.err


def test_a_full_disk_here_is_not_the_urls_fault(tmp_path, corpus, vocabulary, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    url, full = "memory://far.arrow", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "here.arrow")
    with pytest.raises(OSError, match="No space left on device: 'here.arrow'"), staged(url, 0):
        raise full
    with pytest.raises(InputError, match=f"{url}: .*No such file"), staged(url, 0):
        pass  # nothing was built, so nothing can be sent
    assert not list(tmp_path.glob(".staged-*"))
