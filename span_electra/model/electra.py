"""All of ELECTRA with spans: a generator fills hidden spans, a discriminator finds the tokens it changed.

Shapes are in the names:
  B  rows         L  tokens of a row   S  masked slots of the batch
  V  vocabulary   D  width             T  tokens of the batch, B * L

The loss is  generator_weight * generator + discriminator_weight * discriminator
             + span_boundary_weight * (SBGO + SBPO),
each a mean over the tokens of the whole global batch: sums of this process divided by the batch's totals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from span_electra.batch import Movable, StepOutput
from span_electra.config import ModelConfig
from span_electra.model.batch import TALLY, MaskedBatch
from span_electra.model.corruption import Corrupted, choose, corrupt, hide, put_in_slots
from span_electra.model.encoder import DisentangledEmbeddings, Encoder
from span_electra.model.heads import ReplacedHead, SpanReplacedHead, SpanTokenHead, TokenHead
from span_electra.model.init import init_local, init_normal
from span_electra.random_keys import subkey

LogitPair = tuple[Tensor, Tensor | None]  # the head's own logits, and the span-boundary head's


@dataclass(frozen=True)
class Generated:
    """What the generator says about the slots."""

    logits_SV: Tensor  # float32; of the hidden token, from the slot's own hidden state
    span_logits_SV: Tensor | None  # float32; of the hidden token, from the span's boundary (SBGO)
    decision_SV: Tensor  # float32, detached; what replacements are drawn from


@dataclass(frozen=True)
class Judged:
    """What the discriminator says about the tokens; logits of `was replaced`."""

    logits_BL: Tensor  # float32
    span_logits_S: Tensor | None  # float32; from the span's boundary (SBPO)
    decision_BL: Tensor  # float32, detached; above 0 the token is called replaced


@dataclass(frozen=True)
class Judgement(Movable):
    """One batch as a report shows it."""

    hidden_BL: Tensor  # int64; the generator's input
    generator_probability_S: Tensor  # what the generator gave the original token
    likeliest_S: Tensor  # int64; the generator's first choice
    drawn_S: Tensor  # int64; the replacement
    corrupted_BL: Tensor  # int64; the discriminator's input
    replaced_BL: Tensor  # bool; its labels
    replaced_probability_BL: Tensor  # its answer


class Generator(nn.Module):
    """The masked language model, with SBGO if asked for."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config.generator, config)
        self.head = TokenHead(config.generator, config)
        self.span_head = SpanTokenHead(config.generator, config) if config.use_SBGO else None

    def forward(
        self, hidden_BL: Tensor, masked: MaskedBatch, key: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return float32 logits [S, V] of the slots, and SBGO's or None."""
        states_TD = self.encoder(hidden_BL, masked.real_BL, key).flatten(0, 1)
        logits_SV = self.head(states_TD.index_select(0, masked.slots_S), self.encoder).float()
        if self.span_head is None:
            return logits_SV, None
        table_VE = self.encoder.embeddings.word.weight
        return logits_SV, self.span_head(*boundary(states_TD, masked), table_VE).float()


class Discriminator(nn.Module):
    """The replaced-token detector, with SBPO if asked for."""

    def __init__(self, config: ModelConfig, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = ReplacedHead(config.discriminator, config)
        self.span_head = SpanReplacedHead(config.discriminator, config) if config.use_SBPO else None

    def forward(self, ids_BL: Tensor, masked: MaskedBatch, key: int | None) -> LogitPair:
        """Return float32 logits [B, L], and SBPO's [S] or None."""
        states_BLD = self.encoder(ids_BL, masked.real_BL, key)
        logits_BL = self.head(states_BLD).float()
        if self.span_head is None:
            return logits_BL, None
        return logits_BL, self.span_head(*boundary(states_BLD.flatten(0, 1), masked)).float()


def boundary(states_TD: Tensor, masked: MaskedBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hidden states before and after each slot's span, [S, D] each, and the slot's offset."""
    left_SD = states_TD.index_select(0, masked.left_S)
    return left_SD, states_TD.index_select(0, masked.right_S), masked.offset_S


def share_encoder(config: ModelConfig, generator: Generator) -> Encoder:
    """Return the discriminator's encoder with what `config.embedding_sharing` lets it share.

    auto: the embedding block is one module; where all sizes agree, the encoder is one module too.
    embeddings: the embedding block alone. gdes: the generator's tables without gradient, plus a change of its
    own. none: nothing. Under the objective `discriminator` the generator must stay as it is, so that auto and
    embeddings share nothing there.
    """
    sharing = config.embedding_sharing
    if sharing == "gdes":
        base = generator.encoder.embeddings
        return Encoder(config.discriminator, config, DisentangledEmbeddings(base, config))
    if sharing == "none" or config.objective == "discriminator":
        return Encoder(config.discriminator, config)
    if sharing == "auto" and config.generator == config.discriminator:
        return generator.encoder
    return Encoder(config.discriminator, config, generator.encoder.embeddings)


class SpanElectra(nn.Module):
    """Generator, discriminator and their losses.

    `config.vocab_size` must be known. `seed` alone decides the weights it starts from. The part that the
    objective does not train has `requires_grad` off, and a frozen generator never drops out.
    """

    def __init__(self, config: ModelConfig, mask_id: int, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.mask_id = mask_id
        self.generator = Generator(config)
        self.discriminator = Discriminator(config, share_encoder(config, self.generator))
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

    def checkpoint_activations(self, on: bool) -> None:
        """Recompute each layer's activations in the backward pass: less memory, more time."""
        self.generator.encoder.checkpointing = on
        self.discriminator.encoder.checkpointing = on

    def forward(self, masked: MaskedBatch, dropout_key: int | None = None) -> StepOutput:
        """Return this process's share of the loss, and the sums that `batch.TALLY` names.

        `dropout_key`: see `dropout.py`; give it `subkey(seed, step, micro_step, rank)` on the CPU.
        """
        # A GPU draws masks by itself; a number that changes each step would make it compile anew.
        key = None if masked.original_BL.is_cuda else dropout_key
        generated = self.generate(masked, subkey(key, 1))
        if self.config.objective == "generator":
            return self.losses(masked, generated, None, None)
        corrupted = self.corrupt(masked, generated)  # no gradient flows back through the drawing
        judged = self.discriminate(masked, corrupted, subkey(key, 2))
        return self.losses(masked, generated, corrupted, judged)

    def generate(self, masked: MaskedBatch, key: int | None = None) -> Generated:
        """Run the generator on the batch with its spans hidden; a frozen one leaves no graph."""
        learns = torch.is_grad_enabled() and self.config.objective != "discriminator"
        with torch.set_grad_enabled(learns):
            logits_SV, span_logits_SV = self.generator(hide(masked, self.mask_id), masked, key)
        decision_SV = logits_SV.detach()
        if self.config.average_span_predictions and span_logits_SV is not None:
            decision_SV = (decision_SV + span_logits_SV.detach()) / 2
        return Generated(logits_SV, span_logits_SV, decision_SV)

    def corrupt(self, masked: MaskedBatch, generated: Generated) -> Corrupted:
        """Draw the replacements and put them in."""
        config = self.config
        return corrupt(
            masked, choose(generated.decision_SV, masked.uniform_S, config.sampling, config.temperature)
        )

    def discriminate(self, masked: MaskedBatch, corrupted: Corrupted, key: int | None = None) -> Judged:
        """Run the discriminator on the corrupted batch.

        With `average_span_predictions`, the decision at a slot is the mean of the head's logit and SBPO's.
        """
        logits_BL, span_logits_S = self.discriminator(corrupted.ids_BL, masked, key)
        decision_BL = logits_BL.detach()
        if self.config.average_span_predictions and span_logits_S is not None:
            own_S = decision_BL.flatten().index_select(0, masked.slots_S)
            decision_BL = put_in_slots(decision_BL, masked, (own_S + span_logits_S.detach()) / 2)
        return Judged(logits_BL, span_logits_S, decision_BL)

    def losses(
        self, masked: MaskedBatch, generated: Generated, corrupted: Corrupted | None, judged: Judged | None
    ) -> StepOutput:
        """Return the weighted loss and the tally; without `judged` the discriminator's part is 0."""
        target_S = masked.original_BL.flatten().index_select(0, masked.slots_S)
        sums = generator_sums(masked, generated, target_S)
        if judged is not None:
            sums |= discriminator_sums(masked, corrupted, judged)
        config = self.config
        masked_total, token_total = masked.masked_total.clamp(min=1), masked.token_total.clamp(min=1)
        loss = 0.0
        if config.objective != "discriminator":
            loss = loss + config.generator_weight * sums["generator_loss"] / masked_total
            if generated.span_logits_SV is not None:
                loss = loss + config.span_boundary_weight * sums["SBGO_loss"] / masked_total
        if judged is not None:
            loss = loss + config.discriminator_weight * sums["discriminator_loss"] / token_total
            if judged.span_logits_S is not None:
                loss = loss + config.span_boundary_weight * sums["SBPO_loss"] / masked_total
        nothing = masked.slot_weight_S.new_zeros(())
        tally = torch.stack([sums.get(name, nothing).detach().float() for name in TALLY])
        return StepOutput(loss, tally)

    @torch.no_grad()
    def judge(self, masked: MaskedBatch) -> Judgement:
        """Run a batch for a report: what was hidden, drawn, and judged. Call it in eval mode."""
        generated = self.generate(masked)
        drawn_S = choose(
            generated.decision_SV, masked.uniform_S, self.config.sampling, self.config.temperature
        )
        corrupted = corrupt(masked, drawn_S)
        judged = self.discriminate(masked, corrupted)
        target_S = masked.original_BL.flatten().index_select(0, masked.slots_S)
        probability_SV = generated.decision_SV.softmax(-1)
        return Judgement(
            hidden_BL=hide(masked, self.mask_id),
            generator_probability_S=probability_SV.gather(1, target_S[:, None]).squeeze(1),
            likeliest_S=generated.decision_SV.argmax(-1),
            drawn_S=drawn_S,
            corrupted_BL=corrupted.ids_BL,
            replaced_BL=corrupted.replaced_BL,
            replaced_probability_BL=judged.decision_BL.sigmoid(),
        )


def generator_sums(masked: MaskedBatch, generated: Generated, target_S: Tensor) -> dict[str, Tensor]:
    """Return the generator's entries of the tally; the losses keep their graph."""
    weight_S = masked.slot_weight_S
    loss_S = F.cross_entropy(generated.logits_SV, target_S, reduction="none")
    sums = {
        "masked": weight_S.sum(),
        "generator_loss": (loss_S * weight_S).sum(),
        "generator_correct": ((generated.decision_SV.argmax(-1) == target_S) * weight_S).sum(),
    }
    if generated.span_logits_SV is not None:
        span_loss_S = F.cross_entropy(generated.span_logits_SV, target_S, reduction="none")
        sums["SBGO_loss"] = (span_loss_S * weight_S).sum()
    return sums


def discriminator_sums(masked: MaskedBatch, corrupted: Corrupted, judged: Judged) -> dict[str, Tensor]:
    """Return the discriminator's entries of the tally; the losses keep their graph."""
    replaced_BL, flagged_BL = corrupted.replaced_BL, judged.decision_BL > 0
    loss_BL = F.binary_cross_entropy_with_logits(judged.logits_BL, replaced_BL.float(), reduction="none")
    if masked.real_BL is None:
        tokens = masked.slot_weight_S.new_full((), masked.original_BL.numel())
    else:
        tokens = masked.real_BL.sum().float()
        loss_BL, flagged_BL = loss_BL * masked.real_BL, flagged_BL & masked.real_BL
    sums = {
        "tokens": tokens,
        "discriminator_loss": loss_BL.sum(),
        "replaced": replaced_BL.sum().float(),
        "flagged": flagged_BL.sum().float(),
        "hits": (flagged_BL & replaced_BL).sum().float(),
    }
    if judged.span_logits_S is not None:
        label_S = replaced_BL.flatten().index_select(0, masked.slots_S).float()
        span_loss_S = F.binary_cross_entropy_with_logits(judged.span_logits_S, label_S, reduction="none")
        sums["SBPO_loss"] = (span_loss_S * masked.slot_weight_S).sum()
    return sums
