"""Dropout by key: each fused pass against the formula written out. The masks' law is in test_kernels.py.

Run: pytest tests/model/test_dropout.py
"""

import pytest
import torch
from gradient_examples import KEY, RATE, assert_same, factors, gradients
from torch import nn

from span_electra.model.dropout import activated_linear, drop, drop_add_norm


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
