"""Numbers are read late and in order, and a run that reads late logs, stops and goes on as any other.

Run: pytest tests/training/test_readback.py
"""

import pytest
import torch
from run_examples import assert_same_end, break_losses, lines_of, small_run, stop_at, write_rows

from span_electra.errors import InputError
from span_electra.pretraining.experiment import run_pretraining
from span_electra.training import readback
from span_electra.training.log import RunLog
from span_electra.training.readback import Readback


@pytest.fixture
def late(monkeypatch):
    """The CPU reads as late as a GPU does."""
    monkeypatch.setitem(readback.LATE, "cpu", 10)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("features") / "rows.arrow")


def test_numbers_are_those_of_their_step_and_come_when_nobody_has_to_wait(late):
    numbers, seen = torch.zeros(2), []
    back = Readback(torch.device("cpu"))
    for step in range(15):
        numbers += 1
        back.ask(step, numbers, lambda copy, step=step: seen.append((step, copy.tolist())))
        assert len(seen) == max(0, step - 9)
    back.finish()
    assert seen == [(step, [step + 1.0] * 2) for step in range(15)]


def test_where_copies_wait_anyway_a_number_is_read_at_once():
    seen = []
    Readback(torch.device("cpu")).ask(7, torch.ones(()), seen.append)
    assert [float(number) for number in seen] == [1.0]


def test_a_run_that_reads_late_writes_the_lines_of_one_that_does_not(features, tmp_path, monkeypatch):
    straight = run_pretraining(small_run(features, tmp_path / "a"))
    monkeypatch.setitem(readback.LATE, "cpu", 10)
    late = run_pretraining(small_run(features, tmp_path / "b"))
    assert_same_end(straight, late)
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")
    with monkeypatch.context() as patch:
        stop_at(patch, 9)
        run_pretraining(small_run(features, tmp_path / "c"))
    resumed = run_pretraining(small_run(features, tmp_path / "c", resume=tmp_path / "c"))
    assert_same_end(straight, resumed)
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "c")


def test_losses_that_stay_not_finite_end_the_run_ten_steps_after_the_tenth(
    features, tmp_path, monkeypatch, late
):
    made = []
    monkeypatch.setattr(RunLog, "advance", lambda log: made.append(1))
    break_losses(monkeypatch, set(range(8, 1000)))
    with pytest.raises(InputError, match=r"steps 8 to 17: losses .* not finite 10 times in a row \(rows \d"):
        run_pretraining(small_run(features, tmp_path / "run", epochs=9, eval_every="0", save_every="0"))
    assert 17 <= len(made) <= 27
