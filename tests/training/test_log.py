"""Lines are whole and logged once; TensorBoard's own reader finds its curves; a full disk leaves both whole.

Run: pytest tests/training/test_log.py
"""

import json
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from terminal_examples import COLUMNS, screen_lines

from span_electra.training.log import LOG, METRICS, EventFile, RunLog, cut_after


def test_lines_are_whole_numbers_finite_and_followers_write_nothing(tmp_path):
    with RunLog(tmp_path, enabled=True, step=0, total=10) as log:
        log.log_metrics(5, "train", {"loss": 2.5, "generator_loss": float("nan")}, epoch=1)
        told = (tmp_path / METRICS).read_text()  # before closing: a kill would lose nothing
    assert [json.loads(line) for line in told.splitlines()] == [
        {"step": 5, "split": "train", "loss": 2.5, "epoch": 1}
    ]
    assert list((tmp_path / "tensorboard").iterdir())
    with RunLog(tmp_path / "none", enabled=False, step=0, total=10) as log:
        log.log_metrics(5, "train", {"loss": 2.5})
        log.advance()
    assert not (tmp_path / "none").exists()


def test_a_path_that_is_no_utf8_is_written_escaped(tmp_path):
    with RunLog(tmp_path, enabled=True, step=0, total=10) as log:
        log.info("features/caf\udce9.arrow")
        log.log_text(0, "settings", "features/caf\udce9.arrow")
    assert (tmp_path / LOG).read_text().count("caf\\udce9.arrow") == 1


def test_a_resumed_log_drops_what_lies_beyond_its_checkpoint_and_cut_off_lines(tmp_path):
    path = tmp_path / METRICS
    path.write_text('{"step": 1}\n{"step": 3}\n[]\n{"step": 4}\n{"step": 2}\n{"step": 3')
    cut_after(path, 3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n{"step": 2}\n'
    cut_after(tmp_path / "absent", 3)
    path.write_text(
        '{"step": 3, "split": "train"}\n{"step": 2, "split": "valid"}\n{"step": 3, "split": "valid"}\n'
    )
    cut_after(path, 3)
    assert path.read_text().count("\n") == 3
    cut_after(path, 3, validated=False)  # it is made once more
    assert path.read_text() == '{"step": 3, "split": "train"}\n{"step": 2, "split": "valid"}\n'


def test_a_line_on_the_screen_has_the_short_names_and_without_any_all_metrics(tmp_path, capsys):
    metrics = {"loss": 2.5, "accuracy": 0.25}
    with RunLog(
        tmp_path / "a", enabled=True, step=0, total=10, shown={"loss": "loss", "accuracy": "acc"}
    ) as log:
        log.bar.disable = True
        log.log_metrics(5, "train", metrics)
    with RunLog(tmp_path / "b", enabled=True, step=0, total=10) as log:
        log.bar.disable = True
        log.log_metrics(5, "valid", metrics)
        log.log_metrics(5, "train", {"task_loss": 2.5, "epoch": 0, "tokens": 64})
    assert "epoch 0  step 5 of 10  train: task_loss 2.5\n" in (tmp_path / "b" / "log.txt").read_text()
    first, second = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step 5")]
    assert first.endswith("train: loss 2.5  acc 0.25") and second.endswith("valid: loss 2.5  accuracy 0.25")


def curve(folder, name):
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return [(point.step, point.value) for point in read.Scalars(name)]


def test_a_resumed_run_s_curve_goes_on_from_its_checkpoint_though_the_clock_was_set_back(
    tmp_path, monkeypatch
):
    first = EventFile(tmp_path, 0)
    for step in (10, 20, 30):
        first.write(step, {"train/loss": step / 2})
    first.close()
    monkeypatch.setattr(time, "time", lambda: 1000.0)  # decades ago
    second = EventFile(tmp_path, 20)
    second.write(30, {"train/loss": 7.0})
    second.close()
    assert curve(tmp_path, "train/loss") == [(10, 5.0), (20, 10.0), (30, 7.0)]


def test_a_start_that_left_no_checkpoint_leaves_no_points(tmp_path):
    for steps in (range(1, 9), range(1, 4)):
        file = EventFile(tmp_path, 0)
        for step in steps:
            file.write(step, {"train/loss": float(step)})
        file.close()
    assert [step for step, _ in curve(tmp_path, "train/loss")] == [1, 2, 3]


def test_the_epoch_s_number_has_as_many_digits_as_asked_for(tmp_path, capsys):
    for digits, said in ((1, "epoch 7  "), (3, "epoch 007  ")):
        with RunLog(tmp_path / said, enabled=True, step=0, total=10, epoch_digits=digits) as log:
            log.bar.disable = True
            log.log_metrics(5, "train", {"loss": 2.5, "epoch": 7})
        assert said in capsys.readouterr().err


BAR = """
import sys
from pathlib import Path
from span_electra.pretraining.metrics import SHOWN
from span_electra.training.log import RunLog

made, total = 123_456, 1_000_000
metrics = dict.fromkeys(SHOWN, 1234.5678)
shown = SHOWN if sys.argv[2] == "pretraining" else {}
with RunLog(Path(sys.argv[1]), enabled=True, step=made - 40, total=total, shown=shown) as log:
    for step in range(made - 40, made):
        if step % 10 == 0:
            log.log_metrics(step, "train", metrics | {"tokens_per_second": 1_234_567.0, "epoch": 3})
        log.advance()
"""


@pytest.mark.parametrize("stage", ["pretraining", "fine-tuning"])
def test_the_bar_fits_80_columns_with_speed_time_left_and_two_figures(tmp_path, stage):
    (tmp_path / "run").mkdir()
    bars = [line for line in screen_lines(BAR, str(tmp_path / "run"), stage) if "%|" in line]
    assert bars and all(len(line) <= COLUMNS for line in bars), bars
    # A name of fine-tuning that is too long for a second figure leaves the first.
    figures = "loss 1235, gen 1235" if stage == "pretraining" else "loss 1235"
    assert bars[-1].endswith(f" left, 1.23M tokens/s, {figures}") and "\u2588" in bars[-1]
    rest, last = (
        (tmp_path / "run" / "log.txt").read_text(),
        "F1" if stage == "pretraining" else "discriminator_f1",
    )
    assert rest.count("train: loss 1235") == rest.count(f"{last} 1235") == 4
