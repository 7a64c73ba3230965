"""Is my loss normal? Metrics -> warnings that say what to look at, once warm-up is over."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Tokens seen before which metrics say nothing. A small run begins on a plateau, where the generator knows
# frequencies alone; the healthy ones have left it by 1 to 1.6 million tokens (docs/results.md).
LEAST_TOKENS = 2_000_000
# Shares outside these ranges have a cause worth looking for; ranges are wide, so that a healthy small run
# is never disturbed. ELECTRA's own runs replace 50-60% of the masked tokens (7-9% of all at 15% masked); a
# tiny generator that is right once in ten times still replaces 98%, since what it samples is less likely.
LEAST_REPLACED, MOST_REPLACED = 0.15, 0.995  # of masked tokens
LEAST_RECALL = 0.05  # of replaced tokens found
LEAST_ORIGINAL = 0.8  # of original tokens left alone


def health_warnings(metrics: Mapping[str, float], commonest_share: float, tokens: float) -> list[str]:
    """Return one sentence for each metric outside its healthy range; no metric, no warning.

    commonest_share: share of the commonest token, which is what always guessing it would score.
    tokens: tokens seen so far; below LEAST_TOKENS nothing is said.
    """
    # An alarm in the first minutes of every healthy run would teach people to look away.
    if tokens < LEAST_TOKENS:
        return []
    found = []
    # A metric that is missing (one network is not trained) is taken as healthy: no default warns of anything.
    accuracy = metrics.get("generator_accuracy", 1.0)
    if accuracy <= commonest_share:
        found.append(
            f"generator accuracy {accuracy:.1%} is no better than always guessing the commonest token "
            f"({commonest_share:.1%}): train longer, or try a higher --generator_lr"
        )
    replaced = metrics.get("replaced_of_masked", 0.5)
    if replaced < LEAST_REPLACED:
        found.append(
            f"only {replaced:.1%} of the masked tokens are replaced, so there is little to find for the "
            "discriminator: make the generator smaller, raise --temperature, or look for repeated text"
        )
    if replaced > MOST_REPLACED:
        found.append(
            f"{replaced:.1%} of the masked tokens are replaced: the generator has learned next to nothing; "
            "check --lr and warm-up, and that the features fit the text"
        )
    recall = metrics.get("discriminator_recall", 1.0)
    # A hard task (few and well-made replacements) has a low recall at the threshold of one half, though the
    # discriminator learns: its loss then lies below what the bare share of replaced tokens gives.
    guessed = entropy(metrics.get("replaced_share", 0.0))
    if recall < LEAST_RECALL and metrics.get("discriminator_loss", guessed) >= 0.99 * guessed:
        found.append(
            f"the discriminator finds {recall:.1%} of the replaced tokens: it calls everything original; "
            "train longer, or raise --discriminator_weight or --discriminator_lr"
        )
    original = metrics.get("original_accuracy", 1.0)
    if original < LEAST_ORIGINAL:
        found.append(
            f"the discriminator calls {1 - original:.1%} of the original tokens replaced: "
            "lower --discriminator_lr, or check that the features fit the model's vocabulary"
        )
    return found


def judged(metrics: Mapping[str, float]) -> str:
    """In words: what these metrics let `health_warnings` judge; empty where that is nothing.

    Example: generator_accuracy, discriminator_recall -> generator and discriminator
    """
    # A network that is not trained, or not yet, has no such metric, and nobody should read that it is well.
    metric_of = {
        "replaced share": "replaced_of_masked",
        "generator": "generator_accuracy",
        "discriminator": "discriminator_recall",
    }
    topics = [topic for topic, metric in metric_of.items() if metric in metrics]
    return " and ".join(filter(None, [", ".join(topics[:-1]), *topics[-1:]]))


def entropy(share: float) -> float:
    """Nats a token that a detector loses which knows the share of replaced tokens alone. .5 -> .693"""
    return -sum(part * math.log(part) for part in (share, 1 - share) if part > 0)
