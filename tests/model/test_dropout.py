"""Dropout by key: each fused pass against the formula written out. The masks' law is in test_kernels.py.

Run: pytest tests/model/test_dropout.py
"""

import pytest
import torch
from torch import nn

from span_electra.model.dropout import activated_linear, attend, drop, drop_add_norm
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


def test_drop_and_its_gradient():
    x, direction = torch.randn(7, 33), torch.randn(7, 33)
    mask = factors((7, 33))
    assert_same(gradients(lambda x: drop(x, RATE, KEY), direction, x), (x * mask, [direction * mask]))


@pytest.mark.parametrize("rate", [0.0, RATE])
@pytest.mark.parametrize("width", [8, 256])
def test_drop_add_norm_and_its_gradients(rate, width):
    x, residual, direction = torch.randn(3, 3, 50, width).unbind(0)
    mask = factors(x.shape, rate=rate) if rate else 1.0
    norm = nn.LayerNorm(width)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)

    def with_weights(function):
        given = gradients(function, direction, x, residual)
        norm.zero_grad()
        (function(x * 1, residual * 1) * direction).sum().backward()
        return given[0], [*given[1], norm.weight.grad.clone(), norm.bias.grad.clone()]

    fused = with_weights(lambda x, residual: drop_add_norm(x, residual, norm, rate, KEY))
    assert_same(fused, with_weights(lambda x, residual: norm(residual + x * mask)))


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("piece", [1, 1 << 19])
def test_attention_and_its_gradient(heads, padded, piece, monkeypatch):
    monkeypatch.setattr("span_electra.model.dropout.PIECE", piece)  # 1: one row at a time
    rows, length, width = 3, 10, 16
    qkv, direction = torch.randn(rows, length, 3 * width), torch.randn(rows, length, width)
    allowed = torch.ones(rows, 1, 1, length, dtype=torch.bool)
    if padded:
        allowed[1, ..., 6:] = False
    mask = factors((rows, heads, length, length))

    def written_out(qkv):
        query, keys, value = (
            part.view(rows, length, heads, -1).transpose(1, 2) for part in qkv.split(width, dim=-1)
        )
        scores = query @ keys.transpose(2, 3) / (width // heads) ** 0.5
        probability = scores.masked_fill(~allowed, float("-inf")).softmax(-1) * mask
        return (probability @ value).transpose(1, 2).reshape(rows, length, width)

    before = qkv.clone()
    attend(qkv, heads, allowed if padded else None, RATE, KEY)
    assert torch.equal(qkv, before), "attention leaves its input alone"
    given = gradients(lambda qkv: attend(qkv, heads, allowed if padded else None, RATE, KEY), direction, qkv)
    assert_same(given, gradients(written_out, direction, qkv))


@pytest.mark.parametrize("activation", [torch.nn.functional.gelu, torch.relu])
def test_activated_linear_and_its_gradients(activation):
    linear, x, direction = nn.Linear(12, 5), torch.randn(2, 7, 12), torch.randn(2, 7, 5)

    def with_weights(key):
        x_ = x.clone().requires_grad_()
        linear.zero_grad()
        out = activated_linear(x_, activation, linear, key)
        (out * direction).sum().backward()
        return out.detach(), [x_.grad, linear.weight.grad.clone(), linear.bias.grad.clone()]

    assert_same(with_weights(KEY), with_weights(None))
