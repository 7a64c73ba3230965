"""The compiled loops: the law of the dropout masks. What uses them is in test_dropout.py.

Run: pytest tests/model/test_kernels.py
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scipy import stats

from span_electra.model.dropout import drop
from span_electra.random_keys import subkey

RATE, KEY = 0.3, subkey(11, 3)


def factors(shape, key=KEY, rate=RATE):
    """What each element is multiplied by: 0 or 1 / (1 - rate)."""
    return drop(torch.ones(shape), rate, key)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_each_element_is_dropped_with_the_given_probability_and_the_mean_stays(rate):
    count = 1_000_000
    given = factors(count, rate=rate)
    dropped = (given == 0).sum().item()
    assert stats.binomtest(dropped, count, rate).pvalue > 1e-4
    assert torch.allclose(given[given > 0], torch.tensor(1 / (1 - rate)))


def test_masks_of_two_keys_and_of_neighbours_are_independent():
    one, other = (factors(1_000_000, subkey(5, step)) == 0 for step in (1, 2))
    pairs = {"keys": (one, other), "next": (one[1:], one[:-1]), "row": (one[256:], one[:-256])}
    for name, (left, right) in pairs.items():
        both = (left & right).sum().item()
        assert stats.binomtest(both, len(left), RATE**2).pvalue > 1e-4, name


def test_masks_depend_on_key_and_place_alone():
    assert torch.equal(factors((50, 64)), factors(3200).view(50, 64))
    assert torch.equal(factors(3200), factors(9999)[:3200]), "not on how much comes after"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = factors(9999)
    torch.set_num_threads(threads)
    assert torch.equal(alone, factors(9999)), "nor on the number of threads"


def test_first_use_leaves_the_number_of_threads_alone():
    """numba starts its threads once a process, and would set torch's number to that of the cores."""
    program = (
        "import torch; from span_electra.model.dropout import drop; torch.set_num_threads(1);"
        "drop(torch.ones(9), 0.5, 1); assert torch.get_num_threads() == 1, torch.get_num_threads()"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)
