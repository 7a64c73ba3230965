"""Signs of life of long work: a bar on a terminal; in a pipe or a file a line at least every half minute.

A timer's signal writes the line, whatever the work is at: the reading of a large file, a step of minutes, a
compilation. A thread would do it too, but processes cannot be forked beside one.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FIRST_LINE = 5.0  # seconds until the first line of a piece of work
SECONDS_A_LINE = 20.0  # between two lines, so that no half minute goes by without one
HAS_TIMER = hasattr(signal, "setitimer")  # Windows has none, and must be able to say what else it lacks
_speakers: list[Callable[[], str]] = []  # what the work at hand says of itself, the innermost last
_began = time.monotonic()


def start() -> None:
    """From now on write lines to standard error, unless that is a terminal; `stop` must follow."""
    in_notebook = not isinstance(sys.stderr, io.TextIOWrapper)  # whose streams are no files
    if in_notebook or sys.stderr.isatty() or not HAS_TIMER:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, _write_line)
        signal.siginterrupt(signal.SIGALRM, False)  # libraries need not expect interrupted calls
        signal.setitimer(signal.ITIMER_REAL, SECONDS_A_LINE, SECONDS_A_LINE)


def stop() -> None:
    """Write no more lines. An alarm that came later would end the process."""
    if HAS_TIMER:
        signal.setitimer(signal.ITIMER_REAL, 0)


def wait(seconds: float = SECONDS_A_LINE) -> None:
    """Something was said just now: the next line may wait so long."""
    if not HAS_TIMER or signal.getsignal(signal.SIGALRM) is not _write_line:
        return
    if signal.getitimer(signal.ITIMER_REAL)[1]:
        signal.setitimer(signal.ITIMER_REAL, seconds, SECONDS_A_LINE)


@contextmanager
def saying(line: Callable[[], str]) -> Iterator[None]:
    """While inside, lines are what `line` returns; nothing is written where that is empty."""
    # A stack: the innermost work knows best what it is at, and the outer one speaks again when it ends.
    _speakers.append(line)
    wait(FIRST_LINE)
    try:
        yield
    finally:
        _speakers.remove(line)


def silent() -> str:
    """The line of who waits for a person, or for another process that speaks for itself."""
    return ""


def _write_line(number: int, frame: object) -> None:
    seconds = time.monotonic() - _began
    line = _speakers[-1]() if _speakers else f"{Path(sys.argv[0]).name}: at work for {seconds:.0f} s"
    if line:
        # Not through the stream, which may be in the middle of a line of its own. A reader that went away is
        # no reason to break off what the work is at.
        with suppress(OSError):
            os.write(sys.stderr.fileno(), f"{line}\n".encode())


def say_notes(*notes: str) -> None:
    """Write notes, each a line of standard error: standard output is for what a command gives."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


class Bar:
    """How much of `size` bytes is done, and how fast: a bar on a terminal, lines elsewhere."""

    def __init__(self, what: str, size: int, aloud: bool = True) -> None:
        """`what`: the work's name; `size` 0: unknown, as of a streamed data set; not `aloud`: silence."""
        self._what, self._size, self._aloud = what, size, aloud
        self._began, self._tokens, self._consumed, self._bar = time.monotonic(), 0, 0, None
        self._saying = saying(self.line if aloud else silent)

    def __enter__(self) -> Bar:
        self._saying.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.close()
        self._saying.__exit__(*error)

    def done(self, consumed: int, tokens: int = 0) -> None:
        """So many bytes more are done, and gave so many tokens."""
        self._tokens += tokens
        self._consumed += consumed
        if not self._aloud or not sys.stderr.isatty():
            return
        if self._bar is None:  # only now: the bar starts a thread, and processes should fork before it
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._size or None, unit="B", unit_scale=True, desc=self._what, leave=False
            )
        self._bar.set_postfix_str(self._speed(), refresh=False)
        self._bar.update(consumed)

    def line(self) -> str:
        """Example: `features: 34% of the text, 1.20M tokens/s`; before that `features: at work for 25 s`"""
        if not self._consumed:
            return f"{self._what}: at work for {time.monotonic() - self._began:.0f} s"
        speed = self._speed()
        passed = f"{self._tokens:,} tokens" if self._tokens else f"{self._consumed / 1e6:,.1f} MB"
        if self._size:
            passed = f"{self._consumed / self._size:.0%} of the text"
        return f"{self._what}: {passed}{', ' if speed else ''}{speed}"

    def _speed(self) -> str:
        rate = self._tokens / max(1e-9, time.monotonic() - self._began)
        return f"{rate / 1e6:.2f}M tokens/s" if self._tokens else ""
