"""Is my loss normal? Metrics -> warnings that say what to look at, once warm-up is over."""

from __future__ import annotations

from collections.abc import Mapping

# Shares outside these ranges have a cause worth looking for; ranges are wide, so that a healthy small run
# is never disturbed. ELECTRA's own runs replace 50-60% of the masked tokens (7-9% of all at 15% masked).
LEAST_REPLACED, MOST_REPLACED = 0.15, 0.98  # of masked tokens
LEAST_RECALL = 0.05  # of replaced tokens found
LEAST_ORIGINAL = 0.8  # of original tokens left alone


def health_warnings(metrics: Mapping[str, float], commonest_share: float) -> list[str]:
    """Return one sentence for each metric outside its healthy range; no metric, no warning.

    commonest_share: share of the commonest token, which is what always guessing it would score.
    """
    found = []
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
    if recall < LEAST_RECALL:
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
