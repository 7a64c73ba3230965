"""Which law of spans holds at which step. Run: pytest tests/features/test_schedule.py"""

import numpy as np
import pytest

from span_electra.config import LoaderConfig, MaskingConfig, masking_phases
from span_electra.errors import InputError
from span_electra.features.schedule import masking_schedule

LINES = ["0: mask_ratio=0.3 max_span_len=1 whole_words=false", "0.5: max_span_len=3", "800:"]
BASE = MaskingConfig(mask_ratio=0.15, max_span_len=10, geometric_p=0.2)


def test_phases_begin_at_a_share_or_a_step_and_take_the_rest_from_the_features():
    schedule = masking_schedule(masking_phases(LINES), total_steps=1000, base=BASE)
    assert schedule.first_steps == (0, 500, 800)
    assert schedule.maskings == (
        MaskingConfig(0.3, 1, 0.2, whole_words=False),
        MaskingConfig(0.15, 3, 0.2),
        BASE,
    )
    assert schedule.phases_of(np.array([0, 499, 500, 799, 800, 5000])).tolist() == [0, 0, 1, 1, 2, 2]
    assert schedule.highest_ratio == 0.3


def test_without_phases_the_features_law_holds_all_the_way():
    schedule = masking_schedule((), total_steps=10, base=BASE)
    assert schedule.maskings == (BASE,) and schedule.phases_of(np.arange(10)).tolist() == [0] * 10


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
        masking_schedule(phases, total_steps=1000, base=BASE)
    later = masking_schedule(masking_phases(["0:", "100:", "0.5:"]), total_steps=1000, base=BASE)
    assert later.first_steps == (0, 100, 500)


def test_shares_that_a_short_run_rounds_to_one_step_are_no_trouble():
    schedule = masking_schedule(masking_phases(["0:", "0.5:", "0.6:"]), total_steps=4, base=BASE)
    assert schedule.first_steps == (0, 2, 2) and schedule.phases_of(np.arange(4)).tolist() == [0, 0, 2, 2]


def test_static_masks_have_no_course():
    with pytest.raises(InputError, match="leave out --masking static"):
        LoaderConfig(masking="static", masking_schedule=LINES)
