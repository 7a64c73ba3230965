"""Warnings of what is not healthy. Run: pytest tests/report/test_health.py"""

import pytest

from span_electra.report.health import LEAST_TOKENS, entropy, health_warnings

HEALTHY = {
    "generator_accuracy": 0.3,
    "replaced_of_masked": 0.6,
    "discriminator_recall": 0.5,
    "original_accuracy": 0.97,
    "discriminator_loss": 0.37,
    "replaced_share": 0.12,
}


def warnings(metrics, commonest_share=0.05, tokens=LEAST_TOKENS):
    return health_warnings(metrics, commonest_share, tokens=tokens)


def test_a_healthy_run_is_left_in_peace():
    assert warnings(HEALTHY) == []
    assert warnings({}) == []


def test_nothing_is_said_before_a_run_can_have_learned_anything():
    ill = HEALTHY | {"generator_accuracy": 0.0, "original_accuracy": 0.0, "replaced_of_masked": 1.0}
    assert warnings(ill, tokens=LEAST_TOKENS - 1) == [] and len(warnings(ill, tokens=LEAST_TOKENS)) == 3


def test_a_first_run_with_the_presets_earns_none():
    """The lines of a run with configs/tiny.json on wikitext-2, from 2 M tokens on, as they were logged."""
    for accuracy, replaced, recall, original in (
        (0.074, 0.987, 0.628, 0.961),
        (0.077, 0.985, 0.652, 0.962),
        (0.071, 0.982, 0.677, 0.965),
    ):
        line = {
            "generator_accuracy": accuracy,
            "replaced_of_masked": replaced,
            "discriminator_recall": recall,
            "original_accuracy": original,
        }
        assert warnings(line, commonest_share=0.0434) == []


def test_a_low_recall_is_no_illness_while_the_loss_says_that_something_is_learned():
    """On a hard task nothing passes one half for long; knowing the share alone loses .367 nats at 12%."""
    hard = HEALTHY | {"discriminator_recall": 0.01}
    assert warnings(hard | {"discriminator_loss": 0.33}) == []
    assert len(warnings(hard | {"discriminator_loss": 0.37})) == 1
    assert entropy(0.5) == pytest.approx(0.6931, abs=1e-4) and entropy(0.0) == 0


@pytest.mark.parametrize(
    "metric, value, words",
    [
        ("generator_accuracy", 0.05, "commonest token"),
        ("replaced_of_masked", 0.1, "generator smaller"),
        ("replaced_of_masked", 0.999, "learned next to nothing"),
        ("discriminator_recall", 0.01, "calls everything original"),
        ("original_accuracy", 0.5, "original tokens replaced"),
    ],
)
def test_each_metric_out_of_range_has_its_sentence_with_a_way_out(metric, value, words):
    found = warnings(HEALTHY | {metric: value})
    assert len(found) == 1 and words in found[0]
