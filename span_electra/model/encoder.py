"""The encoder: exact to ELECTRA as `transformers` computes it, so that its weights travel both ways.

Shapes are in the names:
  B  rows of a batch     L  tokens of a row            E  width of the embeddings
  D  width of the layer  H  attention heads            K  width of one head, D / H
  F  width of the feed-forward part     Q  tokens that look, of L looked at: 1 where all see the same, else L
Layers are post-norm: every sublayer's output is dropped out, added to its input, and normalised.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.model.dropout import activated_linear, attend, drop, drop_add_norm
from span_electra.random_keys import subkey

ACTIVATION = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class Embeddings(nn.Module):
    """Word, position and token-type embeddings, summed and normalised: the block that networks share."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.embedding_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.embedding_size)
        self.token_type = nn.Embedding(config.type_vocab_size, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)

    def lookup(self, ids_BL: Tensor, types_BL: Tensor | None = None) -> Tensor:
        """Return the sum of the three tables' rows, [B, L, E]; without types every token is of type 0."""
        assert ids_BL.shape[1] <= self.position.num_embeddings, "a row is longer than the model's positions"
        # Added in the order of `transformers`, so that the sums round alike.
        types = self.token_type.weight[0] if types_BL is None else self.token_type(types_BL)
        return self.word(ids_BL) + types + self.position.weight[: ids_BL.shape[1]]

    def forward(self, ids_BL: Tensor, types_BL: Tensor | None = None) -> Tensor:
        return self.norm(self.lookup(ids_BL, types_BL))


class DisentangledEmbeddings(nn.Module):
    """Gradient-disentangled sharing (DeBERTaV3, section 3.3): the base's tables, without gradient, + delta.

    The three tables of `delta` start at zero and are all that learns here, but for a LayerNorm of its own.
    """

    def __init__(self, base: Embeddings, config: ModelConfig) -> None:
        super().__init__()
        self.base = base
        self.delta = Embeddings(config)

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the word, position and type tables that this network reads, folded into one each."""
        return tuple(
            getattr(self.base, name).weight.detach() + getattr(self.delta, name).weight
            for name in ("word", "position", "token_type")
        )

    def forward(self, ids_BL: Tensor, types_BL: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            base_BLE = self.base.lookup(ids_BL, types_BL)
        return self.delta.norm(base_BLE + self.delta.lookup(ids_BL, types_BL))


class Layer(nn.Module):
    """Self-attention and feed-forward, each followed by dropout, residual and LayerNorm."""

    def __init__(self, network: NetworkConfig, config: ModelConfig) -> None:
        super().__init__()
        width = network.hidden_size
        self.heads = network.num_attention_heads
        self.hidden_dropout = config.hidden_dropout_prob
        self.attention_dropout = config.attention_probs_dropout_prob
        self.activation = ACTIVATION[config.hidden_act]
        self.qkv = nn.Linear(width, 3 * width)  # query, key, value in this order: one product, not three
        self.mix = nn.Linear(width, width)
        self.mix_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.up = nn.Linear(width, network.intermediate_size)
        self.down = nn.Linear(network.intermediate_size, width)
        self.down_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, x_BLD: Tensor, attend_B1QL: Tensor | None, key: int | None) -> Tensor:
        hidden_rate = self.hidden_dropout if self.training else 0.0
        attention_rate = self.attention_dropout if self.training else 0.0
        heads_BLD = attend(self.qkv(x_BLD), self.heads, attend_B1QL, attention_rate, subkey(key, 0))
        x_BLD = drop_add_norm(self.mix(heads_BLD), x_BLD, self.mix_norm, hidden_rate, subkey(key, 1))
        narrow_BLD = activated_linear(self.up(x_BLD), self.activation, self.down, key)
        return drop_add_norm(narrow_BLD, x_BLD, self.down_norm, hidden_rate, subkey(key, 2))


class Encoder(nn.Module):
    """Embeddings, a projection where their width differs from the layers', and the layers.

    `embeddings` may be handed in to be shared. `checkpointing` recomputes each layer in the backward pass.
    """

    def __init__(
        self,
        network: NetworkConfig,
        config: ModelConfig,
        embeddings: Embeddings | DisentangledEmbeddings | None = None,
    ) -> None:
        super().__init__()
        assert config.vocab_size is not None, "the vocabulary's size must be known before a model is made"
        self.embeddings = Embeddings(config) if embeddings is None else embeddings
        self.dropout = config.hidden_dropout_prob
        projected = config.embedding_size != network.hidden_size
        self.project = nn.Linear(config.embedding_size, network.hidden_size) if projected else None
        self.layers = nn.ModuleList(Layer(network, config) for _ in range(network.num_hidden_layers))
        self.checkpointing = False

    def forward(
        self,
        ids_BL: Tensor,
        real_BL: Tensor | None,
        key: int | None = None,
        types_BL: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Return hidden states [B, L, D].

        `real_BL` is True on tokens that may be attended to; None: all may, which spares the mask's work.
        `key` makes the dropout of this pass (see `dropout.py`). `types_BL`: token types, 0 or 1; None: all 0.
        `causal`: a token looks at itself and the tokens before it alone.
        """
        x = drop(self.embeddings(ids_BL, types_BL), self.dropout if self.training else 0.0, subkey(key, 0))
        if self.project is not None:
            x = self.project(x)
        attend_B1QL = None if real_BL is None else real_BL[:, None, None, :]
        if causal:
            before_QL = torch.ones(ids_BL.shape[1:] * 2, dtype=torch.bool, device=ids_BL.device).tril()
            before_B1QL = before_QL.expand(len(ids_BL), 1, -1, -1)
            attend_B1QL = before_B1QL if attend_B1QL is None else attend_B1QL & before_B1QL
        for number, layer in enumerate(self.layers, start=1):
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, attend_B1QL, subkey(key, number), use_reentrant=False)
            else:
                x = layer(x, attend_B1QL, subkey(key, number))
        return x
