"""Warnings of what is not healthy. Run: pytest tests/report/test_health.py"""

import pytest

from span_electra.report.health import health_warnings

HEALTHY = {
    "generator_accuracy": 0.3,
    "replaced_of_masked": 0.6,
    "discriminator_recall": 0.5,
    "original_accuracy": 0.97,
}


def test_a_healthy_run_is_left_in_peace():
    assert health_warnings(HEALTHY, commonest_share=0.05) == []
    assert health_warnings({}, commonest_share=0.05) == []


@pytest.mark.parametrize(
    "metric, value, words",
    [
        ("generator_accuracy", 0.05, "commonest token"),
        ("replaced_of_masked", 0.1, "generator smaller"),
        ("replaced_of_masked", 0.99, "learned next to nothing"),
        ("discriminator_recall", 0.01, "calls everything original"),
        ("original_accuracy", 0.5, "original tokens replaced"),
    ],
)
def test_each_metric_out_of_range_has_its_sentence_with_a_way_out(metric, value, words):
    found = health_warnings(HEALTHY | {metric: value}, commonest_share=0.05)
    assert len(found) == 1 and words in found[0]
