"""Metrics follow from counts; lines are whole and told once; warnings come when a share is not healthy.

Run: pytest tests/training/test_log.py
"""

import json

import pytest

from span_electra.model.batch import TALLY
from span_electra.pretraining.health import complaints
from span_electra.training.log import METRICS, RunLog, cut_after, metrics_of

COUNTS = dict(zip(TALLY, (100, 20, 60.0, 5, 30.0, 10, 8, 6, 0.0, 0.0), strict=True))


def test_metrics_written_out():
    metrics = metrics_of(COUNTS | {"loss": 9.0, "steps": 3})
    expected = {
        "loss": 3.0,
        "generator_loss": 3.0,
        "generator_accuracy": 0.25,
        "discriminator_loss": 0.3,
        "discriminator_precision": 6 / 8,
        "discriminator_recall": 6 / 10,
        "discriminator_f1": 12 / 18,
        "discriminator_accuracy": (88 + 6) / 100,  # 88 originals left alone, 6 replaced ones found
        "original_accuracy": 88 / 90,
        "replaced_share": 0.1,
        "replaced_of_masked": 0.5,
    }
    assert metrics == pytest.approx(expected)


def test_a_share_of_nothing_is_left_out():
    assert metrics_of(dict.fromkeys(TALLY, 0.0)) == {}
    generator_alone = COUNTS | dict.fromkeys(("tokens", "replaced", "flagged", "hits"), 0)
    assert set(metrics_of(generator_alone)) == {"generator_loss", "generator_accuracy"}


def test_lines_are_whole_numbers_finite_and_followers_write_nothing(tmp_path):
    with RunLog(tmp_path, True, 0, 10) as log:
        log.write(5, "train", {"loss": 2.5, "generator_loss": float("nan")}, epoch=1)
        told = (tmp_path / METRICS).read_text()  # before closing: a kill would lose nothing
    assert [json.loads(line) for line in told.splitlines()] == [
        {"step": 5, "split": "train", "loss": 2.5, "epoch": 1}
    ]
    assert list((tmp_path / "tensorboard").iterdir())
    with RunLog(tmp_path / "none", False, 0, 10) as log:
        log.write(5, "train", {"loss": 2.5})
        log.advance()
    assert not (tmp_path / "none").exists()


def test_a_resumed_log_drops_what_lies_beyond_its_checkpoint_and_cut_off_lines(tmp_path):
    path = tmp_path / METRICS
    path.write_text('{"step": 1}\n{"step": 3}\n[]\n{"step": 4}\n{"step": 2}\n{"step": 3')
    cut_after(path, 3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n{"step": 2}\n'
    cut_after(tmp_path / "absent", 3)


HEALTHY = {
    "generator_accuracy": 0.3,
    "replaced_of_masked": 0.6,
    "discriminator_recall": 0.5,
    "original_accuracy": 0.97,
}


@pytest.mark.parametrize(
    "change, words",
    [
        ({}, None),
        ({"generator_accuracy": 0.05}, "no better than always guessing the commonest token"),
        ({"replaced_of_masked": 0.1}, "make the generator smaller"),
        ({"replaced_of_masked": 0.99}, "learned next to nothing"),
        ({"discriminator_recall": 0.01}, "calls everything original"),
        ({"original_accuracy": 0.5}, "lower --discriminator_lr"),
    ],
)
def test_each_unhealthy_share_has_its_warning_and_a_healthy_run_none(change, words):
    found = complaints(HEALTHY | change, commonest_share=0.06)
    assert len(found) == (words is not None)
    assert not words or words in found[0]


def test_no_metric_no_complaint():
    assert complaints({}, 0.06) == []
