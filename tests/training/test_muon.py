"""Singular values go to 1, blocks by themselves, one rate for every shape.

Run: pytest tests/training/test_muon.py
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from span_electra.training.muon import Muon, orthogonal_blocks, orthogonalize


def decaying(rows, columns, seed=0, matrices=3):
    """Matrices whose singular values fall as gradients' do: 1, 1/2, 1/3, ..."""
    dice = torch.Generator().manual_seed(seed)
    shorter = min(rows, columns)
    left, _ = torch.linalg.qr(torch.randn(matrices, rows, shorter, generator=dice))
    right, _ = torch.linalg.qr(torch.randn(matrices, columns, shorter, generator=dice))
    return left * (1.0 / torch.arange(1, shorter + 1)) @ right.mT


@given(rows=st.integers(1, 40), ratio=st.integers(1, 4), seed=st.integers(0, 99), size=st.floats(1e-6, 1e6))
def test_singular_values_go_to_1_whatever_the_shape_and_size(rows, ratio, seed, size):
    found = torch.linalg.svdvals(orthogonalize(decaying(rows, rows * ratio, seed) * size))
    assert (found - 1).abs().max() < 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("power", [-110, -60, -40, -3, 40, 110])
def test_a_matrix_of_any_size_goes_where_it_goes_at_1_bit_for_bit(power, dtype):
    x_NRC = decaying(6, 9).to(dtype)
    assert torch.equal(orthogonalize(x_NRC * 2.0**power), orthogonalize(x_NRC))


def test_directions_stay_and_zeros_stay_zeros():
    x_NRC = decaying(8, 12)
    made = orthogonalize(x_NRC)
    left, _, right = torch.linalg.svd(x_NRC, full_matrices=False)
    diagonal = left.mT @ made @ right.mT  # in the singular vectors' own axes
    assert (diagonal - torch.diag_embed(diagonal.diagonal(dim1=1, dim2=2))).abs().max() < 1e-4
    assert not orthogonalize(torch.zeros(1, 4, 4)).any()


def test_each_block_of_a_fused_matrix_is_made_orthogonal_by_itself():
    blocks = decaying(6, 6)
    blocks[1] *= 1e-3  # a small one does not vanish beside the others
    fused, upright = blocks.reshape(18, 6), decaying(12, 6, matrices=1)[0]
    one, other = orthogonal_blocks([fused, upright], [3, 1], torch.float32)
    assert one.shape == fused.shape and other.shape == upright.shape
    assert torch.allclose(one.view(3, 6, 6), orthogonalize(blocks), atol=1e-6)
    assert torch.allclose(other.mT, orthogonalize(upright.mT[None])[0], atol=1e-6)


@pytest.mark.parametrize("rows, columns, blocks", [(16, 16, 1), (16, 64, 1), (64, 16, 1), (48, 16, 3)])
def test_updates_have_the_size_of_adamws_in_every_shape(rows, columns, blocks):
    weight = torch.nn.Parameter(torch.zeros(rows, columns))
    weight.grad = decaying(rows, columns, matrices=1)[0]
    Muon([{"params": [weight], "lr": 0.5, "blocks": blocks}], momentum=0.9).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.5 * 0.2, rel=0.3)


def test_momentum_is_nesterovs_and_decay_is_decoupled():
    weight = torch.nn.Parameter(torch.eye(4))
    optimizer = Muon([{"params": [weight], "lr": 0.1, "weight_decay": 0.5}], momentum=0.75)
    gradients = decaying(4, 4, matrices=2)
    buffer, expected = torch.zeros(4, 4), torch.eye(4)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        buffer = 0.75 * buffer + 0.25 * gradient
        direction = orthogonalize((0.75 * buffer + 0.25 * gradient)[None])[0]
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 2 * direction
        assert torch.allclose(weight, expected, atol=1e-5)
        assert torch.equal(weight.grad, gradient)


def test_bfloat16_products_lead_to_nearly_the_same_update():
    x_NRC = decaying(32, 64)
    one, other = orthogonalize(x_NRC), orthogonalize(x_NRC.bfloat16()).float()
    cosine = torch.nn.functional.cosine_similarity(one.flatten(1), other.flatten(1))
    assert other.isfinite().all() and cosine.min() > 0.95
