"""One process for each device: started together, watched, and ended together.

Whatever ends one of them ends all: its message is raised once, and no process stays.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from span_electra import progress
from span_electra.cores import how_ended
from span_electra.errors import InputError, show_warnings
from span_electra.training.consensus import words_of
from span_electra.training.signals import Signals

Result = TypeVar("Result")

GRACE = 2.0  # seconds in which, after the first failure, a better explanation may still come in


class Interrupted(Exception):
    """A signal ended the processes before they could end by themselves."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by signal {number}")
        self.number = number


def launch(work: Callable[[int, int, str], Result], processes: int) -> tuple[Result, int]:
    """Run work(rank, world, store) in so many new processes.

    Returns rank 0's result and the number of the signal that was passed on to the processes, or 0. `work`
    must be picklable, as a module's function is (the processes are spawned); `store` is the path of a file
    through which they can find each other.

    Raises InputError with the message of the process that raised one, RuntimeError with the traceback of
    one that crashed or the signal that killed one, and Interrupted.
    """
    context = multiprocessing.get_context("spawn")  # forked, they would share this one's CUDA context
    with tempfile.TemporaryDirectory(prefix="span-electra-") as folder:
        store = str(Path(folder) / "store")
        children, pipes = [], []
        for rank in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (work, rank, processes, store, theirs)
            child = context.Process(target=_child, args=arguments, daemon=True, name=f"process {rank}")
            child.start()
            theirs.close()  # while a copy of this end is open, the death of the child ends nothing
            children.append(child)
            pipes.append(ours)
        forward = _Forward(children)
        try:
            with forward, progress.saying(progress.silent):
                return _watch(children, pipes, forward), forward.received
        finally:
            _end(children)


class _Forward(Signals):
    """Passes the first signal on to the children; the second kills them and this process."""

    def __init__(self, children: list[BaseProcess]) -> None:
        super().__init__()
        self.children = children

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            _end(self.children)
            os._exit(128 + number)
        self.received = number
        for child in self.children:
            if child.is_alive():
                # The terminal sends SIGINT to the children too, so they leave that one to us.
                os.kill(child.pid, signal.SIGTERM if number == signal.SIGINT else number)


def _watch(children: list[BaseProcess], pipes: list[Connection], forward: _Forward) -> Any:
    """Wait until all are done or one has failed."""
    # A pipe that closes without a report is a death; both wake the waiting.
    reports: dict[int, tuple[str, Any]] = {}
    patience = None
    while len(reports) < len(children):
        waiting = {pipes[rank]: rank for rank in range(len(children)) if rank not in reports}
        ready = wait(list(waiting), patience)
        if not ready:
            break  # no more explanations
        for pipe in ready:
            reports[waiting[pipe]] = _report(children[waiting[pipe]], pipe)
        if any(kind != "done" for kind, _ in reports.values()):
            patience = GRACE
    failures = [report for report in reports.values() if report[0] != "done"]
    if not failures:
        return reports[0][1]
    if forward.received and all(kind == "killed" for kind, _ in failures):
        raise Interrupted(forward.received)
    # A process that was killed explains why the others lost their connection to it; so does one bad input.
    kinds = ("killed", "input", "crash", "lost")
    kind, message = min(failures, key=lambda report: kinds.index(report[0]))
    raise InputError(message) if kind == "input" else RuntimeError(message)


def _report(child: BaseProcess, pipe: Connection) -> tuple[str, Any]:
    try:
        return pipe.recv()
    except EOFError:
        child.join()
    ended = f"{child.name} {how_ended(child.exitcode)}"
    # Negative: by a signal. The system's memory killer leaves no other trace.
    if child.exitcode is not None and child.exitcode < 0:
        return "killed", f"{ended} (out of memory?); go on with the run"
    return "crash", f"{ended} and without a word"


def _end(children: list[BaseProcess]) -> None:
    for child in children:
        if child.is_alive():
            child.kill()
    for child in children:
        child.join()


def _child(work: Callable[..., Any], rank: int, world: int, store: str, pipe: Connection) -> None:
    """The life of one process: work, and tell how it went."""
    # The terminal sends it to the whole group; the parent decides what comes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        show_warnings(aloud=rank == 0)
        if rank == 0:
            progress.start()
        report = "done", work(rank, world, store)
    except (InputError, OSError) as error:
        # Connections break when another process dies; else the disk is full, say.
        mendable, said = words_of(error)
        report = "input" if mendable else "lost", said
    except BaseException as error:
        # Connections break when another process dies; that one's own words are better.
        lost = any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "peer"))
        text = "".join(traceback.format_exception(error)).rstrip()
        report = "lost" if lost else "crash", f"process {rank} failed:\n{text}"
    pipe.send(report)
    pipe.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Leaving by the front door could wait for a collective of a process that is already dead.
    os._exit(0 if report[0] == "done" else 1)


def _end_with_parent() -> None:
    """Do not outlive the process that would have to end us."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
