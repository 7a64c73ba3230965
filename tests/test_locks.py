"""Locks: one process, or thread, at a time; freed with it. Run: pytest tests/test_locks.py"""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from span_electra import locks
from span_electra.errors import InputError
from span_electra.locks import alone_in, is_held, locked

HOLDER = """
import sys
from pathlib import Path
from span_electra.locks import locked
with locked(Path(sys.argv[1]), "it", "busy ({holder})"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_by_one_process_and_goes_with_it(tmp_path):
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"{lock.name}: busy \({other.pid} on .*\)"):
            with locked(lock, lock, "busy ({holder})"):
                pass
        other.kill()
        other.wait()
        with locked(lock, "it", "busy"):
            with pytest.raises(InputError, match="it: busy"):  # nor does this process hold it twice
                with locked(lock, "it", "busy"):
                    pass
        with locked(lock, "it", "busy"):
            pass


def test_who_asks_whether_a_lock_is_held_neither_takes_it_nor_lets_it_go(tmp_path):
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    assert not is_held(lock) and not lock.exists()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert is_held(lock) and is_held(lock)
        other.kill()
        other.wait()
    assert lock.exists() and not is_held(lock)
    with locked(lock, "it", "busy"):
        assert is_held(lock)
        refused = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert f"busy ({os.getpid()} on" in refused.stderr, "closing a file would have let all of it go"
    assert not is_held(lock)


def test_a_waiting_lock_is_had_once_the_other_is_done(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        other.stdin.close()  # lets go
        with locked(tmp_path / "lock", "it", "busy", wait=True):
            pass


def test_a_place_where_nothing_can_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"{tmp_path / 'file' / 'run'}: cannot be written .*; name another"):
        with locked(tmp_path / "file" / "run" / "lock", "it", "busy"):
            pass


def test_a_file_system_without_locks_is_named_and_gone_on_with(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    with pytest.warns(UserWarning, match=f"{tmp_path.name}: its file system has no locks"):
        with locked(tmp_path / "lock", "it", "busy"):
            pass


def test_threads_and_processes_are_alone_in_a_folder_one_by_one(tmp_path, monkeypatch):
    inside, most = [], []

    def enter(_):
        with alone_in(tmp_path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)  # in which another would come in
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(8)))
    assert most == [1] * 8 and os.listdir(tmp_path) == []

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with alone_in(tmp_path):  # on such a file system it is gone on with
        pass
