"""Which masks hold, and which networks learn, at each step. Run: pytest tests/pretraining/test_course.py"""

from dataclasses import replace

import pytest

from span_electra.config import LoaderConfig, MaskingConfig, ModelConfig, OptimizerConfig, TrainingConfig
from span_electra.errors import InputError
from span_electra.pretraining.course import NEVER, Course, course_of, describe_course, last_law
from span_electra.pretraining.settings import PretrainingSettings
from span_electra.training.plan import PARTS

BASE = MaskingConfig(0.2)
LATER = ["0: max_span_len=1", "0.5: mask_ratio=0.4"]


def settings_of(lines=(), model=None, noise=0.0, **changes) -> PretrainingSettings:
    """Four epochs, but for what is changed of the model's and the training's."""
    return PretrainingSettings(
        model=replace(ModelConfig(), **model or {}),
        optimizer=OptimizerConfig(),
        training=TrainingConfig(**{"epochs": 4} | changes),
        train_loader=LoaderConfig(8, masking_schedule=list(lines), spelling_noise=noise),
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
    assert found.turns == (0, steps // 2, steps // 4)
    assert found.training(2, 0)["first_step"] == 2 * found.epoch_steps


def test_by_the_clock_shares_are_of_the_time_whatever_the_epoch():
    found = course(LATER, model={"generator_first": 0.25}, by_clock=True, max_minutes=1, epochs=1)
    assert found.turns == (0, PARTS // 2, PARTS // 4)
    assert found.training(7, 5)["first_step"] == 5
    with pytest.raises(InputError, match="no steps"):
        course(["0: max_span_len=1", "500: mask_ratio=0.4"], by_clock=True, max_minutes=1, epochs=1)


def test_the_discriminator_waits_up_to_its_first_step_and_one_alone_for_ever():
    found = course(model={"generator_first": 0.25})
    assert [found.alone_before(1, step, 0) for step in (-1, 0, 1)] == [True, True, False]
    generator = course(LATER, model={"objective": "generator", "generator_first": 0.25})
    assert generator.alone_until == NEVER and not generator.alone_before(0, 0, 0)


def test_what_a_run_does_when_is_said_in_words():
    tiny = settings_of(LATER, model={"generator_first": 0.25, "next_token_share": 1.0}, noise=0.1)
    assert describe_course(tiny) == (
        "0: max_span_len=1; 0.5: mask_ratio=0.4, 10% of the words misspelt, "
        "the generator alone for the first 25%, alone, 100% of its steps from left to right"
    )
    assert describe_course(settings_of()) == "as the features have them"


def test_held_out_rows_have_the_last_law_and_no_mask_before_one_was_seen():
    found = course(LATER, model={"generator_first": 0.25, "next_token_share": 1.0})
    told = found.validation(alone=True)
    assert found.schedule.laws[found.schedule.phases_of([told["first_step"]])[0]].mask_ratio == 0.4
    assert (told["alone_until"], told["next_token_share"]) == (NEVER, 1.0)
    assert replace(found, next_token_share=0.75).validation(alone=True)["next_token_share"] == 0
    assert "alone_until" not in found.validation(alone=False)


def test_the_last_law_is_the_runs_own_or_none():
    assert last_law(settings_of(LATER), BASE) == replace(BASE, mask_ratio=0.4)
    assert last_law(settings_of(), BASE) is None
