"""What the making of features says: lines, notes, and a bar over the bytes read.

Silent where nobody listens, as in tests and where another stage makes features on the way.
"""

from __future__ import annotations

import sys
import time
from typing import Any


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
    """A progress bar over bytes on disk, with tokens a second."""

    def __init__(self, size: int, aloud: bool) -> None:
        self._size, self._aloud = size, aloud
        self._began, self._tokens, self._bar = time.monotonic(), 0, None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def done(self, consumed: int, tokens: int) -> None:
        if not self._aloud:
            return
        if self._bar is None:  # only now: the bar starts a thread, and processes should fork before it
            from tqdm import tqdm

            self._bar = tqdm(total=self._size, unit="B", unit_scale=True, desc="features", leave=False)
        self._tokens += tokens
        rate = self._tokens / max(1e-9, time.monotonic() - self._began)
        self._bar.set_postfix_str(f"{rate / 1e6:.2f}M tokens/s", refresh=False)
        self._bar.update(consumed)
