"""Where the time goes: parts add up to the whole. Run: pytest tests/training/test_clock.py"""

import pytest
import torch

from span_electra.training import clock
from span_electra.training.clock import Clock, matrix_peak
from span_electra.training.devices import Process


@pytest.fixture
def hands(monkeypatch):
    """The clock's hands: a list whose only number is the time."""
    now = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    return now


def test_parts_add_up_to_all_the_time_that_went_by(hands):
    watch = Clock()
    hands[0] += 1.0  # a step
    with watch.part("saving"):
        hands[0] += 3.0
    hands[0] += 1.5
    with watch.part("saving"):
        hands[0] += 0.25
    assert watch.take() == {"saving": 3.25, "step": 2.5}
    hands[0] += 2.0
    assert watch.take() == {"step": 2.0}, "what was taken is not counted again"


def test_the_time_until_an_item_is_there_counts_for_its_part_and_hands_everything_on(hands):
    def slow():
        for number in range(3):
            hands[0] += 10.0
            yield number

    watch, got = Clock(), []
    for number in watch.timed("data", slow()):
        hands[0] += 1.0
        got.append(number)
    assert got == [0, 1, 2]
    assert watch.take() == {"data": 30.0, "step": 3.0}


def test_a_part_that_raises_is_counted_too(hands):
    watch = Clock()
    with pytest.raises(KeyError), watch.part("report"):
        hands[0] += 4.0
        raise KeyError
    assert watch.take()["report"] == 4.0


def test_the_peak_is_that_of_a_processor():
    peak = matrix_peak(Process(torch.device("cpu")))
    assert 1e8 < peak < 1e15
