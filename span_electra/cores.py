"""How many of the machine's cores are ours, and whether we are one of several processes."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Cores this process may run on: those it is tied to, where the system says (Linux), else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_leading() -> bool:
    """Whether this process speaks for all: torchrun tells each its rank, and elsewhere one was started."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def under_torchrun() -> bool:
    """Whether a launcher such as torchrun started this process and wrote its place into the environment."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
