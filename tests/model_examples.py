"""Small models and batches for the tests of the model and its export."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.model.batch import MaskedBatch
from span_electra.model.electra import Generator

CLS, SEP, PAD, MASK = 0, 1, 2, 3
ARCHITECTURE = "electra"  # of `small_config`; tests that hold for all set it
VOCAB = 300  # more than two blocks of the sampler, and not a multiple of one


def small_config(**changes) -> ModelConfig:
    """Two layers, all sizes different, no dropout."""
    settings = {
        "architecture": ARCHITECTURE,
        "vocab_size": VOCAB,
        "embedding_size": 12,
        "max_position_embeddings": 32,
        "generator": NetworkConfig(8, 2, 2, 16),
        "discriminator": NetworkConfig(16, 2, 4, 24),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return ModelConfig(**(settings | changes))


def batch_of(
    rows: int = 4, length: int = 16, fill: int = 2, padded: bool = False, seed: int = 0
) -> MaskedBatch:
    """Rows [CLS] content [SEP] with one span of 3 hidden tokens each, and `fill` slots of weight 0.

    With `padded`, row r ends r tokens early.
    """
    dice = torch.Generator().manual_seed(seed)
    original_BL = torch.randint(5, VOCAB, (rows, length), generator=dice)
    ends_B = length - torch.arange(rows) * padded
    place_L = torch.arange(length)
    original_BL[:, 0] = CLS
    original_BL[place_L == ends_B[:, None] - 1] = SEP
    original_BL[place_L >= ends_B[:, None]] = PAD
    start_B = torch.arange(rows) * length + 2
    slots = (start_B[:, None] + torch.arange(3)).flatten()
    nothing = torch.zeros(fill, dtype=torch.long)
    return MaskedBatch(
        original_BL=original_BL,
        attention_mask_BL=place_L < ends_B[:, None] if padded else None,
        slots_S=torch.cat([slots, nothing]),
        slot_weight_S=torch.cat([torch.ones(rows * 3), torch.zeros(fill)]),
        left_S=torch.cat([(start_B - 1).repeat_interleave(3), nothing]),
        right_S=torch.cat([(start_B + 3).repeat_interleave(3), nothing]),
        offset_S=torch.cat([torch.arange(3).repeat(rows), nothing]),
        uniform_S=torch.rand(rows * 3 + fill, generator=dice),
        masked_total=torch.tensor(float(rows * 3)),
        token_total=ends_B.sum().float(),
        rows_B=torch.arange(rows),
    )


def slot_logits(generator: Generator, ids_BL: Tensor, masked: MaskedBatch) -> tuple[Tensor, Tensor | None]:
    """All logits [S, V] of the slots, which the model itself never keeps: the head's, and SBGO's or None."""
    states_BLD = generator.encoder(ids_BL, masked.attention_mask_BL)
    own_SE, span_SE = generator.features(states_BLD, masked)
    table_VE = generator.encoder.embeddings.word.weight
    own_SV = F.linear(own_SE, table_VE, generator.head.bias)
    return own_SV, None if span_SE is None else F.linear(span_SE, table_VE, generator.span_head.bias)
