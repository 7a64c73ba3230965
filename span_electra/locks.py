"""Being alone with a file or a folder, among the commands of a machine; a kill frees what was locked."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from span_electra.errors import InputError

# What a file system says that knows no locks (some network and FUSE mounts).
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

_held: set[str] = set()  # locks of this process: the system's belong to a process and do not see each other


@contextmanager
def locked(path: Path, what: str | Path, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, which is made; the system frees it when the process dies, however it dies.

    what, busy: what is locked, and what to say of it when another process has it; in `busy`, `{holder}`
    stands for that process's number and machine.
    wait: wait until it is free instead.

    Raises InputError saying so, or that the file cannot be made. Where the file system has no locks, a
    warning says so, and nothing is locked.
    """
    # By the real path: two names of one file are one lock.
    key = os.path.realpath(path)
    if key in _held:
        raise InputError(f"{what}: {busy.format(holder=f'{os.getpid()}, this one')}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # not "w": it would wipe the holder's number
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot be written ({error.strerror}); name another place for the output"
        ) from None
    with file:
        try:
            # Not flock: its lock would live on in worker processes whose command was killed.
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                file.seek(0)
                holder = file.read(200).strip() or "unknown"
                raise InputError(f"{what}: {busy.format(holder=holder)}") from None
            warnings.warn(
                f"{path.parent}: its file system has no locks; see that no other command writes there",
                stacklevel=3,
            )
        _held.add(key)
        # The holder's number is for people; what locks is the system's record of this open file.
        try:
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()} on {socket.gethostname()}\n")
            with suppress(OSError):  # a full disk keeps nobody from holding a lock
                file.flush()
            yield
        finally:
            _held.discard(key)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file `path`. Asking locks nothing: nobody waits, or is refused by it.

    Where a file system does not tell, True.
    """
    if os.path.realpath(path) in _held:  # by us, and closing the file would let it go
        return True
    whole = (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # type, whence, start, length (0: to the end), process
    linux = sys.platform.startswith("linux")
    # The system's struct flock, whose members BSD and macOS have in another order.
    wanted = struct.pack("hhqqi", *whole) if linux else struct.pack("qqihh", 0, 0, 0, *whole[:2])
    try:
        with open(path, "rb") as file:
            found = fcntl.fcntl(file, fcntl.F_GETLK, wanted)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return struct.unpack("hhqqi" if linux else "qqihh", found)[0 if linux else 3] != fcntl.F_UNLCK


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be alone with a folder, which is there, for moments: others wait. Nothing is left in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks, or without this one
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
