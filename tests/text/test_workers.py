"""Laws of the process pool: every task once, failures with their reason, nobody left behind.

Run: pytest tests/text/test_workers.py
"""

import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from span_electra.cores import available_cores
from span_electra.errors import InputError
from span_electra.text.workers import NO_MORE, _take, cap_workers, run_in_order, run_tasks

# Between SIGRTMIN and SIGRTMAX signals have numbers alone.
SIGNALS = {"die": signal.SIGKILL, "abort": signal.SIGABRT, "unnamed": signal.SIGRTMIN + 1}


def prepare(settings):
    if settings == "unprepared":
        raise InputError("vocabulary: absent")

    def work(task):
        if task == "refuse":
            raise InputError("a.txt: line 3 is bad")
        if task == "fail":
            raise KeyError("inner")
        if task == "full":
            raise OSError(28, "No space left on device", "/x")
        if task == "memory":
            return np.empty(1 << 60, np.uint8)
        if task == "wordy":
            raise OSError("a library's words")
        if task in SIGNALS:
            os.kill(os.getpid(), SIGNALS[task])
        return settings, task, os.getpid()

    return work


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_task_is_done_once(workers):
    results = list(run_tasks(prepare, "s", range(40), workers))
    assert sorted(task for task, _ in results) == list(range(40))
    assert all(result[:2] == ("s", task) for task, result in results)
    processes = {result[2] for _, result in results}
    assert processes == {os.getpid()} if workers == 1 else len(processes) == workers
    assert not multiprocessing.active_children()


def test_tasks_and_results_larger_than_the_pipe_do_not_wait_for_each_other():
    lines = """
        from span_electra.text.workers import run_tasks
        def prepare(settings):
            return lambda task: task + task
        if __name__ == "__main__":
            sizes = [len(result) for _, result in run_tasks(prepare, None, [bytes(1 << 20)] * 8, 2)]
            print(sizes == [2 << 20] * 8)
    """
    # In a process of its own, which can be given up: a pool that hangs would hang its test.
    command = [sys.executable, "-c", textwrap.dedent(lines)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "True\n"


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_where_that_is_asked_for(workers):
    assert [task for _, task, _ in run_in_order(prepare, "s", range(40), workers)] == list(range(40))
    with pytest.raises(InputError, match="line 3 is bad"):
        list(run_in_order(prepare, "s", [*range(5), "refuse"], workers))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "task, error, message",
    [
        ("refuse", InputError, "^a.txt: line 3 is bad$"),
        ("fail", (KeyError, RuntimeError), "inner"),
        ("full", OSError, "No space"),
        ("wordy", OSError, "^a library's words$"),
        ("memory", MemoryError, "^Unable to allocate"),
    ],
)
def test_a_failure_arrives_with_its_reason_and_ends_all(workers, task, error, message):
    with pytest.raises(error, match=message):
        list(run_tasks(prepare, "s", [*range(5), task, *range(100)], workers))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("die", "SIGKILL; .*memory.*run again"),
        ("abort", "SIGABRT; .*memory.*run again"),
        ("unnamed", f"signal {signal.SIGRTMIN + 1}; run again"),
    ],
)
def test_a_killed_process_is_named_and_ends_all(task, message):
    with pytest.raises(InputError, match=rf"worker process \d+ was killed by {message}"):
        list(run_tasks(prepare, "s", [*range(5), task, *range(100)], 2))
    assert not multiprocessing.active_children()


def test_failed_preparation_is_told():
    with pytest.raises(InputError, match="vocabulary: absent"):
        list(run_tasks(prepare, "unprepared", range(4), 2))


def test_an_abandoned_run_leaves_nobody():
    results = run_tasks(prepare, "s", iter(int, 1), 2)
    next(results)
    results.close()
    assert not multiprocessing.active_children()


def test_tasks_are_taken_only_as_fast_as_they_are_worked_on():
    taken = []

    def tasks():
        for number in range(50):
            taken.append(number)
            yield number

    for done, _ in enumerate(run_tasks(prepare, "s", tasks(), 2)):
        assert len(taken) <= done + 6


def test_without_fork_it_works_too():
    """torch starts threads that fork would cut off."""
    script = """
        import sys, types
        sys.modules["torch"] = types.ModuleType("torch")
        from span_electra.text.workers import run_tasks, _start_method
        from tests.text.test_workers import prepare
        if __name__ == "__main__":
            assert _start_method() == "spawn"
            print(sorted(task for task, _ in run_tasks(prepare, "s", range(5), 2)))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "[0, 1, 2, 3, 4]\n", run.stderr


def test_workers_end_when_their_parent_is_killed():
    script = """
        import time
        from span_electra.text.workers import run_tasks
        def prepare(settings):
            return lambda task: __import__("os").getpid()
        def tasks():
            yield from range(4)
            time.sleep(60)
        for _, process in run_tasks(prepare, None, tasks(), 2):
            print(process, flush=True)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    # The parent waits in `tasks` before it has read an answer, so the children are found below it.
    deadline = time.monotonic() + 20
    children = []
    while len(children) < 2 and time.monotonic() < deadline:
        with open(f"/proc/{parent.pid}/task/{parent.pid}/children") as file:
            children = file.read().split()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while any(alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) == 2 and not any(alive(child) for child in children)


@pytest.mark.parametrize("rest", [b"", b"\0\0\0\x64half a task"])
def test_a_parent_that_is_killed_while_it_sends_a_task_sends_no_more(rest):
    ours, theirs = multiprocessing.Pipe()
    ours.send("a task")
    os.write(ours.fileno(), rest)
    ours.close()
    tasks = queue.SimpleQueue()
    _take(theirs, tasks)
    assert [tasks.get_nowait(), tasks.get_nowait()] == ["a task", NO_MORE]


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_no_more_processes_than_cores():
    cores = available_cores()
    assert cap_workers(cores) == (cores, "")
    count, note = cap_workers(cores + 28)
    assert count == cores and f"{cores + 28} asked for, {cores} used" in note
