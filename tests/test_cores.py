"""How many cores are ours. Run: pytest tests/test_cores.py"""

import os
import signal
import subprocess
import sys
import time

import pytest

from span_electra.cores import PATIENCE, SPINS, available_cores, how_ended, speaks_of
from span_electra.errors import InputError, SharedInputError

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SCRIPT = """
import os, sys
from span_electra.commandline import run_script

def main():
    assert "torch" not in sys.modules
    print([os.environ.get(name) for name in sys.argv[1:]])

run_script(main)
"""


def test_where_no_process_is_tied_to_cores_all_count(monkeypatch):
    assert 1 <= available_cores() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert available_cores() == os.cpu_count()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["PASSIVE", SPINS]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
        ({"GOMP_SPINCOUNT": "7"}, ["PASSIVE", "7"]),
    ],
)
def test_scripts_have_threads_wait_asleep_unless_the_user_says_how(asked, found):
    """Before torch, whose OpenMP reads it once."""
    variables = {name: value for name, value in os.environ.items() if name not in WAITING} | asked
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *WAITING], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(found)


# --- one of several processes ---------------------------------------------------------------------------

OF_TORCHRUN = {"WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
FAILS = """
import atexit, threading
from span_electra.commandline import run_script
from span_electra.errors import InputError

def main():
    atexit.register(threading.Event().wait)  # as a group does whose other processes wait for this one
    raise {error}

run_script(main)
"""


@pytest.mark.parametrize(
    ("rank", "error", "said", "seconds"),
    [
        ("0", InputError("x"), True, []),
        ("0", SharedInputError("x"), True, []),
        ("1", InputError("x"), True, [PATIENCE]),
        ("1", SharedInputError("x"), False, []),
    ],
)
def test_what_all_processes_meet_the_leading_one_says(monkeypatch, rank, error, said, seconds):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    for name, value in OF_TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANK", rank)
    assert (speaks_of(error), waited) == (said, seconds)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("InputError('a.txt: is empty')", 2, "error: a.txt: is empty\n"),
        ("KeyError('ours')", 1, "KeyError: 'ours'\n"),
    ],
)
def test_a_process_of_several_that_failed_ends_whatever_it_would_wait_for(error, code, said):
    script, ranks = FAILS.format(error=error), OF_TORCHRUN | {"RANK": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | ranks, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code and done.stderr.endswith(said)


def test_every_exit_code_has_words_and_every_signal_its_name_or_number():
    assert how_ended(3) == "ended with code 3"
    for number in range(1, signal.NSIG):
        names = {one.name for one in signal.Signals if one == number}
        assert how_ended(-number).removeprefix("was killed by ") in (names or {f"signal {number}"})
