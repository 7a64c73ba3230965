"""Which masks hold, and which networks learn, at each step. Run: pytest tests/pretraining/test_course.py"""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_examples import assert_same_end, lines_of, small_run, stop_at, write_rows

from span_electra.config import ModelConfig, OptimizerConfig, TrainingConfig
from span_electra.data_config import LoaderConfig, MaskingConfig, masking_phases
from span_electra.errors import InputError
from span_electra.pretraining.course import (
    NEVER,
    NOTHING,
    Behind,
    Course,
    MaskingSchedule,
    behind,
    course_of,
    describe_course,
    final_masking,
    masking_schedule,
)
from span_electra.pretraining.experiment import run_pretraining
from span_electra.pretraining.settings import PretrainingSettings
from span_electra.training.plan import TICKS

BASE = MaskingConfig(0.2)
FEATURES = MaskingConfig(mask_ratio=0.15, max_span_len=10, geometric_p=0.2)
LATER = ["0: max_span_len=1", "0.5: mask_ratio=0.4"]
THREE = [*LATER, "0.8: mask_ratio=0.1"]


def settings_of(lines=(), model=None, loader=None, **changes) -> PretrainingSettings:
    """Four epochs, but for what is changed of the model's and the training's."""
    return PretrainingSettings(
        model=replace(ModelConfig(), **model or {}),
        optimizer=OptimizerConfig(),
        training=TrainingConfig(**{"epochs": 4} | changes),
        train_loader=LoaderConfig(8, masking_schedule=list(lines), **loader or {}),
        valid_loader=LoaderConfig(8),
        train_features=("never opened",),
        out_dir="never written",
    )


def course(lines=(), count=lambda: 10, **changes) -> Course:
    """The course over 10 batches an epoch."""
    return course_of(settings_of(lines, **changes), count, BASE)


def test_where_nothing_changes_no_batch_is_counted():
    def count():
        raise AssertionError("an epoch was laid out for nothing")

    assert course(count=count) == Course()
    assert not Course().alone_before(0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "steps"), [({}, 40), ({"gradient_accumulation_steps": 3}, 16), ({"max_steps": 12}, 12)]
)
def test_shares_are_of_the_optimizers_steps(changes, steps):
    found = course(LATER, model={"generator_first": 0.25}, **changes)
    assert found.phase_starts == (0, steps // 2, steps // 4)
    assert found.at_epoch(2, 0).first_step == 2 * found.epoch_steps


def test_by_the_clock_shares_are_of_the_time_whatever_the_epoch():
    found = course(LATER, model={"generator_first": 0.25}, by_clock=True, max_minutes=1, epochs=1)
    assert found.phase_starts == (0, TICKS // 2, TICKS // 4)
    assert found.at_epoch(7, 5).first_step == 5
    with pytest.raises(InputError, match="no steps"):
        course(["0: max_span_len=1", "500: mask_ratio=0.4"], by_clock=True, max_minutes=1, epochs=1)


def test_the_discriminator_waits_up_to_its_first_step_and_one_alone_for_ever():
    found = course(model={"generator_first": 0.25})
    assert [found.alone_before(1, step, 0) for step in (-1, 0, 1)] == [True, True, False]
    generator = course(LATER, model={"objective": "generator", "generator_first": 0.25})
    assert generator.alone_until == NEVER and not generator.alone_before(0, 0, 0)


def test_what_a_run_does_when_is_said_in_words():
    model = {"generator_first": 0.25, "next_token_share": 1.0}
    loader = {"spelling_noise": 0.1, "paired_rows": 0.15}
    assert describe_course(settings_of(LATER, model, loader), BASE) == (
        "0: mask_ratio=0.2 max_span_len=1 geometric_p=0.2 whole_words=true; "
        "0.5: mask_ratio=0.4 max_span_len=20 geometric_p=0.2 whole_words=true, "
        "10% of the words misspelt, 15% of the rows made pairs, the generator alone for the first 25%, "
        "alone, 100% of its steps from left to right"
    )
    assert describe_course(settings_of(), BASE) == "as the features have them"


def test_the_masks_that_are_said_are_those_of_the_run_over_any_features():
    said = describe_course(settings_of(THREE), FEATURES).split("; ")
    meant = masking_schedule(masking_phases(THREE), 40, FEATURES)
    others = MaskingConfig(0.3, 7, 0.5, whole_words=False)
    assert masking_schedule(masking_phases(said), 40, others) == meant


def test_held_out_rows_have_the_last_masking_and_no_mask_before_one_was_seen():
    found = course(LATER, model={"generator_first": 0.25, "next_token_share": 1.0})
    held_out = found.for_validation(alone=True)
    assert found.schedule.maskings[found.schedule.phases_of([held_out.first_step])[0]].mask_ratio == 0.4
    assert (held_out.alone_until, held_out.next_token_share) == (NEVER, 1.0)
    assert replace(found, next_token_share=0.75).for_validation(alone=True).next_token_share == 0
    assert found.for_validation(alone=False) == replace(held_out, alone_until=0, next_token_share=0.0)


def test_the_final_masking_is_the_runs_own_or_none():
    assert final_masking(settings_of(LATER), BASE) == replace(BASE, mask_ratio=0.4)
    assert final_masking(settings_of(), BASE) is None


# --- schedules ------------------------------------------------------------------------------------------

LINES = ["0: mask_ratio=0.3 max_span_len=1 whole_words=false", "0.5: max_span_len=3", "800:"]


def test_phases_begin_at_a_share_or_a_step_and_take_the_rest_from_the_features():
    schedule = masking_schedule(masking_phases(LINES), total_steps=1000, base=FEATURES)
    assert schedule.first_steps == (0, 500, 800)
    assert schedule.maskings == (
        MaskingConfig(0.3, 1, 0.2, whole_words=False),
        MaskingConfig(0.15, 3, 0.2),
        FEATURES,
    )
    assert schedule.phases_of(np.array([0, 499, 500, 799, 800, 5000])).tolist() == [0, 0, 1, 1, 2, 2]
    assert schedule.highest_ratio == 0.3


def test_one_masking_holds_all_the_way():
    schedule = MaskingSchedule.constant(FEATURES)
    assert schedule.maskings == (FEATURES,) and schedule.phases_of(np.arange(10)).tolist() == [0] * 10


@pytest.mark.parametrize(
    "lines, words",
    [
        (["0.5: max_span_len=3"], "the first phase begins at 0.5; it must be 0"),
        (["0: max_span_len=3", "0: "], "'0: ' does not begin after"),
        (["0: max_span_len=3", "nan: "], "'nan: ' does not begin after"),
        (["0: longest=3"], "'0: longest=3' is no phase.*max_span_len"),
        (["0: max_span_len"], "is no phase"),
        (["0: whole_words=1"], "is no phase"),
        (
            ["0: mask_ratio=0.7"],
            "masking_schedule: '0: mask_ratio=0.7': mask_ratio: 0.7 is too large; the most",
        ),
        (["0:", "700:", "600:"], "'600:' does not begin after"),
        (["0:", "0.7:", "0.6:"], "'0.6:' does not begin after"),
    ],
)
def test_what_is_no_schedule_is_refused_with_a_way_out(lines, words):
    with pytest.raises(InputError, match=words):
        LoaderConfig(masking_schedule=lines)


@pytest.mark.parametrize("order", [["0.5:", "100:"], ["100:", "0.1:"]], ids=["before", "at once"])
def test_a_step_and_a_share_are_put_in_order_where_all_steps_are_known(order):
    phases = masking_phases(["0: mask_ratio=0.1", *order])
    with pytest.raises(
        InputError, match="masking_schedule: of 1,000 steps, the phase of .* not after the one"
    ):
        masking_schedule(phases, total_steps=1000, base=FEATURES)
    later = masking_schedule(masking_phases(["0:", "100:", "0.5:"]), total_steps=1000, base=FEATURES)
    assert later.first_steps == (0, 100, 500)


def test_shares_that_a_short_run_rounds_to_one_step_are_no_trouble():
    schedule = masking_schedule(masking_phases(["0:", "0.5:", "0.6:"]), total_steps=4, base=FEATURES)
    assert schedule.first_steps == (0, 2, 2) and schedule.phases_of(np.arange(4)).tolist() == [0, 0, 2, 2]


def test_static_masks_have_no_course():
    with pytest.raises(InputError, match="leave out --masking static"):
        LoaderConfig(masking="static", masking_schedule=LINES)


# --- runs that become longer or shorter -----------------------------------------------------------------

ALONE = {"generator_first": 0.25}


def meta_of(settings: PretrainingSettings, found: Course, **loop: int) -> dict:
    """What a checkpoint records that was made so far into the run."""
    loop = {"epoch": 0, "batch": 0, "agreed_seconds": 0} | loop
    parts = {"training": settings.training, "loader": settings.train_loader, "model": settings.model}
    meta = {name: asdict(part) for name, part in parts.items()} | {"course": found.facts, "loop": loop}
    return json.loads(json.dumps(meta))


def gone_on(settings: PretrainingSettings, meta: dict) -> Course:
    return course_of(settings, lambda: 10, BASE, behind(settings, meta, "step-1"))


@given(at=st.integers(1, 40), epochs=st.integers(1, 40), more=st.integers(1, 400))
def test_phases_that_were_left_stay_left_and_a_second_stop_changes_nothing(at, epochs, more):
    short, longer = (settings_of(THREE, model=ALONE, epochs=number) for number in (4, epochs))
    first = course_of(short, lambda: 10, BASE)
    again = gone_on(longer, meta_of(short, first, epoch=at // 10, batch=at % 10))
    steps_N = np.arange(at, at + 400)
    assert (again.schedule.phases_of(steps_N) >= first.schedule.phases_of(np.array([at]))).all()
    assert at <= first.alone_until or again.alone_until <= at
    if epochs == 4:
        assert (again.schedule.phases_of(steps_N) == first.schedule.phases_of(steps_N)).all()
    later = at + more
    third = gone_on(longer, meta_of(longer, again, epoch=later // 10, batch=later % 10))
    steps_N = np.arange(later, later + 400)
    assert (third.schedule.phases_of(steps_N) == again.schedule.phases_of(steps_N)).all()
    assert ((steps_N < third.alone_until) == (steps_N < again.alone_until)).all()
    waits = [[one.alone_before(0, step, 0) for step in steps_N] for one in (third, again)]
    assert waits[0] == waits[1], "held-out rows are seen by the same networks"


@given(minutes=st.integers(1, 10), seconds=st.integers(1, 60))
def test_by_the_clock_too(minutes, seconds):
    clock = {"by_clock": True, "epochs": 1, "model": ALONE}
    short, longer = (settings_of(THREE, max_minutes=number, **clock) for number in (1, minutes))
    first = course_of(short, lambda: 10, BASE)
    again = gone_on(longer, meta_of(short, first, agreed_seconds=seconds))
    reached = int(first.schedule.phases_of(np.array([round(TICKS * seconds / 60)]))[0])
    assert again.schedule.phases_of(np.array([0]))[0] == reached
    assert (again.alone_until == 0) == (seconds > 15)


@pytest.mark.parametrize("each", [5, 20, 10])
def test_with_other_batches_shares_and_steps_are_of_the_steps_that_the_run_makes(each):
    lines = ["0: max_span_len=1", "0.96: mask_ratio=0.4"]
    whole = settings_of(lines, model={"generator_first": 0.9}, epochs=10, max_steps=50)
    meta = meta_of(whole, course_of(whole, lambda: 10, BASE), epoch=2, batch=5)
    for epoch, in_epoch, step in ((2, each // 2, 25), (3, 0, 25 + each - each // 2)):
        # The second time over, as a checkpoint of the run that went on has it.
        found = course_of(whole, lambda: each, BASE, behind(whole, meta, "step-1"))
        assert found.schedule.first_steps == (0, 48) and found.alone_until == 45
        assert abs(found.at_epoch(epoch, 0).first_step + in_epoch - step) <= 1
        assert not found.alone_before(epoch, in_epoch + 47 - step, 0)
        assert found.alone_before(epoch, in_epoch + 44 - step, 0)
        meta = meta_of(whole, found, epoch=3, batch=0)


def test_a_longer_run_with_other_batches_ends_with_its_epochs():
    short = settings_of(THREE)
    meta = meta_of(short, course_of(short, lambda: 10, BASE), epoch=1)
    longer = replace(short, training=TrainingConfig(epochs=5))
    again = course_of(longer, lambda: 20, BASE, behind(short, meta, "step-1"))
    assert again.schedule.first_steps == (0, 45, 72), "of 90 steps: 10 made, 4 epochs of 20 to come"
    assert again.at_epoch(5, 0).first_step == 90


def test_what_is_asked_for_anew_holds_and_older_checkpoints_have_left_nothing():
    short = settings_of(THREE, model=ALONE)
    meta, made = meta_of(short, course_of(short, lambda: 10, BASE), epoch=4), (10, 40)
    assert behind(short, meta, "step-1") == Behind(2, True, *made)
    assert behind(settings_of(LATER, model=ALONE), meta, "step-1") == Behind(0, True, *made)
    other_share = settings_of(THREE, model={"generator_first": 0.5})
    assert behind(other_share, meta, "step-1") == Behind(2, False, *made)
    assert behind(short, {key: meta[key] for key in meta if key != "course"}, "step-1") == NOTHING
    with pytest.raises(InputError, match="step-1: its meta.json holds no course of ours"):
        behind(short, meta | {"course": {"epoch_steps": 1}}, "step-1")
    said = describe_course(short, BASE, Behind(2, True))
    assert "whole_words=true (2 phases over), the generator alone for the first 25% (over)" in said


def test_a_run_that_becomes_longer_never_has_the_generator_alone_again(tmp_path, monkeypatch, capfd):
    features = write_rows(tmp_path / "rows.arrow")

    def run(name, resume=None, epochs=9):
        settings = small_run(features, tmp_path / name, epochs=epochs, resume=resume, log_steps=1)
        return run_pretraining(replace(settings, model=replace(settings.model, generator_first=0.5)))

    for name in "ab":
        run(name, epochs=3)  # 21 steps, of which 10 alone; in 9 epochs it would be 32
    straight = run("a", resume=tmp_path / "a")
    assert "the generator alone for the first 50% (over)" in capfd.readouterr().err
    joint = ["discriminator_loss" in line for line in lines_of(tmp_path / "a") if line["split"] == "train"]
    assert joint == [False] * 10 + [True] * 53
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        stopped = run("b", resume=tmp_path / "b")
    assert stopped.step == 25
    assert_same_end(straight, run("b", resume=tmp_path / "b"))
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")
