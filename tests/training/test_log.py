"""Lines are whole and logged once; TensorBoard's own reader finds its curves; a full disk leaves both whole.

Run: pytest tests/training/test_log.py
"""

import json
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from span_electra.training.log import METRICS, EventFile, RunLog, cut_after


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


def test_a_resumed_log_drops_what_lies_beyond_its_checkpoint_and_cut_off_lines(tmp_path):
    path = tmp_path / METRICS
    path.write_text('{"step": 1}\n{"step": 3}\n[]\n{"step": 4}\n{"step": 2}\n{"step": 3')
    cut_after(path, 3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n{"step": 2}\n'
    cut_after(tmp_path / "absent", 3)


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


def test_the_epoch_s_number_has_as_many_digits_as_asked_for(tmp_path, capsys):
    for digits, said in ((1, "epoch 7  "), (3, "epoch 007  ")):
        with RunLog(tmp_path / said, enabled=True, step=0, total=10, epoch_digits=digits) as log:
            log.bar.disable = True
            log.log_metrics(5, "train", {"loss": 2.5, "epoch": 7})
        assert said in capsys.readouterr().err
