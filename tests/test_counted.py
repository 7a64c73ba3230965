"""Numbers of things. Run: pytest tests/test_counted.py"""

from span_electra.counted import counted


def test_one_is_one_and_none_are_many():
    assert [counted(number, "row") for number in (0, 1, 2, 1200)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "1,200 rows",
    ]
    assert [counted(number, "batch", "batches") for number in (1, 3)] == ["1 batch", "3 batches"]
