"""Laws of storage: whole or not at all, one at a time, and no other module does these things by itself.

Run: pytest tests/test_storage.py
"""

import ast
import errno
import os
import stat
from pathlib import Path

import pytest

from span_electra import storage
from span_electra.storage import (
    AppendedFile,
    atomic_file,
    atomic_folder,
    empty_parents_go,
    partial_path,
    recover,
    replace_folder,
    write_files,
    write_text,
)

PACKAGE = Path(storage.__file__).parent
GONE = 2_000_000_000  # no system gives a process such a number


def test_a_file_stands_when_its_block_ends_and_not_before(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with atomic_file(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["f"]


def test_a_block_that_fails_leaves_what_stood_there(tmp_path):
    write_text(tmp_path / "f", "old")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "kept").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "f") as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "d") as beside:
        (beside / "half").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "f").read_text() == "old" and os.listdir(tmp_path / "d") == ["kept"]
    assert sorted(os.listdir(tmp_path)) == ["d", "f"]


def test_folders_that_were_made_for_nothing_go_and_others_stay(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyError), empty_parents_go(tmp_path / "mine" / "a" / "b" / "file"):
        (tmp_path / "mine" / "a" / "b").mkdir(parents=True)
        raise KeyError
    assert os.listdir(tmp_path) == ["mine"] and not os.listdir(tmp_path / "mine")
    with empty_parents_go(tmp_path / "runs" / "first" / "file"):
        (tmp_path / "runs").mkdir()
        write_text(tmp_path / "runs" / "log", "kept")
    assert os.listdir(tmp_path / "runs") == ["log"]


def test_files_of_a_folder_have_the_umasks_mode_whoever_wrote_them(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "d") as beside:
            (beside / "f").touch(mode=0o600)  # as safetensors makes them
    finally:
        os.umask(before)
    assert (tmp_path / "d" / "f").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_an_error_names_the_place_and_not_what_is_written_beside_it(writer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError) as caught, writer(tmp_path / "file" / "x") as beside:
        beside.write_text("1")
    assert caught.value.filename == str(tmp_path / "file" / "x")
    with pytest.raises(OSError) as full, writer(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(tmp_path / "x")
    with pytest.raises(PermissionError) as other, writer(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "Permission denied", "elsewhere")
    assert other.value.filename == "elsewhere"
    assert os.listdir(tmp_path) == ["file"]


def test_bytes_are_on_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    """In this order: what is synced, then the rename, then the folder's names."""
    events = []
    monkeypatch.setattr(storage, "sync", lambda path: events.append(f"sync {Path(path).name}"))
    replace = os.replace
    monkeypatch.setattr(storage.os, "replace", lambda a, b: (events.append("rename"), replace(a, b)))
    write_text(tmp_path / "f", "x")
    assert events == [f"sync {partial_path(tmp_path / 'f').name}", "rename", f"sync {tmp_path.name}"]
    events.clear()
    with atomic_folder(tmp_path / "d") as beside:
        (beside / "sub").mkdir()
        (beside / "sub" / "x").write_text("x")
    assert events.index("sync x") < events.index("sync sub") < events.index(f"sync {tmp_path.name}")
    events.clear()
    with atomic_file(tmp_path / "g", durable=False) as beside:
        beside.write_text("x")
    assert events == ["rename"]


@pytest.mark.parametrize("number", sorted(storage.WITHOUT_SYNC))
def test_where_folders_cannot_be_synced_all_is_written_and_a_files_own_error_is_raised(
    tmp_path, monkeypatch, number
):
    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders_fail:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(storage.os, "fsync", fsync)
    folders_fail = True
    write_text(tmp_path / "f", "x")
    with atomic_folder(tmp_path / "d") as beside:
        (beside / "sub").mkdir()
    assert (tmp_path / "f").read_text() == "x" and (tmp_path / "d" / "sub").is_dir()
    folders_fail = False
    with pytest.raises(OSError, match=os.strerror(number)):
        write_text(tmp_path / "f", "y")
    assert (tmp_path / "f").read_text() == "x"


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("one", "two"):
        with atomic_folder(tmp_path / "d") as beside:
            (beside / name).write_text(name)
    assert os.listdir(tmp_path) == ["d"] and os.listdir(tmp_path / "d") == ["two"]


def test_a_link_to_a_folder_stays_and_leads_to_the_new_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "d").symlink_to(tmp_path / "disk" / "d")
    for name in ("one", "two", "three"):
        with atomic_folder(tmp_path / "here" / "d") as beside:
            (beside / name).write_text(name)
    assert (tmp_path / "here" / "d").is_symlink() and os.listdir(tmp_path / "here") == ["d"]
    assert os.listdir(tmp_path / "disk") == ["d"] and os.listdir(tmp_path / "disk" / "d") == ["three"]


def test_what_a_kill_left_is_cleared_and_a_folder_between_two_renames_comes_back(tmp_path):
    (tmp_path / ".d.old").mkdir()
    (tmp_path / ".d.old" / "kept").write_text("x")
    (tmp_path / f".d.{GONE}.partial").mkdir()
    (tmp_path / f".d.{GONE + 1}.partial").write_text("half")
    others = [".d.mine", f".d.{GONE}", "e", f".e.{GONE}.partial", f".d.{os.getppid()}.partial"]
    for name in others:
        (tmp_path / name).write_text("not of d")
    recover(tmp_path / "d")
    assert sorted(os.listdir(tmp_path)) == sorted(["d", *others])
    assert os.listdir(tmp_path / "d") == ["kept"]
    (tmp_path / "new").mkdir()
    replace_folder(tmp_path / "new", tmp_path / "d")
    assert sorted(os.listdir(tmp_path)) == sorted(["d", *others]) and not os.listdir(tmp_path / "d")


def test_what_a_dead_process_of_our_own_number_left_is_in_nobodys_way(tmp_path):
    for left in (partial_path(tmp_path / "d"), tmp_path / f".d.{GONE}.partial"):
        left.mkdir()
        (left / "half").write_text("x")
    with atomic_folder(tmp_path / "d") as beside:
        (beside / "new").write_text("x")
    assert os.listdir(tmp_path) == ["d"] and os.listdir(tmp_path / "d") == ["new"]


def test_of_several_files_one_that_another_process_is_writing_stays(tmp_path):
    theirs = [tmp_path / f".a.{number}.partial" for number in (os.getppid(), GONE)]
    for path in theirs:
        path.write_text("half")
    write_files({tmp_path / "a": "whole"})
    assert sorted(os.listdir(tmp_path)) == [theirs[0].name, "a"]


def test_of_several_files_the_last_stands_only_where_all_do(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in "abc"]
    replace, renamed = os.replace, []

    def full(source, target):
        renamed.append(Path(target).name)
        if len(renamed) == 3:
            raise OSError(errno.EIO, "lost")
        replace(source, target)

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(OSError, match="lost"):
        write_files({path: path.name for path in paths})
    assert sorted(os.listdir(tmp_path)) == ["a", "b"] and renamed == ["a", "b", "c"]


def test_a_record_that_does_not_fit_is_named_and_leaves_nothing(tmp_path):
    path = tmp_path / "lines"
    file = AppendedFile(path)
    file.append(b"one\n")
    whole, file.file = file.file, HalfWriting(file.file)
    with pytest.raises(OSError, match=f"No space left.*{path.name}"):
        file.append(b"two\n")
    assert path.read_bytes() == b"one\n"
    file.file = whole
    file.append(b"three\n")
    file.close()
    assert path.read_bytes() == b"one\nthree\n"


@pytest.mark.parametrize("content", [None, b"", b'{"a": 1', b"\xff", b"[" * 100_000, b"[1]"])
def test_what_is_no_object_is_an_empty_one(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    assert storage.read_object(tmp_path / "a.json") == {}
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert storage.read_object(tmp_path / "a.json") == {"a": 1}


class HalfWriting:
    """A file on a disk that fills up in the middle of a record."""

    def __init__(self, file):
        self.file, self.seek, self.fileno = file, file.seek, file.fileno

    def write(self, record):
        return self.file.write(record[: len(record) // 2])


def test_no_other_module_renames_syncs_or_locks():
    """One writer of whole files, one place for locks: storage.py and locks.py."""
    allowed = {  # renames of what is whole already: checkpoints set aside
        ("training/checkpoint.py", "rename"),
    }
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name in ("storage.py", "locks.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"fcntl"}, name
            if isinstance(node, ast.Attribute) and node.attr in ("rename", "fsync", "lockf", "flock"):
                assert (name, node.attr) in allowed, f"{name}:{node.lineno}: .{node.attr}; use storage.py"
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "os.replace":
                raise AssertionError(f"{name}:{node.lineno}: os.replace; use storage.py")
