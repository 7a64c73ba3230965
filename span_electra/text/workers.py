"""One function over many tasks in several processes; results as they come, and failures by name.

Used where a task is large (megabytes of text): a process gets its next task while it works on the one before.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from span_electra.cores import available_cores, how_ended
from span_electra.errors import InputError

END_SECONDS = 5.0  # how long a process may take to end before it is killed
Settings, Task, Result = TypeVar("Settings"), TypeVar("Task"), TypeVar("Result")
NO_MORE = object()
AHEAD = 2  # tasks a process holds: the one it works on and the next


def cap_workers(asked: int) -> tuple[int, str]:
    """Return how many processes to start, and a note when these are fewer than asked for."""
    cores = available_cores()
    if asked <= cores:
        return max(1, asked), ""
    return cores, f"workers: {asked} asked for, {cores} used; this machine has no more cores to give"


def run_tasks(
    prepare: Callable[[Settings], Callable[[Task], Result]],
    settings: Settings,
    tasks: Iterable[Task],
    workers: int,
) -> Iterator[tuple[Task, Result]]:
    """Yield (task, result) for every task, in the order results come.

    `prepare(settings)` is called once in each process and returns the function of a task; it must be
    importable by name, and tasks and results must pass a pipe. Tasks are taken from the iterable only as fast
    as they are worked on. With one worker everything runs in this process, in order.

    Raises what a task raised: InputError, OSError and MemoryError as they are, others as a RuntimeError with
    their text; InputError when a process was killed. However it ends, no process is left.
    """
    return ((task, result) for _, task, result in _run(prepare, settings, tasks, workers))


def run_in_order(
    prepare: Callable[[Settings], Callable[[Task], Result]],
    settings: Settings,
    tasks: Iterable[Task],
    workers: int,
) -> Iterator[Result]:
    """Yield the results of `run_tasks` in the order of the tasks, which should take about equally long."""
    early: dict[int, Result] = {}
    following = 0
    for number, _, result in _run(prepare, settings, tasks, workers):
        early[number] = result
        while following in early:
            yield early.pop(following)
            following += 1


def _run(
    prepare: Callable, settings: object, tasks: Iterable, workers: int
) -> Iterator[tuple[int, Any, Any]]:
    """Yield (number, task, result), where tasks are numbered as they come."""
    numbered = enumerate(tasks)
    if workers <= 1:
        work = prepare(settings)
        for number, task in numbered:
            yield number, task, work(task)
        return
    crew: list[_Worker] = []
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of fork beside threads; _start_method has made sure that none of ours runs.
            warnings.simplefilter("ignore", DeprecationWarning)
            context = multiprocessing.get_context(_start_method())
            for _ in range(workers):
                crew.append(_hire(context, prepare, settings))
        yield from _distribute(numbered, crew)
    finally:
        _dismiss(crew)


def _start_method() -> str:
    """fork, which starts at once, while nothing has started threads that it would cut off."""
    alone = threading.active_count() == 1 and "torch" not in sys.modules and "ray" not in sys.modules
    return "fork" if sys.platform == "linux" and alone else "spawn"


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    tasks: list = field(default_factory=list)  # numbered, handed over and not answered, oldest first


def _hire(context: Any, prepare: Callable, settings: object) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, ours, prepare, settings), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _distribute(tasks: Iterator[tuple[int, Any]], crew: list[_Worker]) -> Iterator[tuple[int, Any, Any]]:
    """Keep every process supplied, oldest supply first; yield answers."""
    more = True
    while True:
        # In rounds: nobody gets a second task before all have a first.
        for _ in range(AHEAD):
            for worker in crew:
                if more and len(worker.tasks) < AHEAD:
                    more = _hand_over(worker, tasks)
        busy = [worker for worker in crew if worker.tasks]
        if not busy:
            return
        ready = wait([worker.pipe for worker in busy])
        for worker in busy:
            if worker.pipe in ready:
                number, task = worker.tasks.pop(0)
                yield number, task, _receive(worker)


def _hand_over(worker: _Worker, tasks: Iterator[tuple[int, Any]]) -> bool:
    """Send the next task; False when there is none."""
    for number, task in tasks:
        worker.tasks.append((number, task))
        try:
            worker.pipe.send(task)
        except (BrokenPipeError, ConnectionResetError):
            raise _death(worker) from None
        return True
    return False


def _receive(worker: _Worker) -> Any:
    try:
        answer = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        raise _death(worker) from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _death(worker: _Worker) -> InputError:
    worker.process.join(END_SECONDS)
    code = worker.process.exitcode
    # The system kills what takes too much memory; libraries in Rust and C++ abort where they get none.
    short = code in (-signal.SIGKILL, -signal.SIGABRT)
    # Not as flags: which of the two a command has, it knows alone.
    less = "fewer processes (workers) or smaller blocks of text (chunk_size) need less"
    hint = f"; was memory short? {less}" if short else ""
    return InputError(
        f"worker process {worker.process.pid} {how_ended(code)}{hint}; run again to go on where it stopped"
    )


def _dismiss(crew: list[_Worker]) -> None:
    for worker in crew:
        worker.pipe.close()
        worker.process.terminate()
    for worker in crew:
        worker.process.join(END_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


# --- in the process -----------------------------------------------------------------------------------


def _work(pipe: Connection, parents: Connection, prepare: Callable, settings: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a forked process has the parent's handler
    # So that the pipe ends with the parent, however it dies. Forked, we have the ends of those before us too:
    # the last one ends first, and with it goes the last copy of the end of the one before.
    parents.close()
    tasks: queue.SimpleQueue = queue.SimpleQueue()
    # By a thread: a result that fills the pipe waits for the parent, who may be waiting to hand over a task.
    threading.Thread(target=_take, args=(pipe, tasks), daemon=True).start()
    work = None
    while (task := tasks.get()) is not NO_MORE:
        # Errors are made anew to be sent: not every one can be pickled, and none with its traceback.
        try:
            # With the first task, so that a failure of it is told as that of a task.
            work = work or prepare(settings)
            answer = work(task)
        except InputError as error:
            answer = InputError(str(error))
        except OSError as error:
            # Libraries raise some with words alone, which would be lost.
            told = (str(error),) if error.errno is None else (error.errno, error.strerror, error.filename)
            answer = OSError(*told)
        except MemoryError as error:
            answer = MemoryError(str(error))
        except BaseException:
            answer = RuntimeError(f"a worker process failed:\n{traceback.format_exc()}")
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return


def _take(pipe: Connection, tasks: queue.SimpleQueue) -> None:
    """Put what the parent sends into `tasks`, and NO_MORE once it is gone."""
    try:
        with suppress(EOFError, OSError):  # the latter where it was killed while it sent one
            while True:
                tasks.put(pipe.recv())
    finally:
        tasks.put(NO_MORE)
