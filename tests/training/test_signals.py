"""The first signal is noted, a second one ends at once. Run: pytest tests/training/test_signals.py"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from span_electra.training.signals import ASKING, Signals

ROOT = Path(__file__).resolve().parents[2]
TWICE = """
import os, sys
sys.path.insert(0, {root!r})
from span_electra.training.signals import Signals
with Signals() as signals:
    os.kill(os.getpid(), {number})
    assert signals.received == {number}
    print("noted", flush=True)
    os.kill(os.getpid(), {number})
    print("still here", flush=True)
"""


@pytest.mark.parametrize("number", ASKING)
def test_a_second_signal_ends_at_once_with_the_customary_code(number):
    code = TWICE.format(root=str(ROOT), number=int(number))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + number, "noted\n"), done.stderr


@pytest.mark.parametrize("number", ASKING)
def test_handlers_are_those_of_before_once_it_is_over(number):
    before = signal.getsignal(number)
    with Signals() as signals:
        os.kill(os.getpid(), number)
        assert signals.received == number
    assert signal.getsignal(number) is before


def test_a_spawned_process_takes_a_repeated_signal_as_one_and_the_terminals_as_none():
    with Signals(spawned=True) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM


@pytest.mark.parametrize("number", ASKING)
def test_a_process_of_a_launcher_takes_a_signal_and_its_being_passed_on_as_one(number):
    with Signals(relayed=True) as signals:
        for again in (number, number, signal.SIGTERM):
            os.kill(os.getpid(), again)
            assert signals.received == number
