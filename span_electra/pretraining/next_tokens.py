"""Steps from left to right: which they are, what they predict, and among which tokens.

Shapes are in the names:
  B  rows of a batch   S  predicted tokens of a batch   K  candidates   V  vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from span_electra.config import ModelConfig
from span_electra.errors import InputError
from span_electra.features.masking import row_keys
from span_electra.pretraining.data import FREQUENCY_ROWS, Data, token_counts

COMMON = 0.6  # share of the candidates that are the commonest tokens: most of every softmax falls to these


@dataclass(frozen=True)
class Candidates:
    """The tokens among which a batch's next tokens are predicted (see model/sampled_softmax.py).

    The commonest are always there. The others are drawn anew for each batch, all with one probability, and
    stand for those that are not drawn.
    """

    order_V: np.ndarray  # int64; the vocabulary, its commonest tokens first
    size: int

    def draw(self, seed: int, epoch: int, number: int) -> dict[str, np.ndarray]:
        """Those of a batch, as fields of MaskedBatch: the same in every process, and after a resume."""
        common = round(COMMON * self.size)
        rare_V = self.order_V[common:]
        key = row_keys(seed, epoch, np.array([number]), "candidates")
        rng = np.random.Generator(np.random.Philox(key=int(key[0])))
        drawn = rng.choice(rare_V, self.size - common, replace=False, shuffle=False)
        log_count_K = np.zeros(self.size, np.float32)
        log_count_K[common:] = np.log(len(rare_V) / len(drawn))
        return {"candidate_K": np.concatenate([self.order_V[:common], drawn]), "log_count_K": log_count_K}


def candidates_of(config: ModelConfig, data: Data) -> Candidates | None:
    """The candidates that `config`, its vocab_size known, asks for; None: all of the vocabulary.

    Raises InputError for settings that leave none, or have no steps from left to right.
    """
    size = config.next_token_candidates
    if not size:
        return None
    if not config.next_token_share:
        raise InputError(
            f"next_token_candidates: {size}, but no step predicts next tokens; set next_token_share too, "
            "or give 0"
        )
    if size < 2:  # the target alone has nothing to be told from
        raise InputError("next_token_candidates: 1 is no choice; give more, or 0 for all of the vocabulary")
    if size >= config.vocab_size:
        return None
    counts_V = np.zeros(config.vocab_size, np.int64)
    content_V = token_counts(data, FREQUENCY_ROWS)
    counts_V[: len(content_V)] = content_V
    counts_V[data.train.header.sep_id] = counts_V.max() + 1  # ends every row; as content it never counts
    return Candidates(np.argsort(-counts_V, kind="stable"), size)


def evenly(steps_N: np.ndarray, share: float) -> np.ndarray:
    """A share of the steps, spread evenly: which they are, bool [N], by the step's number alone.

    Example: steps 0 to 5, share 1/3 -> the steps 2 and 5
    """
    return np.floor((steps_N + 1) * share) > np.floor(steps_N * share)


def next_token_slots(lengths_B: np.ndarray, width: int) -> dict[str, np.ndarray]:
    """The fields of a causal MaskedBatch with one entry a slot: every token of a row but its last."""
    slots_S = np.flatnonzero(np.arange(width) < lengths_B[:, None] - 1)
    slots = dict.fromkeys(("slots_S", "left_S", "right_S"), slots_S)  # no span has these as its boundary
    slots["offset_S"] = np.zeros_like(slots_S)
    slots["uniform_S"] = np.zeros(len(slots_S), np.float32)  # nothing is sampled
    slots["slot_weight_S"] = np.ones(len(slots_S), np.float32)
    return slots
