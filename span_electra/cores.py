"""How many of the machine's cores are ours."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Cores this process may run on: those it is tied to, where the system says (Linux), else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
