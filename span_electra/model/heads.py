"""What the two networks predict from their hidden states.

Shapes are in the names:
  B  rows   L  tokens of a row   S  masked slots   D  width of the network   E  width of the embeddings
  V  vocabulary   P  width of the span-boundary objective's position embeddings
SBGO is the span-boundary objective on the generator (SpanBERT's SBO), SBPO the one on the discriminator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.model.dropout import LayerNorm
from span_electra.model.encoder import Encoder
from span_electra.model.layers import ACTIVATION, LAYERS

OFFSET_WIDTH = 200  # width of an offset's embedding; SpanBERT, section 3.2


class Transform(nn.Module):
    """Dense, activation, and a norm where the architecture has one: what each head does first."""

    def __init__(
        self, network: NetworkConfig, config: ModelConfig, *, width: int, activation: str, normed: bool
    ) -> None:
        super().__init__()
        # Pre-norm layers' heads are ModernBERT's: no bias, always normed.
        modern = LAYERS[config.architecture].pre_norm
        self.dense = nn.Linear(network.hidden_size, width, bias=not modern)
        self.activation = ACTIVATION[activation]
        # ELECTRA's own heads differ in it: the generator's is normed, the discriminator's is not.
        eps = config.layer_norm_eps
        self.norm = LayerNorm(width, eps=eps, bias=not modern) if normed or modern else None

    def features(self, hidden: Tensor) -> Tensor:
        """Return [..., width]."""
        active = self.activation(self.dense(hidden))
        return active if self.norm is None else self.norm(active)


class TokenHead(Transform):
    """The generator's head: dense, GELU, LayerNorm, then the (tied) word embeddings as a decoder."""

    def __init__(self, network: NetworkConfig, config: ModelConfig) -> None:
        modern = LAYERS[config.architecture].pre_norm
        width = network.hidden_size if modern else config.embedding_size
        # The activation is always GELU, as ELECTRA's is.
        super().__init__(network, config, width=width, activation="gelu", normed=True)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_SD: Tensor, encoder: Encoder) -> Tensor:
        """Return logits [S, V]; `encoder` is the one whose words are the decoder."""
        return encoder.decode(self.features(hidden_SD), self.bias)


class ReplacedHead(Transform):
    """The discriminator's head: dense, activation, one logit a token (was it replaced?)."""

    def __init__(self, network: NetworkConfig, config: ModelConfig) -> None:
        width = config.dim_final_feedforward or network.hidden_size
        super().__init__(network, config, width=width, activation=config.hidden_act, normed=False)
        self.score = nn.Linear(width, 1)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """Return logits [B, L]."""
        return self.score(self.features(hidden_BLD)).squeeze(-1)


class BoundaryFeatures(nn.Module):
    """[token before the span; token after it; offset] -> (Linear, GELU, LayerNorm) twice (SpanBERT 3.2)."""

    def __init__(self, network: NetworkConfig, config: ModelConfig, width: int) -> None:
        super().__init__()
        # Spans are limited in words, not in tokens: only the row's length bounds an offset.
        self.offset = nn.Embedding(config.max_position_embeddings, OFFSET_WIDTH)
        self.first = nn.Linear(2 * network.hidden_size + OFFSET_WIDTH, network.hidden_size)
        self.first_norm = LayerNorm(network.hidden_size, eps=config.layer_norm_eps)
        self.second = nn.Linear(network.hidden_size, width)
        self.second_norm = LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, left_SD: Tensor, right_SD: Tensor, offset_S: Tensor) -> Tensor:
        """Return features [S, width]."""
        boundary = torch.cat([left_SD, right_SD, self.offset(offset_S).to(left_SD.dtype)], dim=-1)
        features = self.first_norm(F.gelu(self.first(boundary)))
        return self.second_norm(F.gelu(self.second(features)))


class SpanTokenHead(nn.Module):
    """SBGO: which token a slot hides, from the span's boundary alone; decoder tied, bias its own.

    Its logits [S, V] are `features` @ the words' table + `bias`, made a chunk at a time in token_loss.py.
    """

    def __init__(self, network: NetworkConfig, config: ModelConfig) -> None:
        super().__init__()
        self.features = BoundaryFeatures(network, config, config.embedding_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))


class SpanReplacedHead(nn.Module):
    """SBPO: was the token of a slot replaced, from the span's boundary alone."""

    def __init__(self, network: NetworkConfig, config: ModelConfig) -> None:
        super().__init__()
        self.features = BoundaryFeatures(network, config, network.hidden_size)
        self.score = nn.Linear(network.hidden_size, 1)

    def forward(self, left_SD: Tensor, right_SD: Tensor, offset_S: Tensor) -> Tensor:
        """Return logits [S]."""
        return self.score(self.features(left_SD, right_SD, offset_S)).squeeze(-1)
