"""The encoder: exact to a stock one of `transformers`, so that its weights travel both ways.

Shapes are in the names:
  B  rows of a batch     L  tokens of a row            E  width of the embeddings
  D  width of the layer  H  attention heads            K  width of one head, D / H
  Q  tokens that look, of L looked at: 1 where all see the same, else L
What its layers are, and so what surrounds them, is `config.architecture`'s choice (see layers.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.model.attention import Seen
from span_electra.model.dropout import LayerNorm, drop
from span_electra.model.layers import LAYERS, Rotation
from span_electra.model.rotary import rotation_of
from span_electra.model.varlen import PackedRows, sides
from span_electra.random_keys import subkey


class Embeddings(nn.Module):
    """The tables that an encoder of `config.architecture` reads: the block that networks share.

    Word, position and token-type embeddings are summed and normalised. Layers that rotate by places have the
    words' table alone, whose rows are normalised behind the projection that each network has of its own.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.absolute = LAYERS[config.architecture].absolute_positions
        self.names = ("word", "position", "token_type") if self.absolute else ("word",)
        self.word = nn.Embedding(config.vocab_size, config.embedding_size)
        if self.absolute:
            self.position = nn.Embedding(config.max_position_embeddings, config.embedding_size)
            self.token_type = nn.Embedding(config.type_vocab_size, config.embedding_size)
        eps = config.layer_norm_eps
        self.norm = LayerNorm(config.embedding_size, eps=eps) if self.absolute else nn.Identity()

    def lookup(
        self, ids_BL: Tensor, types_BL: Tensor | None = None, position_BL: Tensor | None = None
    ) -> Tensor:
        """Return the sum of the tables' rows, [B, L, E]; without types every token is of type 0."""
        if not self.absolute:
            return self.word(ids_BL)
        assert ids_BL.shape[1] <= self.position.num_embeddings, "a row is longer than the model's positions"
        # Added in the order of `transformers`, so that the sums round alike, and into one tensor.
        types = self.token_type.weight[0] if types_BL is None else self.token_type(types_BL)
        if position_BL is None:
            places = self.position.weight[: ids_BL.shape[1]]
        else:
            places = self.position(position_BL)
        return self.word(ids_BL).add_(types).add_(places)

    def forward(self, *tokens: Tensor | None) -> Tensor:
        """The same normalised; `tokens` are those of `lookup`."""
        return self.norm(self.lookup(*tokens))


class DisentangledEmbeddings(nn.Module):
    """Gradient-disentangled sharing (DeBERTaV3, section 3.3): the base's tables, without gradient, + delta.

    The tables of `delta` start at zero and are all that learns here, but for a LayerNorm of its own.
    """

    def __init__(self, base: Embeddings, config: ModelConfig) -> None:
        super().__init__()
        self.base = base
        self.delta = Embeddings(config)

    def tables(self) -> dict[str, Tensor]:
        """Return the tables that this network reads, by their names, folded into one each."""
        return {
            name: getattr(self.base, name).weight.detach() + getattr(self.delta, name).weight
            for name in self.delta.names
        }

    def forward(self, *tokens: Tensor | None) -> Tensor:
        # The generator's task must not be pulled on by the discriminator's, which is why gdes was made.
        with torch.no_grad():
            base_BLE = self.base.lookup(*tokens)
        return self.delta.norm(self.delta.lookup(*tokens).add_(base_BLE))


class Encoder(nn.Module):
    """Embeddings, a projection where their width differs from the layers', and the layers.

    `embeddings` may be handed in to be shared. `checkpointing` recomputes each layer in the backward pass.
    """

    compiled_parts = ("embed", "masks_and_rotation")  # beside the layers; see training/compilation.py

    def __init__(
        self,
        network: NetworkConfig,
        config: ModelConfig,
        embeddings: Embeddings | DisentangledEmbeddings | None = None,
    ) -> None:
        super().__init__()
        assert config.vocab_size is not None, "the vocabulary's size must be known before a model is made"
        layer, width = LAYERS[config.architecture], network.hidden_size
        self.embeddings = Embeddings(config) if embeddings is None else embeddings
        self.dropout, self.pre_norm = config.hidden_dropout_prob, layer.pre_norm
        self.head_size = width // network.num_attention_heads
        self.rope_theta = None if layer.absolute_positions else config.rope_theta
        # ELECTRA's: tables of one width serve networks of two.
        projected = config.embedding_size != width
        # No bias where a norm follows: words @ projection is then one table, as a stock model wants it.
        self.project = nn.Linear(config.embedding_size, width, bias=not layer.pre_norm) if projected else None
        if layer.pre_norm:
            self.embedding_norm = LayerNorm(width, eps=config.layer_norm_eps, bias=False)
        self.layers = nn.ModuleList(
            layer(network, config, number) for number in range(network.num_hidden_layers)
        )
        if layer.pre_norm:
            self.final_norm = LayerNorm(width, eps=config.layer_norm_eps, bias=False)
        self.checkpointing = False  # the engine sets it: less memory, more time

    def forward(
        self,
        ids_BL: Tensor,
        attention_mask_BL: Tensor | None,
        key: int | None = None,
        types_BL: Tensor | None = None,
        causal: bool = False,
        position_BL: Tensor | None = None,
        cu_seqlens_P: Tensor | None = None,
    ) -> Tensor:
        """Return hidden states [B, L, D].

        `attention_mask_BL` is True on tokens that may be attended to; None: all may, which costs less.
        `key` makes the dropout of this pass (see `dropout.py`). `types_BL`: token types, 0 or 1; None: all 0.
        `causal`: a token looks at itself and the tokens before it alone. `position_BL`: several rows share a
        line, none sees another's tokens, and these are the places in their rows (`MaskedBatch.position_BL`).
        `cu_seqlens_P`: where these rows begin, for attention that needs no mask to keep them apart.
        """
        # Keys by number, not drawn one after another: recomputed activations must drop what was dropped
        # before.
        x = self.embed(ids_BL, types_BL, subkey(key, 0), position_BL)
        masks, rotation = self.masks_and_rotation(
            ids_BL, attention_mask_BL, causal, position_BL, cu_seqlens_P
        )
        for number, layer in enumerate(self.layers, start=1):
            arguments = x, masks[layer.window], subkey(key, number), rotation
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                x = layer(*arguments)
        return self.final_norm(x) if self.pre_norm else x

    def embed(
        self, ids_BL: Tensor, types_BL: Tensor | None, key: int | None, position_BL: Tensor | None = None
    ) -> Tensor:
        """What the first layer reads, [B, L, D]."""
        rate = self.dropout if self.training else 0.0
        x = self.embeddings(ids_BL, types_BL, position_BL)
        # BERT drops what it has normalised and then projects; ModernBERT projects, normalises and then drops.
        if not self.pre_norm:
            x = drop(x, rate, key)
        if self.project is not None:
            x = self.project(x)
        if self.pre_norm:
            x = drop(self.embedding_norm(x), rate, key)
        return x.to(stream_dtype(x))

    def masks_and_rotation(
        self,
        ids_BL: Tensor,
        attention_mask_BL: Tensor | None,
        causal: bool,
        position_BL: Tensor | None = None,
        cu_seqlens_P: Tensor | None = None,
    ) -> tuple[dict[int | None, Seen], Rotation | None]:
        """What layers need beside their input: where tokens may look, by the layers' windows; and angles.

        Rows that share a line need no angles of their own: only the distance of two places counts.
        """
        # One mask a kind of window, not a layer: they are B x L x L large.
        windows = {layer.window for layer in self.layers}
        length = ids_BL.shape[1]
        masks: dict[int | None, Seen] = {}
        for window in windows:
            if cu_seqlens_P is not None:
                masks[window] = PackedRows(cu_seqlens_P, length, sides(window, causal))
            else:
                masks[window] = attention_mask(ids_BL, attention_mask_BL, causal, window, position_BL)
        if self.rope_theta is None:
            return masks, None
        return masks, rotation_of(length, self.head_size, self.rope_theta, ids_BL.device)

    def decode(self, features: Tensor, bias_V: Tensor) -> Tensor:
        """Logits [..., V] by the words' table, of a token head's features."""
        return F.linear(self.narrow(features), self.embeddings.word.weight, bias_V)

    def narrow(self, features: Tensor) -> Tensor:
        """A token head's features as wide as the words' table, [..., E].

        A pre-norm network's own table is words @ projection, [V, D]; times features [..., D] that is the same
        as features @ projection first, at E / D of the cost.
        """
        return features @ self.project.weight if self.pre_norm and self.project is not None else features


def stream_dtype(x: Tensor) -> torch.dtype:
    """What the residual stream that begins with `x` is kept in: bf16 where autocast multiplies in it.

    Half the memory traffic of float32, in which norms still sum. Sums of layers may leave float16's range.
    """
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return x.dtype
    return torch.bfloat16 if torch.get_autocast_dtype(device) is torch.bfloat16 else torch.float32


def attention_mask(
    ids_BL: Tensor,
    attention_mask_BL: Tensor | None,
    causal: bool,
    window: int | None,
    position_BL: Tensor | None = None,
) -> Tensor | None:
    """True where a token may look, [B, 1, Q, L]; None: everywhere.

    window: places to each side that are seen; None: all. position_BL: as `Encoder.forward` has it.
    """
    length = ids_BL.shape[1]
    mask_B1QL = None
    if position_BL is not None:
        # Numbered in their line; padding is a row a token, and sees itself.
        row_BL = (position_BL == 0).cumsum(-1)
        mask_B1QL = row_BL[:, None, :, None] == row_BL[:, None, None, :]
    elif attention_mask_BL is not None:
        # A row of padding alone, which only fills up a batch, sees itself: a softmax of nothing is NaN.
        seen_BL = attention_mask_BL | ~attention_mask_BL.any(-1, keepdim=True)
        mask_B1QL = seen_BL[:, None, None, :]
    if not causal and (window is None or window >= length - 1):
        return mask_B1QL
    place_L = torch.arange(length, device=ids_BL.device)
    distance_QL = place_L[:, None] - place_L  # of the looked at, to the left
    seen_QL = distance_QL >= 0 if causal else torch.ones_like(distance_QL, dtype=torch.bool)
    if window is not None:
        seen_QL = seen_QL & (distance_QL.abs() <= window)
    seen_B1QL = seen_QL.expand(len(ids_BL), 1, -1, -1)
    # Padding beyond every real token's window would see nothing, and other layers would spread the NaN: each
    # token sees itself, which real ones do anyway.
    return seen_B1QL if mask_B1QL is None else (mask_B1QL & seen_B1QL) | (distance_QL == 0)
