"""Where a run stands is read from checkpoints of every release; schedules may follow the clock.

Intervals of any unit are read, passed, and kept by a run.

Run: pytest tests/training/test_plan.py
"""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_examples import lines_of, small_run, stop_at, write_rows

from span_electra.config import UNITS, Interval, OptimizerConfig, TrainingConfig, interval
from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.pretraining.experiment import run_pretraining
from span_electra.training import checkpoint, loop
from span_electra.training.plan import LoopState, Progress, check_by_clock, is_due


def test_a_state_saved_by_an_earlier_release_is_read_under_its_former_names():
    saved = {"step": 3, "agreed": 7, "told_at": 1.5, "untried": True, "told": ["topic"]}
    state = LoopState.from_dict(saved)
    assert (state.step, state.agreed_seconds, state.logged_at) == (3, 7, 1.5)
    assert state.validation_due and state.warned == ["topic"]
    assert LoopState.from_dict(asdict(state)) == state
    with pytest.raises(TypeError):
        LoopState.from_dict({"mood": "good"})


# --- by the clock ---------------------------------------------------------------------------------------


@pytest.fixture
def ticking(monkeypatch):
    """A clock that goes on by a twentieth of a second whenever somebody looks at it."""
    now = [0.0]

    def clock():
        now[0] += 0.05
        return now[0]

    monkeypatch.setattr(loop.time, "monotonic", clock)


def clock_run(features, folder, minutes=0.5, **more):
    """A run of half a minute whose discriminator begins at its half."""
    optimizer = OptimizerConfig(lr=1.0, schedule="linear", warmup=0.2, max_gradient_norm=0.01)
    options = {"by_clock": True, "max_minutes": minutes, "epochs": 1, "log_steps": 1} | more
    loader = LoaderConfig(8, masking_schedule=["0: max_span_len=1", "0.7: mask_ratio=0.4"])
    settings = small_run(features, folder, optimizer=optimizer, loader=loader, **options)
    return replace(settings, model=replace(settings.model, generator_first=0.5))


def test_a_schedule_by_the_clock_ends_with_the_time(tmp_path, ticking, monkeypatch):
    features = write_rows(tmp_path / "rows.arrow")
    ratios, honest = [], loop.train_step

    def watched(experiment, network, group, **rest):
        rows, width = group[0].original_BL.shape
        if width >= 10:  # of shorter rows one token is masked either way
            ratios.append(float(group[0].masked_total / (group[0].token_total - 2 * rows)))
        honest(experiment, network, group, **rest)

    monkeypatch.setattr(loop, "train_step", watched)
    result = run_pretraining(clock_run(features, tmp_path / "run"))
    lines = [line for line in lines_of(tmp_path / "run") if line["split"] == "train"]
    rates = [line["lr"] for line in lines]
    assert result.state == "finished" and lines[-1]["epoch"] > 1
    peak = rates.index(max(rates))
    assert rates[0] < 0.1 and max(rates) > 0.9 and rates[-1] < 0.1
    assert 0.1 < peak / len(rates) < 0.3  # warm-up: a fifth of the time, in which steps come evenly
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    joint = ["discriminator_loss" in line for line in lines]
    assert joint == sorted(joint) and 0.4 < joint.index(True) / len(joint) < 0.6
    masked = [ratio > 0.3 for ratio in ratios]
    assert masked == sorted(masked) and 0.6 < masked.index(True) / len(masked) < 0.8


def test_a_run_by_the_clock_that_was_stopped_has_the_rest_of_its_time(tmp_path, ticking, monkeypatch):
    features = write_rows(tmp_path / "rows.arrow")
    with monkeypatch.context() as patch:
        stop_at(patch, 12)
        stopped = run_pretraining(clock_run(features, tmp_path / "run"))
    assert stopped.state == "stopped"
    used = checkpoint.read_meta(Path(stopped.checkpoint))["loop"]["agreed_seconds"]
    settings = replace(clock_run(features, tmp_path / "run"), resume_from=str(tmp_path / "run"))
    resumed = run_pretraining(settings)
    whole = checkpoint.read_meta(Path(resumed.checkpoint))["loop"]["agreed_seconds"]
    assert resumed.state == "finished" and 0 < used < 20 and 30 <= whole < 33
    rates = [line["lr"] for line in lines_of(tmp_path / "run") if "lr" in line]
    assert rates[-1] < 0.1 and len(rates) > 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "by_clock: give max_minutes"),
        ({"max_minutes": 1.0, "epochs": 2}, "leave epochs and max_steps out"),
        ({"max_minutes": 1.0, "max_steps": 2}, "leave epochs and max_steps out"),
    ],
)
def test_the_clock_decides_alone(settings, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(by_clock=True, **settings)


def test_steps_have_no_place_in_a_schedule_by_the_clock():
    config = TrainingConfig(by_clock=True, max_minutes=1.0)
    check_by_clock(config, OptimizerConfig(warmup=1.0, decay=50))  # linear has no decay of its own
    for optimizer in (OptimizerConfig(warmup=50), OptimizerConfig(schedule="wsd", decay=50)):
        with pytest.raises(InputError, match="50 steps, but by_clock knows shares of the time"):
            check_by_clock(config, optimizer)


# --- intervals ------------------------------------------------------------------------------------------


def at(value, unit):
    return Progress(**(dict.fromkeys(UNITS, 0) | {unit: value}))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("500", Interval(500, "steps")),
        ("1 epoch", Interval(1, "epochs")),
        ("0.5 epochs", Interval(0.5, "epochs")),
        ("20,000 samples", Interval(20000, "samples")),
        ("1,000,000.5 samples", Interval(1000000.5, "samples")),
        (" 2  evaluations ", Interval(2, "evaluations")),
        ("15 minutes", Interval(15, "minutes")),
        ("0", Interval(0, "steps")),
    ],
)
def test_what_an_interval_means(text, meant):
    assert interval("save_every", text) == meant


@pytest.mark.parametrize(
    "text",
    ["often", "", "5 apples", "-1", "nan epochs", "inf", "1 2 steps", "epoch", "0,5 epochs", "0,500"],
)
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
        times += is_due(every, at(place, unit), at(place + stride, unit))
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
    met = sum(is_due(every, before, after) for before, after in zip(places, places[1:], strict=False))
    assert met == 2 * min(times, steps)


def test_none_never_passes():
    assert not any(is_due(Interval(0, unit), at(0, unit), at(10**9, unit)) for unit in UNITS)


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
