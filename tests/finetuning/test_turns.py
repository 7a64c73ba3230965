"""Laws of a conversation's row: newest turns, one separator a turn, types counted from the end.

Run: pytest tests/finetuning/test_turns.py
"""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from span_electra.errors import InputError
from span_electra.finetuning.turns import OWN_VOICE, join_turns, never_said, newest_whole

SEP = 1
TURNS = st.lists(st.lists(st.integers(2, 99), max_size=6), max_size=7)
LENGTHS = st.integers(3, 40)


def whole(turns):
    """All turns with their separators, however long."""
    return [SEP, *(token for turn in turns for token in [*turn, SEP])]


def test_worked_example():
    closed = join_turns([[4], [5, 6], [7], [8]], SEP, longest=7)
    assert (closed.ids, closed.types) == ([1, 6, 1, 7, 1, 8, 1], [1, 1, 0, 0, 1, 1, 0])
    open_ended = join_turns([[4], [5, 6], [7], [8]], SEP, longest=7, open_ended=True)
    assert (open_ended.ids, open_ended.types) == ([1, 6, 1, 7, 1, 8, 1], [0, 0, 1, 1, 0, 0, 1])


def test_a_last_turn_too_long_keeps_its_newest_tokens_and_stands_alone():
    row = join_turns([[2], [3, 4, 5, 6, 7]], SEP, longest=5)
    assert (row.ids, row.types) == ([1, 5, 6, 7, 1], [1, 1, 1, 1, 0])


def test_older_short_turns_do_not_jump_over_a_long_one():
    assert join_turns([[2], [3] * 9, [4]], SEP, longest=7).ids == [1, 3, 3, 3, 1, 4, 1]
    assert newest_whole([[2], [3] * 9, [4]], longest=7) == [[4]]


def test_a_talk_may_begin_with_nothing():
    row = join_turns([], SEP, longest=3, open_ended=True)
    assert (row.ids, row.types) == ([SEP], [OWN_VOICE])


def test_a_row_without_room_is_refused():
    with pytest.raises(InputError, match="longest: 2 tokens .* give 3 or more"):
        join_turns([[2]], SEP, longest=2)


@given(TURNS, LENGTHS, st.booleans())
def test_ids_are_the_newest_of_all_turns_behind_a_separator(turns, longest, open_ended):
    row = join_turns(turns, SEP, longest, open_ended)
    assert len(row.ids) == len(row.types) <= longest
    assert row.ids == [SEP, *whole(turns)[1:][-(longest - 1) :]]


@given(TURNS, LENGTHS)
def test_whole_turns_are_the_newest_that_fit_and_the_last_in_any_case(turns, longest):
    kept = newest_whole(turns, longest)
    assert kept == turns[len(turns) - len(kept) :] and bool(kept) == bool(turns)
    assert len(whole(kept)) <= longest or len(kept) == 1
    if len(kept) < len(turns):
        assert len(whole(turns[-len(kept) - 1 :])) > longest, "one more turn would have fitted"


@given(TURNS, st.booleans())
def test_nothing_is_lost_when_it_fits(turns, open_ended):
    fitting = max(3, len(whole(turns)))
    row = join_turns(turns, SEP, fitting, open_ended)
    assert row.ids == whole(turns)


@given(TURNS, LENGTHS, st.booleans())
def test_types_alternate_at_each_separator_and_the_last_turn_has_our_voice(turns, longest, open_ended):
    row = join_turns(turns, SEP, longest, open_ended)
    for place in range(1, len(row.ids)):
        changes = row.types[place] != row.types[place - 1]
        assert changes == (row.ids[place] == SEP), "a separator opens the next turn"
    # The last separator is the turn's that comes next: ours, or another's after our last.
    assert row.types[-1] == (OWN_VOICE if open_ended else 1 - OWN_VOICE)


@given(TURNS, st.lists(st.integers(2, 99), max_size=6))
def test_talk_and_training_lay_out_alike(turns, answer):
    asked = join_turns(turns, SEP, 99, open_ended=True)
    trained = join_turns([*turns, answer], SEP, 99)
    assert [*asked.ids, *answer] == trained.ids[:-1]
    assert [*asked.types, *[OWN_VOICE] * len(answer)] == trained.types[:-1]


@pytest.mark.parametrize("shared", ["cls_id", "pad_id", "mask_id", "unk_id", None])
def test_a_reply_holds_nothing_that_no_turn_held_and_can_end(shared):
    """One token may have several roles, the separator's among them; tables may have more rows than tokens."""
    ids = {"cls_id": 0, "pad_id": 2, "mask_id": 4, "unk_id": 1, "sep_id": 3}
    vocabulary = SimpleNamespace(size=38, **ids | ({shared: 3} if shared else {}))
    unsaid = {number for name, number in ids.items() if name not in ("sep_id", shared)} | {38, 39}
    assert never_said(vocabulary, 40) == sorted(unsaid)
