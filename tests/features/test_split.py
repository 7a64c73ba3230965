"""Rows held out. Run: pytest tests/features/test_split.py"""

import pytest

from span_electra.errors import InputError
from span_electra.features.split import train_valid_split


@pytest.mark.parametrize("valid, held", [(0.0, 0), (0.1, 10), (0.001, 1), (7, 7)])
def test_validation_rows_are_chosen_by_seed_and_never_none_if_asked(valid, held):
    train, valid_rows = train_valid_split(100, valid=valid, seed=3)
    assert len(valid_rows) == held
    assert sorted([*train, *valid_rows]) == list(range(100))
    again = train_valid_split(100, valid=valid, seed=3)[1]
    assert valid_rows.tolist() == again.tolist()
    if held > 1:
        assert train_valid_split(100, valid=valid, seed=4)[1].tolist() != valid_rows.tolist()


def test_a_limit_takes_the_first_rows_and_a_split_of_everything_is_refused():
    assert train_valid_split(100, limit=9)[0].tolist() == list(range(9))
    for total, valid in ((5, 5), (1, 0.02)):
        way_out = (
            f"^a.arrow: has {total} rows?, and valid_split {valid} holds {total} out; give --valid_split 0"
        )
        with pytest.raises(InputError, match=way_out):
            train_valid_split(total, valid=valid, source="a.arrow")
