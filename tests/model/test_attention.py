"""Attention by key, and in bf16 on a CPU: against the formula written out.

Run: pytest tests/model/test_attention.py
"""

import pytest
import torch
import torch.nn.functional as F
from gradient_examples import KEY, RATE, assert_same, factors, gradients, heads_of

from span_electra.model.attention import NarrowAttend, attend


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


@pytest.mark.parametrize("rate", [0.0, RATE])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [10, 32])  # keys that are filled up to whole vectors, and such as are
def test_attention_of_a_cpu_in_bf16_is_the_formula(length, masked, rate, monkeypatch):
    qkv, direction = torch.randn(3, length, 48), torch.randn(3, length, 16)
    itself = torch.eye(length, dtype=torch.bool)
    mask = (torch.rand(3, 1, length, length) > 0.3) | itself if masked else None
    dropped = factors((12, length, 32)) if rate else torch.ones(12, length, 32)
    monkeypatch.setattr(F, "dropout", lambda x, rate: x * dropped.to(x.dtype))

    def written_out(qkv):
        query, keys, value = heads_of(qkv, 4)
        scores = query @ keys.transpose(2, 3) / 4**0.5
        scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
        mixed = (scores.softmax(-1) * dropped[..., :length].unflatten(0, (3, 4))) @ value
        return mixed.transpose(1, 2).reshape(3, length, 16)

    expected = gradients(written_out, direction, qkv)
    # In float32, where nothing is rounded, and in what it is for.
    assert_same(gradients(lambda qkv: NarrowAttend.apply(qkv, 4, mask, rate), direction, qkv), expected)
    out, (grad,) = gradients(lambda qkv: attend(qkv, 4, mask, rate, None), direction, qkv.bfloat16())
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), expected[0], atol=0.05)
    assert torch.allclose(grad.float(), expected[1][0], atol=0.08)
