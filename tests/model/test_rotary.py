"""Rotary positions against the formula in complex numbers, forwards and backwards.

Run: pytest tests/model/test_rotary.py
"""

import torch
from gradient_examples import assert_same, gradients, heads_of

from span_electra.model.rotary import rotate, rotation_of


def test_rotation_is_that_of_roformer_and_leaves_values_alone():
    rows, length, heads, size = 2, 7, 3, 6
    qkv = torch.randn(rows, length, 3 * heads * size)
    rotation = rotation_of(length, size, 100.0, torch.device("cpu"))
    turned = heads_of(rotate(qkv, heads, rotation), heads)
    before = heads_of(qkv, heads)
    assert torch.equal(turned[2], before[2])
    place_L = torch.arange(length, dtype=torch.float64)
    for f in range(size // 2):
        number = torch.polar(torch.ones_like(place_L), place_L * 100.0 ** (-2 * f / size))
        for part in (0, 1):
            pair = torch.complex(before[part][..., f].double(), before[part][..., f + size // 2].double())
            expected = pair * number
            assert torch.allclose(turned[part][..., f].double(), expected.real, atol=1e-5)
            assert torch.allclose(turned[part][..., f + size // 2].double(), expected.imag, atol=1e-5)


def test_scores_depend_on_distance_alone():
    q_and_k = torch.randn(1, 1, 48).expand(1, 9, 48)  # the same contents at every place
    query, keys, _ = heads_of(rotate(q_and_k, 2, rotation_of(9, 8, 1e4, torch.device("cpu"))), 2)
    scores = query @ keys.transpose(-1, -2)
    assert torch.allclose(scores[..., 1:, 1:], scores[..., :-1, :-1], atol=1e-5)
    assert not torch.allclose(scores[..., 0, 1:], scores[..., 0, :-1], atol=1e-3)


def test_gradients_turn_back(monkeypatch):
    """The pass in place gives what the plain operators give, forwards and backwards."""
    qkv, direction = torch.randn(2, 7, 36), torch.randn(2, 7, 36)
    rotation = rotation_of(7, 6, 100.0, torch.device("cpu"))
    in_place = gradients(lambda qkv: rotate(qkv, 2, rotation), direction, qkv)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_same(in_place, gradients(lambda qkv: rotate(qkv, 2, rotation), direction, qkv))


def test_long_runs_give_the_bits_of_short_ones(monkeypatch):
    qkv, direction = torch.randn(2, 7, 36).bfloat16(), torch.randn(2, 7, 36).bfloat16()
    rotation = rotation_of(7, 6, 100.0, torch.device("cpu"))
    runs = [gradients(lambda qkv: rotate(qkv, 2, rotation), direction, qkv)]
    monkeypatch.setattr("span_electra.model.rotary.LONG_RUNS", ())
    runs.append(gradients(lambda qkv: rotate(qkv, 2, rotation), direction, qkv))
    (out, (grad,)), (expected, (expected_grad,)) = runs
    assert torch.equal(out, expected) and torch.equal(grad, expected_grad)
