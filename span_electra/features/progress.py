"""What the making of features says: lines, notes, and how far it is.

Silent where nobody listens, as in tests and where another stage makes features on the way.
"""

from __future__ import annotations

import sys

from span_electra.progress import Bar


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
        return Bar("features", size, self._aloud)
