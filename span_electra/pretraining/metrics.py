"""Sums of the joint model's tally -> metrics; and validation, which sums them over all held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

import torch

from span_electra.accelerators import exact_sums_dtype
from span_electra.config import ModelConfig
from span_electra.model.batch import TALLY
from span_electra.model.electra import SpanElectra, weighted_loss
from span_electra.pretraining.loader import Batches
from span_electra.training.devices import Process
from span_electra.training.parallel import sum_over_processes

SHOWN = {  # what fits into a line on the screen
    "loss": "loss",
    "generator_loss": "gen",
    "discriminator_loss": "disc",
    "generator_accuracy": "gen acc",
    "next_token_loss": "next",
    "discriminator_f1": "F1",
    "discriminator_precision": "P",
    "discriminator_recall": "R",
    "replaced_share": "replaced",
    "tokens_per_second": "tok/s",
}


def compute_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """Turn summed counts (TALLY, and `loss` summed over `steps`) into means and shares.

    A share of nothing is left out, so that no metric is a guess. F1, precision and recall are those of the
    discriminator's finding replaced tokens; replaced_share is of all tokens; losses are nats a token, the
    contrastive one's a row.
    """
    # From sums over all processes and batches: means of means would weigh a small last batch like a full one.
    tokens, masked, replaced, hits = (sums[name] for name in ("tokens", "masked", "replaced", "hits"))
    shares = {
        "loss": (sums.get("loss", 0.0), sums.get("steps", 0.0)),
        "generator_loss": (sums["generator_loss"], masked),
        "generator_accuracy": (sums["generator_correct"], masked),
        "discriminator_loss": (sums["discriminator_loss"], tokens),
        "discriminator_precision": (hits, sums["flagged"]),
        "discriminator_recall": (hits, replaced),
        "discriminator_f1": (2 * hits, sums["flagged"] + replaced),
        "discriminator_accuracy": (tokens - sums["flagged"] - replaced + 2 * hits, tokens),
        "original_accuracy": (tokens - replaced - sums["flagged"] + hits, tokens - replaced),
        "replaced_share": (replaced, tokens),
        "replaced_of_masked": (replaced, masked if tokens else 0.0),
        "next_token_loss": (sums["next_token_loss"], sums["next_tokens"]),
        "next_token_accuracy": (sums["next_token_correct"], sums["next_tokens"]),
        "contrastive_loss": (sums["contrastive_loss"], sums["rows"]),
    }
    # Counts that nothing was counted for are 0 below the line.
    metrics = {name: above / below for name, (above, below) in shares.items() if below}
    # Left out where the objective is off: a loss of 0 would look like a perfect one.
    for name in ("SBGO_loss", "SBPO_loss"):
        if sums[name]:
            metrics[name] = sums[name] / masked
    return metrics


# What validations tell of masks, in which no row is cropped; from left to right they read only before these.
IN_TRAINING_ALONE = ("rows", "next_tokens")
VALIDATED = tuple(
    compute_metrics(dict.fromkeys((*TALLY, "loss", "steps"), 0.9) | dict.fromkeys(IN_TRAINING_ALONE, 0.0))
)


def absent_metrics(model: ModelConfig) -> tuple[str, ...]:
    """How the names of VALIDATED begin that no validation of this model has."""
    alone = ("discriminator_", "original_", "replaced_") if model.objective == "generator" else ()
    heads = {"SBGO_": model.use_SBGO, "SBPO_": model.use_SBPO}
    return (*alone, *(name for name, used in heads.items() if not used))


def validation_metrics(
    model: SpanElectra, batches: Batches, process: Process, stop_requested: Callable[[], bool]
) -> dict[str, float] | None:
    """Metrics on all rows of the batches of all processes, each masked as in its file; None: stopped."""
    sums = torch.zeros(len(TALLY), dtype=exact_sums_dtype(process.device), device=process.device)
    with closing(iter(batches)) as source:
        for masked in source:
            with process.autocast():
                sums += model(masked.to(process.device, non_blocking=True)).tally
            if stop_requested():  # half a validation is none: its rows are not those of the others
                return None
    totals = dict(zip(TALLY, sum_over_processes(sums, process).tolist(), strict=True))
    if not totals["seen"]:
        return compute_metrics(totals)
    return compute_metrics(totals | {"loss": loss_of(totals, model.config), "steps": 1.0})


def loss_of(sums: Mapping[str, float], config: ModelConfig) -> float:
    """The loss that training lessens, of summed counts: each part a mean over all that it was counted for.

    Not a mean of batches' losses: their parts are means over hidden and over real tokens, of which batches
    have other shares, so that how rows are cut into batches would change it.
    """
    masked = sums["masked"] + sums["next_tokens"]  # of which a batch has one kind
    counts = {"masked": masked, "tokens": sums["tokens"], "rows": sums["rows"]}
    return weighted_loss(sums, config, **{name: max(count, 1.0) for name, count in counts.items()})
