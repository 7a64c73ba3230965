"""The layer of each architecture: the part of an encoder that is repeated.

Shapes are in the names:
  B  rows of a batch     L  tokens of a row     D  width of the layer     F  width of the feed-forward part
A layer class says what its encoder must give it: `absolute_positions`, tables of positions and token types
beside the words'; `pre_norm`, a residual stream that no layer normalises, so that the encoder does, where it
begins and where it ends. One more architecture is one more class here and one record in hub/architectures.py.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.model.attention import Seen, attend
from span_electra.model.dropout import LayerNorm, activated_linear, drop, drop_add_norm
from span_electra.model.rotary import rotate
from span_electra.random_keys import subkey

ACTIVATION = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}

Rotation = tuple[Tensor, Tensor]  # cosines and sines, see `rotary.rotation_of`


class ElectraLayer(nn.Module):
    """Self-attention and feed-forward, each followed by dropout, residual and LayerNorm (post-norm)."""

    absolute_positions, pre_norm = True, False
    window = None  # every token sees all others
    fused = {"qkv": 3}  # linear maps that are several matrices, one below the other, for the optimizer

    def __init__(self, network: NetworkConfig, config: ModelConfig, number: int = 0) -> None:
        super().__init__()
        width = network.hidden_size
        self.heads = network.num_attention_heads
        self.hidden_dropout = config.hidden_dropout_prob
        self.attention_dropout = config.attention_probs_dropout_prob
        self.activation = ACTIVATION[config.hidden_act]
        self.qkv = nn.Linear(width, 3 * width)  # query, key, value in this order: one product, not three
        self.mix = nn.Linear(width, width)  # `out_proj`, by the name that checkpoints have had from the first
        self.mix_norm = LayerNorm(width, eps=config.layer_norm_eps)
        self.up = nn.Linear(width, network.intermediate_size)
        self.down = nn.Linear(network.intermediate_size, width)
        self.down_norm = LayerNorm(width, eps=config.layer_norm_eps)

    @property
    def out_proj(self) -> nn.Linear:
        """What mixes the heads' answers, by the name that it has in every architecture."""
        return self.mix

    def forward(self, x_BLD: Tensor, seen: Seen, key: int | None, rotation: Rotation | None = None) -> Tensor:
        hidden_rate = self.hidden_dropout if self.training else 0.0
        attention_rate = self.attention_dropout if self.training else 0.0
        # A key of its own for each mask: equal keys would drop the same elements in all three places.
        heads_BLD = attend(self.qkv(x_BLD), self.heads, seen, attention_rate, subkey(key, 0))
        x_BLD = drop_add_norm(self.out_proj(heads_BLD), x_BLD, self.mix_norm, hidden_rate, subkey(key, 1))
        narrow_BLD = activated_linear(self.up(x_BLD), self.activation, self.down, key)
        return drop_add_norm(narrow_BLD, x_BLD, self.down_norm, hidden_rate, subkey(key, 2))


class ModernLayer(nn.Module):
    """ModernBERT's: x + attention(norm(x)) with rotary positions, then x + GeGLU(norm(x)).

    Biases are the attention's alone: they carry the local start (see init.py). The first layer reads what the
    encoder has just normalised, and has no norm before its attention. With `local_attention`, layers see a
    window but for each `global_attention_every`-th, beginning with the first (Warner et al. 2024, 2.1.2).
    """

    absolute_positions, pre_norm = False, True
    fused = {"qkv": 3, "up": 2}

    def __init__(self, network: NetworkConfig, config: ModelConfig, number: int = 0) -> None:
        super().__init__()
        width, wide = network.hidden_size, network.intermediate_size
        self.heads = network.num_attention_heads
        self.hidden_dropout = config.hidden_dropout_prob
        self.attention_dropout = config.attention_probs_dropout_prob
        self.activation = ACTIVATION[config.hidden_act]
        # Windows are cheap and enough for most of syntax; a layer that sees all now and then ties them
        # together.
        is_global = not config.local_attention or number % config.global_attention_every == 0
        self.window = None if is_global else config.local_attention // 2
        norm = {"eps": config.layer_norm_eps, "bias": False}
        self.attn_norm = LayerNorm(width, **norm) if number else nn.Identity()
        self.qkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.mlp_norm = LayerNorm(width, **norm)
        self.up = nn.Linear(width, 2 * wide, bias=False)  # what is activated, then its gate
        self.down = nn.Linear(wide, width, bias=False)

    def forward(self, x_BLD: Tensor, seen: Seen, key: int | None, rotation: Rotation | None = None) -> Tensor:
        assert rotation is not None, "rotary positions must be given"
        hidden_rate = self.hidden_dropout if self.training else 0.0
        attention_rate = self.attention_dropout if self.training else 0.0
        qkv_BLZ = rotate(self.qkv(self.attn_norm(x_BLD)), self.heads, rotation)
        heads_BLD = attend(qkv_BLZ, self.heads, seen, attention_rate, subkey(key, 0))
        x_BLD = x_BLD + drop(self.out_proj(heads_BLD), hidden_rate, subkey(key, 1))
        active_BLF, gate_BLF = self.up(self.mlp_norm(x_BLD)).chunk(2, dim=-1)
        # The half that is activated comes first, as in the stock class: the other order is another network.
        gated_BLF = self.activation(active_BLF) * gate_BLF
        return x_BLD + drop(self.down(gated_BLF), hidden_rate, subkey(key, 2))


LAYERS: dict[str, type[nn.Module]] = {"electra": ElectraLayer, "modern": ModernLayer}
