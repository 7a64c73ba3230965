"""Rows that share lines, by torch's varlen attention: as by a mask, wherever it is used at all.

No CPU has the kernel. What it is given is held against its documented contract, written out row by row; that
torch's own function takes it, on tensors without numbers. Run: pytest tests/model/test_varlen.py
"""

from dataclasses import replace

import pytest
import torch
from varlen_examples import written_out

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.model.encoder import Encoder
from span_electra.model.varlen import PackedRows, attend_packed, sides, varlen_fault, why_masked

varlen = pytest.importorskip("torch.nn.attention.varlen", reason="this torch has no varlen attention")
CPU, BF16 = torch.device("cpu"), torch.bfloat16
CONFIG = ModelConfig(
    vocab_size=50,
    embedding_size=8,
    generator=NetworkConfig(16, 3, 2, 32),
    discriminator=NetworkConfig(16, 3, 2, 32),
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    local_attention=6,
)


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", written_out)


def two_lines():
    """Rows of 4 and 5 and a place that fills up, then a row of 10: ids, mask, places, where rows begin."""
    place = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 0], list(range(10))])
    real = torch.ones(2, 10, dtype=torch.bool)
    real[0, -1] = False
    return torch.randint(5, 50, (2, 10)), real, place, torch.tensor([0, 4, 9, 10, 20, 20], dtype=torch.int32)


@pytest.mark.parametrize("causal", [False, True])
def test_an_encoder_gives_what_it_gives_by_a_mask(kernel, architecture, causal):
    torch.manual_seed(0)
    encoder = Encoder(CONFIG.generator, replace(CONFIG, architecture=architecture))
    ids, real, place, ends = two_lines()
    found = []
    for begins in (None, ends):
        encoder.zero_grad()
        states = encoder(ids, real, causal=causal, position_BL=place, cu_seqlens_P=begins)[real]
        states.square().sum().backward()
        found.append((states, *(weight.grad for weight in encoder.parameters())))
    for masked, packed in zip(*found, strict=True):
        torch.testing.assert_close(packed, masked, rtol=1e-4, atol=1e-4)


def test_torchs_own_function_takes_what_it_is_given_and_has_gradients():
    qkv = torch.empty(4, 32, 3 * 64, device="meta", dtype=BF16, requires_grad=True)
    ends = torch.empty(9, device="meta", dtype=torch.int32)
    for window, causal in ((None, False), (5, False), (None, True)):
        mixed = attend_packed(qkv, 4, PackedRows(ends, 32, sides(window, causal)))
        assert mixed.shape == (4, 32, 64) and mixed.dtype == BF16
        mixed.sum().backward()
        assert qkv.grad.shape == qkv.shape


def test_a_kernel_is_taken_where_it_gives_what_a_mask_gives_and_nowhere_else(monkeypatch):
    assert varlen_fault(CPU, torch.float32, (8,)), "no CPU has the kernel"
    monkeypatch.setattr(varlen, "varlen_attn", written_out)
    assert varlen_fault(CPU, torch.float32, (8, 16)) is None and varlen_fault(CPU, BF16, (8,)) is None
    monkeypatch.setattr(
        varlen, "varlen_attn", lambda *given, window_size: written_out(*given, window_size=(-1, -1))
    )
    assert "heads of 8 differ from a mask's" in varlen_fault(CPU, torch.float32, (8,))
    monkeypatch.setattr(varlen, "varlen_attn", lambda *given: written_out(*given, window_size=(-1, -1)))
    assert "window_size" in varlen_fault(CPU, torch.float32, (8,)), "an older version has no windows"


def test_why_a_mask_is_needed():
    cuda = torch.device("cuda")
    assert (
        why_masked(replace(CONFIG, attention_probs_dropout_prob=0.1), cuda, BF16) == "attention has dropout"
    )
    assert "a cpu" in why_masked(CONFIG, CPU, BF16) and "float32" in why_masked(CONFIG, cuda, torch.float32)
