"""Intervals of any unit: read, passed, and kept by a run. Run: pytest tests/training/test_cadence.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_examples import small_run, write_rows

from span_electra.config import UNITS, Interval, TrainingConfig, interval
from span_electra.errors import InputError
from span_electra.pretraining.experiment import run_pretraining
from span_electra.training import checkpoint, loop
from span_electra.training.cadence import Progress, passed


def at(value, unit):
    return Progress(**(dict.fromkeys(UNITS, 0) | {unit: value}))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("500", Interval(500, "steps")),
        ("1 epoch", Interval(1, "epochs")),
        ("0.5 epochs", Interval(0.5, "epochs")),
        ("20,000 samples", Interval(20000, "samples")),
        (" 2  evaluations ", Interval(2, "evaluations")),
        ("15 minutes", Interval(15, "minutes")),
        ("0", Interval(0, "steps")),
    ],
)
def test_what_an_interval_means(text, meant):
    assert interval("save_every", text) == meant


@pytest.mark.parametrize("text", ["often", "", "5 apples", "-1", "nan epochs", "inf", "1 2 steps", "epoch"])
def test_what_is_no_interval_is_refused_by_name(text):
    with pytest.raises(InputError, match="save_every"):
        TrainingConfig(save_every=text)


def test_evaluations_do_not_time_themselves():
    with pytest.raises(InputError, match="eval_every"):
        TrainingConfig(eval_every="2 evaluations")


@given(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=40), st.sampled_from(UNITS))
def test_it_passes_as_often_as_its_multiples_are_met_however_the_way_is_cut(number, strides, unit):
    every, place, times = Interval(number, unit), 0, 0
    for stride in strides:
        times += passed(every, at(place, unit), at(place + stride, unit))
        place += stride
    met = {(at_ // number) for at_ in range(place + 1)} - {0}
    assert times <= len(met)
    if max(strides) <= number:
        assert times == len(met) == place // number


@given(st.integers(1, 200), st.integers(1, 50))
def test_shares_of_an_epoch_pass_as_often_as_they_should(steps, times):
    # As `eval_per_epoch` has it: an epoch's share, met by steps that are shares too.
    every = Interval(1 / times, "epochs")
    places = [at(epoch + step / steps, "epochs") for epoch in range(2) for step in range(steps)]
    places.append(at(2.0, "epochs"))
    met = sum(passed(every, before, after) for before, after in zip(places, places[1:], strict=False))
    assert met == 2 * min(times, steps)


def test_none_never_passes():
    assert not any(passed(Interval(0, unit), at(0, unit), at(10**9, unit)) for unit in UNITS)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("features") / "rows.arrow")


def kept(folder):
    return sorted(int(path.name.split("-")[1]) for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("every", "steps"),
    [  # 54 rows in batches of 8: 7 steps an epoch, three epochs
        ("4", [4, 8, 12, 16, 20, 21]),
        ("40 samples", [6, 11, 16, 21]),  # one of the first seven batches is short
        ("1 epoch", [7, 14, 21]),
        ("2 evaluations", [6, 12, 18, 21]),
        ("0", [21]),
    ],
)
def test_checkpoints_come_by_the_interval_and_at_the_end(tmp_path, features, every, steps):
    options = {"save_every": every, "save_last": 99, "save_top_k": 0}
    run_pretraining(small_run(features, tmp_path / "run", eval_every="3", **options))
    assert kept(tmp_path / "run") == steps


def test_minutes_are_those_of_a_clock_that_nobody_sets_back(tmp_path, features, monkeypatch):
    now = [1000.0]

    def clock():
        now[0] += 10.0
        return now[0]

    monkeypatch.setattr(loop.time, "monotonic", clock)
    monkeypatch.setattr(loop.time, "time", lambda: 0.0)
    run_pretraining(small_run(features, tmp_path / "run", save_every="1 minute", save_last=99, save_top_k=0))
    saved = kept(tmp_path / "run")
    assert 3 < len(saved) and saved[-1] == 21
    meta = next(checkpoint.in_run(tmp_path / "run"))
    assert meta.name == "step-00000021"
