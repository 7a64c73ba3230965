"""Held-out text: what both networks lose on it, as in training's validation, and how honest the verdicts are.

Shapes are in the names:
  B  rows   L  tokens of a row   T  tokens of a batch, B * L   S  masked tokens   V  vocabulary
  N  real tokens of all rows
"""

from __future__ import annotations

import math
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from span_electra.data_config import ChunkConfig, LoaderConfig, MaskingConfig, TextConfig
from span_electra.errors import InputError
from span_electra.evaluation.metrics import bin_of, calibration_error
from span_electra.features.build import build_features
from span_electra.features.header import wanted_features
from span_electra.features.store import open_features
from span_electra.hub.folders import final_masking_in, ours_in, stamp_in, stamp_of
from span_electra.hub.networks import Networks, check_numbers
from span_electra.hub.opening import load_model
from span_electra.model.batch import TALLY, MaskedBatch
from span_electra.model.corruption import Corrupted, Sampling, corrupt, mask_tokens
from span_electra.model.electra import (
    Detected,
    Generated,
    SpanElectra,
    discriminator_sums,
    generator_sums,
    targets,
)
from span_electra.model.token_loss import score_logits
from span_electra.pretraining.course import Course, MaskingSchedule
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.metrics import compute_metrics
from span_electra.storage import CHECKPOINTS, CONFIG, read_object
from span_electra.text.clean import read_block
from span_electra.text.corpus import cut_blocks
from span_electra.text.inputs import find_inputs
from span_electra.training import checkpoint

LINES = 20000  # of a block whose characters are counted; any number gives the same count
BINS = 10  # rows of the calibration table


@dataclass(frozen=True)
class ExportedPair:
    """Exported networks, which have no heads at the spans' boundaries, as a joint model."""

    networks: Networks
    sampling: str = "sample"  # what a run uses unless told otherwise
    temperature: float = 1.0
    assumed: bool = False  # both, as no file tells

    def generate(self, masked: MaskedBatch) -> Generated:
        """What the generator says about the masked tokens, and what is sampled from it."""
        generator = self.networks.need("generator")
        masked_BL = mask_tokens(masked, self.networks.vocabulary.mask_id)
        # Logits at masked tokens alone: a vocabulary of 30,000 at every token would be gigabytes a batch.
        states_TD = generator.encode(masked_BL, masked.attention_mask_BL).flatten(0, 1)
        logits_SV = generator.answer(states_TD.index_select(0, masked.slots_S)).float()
        sampling = Sampling(masked.uniform_S, self.sampling, self.temperature)
        # The same scoring as in training, so that the losses of both are one number.
        return Generated(score_logits(logits_SV, targets(masked), masked.slot_weight_S, sampling), None)

    def discriminate(self, masked: MaskedBatch, corrupted: Corrupted) -> Detected:
        discriminator = self.networks.need("discriminator")
        states_BLD = discriminator.encode(corrupted.ids_BL, masked.attention_mask_BL)
        logits_BL = discriminator.answer(states_BLD).float()
        return Detected(logits_BL, None)


JointModel = SpanElectra | ExportedPair  # which have the forward of training in two steps


def joint_model(folder: str | Path, networks: Networks) -> JointModel:
    """Return the run's own model, as validation has it: span-boundary heads, sampling, temperature.

    Of the checkpoint that `networks` are of. A run which has let that go, and any other folder, is taken from
    its exports, with the sampling that their config.json tells, or the run's.
    """
    folder = Path(folder)
    # The checkpoint has what no stock folder does: heads at the spans' boundaries, which may shape answers.
    saved = _checkpoint_of(folder, networks)
    if saved is not None:
        return load_model(saved).to(networks.device).eval()
    # Exports of older releases do not tell; where they lie in their run its own settings do.
    for settings in (ours_in(networks.need("generator").source), read_object(folder / CONFIG).get("model")):
        with suppress(ValueError, TypeError, KeyError):
            return ExportedPair(networks, settings["sampling"], float(settings["temperature"]))
    return ExportedPair(networks, assumed=True)


def masking_of(folder: str | Path, networks: Networks) -> MaskingConfig | None:
    """The masking that a model's pretraining ended with, by its checkpoint or export; None: none tells.

    Raises InputError for what is no masking of ours.
    """
    saved = _checkpoint_of(Path(folder), networks)
    if saved is not None:
        return final_masking_in(read_object(saved / checkpoint.META), str(saved))
    source = networks.need("generator").source
    return final_masking_in(ours_in(source), source)


def _checkpoint_of(folder: Path, networks: Networks) -> Path | None:
    """The checkpoint that the networks were opened at, or that a run's exports are of, if it is there."""
    if networks.checkpoint is not None or not (folder / CHECKPOINTS).is_dir():
        return networks.checkpoint
    newest, stamp = checkpoint.latest(folder), stamp_in(Path(networks.need("generator").source))
    # Numbers of two states would stand under one's name: the run may have gone on, or its last be damaged.
    if newest is not None and stamp in (None, stamp_of(read_object(newest / checkpoint.META))):
        return newest  # older exports tell no checkpoint
    return None


def score_text(
    networks: Networks,
    model: JointModel,
    path: str,
    max_seq_len: int,
    *,
    masking: MaskingConfig | None = None,
    reading: TextConfig | None = None,
) -> dict[str, Any]:
    """Return generator loss, accuracy and bits per character; discriminator loss, F1 and calibration.

    The text is cut into rows as create_feature_SE.py does, and masked by `masking`; none: by the default. A
    network that was not opened is left out; the discriminator needs a generator beside it, which makes its
    replacements. model: what computes, see `joint_model`. reading: how the text is read; none: by
    the defaults. Raises InputError for text that cannot be read.
    """
    networks.need("generator")
    # No longer than the shorter of both networks reads: a cut row would be another text.
    longest, reading = min(max_seq_len, networks.longest), reading or TextConfig()
    # By the stage that makes features, not by a copy of it: rows and masks are then those of training.
    with tempfile.TemporaryDirectory() as folder:
        features_file = Path(folder, "heldout.arrow")
        # No short rows: they are for training, and would only make the figure depend on their share.
        chunking = ChunkConfig(max_seq_len=longest, short_chunk_prob=0.0)
        wanted = wanted_features(networks.vocabulary, chunking, MaskingConfig(), reading=reading)
        made = build_features([path], networks.vocabulary, features_file, wanted, progress=False)
        for note in made.notes:
            print(f"note: {path}: {note}", file=sys.stderr)
        features = open_features(features_file)
        # Over the rows, as validations have it: features have whole words alone.
        schedule = None if masking in (None, MaskingConfig()) else MaskingSchedule.constant(masking)
        loader, course = LoaderConfig(networks.batch_size, workers=0), Course(schedule=schedule)
        batches = Batches(features, loader, epoch=0, course=course)
        sums, replaced_N, probability_N = run_batches(networks, model, batches)
        content = features.header.tokens - 2 * features.rows
    if not sums["masked"]:
        raise InputError(f"{path}: so short that no token is masked; give more text")
    report = {"rows of at most": longest, "tokens": content, "hidden": int(sums["masked"])}
    report |= {"masks": masking_text(masking)} | compute_metrics(sums)
    # Losses a token cannot be compared between vocabularies; a bit a character can.
    # Nats a masked token -> bits a token -> bits a character, with the text's own tokens per character.
    rate = content / characters(path, reading)
    report["bits_per_character"] = report["generator_loss"] / math.log(2) * rate
    if networks.discriminator is None:
        return {"held-out text": report}
    report["replacements"] = sampling_text(model)
    report["calibration_error"] = calibration_error(replaced_N, probability_N, BINS)
    return {"held-out text": report, "calibration of the discriminator": bins(replaced_N, probability_N)}


@torch.inference_mode()
def run_batches(
    networks: Networks, model: JointModel, batches: Batches
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Run all batches: the sums of batch.TALLY, and of every real token whether replaced and how probable."""
    sums = dict.fromkeys(TALLY, 0.0)
    replaced, probability = [np.zeros(0, bool)], [np.zeros(0)]
    # Sums over all batches, divided once: a mean of means would weigh a short last batch as much as the
    # others.
    for masked in batches:
        masked = masked.to(networks.device)
        generated = model.generate(masked)
        counted = generator_sums(masked, generated)
        # What a network of NaN says counts as original: F1 and calibration would look like any other's.
        check_numbers(not math.isnan(counted["generator_loss"]), networks.need("generator").source)
        if networks.discriminator is not None:
            corrupted = corrupt(masked, generated.scores.sampled_S)
            detected = model.discriminate(masked, corrupted)
            counted |= discriminator_sums(masked, corrupted, detected)
            check_numbers(not math.isnan(counted["discriminator_loss"]), networks.discriminator.source)
            # Padding is left out here as it is in the sums: nobody asks whether it was replaced.
            mask_BL = slice(None) if masked.attention_mask_BL is None else masked.attention_mask_BL
            replaced.append(corrupted.replaced_BL[mask_BL].flatten().cpu().numpy())
            probability.append(detected.logits_BL.sigmoid()[mask_BL].flatten().cpu().double().numpy())
        for name, value in counted.items():
            sums[name] += float(value)
    return sums, np.concatenate(replaced), np.concatenate(probability)


def masking_text(masking: MaskingConfig | None) -> str:
    """The masking in the words of --masking_schedule; None: the default, and that it is assumed."""
    said = (masking or MaskingConfig()).in_words()
    return said if masking else f"{said} (the default: the model does not tell its own)"


def sampling_text(model: JointModel) -> str:
    """How replacements were drawn, and where that is assumed."""
    settings = model if isinstance(model, ExportedPair) else model.config
    said = f"{settings.sampling} at temperature {settings.temperature:g}"
    assumed = isinstance(model, ExportedPair) and model.assumed
    return f"{said} (assumed: the model does not tell its own)" if assumed else said


def characters(path: str, reading: TextConfig) -> int:
    """Characters of a text as it is encoded, line ends not counted."""
    count = 0
    for block in cut_blocks(find_inputs([path], reading.text_field), LINES):
        text = read_block(block, reading).decode("utf-8")
        count += len(text) - text.count("\n")
    return count


def bins(replaced_N: np.ndarray, probability_N: np.ndarray) -> dict[str, dict[str, float]]:
    """Return, for each tenth of probability, its mean and the share of tokens that were replaced."""
    bin_N = bin_of(probability_N, BINS)
    table = {}
    for number in np.unique(bin_N).tolist():
        inside_N = bin_N == number
        table[f"{number / BINS:.1f} to {(number + 1) / BINS:.1f}"] = {
            "mean probability": float(probability_N[inside_N].mean()),
            "replaced": float(replaced_N[inside_N].mean()),
            "tokens": int(inside_N.sum()),
        }
    return table
