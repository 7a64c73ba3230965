"""How many of the machine's cores are ours, how they wait, and whether we are one of several processes."""

from __future__ import annotations

import os

SPINS = "10000"  # turns that a thread waits awake, some tenths of a millisecond: most waits end sooner


def available_cores() -> int:
    """Cores this process may run on: those it is tied to, where the system says (Linux), else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wait_asleep() -> None:
    """Have OpenMP's threads soon sleep while they wait for each other, unless the user says how they wait.

    Call it before torch or numba is imported, whose OpenMP reads it once. Threads that spin on take the cores
    from whatever else runs, and where something does a step takes up to seven times as long.
    """
    if "OMP_WAIT_POLICY" not in os.environ:  # over which libgomp's own variable would win
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def is_leading() -> bool:
    """Whether this process speaks for all: torchrun tells each its rank, and elsewhere one was started."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def under_torchrun() -> bool:
    """Whether a launcher such as torchrun started this process and wrote its place into the environment."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
