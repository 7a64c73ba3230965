"""Held-out text: what both networks lose on it, as in training's validation, and how honest the verdicts are.

Shapes are in the names:
  B  rows   L  tokens of a row   T  tokens of a batch, B * L   S  hidden tokens   V  vocabulary
  N  tokens judged
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from span_electra.config import ChunkConfig, LoaderConfig, MaskingConfig
from span_electra.evaluation.metrics import calibration_error
from span_electra.features.build import build_features
from span_electra.features.store import open_features
from span_electra.hub.networks import Networks
from span_electra.model.batch import TALLY, MaskedBatch
from span_electra.model.corruption import Sampling, corrupt, mask_tokens
from span_electra.model.electra import Detected, Generated, discriminator_sums, generator_sums
from span_electra.model.token_loss import score_logits
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.metrics import compute_metrics
from span_electra.text.clean import read_block
from span_electra.text.corpus import cut_blocks
from span_electra.text.inputs import find_inputs

LINES = 20000  # of a block of text; any number gives the same rows
BINS = 10  # rows of the calibration table


def score_text(networks: Networks, path: str, batch_size: int, max_seq_len: int, seed: int) -> dict[str, Any]:
    """Return generator loss, accuracy and bits per character; discriminator loss, F1 and calibration.

    The text is cut into rows and hidden as create_feature_SE.py does by default. A network that was not
    opened is left out; the discriminator needs a generator beside it, which makes its replacements.
    Raises InputError for text that cannot be read.
    """
    networks.need("generator")
    longest = min(max_seq_len, networks.longest)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "heldout.arrow")
        chunking = ChunkConfig(max_seq_len=longest, short_chunk_prob=0.0)
        build_features(
            [path], networks.vocabulary, place, chunking, MaskingConfig(), seed=seed, progress=False
        )
        features = open_features(place)
        batches = Batches(features, LoaderConfig(batch_size, seed=seed, workers=0), epoch=0)
        sums, replaced_N, probability_N = judge_all(networks, batches)
        content = features.header.tokens - 2 * features.rows
    report = {"rows of at most": longest, "tokens": content, "hidden": int(sums["masked"])} | compute_metrics(
        sums
    )
    # Nats a hidden token -> bits a token -> bits a character, with the text's own tokens per character.
    rate = content / characters(path)
    report["bits_per_character"] = report["generator_loss"] / math.log(2) * rate
    if networks.discriminator is not None:
        report["calibration_error"] = calibration_error(replaced_N, probability_N, BINS)
        return {"held-out text": report, "calibration of the discriminator": bins(replaced_N, probability_N)}
    return {"held-out text": report}


@torch.inference_mode()
def judge_all(networks: Networks, batches: Batches) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Run all batches: the sums of batch.TALLY, and of every real token whether replaced and how probable."""
    sums = dict.fromkeys(TALLY, 0.0)
    replaced, probability = [np.zeros(0, bool)], [np.zeros(0)]
    for masked in batches:
        masked = masked.to(networks.device)
        generated = generate(networks, masked)
        counted = generator_sums(masked, generated)
        if networks.discriminator is not None:
            corrupted = corrupt(masked, generated.scores.sampled_S)
            states_BLD = networks.discriminator.encode(corrupted.ids_BL, masked.real_BL)
            logits_BL = networks.discriminator.answer(states_BLD).float()
            counted |= discriminator_sums(masked, corrupted, Detected(logits_BL, None, logits_BL))
            real_BL = slice(None) if masked.real_BL is None else masked.real_BL
            replaced.append(corrupted.replaced_BL[real_BL].flatten().cpu().numpy())
            probability.append(logits_BL.sigmoid()[real_BL].flatten().double().cpu().numpy())
        for name, value in counted.items():
            sums[name] += float(value)
    return sums, np.concatenate(replaced), np.concatenate(probability)


def generate(networks: Networks, masked: MaskedBatch) -> Generated:
    """What the generator says about the hidden tokens."""
    generator = networks.need("generator")
    masked_BL = mask_tokens(masked, networks.vocabulary.mask_id)
    states_TD = generator.encode(masked_BL, masked.real_BL).flatten(0, 1)
    logits_SV = generator.answer(states_TD.index_select(0, masked.slots_S)).float()
    target_S = masked.original_BL.flatten().index_select(0, masked.slots_S)
    sampling = Sampling(masked.uniform_S)
    return Generated(score_logits(logits_SV, target_S, masked.slot_weight_S, sampling), None)


def characters(path: str) -> int:
    """Characters of a text as it is encoded, line ends not counted."""
    count = 0
    for block in cut_blocks(find_inputs([path]), LINES):
        text_B = np.frombuffer(read_block(block), np.uint8)
        # UTF-8: every byte but 10xxxxxx begins a character.
        count += int(((text_B & 0xC0 != 0x80) & (text_B != 10)).sum())
    return count


def bins(replaced_N: np.ndarray, probability_N: np.ndarray) -> dict[str, dict[str, float]]:
    """Return, for each tenth of probability, its mean and the share of tokens that were replaced."""
    bin_N = np.minimum((probability_N * BINS).astype(np.int64), BINS - 1)
    table = {}
    for number in np.unique(bin_N).tolist():
        inside_N = bin_N == number
        table[f"{number / BINS:.1f} to {(number + 1) / BINS:.1f}"] = {
            "mean probability": float(probability_N[inside_N].mean()),
            "replaced": float(replaced_N[inside_N].mean()),
            "tokens": int(inside_N.sum()),
        }
    return table
