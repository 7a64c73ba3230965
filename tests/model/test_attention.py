"""Attention by key and spelled out, and rotary positions: against the formulas written out.

Run: pytest tests/model/test_attention.py
"""

import pytest
import torch
from gradient_examples import KEY, RATE, assert_same, factors, gradients

from span_electra.model.attention import attend, attend_spelled_out, rotate, rotation_of


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("piece", [1, 1 << 19])
def test_attention_and_its_gradient(heads, padded, piece, monkeypatch):
    monkeypatch.setattr("span_electra.model.attention.PIECE", piece)  # 1: one row at a time
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


def heads_of(qkv_BLZ, heads):
    rows, length, triple = qkv_BLZ.shape
    return qkv_BLZ.view(rows, length, 3, heads, triple // 3 // heads).permute(2, 0, 3, 1, 4)


def test_attention_spelled_out_is_the_fused_one():
    qkv, allowed = torch.randn(3, 10, 48), torch.rand(3, 1, 10, 10) > 0.3
    allowed |= torch.eye(10, dtype=torch.bool)
    for mask in (None, allowed):
        spelled = attend_spelled_out(*heads_of(qkv, 4), mask, 0.0).transpose(1, 2).reshape(3, 10, 16)
        assert torch.allclose(attend(qkv, 4, mask, 0.0, None), spelled, atol=1e-5)
        narrow = attend(qkv.bfloat16(), 4, mask, 0.0, None)
        assert narrow.dtype == torch.bfloat16
        assert torch.allclose(narrow.float(), spelled, atol=0.05)


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
