"""Signals that ask a run to end: the step is finished and kept first; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # SLURM warns with SIGUSR1 before the time is up


class Signals:
    """While entered, `received` is the number of the first signal that came, else 0.

    A spawned process has its signals from the process that started it, which also counts them: there,
    `spawned` ignores the terminal's SIGINT and takes a repeated signal as the same one. `relayed`: so does a
    process of a launcher, which passes on what terminal or scheduler have sent to all of them already; it
    kills by itself what does not end in time.
    """

    def __init__(self, spawned: bool = False, relayed: bool = False) -> None:
        self.received = 0
        self.spawned, self.relayed = spawned, relayed
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # elsewhere python refuses handlers
            for number in ASKING:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.spawned and number == signal.SIGINT:
            return
        if self.received and not (self.spawned or self.relayed):
            os._exit(128 + number)
        self.received = self.received or number
