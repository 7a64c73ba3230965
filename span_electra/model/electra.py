"""All of ELECTRA with spans: a generator fills hidden spans, a discriminator finds the tokens it changed.

Shapes are in the names:
  B  rows         L  tokens of a row   S  masked slots of the batch
  V  vocabulary   D  width             T  tokens of the batch, B * L

The loss is  generator_weight * generator + discriminator_weight * discriminator
             + span_boundary_weight * (SBGO + SBPO) + sequence_weight * contrastive,
each a mean over the tokens (contrastive: rows) of the whole global batch: sums of this process divided by the
batch's totals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from span_electra.batch import Movable, StepOutput
from span_electra.config import ModelConfig
from span_electra.model.batch import TALLY, MaskedBatch
from span_electra.model.contrastive import contrastive_losses, crop
from span_electra.model.corruption import Corrupted, Sampling, corrupt, mask_tokens
from span_electra.model.encoder import DisentangledEmbeddings, Encoder
from span_electra.model.heads import ReplacedHead, SpanReplacedHead, SpanTokenHead, TokenHead
from span_electra.model.init import init_local, init_normal
from span_electra.model.sampled_softmax import score_candidates
from span_electra.model.token_loss import TokenScores, score_tokens
from span_electra.random_keys import subkey

Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class Generated:
    """What the generator says about the slots, and what it puts there."""

    scores: TokenScores  # by the slots' own hidden states; sampled_S are the replacements
    span_scores: TokenScores | None  # by the spans' boundaries (SBGO)


@dataclass(frozen=True)
class Detected:
    """What the discriminator says about the tokens; logits of `was replaced`."""

    logits_BL: Tensor  # float32; above 0 the token is called replaced
    # float32; from the span's boundary (SBPO). No part of a verdict, as it would tell where masks are.
    span_logits_S: Tensor | None
    contrastive_loss_B: Tensor | None = None  # float32; of each row's [CLS], where rows are cropped


@dataclass(frozen=True)
class Predictions(Movable):
    """One batch as a report shows it."""

    generator_probability_S: Tensor  # what the generator gave the original token
    corrupted_BL: Tensor  # int64; the discriminator's input
    replaced_BL: Tensor  # bool; its labels
    replaced_probability_BL: Tensor  # its answer


class Generator(nn.Module):
    """The masked language model, with SBGO if asked for."""

    compiled_parts = ("score",)  # heads, losses and sampling are one; see training/compilation.py

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config.generator, config)
        self.head = TokenHead(config.generator, config)
        self.span_head = SpanTokenHead(config.generator, config) if config.use_SBGO else None
        self.average = config.average_span_predictions and config.use_SBGO

    def features(self, states_BLD: Tensor, masked: MaskedBatch) -> tuple[Tensor, Tensor | None]:
        """What the words' table is multiplied with: of the slots, [S, E], and of SBGO's head or None."""
        states_TD = states_BLD.flatten(0, 1)
        # Slots alone: one token in five is masked, and the head costs as much for the others.
        own_SE = self.encoder.narrow(self.head.features(states_TD.index_select(0, masked.slots_S)))
        if self.span_head is None or masked.causal:  # a next token is no span
            return own_SE, None
        return own_SE, self.span_head.features(*boundary(states_TD, masked))

    def forward(
        self, masked_BL: Tensor, masked: MaskedBatch, key: int | None, sampling: Sampling | None
    ) -> Generated:
        """Score the slots of a batch whose spans are masked; without `sampling` nothing is sampled."""
        mask_BL, causal = masked.attention_mask_BL, masked.causal
        states_BLD = self.encoder(masked_BL, mask_BL, key, causal=causal, **masked.packing)
        return self.score(states_BLD, masked, sampling)

    def score(self, states_BLD: Tensor, masked: MaskedBatch, sampling: Sampling | None) -> Generated:
        """What the heads say of the encoder's hidden states."""
        target_S = targets(masked)
        # One law for both heads: the same slots, targets and weights.
        known = {"target_S": target_S, "weight_S": masked.slot_weight_S}
        own_SE, span_SE = self.features(states_BLD, masked)
        table_VE, bias_V = self.encoder.embeddings.word.weight, self.head.bias
        if masked.candidate_K is not None:
            known |= {"candidate_K": masked.candidate_K, "log_count_K": masked.log_count_K}
            return Generated(score_candidates(own_SE, table_VE, bias_V, **known), None)
        alone = None if self.average else sampling
        own = score_tokens(own_SE, table_VE, bias_V, sampling=alone, **known)
        if span_SE is None:
            return Generated(own, None)
        span = score_tokens(span_SE, table_VE, self.span_head.bias, sampling=None, **known)
        if not self.average:
            return Generated(own, span)
        # Each head's loss is its own; what is likeliest and sampled follows from the logits' mean, which is
        # the mean features' product, since the heads share the table.
        with torch.no_grad():
            mean_SE, mean_V = (own_SE + span_SE) / 2, (bias_V + self.span_head.bias) / 2
            mean = score_tokens(mean_SE, table_VE, mean_V, sampling=sampling, **known)
        return Generated(replace(mean, loss=own.loss), span)


class Discriminator(nn.Module):
    """The replaced-token detector, with SBPO if asked for."""

    compiled_parts = ("detect",)

    def __init__(self, config: ModelConfig, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = ReplacedHead(config.discriminator, config)
        self.span_head = SpanReplacedHead(config.discriminator, config) if config.use_SBPO else None
        self.config = config

    def forward(self, ids_BL: Tensor, masked: MaskedBatch, key: int | None) -> Detected:
        """Say of each token of a corrupted batch whether it was replaced; compare rows with their crops."""
        states_BLD = self.encoder(ids_BL, masked.attention_mask_BL, key, **masked.packing)
        cropped_BWD = None
        # No crops in validation and where nothing is contrasted: a second pass costs as much as the first.
        if masked.crop_B is not None:
            cropped_BWD = self.encoder(*crop(masked, self.config.sequence_crop), subkey(key, 1 << 20))
        return self.detect(states_BLD, cropped_BWD, masked)

    def detect(self, states_BLD: Tensor, cropped_BWD: Tensor | None, masked: MaskedBatch) -> Detected:
        """What the heads say of the hidden states, and of those of the rows' crops."""
        logits_BL, span_logits_S, loss_B = self.head(states_BLD).float(), None, None
        if self.span_head is not None:
            span_logits_S = self.span_head(*boundary(states_BLD.flatten(0, 1), masked)).float()
        if cropped_BWD is not None:
            mask_B = None if masked.attention_mask_BL is None else masked.attention_mask_BL[:, 0]
            temperature = self.config.sequence_temperature
            # [CLS] is the first token of every row, cropped or not.
            loss_B = contrastive_losses(states_BLD[:, 0], cropped_BWD[:, 0], temperature, mask_B)
        return Detected(logits_BL, span_logits_S, loss_B)


def boundary(states_TD: Tensor, masked: MaskedBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hidden states before and after each slot's span, [S, D] each, and the slot's offset."""
    left_SD = states_TD.index_select(0, masked.left_S)
    return left_SD, states_TD.index_select(0, masked.right_S), masked.offset_S


def targets(masked: MaskedBatch) -> Tensor:
    """The tokens that the slots stand for, [S]: those hidden there, or in a causal batch those after them."""
    return masked.original_BL.flatten().index_select(0, masked.slots_S + int(masked.causal))


def share_encoder(config: ModelConfig, generator: Generator) -> Encoder:
    """Return the discriminator's encoder with what `config.embedding_sharing` lets it share.

    auto: the embedding block is one module; where all sizes agree, the encoder is one module too.
    embeddings: the embedding block alone. gdes: the generator's tables without gradient, plus a change of its
    own. none: nothing. Under the objective `discriminator` the generator must stay as it is, so that auto and
    embeddings share nothing there.
    """
    sharing = config.embedding_sharing
    if sharing == "gdes":
        # The module itself, not a copy of it: what the generator learns is what the discriminator reads.
        base = generator.encoder.embeddings
        return Encoder(config.discriminator, config, DisentangledEmbeddings(base, config))
    if sharing == "none" or config.objective == "discriminator":
        return Encoder(config.discriminator, config)
    # Of equal sizes all of it can be shared, the embeddings with it (ELECTRA, section 3.2).
    if sharing == "auto" and config.generator == config.discriminator:
        return generator.encoder
    return Encoder(config.discriminator, config, generator.encoder.embeddings)


class SpanElectra(nn.Module):
    """Generator, discriminator and their losses.

    `config.vocab_size` must be known. `seed` alone decides the weights it starts from. The part that the
    objective does not train has `requires_grad` off, and a frozen generator never drops out.
    """

    compiled_parts = ("losses",)

    def __init__(self, config: ModelConfig, mask_id: int, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.mask_id = mask_id
        # The generator first: what both share is listed, saved and trained under its name.
        self.generator = Generator(config)
        self.discriminator = Discriminator(config, share_encoder(config, self.generator))
        # Once all is tied: a shared tensor must be drawn once, or the seed would mean other weights.
        init_normal(self, config.initializer_range, seed)
        if config.initialization == "local":
            init_local([self.generator.encoder, self.discriminator.encoder], config.initializer_range, seed)
        if config.objective == "generator":
            self.discriminator.requires_grad_(False)
            self.generator.requires_grad_(True)  # what the two share learns
        elif config.objective == "discriminator":
            self.generator.requires_grad_(False)
            self.generator.eval()

    def train(self, mode: bool = True) -> SpanElectra:
        """Switch dropout on or off; the frozen generator of the objective `discriminator` keeps it off."""
        super().train(mode)
        if self.config.objective == "discriminator":
            self.generator.eval()
        return self

    @torch.no_grad()
    def init_output_bias(self, counts_V: Tensor) -> None:
        """Let the generator begin at the frequencies of tokens: log((count + 1/2) / all), of ids beyond 1/2.

        It starts at the plateau on which it would spend its first steps, and every weight learns what is
        beyond frequencies from the first. `counts_V` may be shorter than the table of words.
        """
        smoothed_V = torch.full((self.config.vocab_size,), 0.5, dtype=torch.float64)
        # Half a count for the unseen: the logarithm of nothing would never let a token be written.
        smoothed_V[: len(counts_V)] += counts_V
        bias_V = (smoothed_V / smoothed_V.sum()).log().float()
        for head in (self.generator.head, self.generator.span_head):
            if head is not None:
                head.bias.copy_(bias_V)

    def forward(self, masked: MaskedBatch, dropout_key: int | None = None) -> StepOutput:
        """Return this process's share of the loss, and the sums that `batch.TALLY` names.

        `dropout_key`: see `dropout.py`; give it `subkey(seed, step, micro_step, rank)` on the CPU, else None.
        """
        # Known before the batch is computed, so that no process waits for a network that the others leave
        # out.
        alone = self.config.objective == "generator" or masked.generator_alone
        generated = self.generate(masked, subkey(dropout_key, 1), sample=not alone)
        corrupted = detected = None
        if not alone:
            # No gradient flows back through the sampling.
            corrupted = corrupt(masked, generated.scores.sampled_S)
            detected = self.discriminate(masked, corrupted, subkey(dropout_key, 2))
        return self.losses(masked, generated, corrupted, detected)

    def generate(self, masked: MaskedBatch, key: int | None = None, sample: bool = True) -> Generated:
        """Run the generator on the batch with its spans masked; a frozen one leaves no graph.

        sample: replacements are sampled too, by the settings `sampling` and `temperature`.
        """
        config = self.config
        sampling = Sampling(masked.uniform_S, config.sampling, config.temperature) if sample else None
        # A frozen generator would keep every activation for a backward pass that never comes.
        learns = torch.is_grad_enabled() and config.objective != "discriminator"
        with torch.set_grad_enabled(learns):
            return self.generator(mask_tokens(masked, self.mask_id), masked, key, sampling)

    def discriminate(self, masked: MaskedBatch, corrupted: Corrupted, key: int | None = None) -> Detected:
        """Run the discriminator on the corrupted batch."""
        return self.discriminator(corrupted.ids_BL, masked, key)

    def losses(
        self,
        masked: MaskedBatch,
        generated: Generated,
        corrupted: Corrupted | None,
        detected: Detected | None,
    ) -> StepOutput:
        """Return the weighted loss and the tally; without `detected` the discriminator's part is 0."""
        sums = generator_sums(masked, generated) | {"seen": count_tokens(masked)}
        if detected is not None:
            sums |= discriminator_sums(masked, corrupted, detected)
        # Totals of the whole batch: processes' losses add up to the mean that one process would have.
        masked_total, token_total = masked.masked_total.clamp(min=1), masked.token_total.clamp(min=1)
        loss = weighted_loss(
            sums, self.config, masked=masked_total, tokens=token_total, rows=masked.row_total
        )
        # A vector of fixed length, so that tallies of all objectives can be added and reduced in one call.
        nothing = masked.slot_weight_S.new_zeros(())
        tally = torch.stack([sums.get(name, nothing).detach().float() for name in TALLY])
        return StepOutput(loss, tally)

    @torch.no_grad()
    def predict(self, masked: MaskedBatch) -> Predictions:
        """Run a batch for a report: what was sampled and detected. Call it in eval mode."""
        generated = self.generate(masked)
        corrupted = corrupt(masked, generated.scores.sampled_S)
        detected = self.discriminate(masked, corrupted)
        return Predictions(
            generator_probability_S=(-generated.scores.loss_S).exp(),
            corrupted_BL=corrupted.ids_BL,
            replaced_BL=corrupted.replaced_BL,
            replaced_probability_BL=detected.logits_BL.sigmoid(),
        )


def weighted_loss(
    sums: Mapping[str, Number], config: ModelConfig, *, masked: Number, tokens: Number, rows: Number | None
) -> Number:
    """The weighted loss from the sums of its parts, named as in `batch.TALLY`; what `sums` lacks is no part.

    masked, tokens, rows: over how many hidden (or next) tokens, real tokens and compared rows they are sums.
    """
    parts = {}
    if config.objective != "discriminator":
        parts = {
            "generator_loss": (config.generator_weight, masked),
            "next_token_loss": (config.generator_weight, masked),
            "SBGO_loss": (config.span_boundary_weight, masked),
        }
    parts |= {
        "discriminator_loss": (config.discriminator_weight, tokens),
        "SBPO_loss": (config.span_boundary_weight, masked),
        "contrastive_loss": (config.sequence_weight, rows),
    }
    loss = 0.0
    for name, (weight, total) in parts.items():
        if name in sums:
            loss = loss + weight * sums[name] / total
    return loss


def generator_sums(masked: MaskedBatch, generated: Generated) -> dict[str, Tensor]:
    """Return the generator's entries of the tally; the losses keep their graph."""
    weight_S = masked.slot_weight_S
    # Weights are 0 on slots that only fill up a shape, and on misspelt tokens.
    correct = ((generated.scores.likeliest_S == targets(masked)) * weight_S).sum()
    # Told apart: a next token is harder to know than a hidden one.
    names = "masked", "generator_loss", "generator_correct"
    if masked.causal:
        names = "next_tokens", "next_token_loss", "next_token_correct"
    sums = dict(zip(names, (weight_S.sum(), generated.scores.loss, correct), strict=True))
    if generated.span_scores is not None:
        sums["SBGO_loss"] = generated.span_scores.loss
    return sums


def count_tokens(masked: MaskedBatch) -> Tensor:
    """Real tokens of a batch, [CLS] and [SEP] included, float32 scalar."""
    if masked.attention_mask_BL is None:
        return masked.slot_weight_S.new_full((), masked.original_BL.numel())
    return masked.attention_mask_BL.sum().float()


def discriminator_sums(masked: MaskedBatch, corrupted: Corrupted, detected: Detected) -> dict[str, Tensor]:
    """Return the discriminator's entries of the tally; the losses keep their graph."""
    replaced_BL, flagged_BL = corrupted.replaced_BL, detected.logits_BL > 0
    loss_BL = F.binary_cross_entropy_with_logits(detected.logits_BL, replaced_BL.float(), reduction="none")
    if masked.attention_mask_BL is not None:
        # Multiplied, not selected: a selection has another shape each time, which compiled code cannot have.
        loss_BL, flagged_BL = loss_BL * masked.attention_mask_BL, flagged_BL & masked.attention_mask_BL
    sums = {
        "tokens": count_tokens(masked),
        "discriminator_loss": loss_BL.sum(),
        "replaced": replaced_BL.sum().float(),
        "flagged": flagged_BL.sum().float(),
        "hits": (flagged_BL & replaced_BL).sum().float(),
    }
    if detected.span_logits_S is not None:
        label_S = replaced_BL.flatten().index_select(0, masked.slots_S).float()
        span_loss_S = F.binary_cross_entropy_with_logits(detected.span_logits_S, label_S, reduction="none")
        sums["SBPO_loss"] = (span_loss_S * masked.slot_weight_S).sum()
    if detected.contrastive_loss_B is not None:
        sums["contrastive_loss"] = detected.contrastive_loss_B.sum()
        mask_BL = masked.attention_mask_BL
        sums["rows"] = (
            sums["tokens"].new_full((), len(masked.rows_B)) if mask_BL is None else mask_BL[:, 0].sum()
        )
    return sums
