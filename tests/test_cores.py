"""How many cores are ours. Run: pytest tests/test_cores.py"""

import os
import subprocess
import sys

import pytest

from span_electra.cores import SPINS, available_cores

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
