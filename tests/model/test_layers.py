"""The layers against their formulas written out. Run: pytest tests/model/test_layers.py"""

import pytest
import torch
import torch.nn.functional as F
from gradient_examples import Allocations
from model_examples import small_config
from torch.overrides import TorchFunctionMode

from span_electra.model.init import init_normal
from span_electra.model.layers import LAYERS
from span_electra.model.rotary import rotate, rotation_of


def layer_of(architecture, number=1, **changes):
    config = small_config(architecture=architecture, **changes)
    layer = LAYERS[architecture](config.discriminator, config, number)
    init_normal(layer, 0.2, seed=0)
    return layer, config.discriminator


def attention_of(qkv, heads):
    rows, length, triple = qkv.shape
    query, key, value = (
        part.view(rows, length, heads, -1).transpose(1, 2) for part in qkv.split(triple // 3, dim=-1)
    )
    scores = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1)
    return (scores @ value).transpose(1, 2).reshape(rows, length, triple // 3)


def test_electras_is_post_norm_attention_and_feed_forward():
    layer, network = layer_of("electra")
    width = (network.hidden_size,)
    x = torch.randn(2, 6, *width)
    mixed = layer.mix(attention_of(layer.qkv(x), network.num_attention_heads))
    middle = F.layer_norm(mixed + x, width, layer.mix_norm.weight, layer.mix_norm.bias, 1e-12)
    wide = layer.down(F.gelu(layer.up(middle)))
    expected = F.layer_norm(wide + middle, width, layer.down_norm.weight, layer.down_norm.bias, 1e-12)
    assert torch.allclose(layer(x, None, None), expected, atol=1e-5)


@pytest.mark.parametrize("number", [0, 1])
def test_moderns_is_pre_norm_attention_with_rotation_and_geglu(number):
    layer, network = layer_of("modern", number)
    width, heads = (network.hidden_size,), network.num_attention_heads
    torch.nn.init.normal_(layer.qkv.bias)
    rotation = rotation_of(6, network.hidden_size // heads, 1e4, torch.device("cpu"))
    x = torch.randn(2, 6, *width)
    # The first layer reads what the encoder has normalised, and normalises nothing.
    read = F.layer_norm(x, width, layer.attn_norm.weight, eps=1e-12) if number else x
    middle = x + layer.out_proj(attention_of(rotate(layer.qkv(read), heads, rotation), heads))
    read = F.layer_norm(middle, width, layer.mlp_norm.weight, eps=1e-12)
    active, gate = (read @ layer.up.weight.T).chunk(2, dim=-1)
    expected = middle + (F.gelu(active) * gate) @ layer.down.weight.T
    assert torch.allclose(layer(x, None, None, rotation), expected, atol=1e-5)


@pytest.mark.parametrize("architecture", LAYERS)
def test_dropout_follows_from_the_key_alone(architecture):
    layer, network = layer_of(architecture, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    rotation = rotation_of(6, network.hidden_size // network.num_attention_heads, 1e4, torch.device("cpu"))
    x = torch.randn(2, 6, network.hidden_size)
    one, same, other = (layer(x, None, key, rotation) for key in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


class AcceleratorAutocast(TorchFunctionMode):
    """Has a CPU's autocast make norms float32, as that of CUDA, XPU and MPS does."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.layer_norm and torch.is_autocast_enabled("cpu"):
            args = [value.float() if isinstance(value, torch.Tensor) else value for value in args]
        return function(*args, **(kwargs or {}))


def test_under_autocast_a_layer_reads_writes_and_keeps_bf16_alone(architecture):
    layer, network = layer_of(architecture)
    x = torch.randn(8, 16, network.hidden_size, dtype=torch.bfloat16, requires_grad=True)
    rotation = rotation_of(16, network.hidden_size // network.num_attention_heads, 1e4, x.device)
    with Allocations() as made, AcceleratorAutocast(), torch.autocast("cpu", torch.bfloat16):
        out = layer(x, None, None, rotation)
    with made:
        out.backward(torch.randn_like(out))
    assert out.dtype == x.grad.dtype == torch.bfloat16
    assert not [operator for elements, operator in made.float32 if elements >= x.numel()]
    assert all(weight.grad.dtype == torch.float32 for weight in layer.parameters())
