"""What the making of features says: lines, notes, and a bar over the bytes read.

Silent where nobody listens, as in tests and where another stage makes features on the way.
"""

from __future__ import annotations

import sys
import time
from typing import Any

SECONDS_A_LINE = 20  # between two lines of progress in a log


class Speaker:
    """Tells the user what happens, or keeps silent."""

    def __init__(self, aloud: bool) -> None:
        self._aloud = aloud

    def line(self, text: str) -> None:
        if self._aloud:
            print(text)

    def note(self, text: str) -> None:
        if self._aloud:
            print(f"note: {text}", file=sys.stderr)

    def bar(self, size: int) -> Bar:
        return Bar(size, self._aloud)


class Bar:
    """A progress bar over bytes of input, with tokens a second; lines where no terminal is.

    size: 0 where the inputs do not say it, as a streamed data set.
    """

    def __init__(self, size: int, aloud: bool) -> None:
        self._size, self._aloud = size, aloud
        self._began, self._tokens, self._consumed, self._bar = time.monotonic(), 0, 0, None
        self._printed = self._began

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def done(self, consumed: int, tokens: int) -> None:
        if not self._aloud:
            return
        self._tokens += tokens
        self._consumed += consumed
        rate = self._tokens / max(1e-9, time.monotonic() - self._began)
        if not sys.stderr.isatty():
            self._print_line(rate)
            return
        if self._bar is None:  # only now: the bar starts a thread, and processes should fork before it
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._size or None, unit="B", unit_scale=True, desc="features", leave=False
            )
        self._bar.set_postfix_str(f"{rate / 1e6:.2f}M tokens/s", refresh=False)
        self._bar.update(consumed)

    def _print_line(self, rate: float) -> None:
        """In a pipe or a file a bar would be one endless line: there a line now and then."""
        if time.monotonic() - self._printed >= SECONDS_A_LINE:
            self._printed = time.monotonic()
            passed = f"{self._tokens:,} tokens"
            if self._size:
                passed = f"{self._consumed / self._size:.0%} of the text"
            print(f"features: {passed}, {rate / 1e6:.2f}M tokens/s", file=sys.stderr, flush=True)
