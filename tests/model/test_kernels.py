"""The compiled loops: the law of the dropout masks. What uses them is in test_dropout.py.

Run: pytest tests/model/test_kernels.py
"""

import os
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


def in_a_process(program: str, **environment: str) -> None:
    """Run a program of its own: numba and OpenMP learn once how many threads there are."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", program]
    subprocess.run(command, cwd=root, env=os.environ | environment, check=True)


THREADS = """
import torch
from span_electra.model.dropout import drop, drop_add_norm
torch.manual_seed(0)
x, residual, grad = (torch.randn(4, 80, 96) for _ in range(3))
weight, bias = torch.randn(96), torch.randn(96)
norm = torch.nn.LayerNorm(96, eps=1e-5)
with torch.no_grad():
    norm.weight.copy_(weight), norm.bias.copy_(bias)
found = []
for threads in (4, 1, 2):
    torch.set_num_threads(threads)
    assert torch.get_num_threads() == threads
    inputs = [x.clone().requires_grad_(), residual.clone().requires_grad_()]
    norm.zero_grad()
    out = drop_add_norm(inputs[0] * 1, inputs[1], norm, 0.3, 5)  # it writes over the first
    out.backward(grad)
    gradients = [tensor.grad for tensor in (*inputs, norm.weight, norm.bias)]
    found.append([drop(x, 0.3, 5), out.detach(), *gradients])
for other in found[1:]:
    assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))
"""


def test_what_the_loops_give_does_not_depend_on_the_number_of_threads():
    # More than the cores there may be: which of them works on which rows is then left to chance.
    in_a_process(THREADS, OMP_NUM_THREADS="4", NUMBA_NUM_THREADS="4")


def test_first_use_leaves_the_number_of_threads_alone():
    """numba starts its threads once a process, and would set torch's number to that of the cores."""
    program = (
        "import torch; from span_electra.model.dropout import drop; torch.set_num_threads(1);"
        "drop(torch.ones(9), 0.5, 1); assert torch.get_num_threads() == 1, torch.get_num_threads()"
    )
    in_a_process(program)
