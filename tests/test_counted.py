"""Numbers of things. Run: pytest tests/test_counted.py"""

from span_electra.counted import Notes, counted


def test_one_is_one_and_none_are_many():
    assert [counted(number, "row") for number in (0, 1, 2, 1200)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "1,200 rows",
    ]
    assert [counted(number, "batch", "batches") for number in (1, 3)] == ["1 batch", "3 batches"]


def test_what_files_have_in_common_is_said_in_one_line():
    notes = Notes()
    assert notes.lines() == ()
    for number in range(1203):
        notes.add(f"{number}.json", "one JSON document")
        if number < 2:
            notes.add(f"{number}.txt", "empty")
    notes.add("a", "a link")
    assert notes.lines() == (
        "0.json, 1.json, 2.json and 1,200 more: one JSON document",
        "0.txt, 1.txt: empty",
        "a: a link",
    )
