"""Fused passes against the formula written out: values and gradients side by side."""

from __future__ import annotations

import torch

from span_electra.model.dropout import drop
from span_electra.random_keys import subkey

RATE, KEY = 0.3, subkey(11, 3)


def factors(shape, key=KEY, rate=RATE):
    """What each element is multiplied by: 0 or 1 / (1 - rate)."""
    return drop(torch.ones(shape), rate, key)


def gradients(function, direction, *inputs):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    copies = [x * 1 for x in inputs]  # the fused passes may overwrite what they are given
    out = function(*copies)
    return out.detach(), torch.autograd.grad((out * direction).sum(), inputs)


def assert_same(given, expected):
    assert torch.allclose(given[0], expected[0], atol=1e-5)
    for one, other in zip(given[1], expected[1], strict=True):
        assert torch.allclose(one, other, atol=2e-4, rtol=1e-4)
