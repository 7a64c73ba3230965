"""How many of the machine's cores are ours, how they wait, and whether we are one of several processes.

Of those that torchrun starts, one says what all have met, and none that failed waits for the others.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import TracebackType
from typing import NoReturn

from span_electra.errors import SharedInputError

PATIENCE = 5.0  # seconds in which torchrun ends a process, where the leading one has failed too
FAILED = (1, 2)  # codes after a crash, and after bad input
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


def speaks_of(error: Exception) -> bool:
    """Whether this process is to say what went wrong, some time later where the leading one may be saying it.

    What ends all processes, a file that is not there, would else stand there once for each.
    """
    if is_leading():
        return True
    if isinstance(error, SharedInputError):
        return False
    time.sleep(PATIENCE)
    return True


def how_ended(code: int | None) -> str:
    """An exit code in words. Example: -9 -> "was killed by SIGKILL", 3 -> "ended with code 3"."""
    if code is None or code >= 0:
        return f"ended with code {code}"
    # Real-time signals have numbers alone.
    return f"was killed by {next((one.name for one in signal.Signals if one == -code), f'signal {-code}')}"


def leave(code: int) -> NoReturn:
    """Exit with a code; of torchrun's processes one that failed at once, whatever is still open.

    The interpreter's own end may wait for a group in which the others wait for this one.
    """
    if code in FAILED and under_torchrun():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def leave_after_crashes() -> None:
    """Have one of torchrun's processes `leave` after an error of ours too, once its traceback is printed."""
    if under_torchrun():
        sys.excepthook = _crashed


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    leave(1)
