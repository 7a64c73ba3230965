"""Laws of the score tables: every number of the JSON is in exactly one cell.

Run: pytest tests/report/test_scores.py
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from span_electra.report.scores import MOST_ROWS, cell, tables_of


def test_alike_mappings_are_rows_of_one_table():
    (table,) = tables_of({"BLiMP": {"a": {"accuracy": 0.71, "pairs": 900}, "b": {"accuracy": 0.6}}})
    assert table.title == "BLiMP" and table.columns == ("", "accuracy", "pairs")
    assert table.rows == (("a", "0.710", "900"), ("b", "0.600", ""))


def test_unlike_mappings_stand_alone():
    spelling, held_out = tables_of({"spelling": {"f1": 0.5}, "held_out": {"loss": 3.25}})
    assert spelling.rows == (("f1", "0.500"),) and held_out.rows == (("loss", "3.250"),)
    assert [table.title for table in (spelling, held_out)] == ["spelling", "held_out"]


def test_intervals_and_odd_values_are_cells():
    assert cell([0.1, 0.25]) == "0.100 to 0.250" and cell(None) == "–" and cell(12000) == "12,000"
    assert cell("x" * 400).endswith("…") and cell(True) == "True"
    assert tables_of(None) == [] and tables_of({}) == [] and tables_of(3)[0].rows == (("value", "3"),)


def test_long_tables_are_cut_and_say_so():
    (table,) = tables_of({str(number): {"f1": number} for number in range(MOST_ROWS + 5)})
    assert len(table.rows) == MOST_ROWS and table.left_off == 5


NUMBERS = st.integers(1000000, 9000000)
NESTED = st.recursive(
    NUMBERS, lambda inner: st.dictionaries(st.text("abc", min_size=1), inner, max_size=4), max_leaves=12
)


def leaves(value):
    return (
        [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]
    )


@settings(deadline=None)
@given(NESTED)
def test_no_number_is_lost_or_doubled(value):
    cells = [text for table in tables_of(value) for row in table.rows for text in row[1:] if text]
    assert sorted(cells) == sorted(f"{number:,}" for number in leaves(value))
