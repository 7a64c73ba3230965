"""Prepared data as a folder. Run: pytest tests/finetuning/test_prepared.py"""

import json
from dataclasses import replace

import pytest

from span_electra.errors import InputError
from span_electra.finetuning.prepared import (
    MARK,
    Prepared,
    PreparedTask,
    is_prepared,
    open_prepared,
    write_mark,
)

FULL = PreparedTask(
    labels=("no", "yes"),
    rows={"train": 9, "dev": 2},
    key="f00",
    cut={"train": 1, "dev": 0},
    only_label="no",
    settings={"limit": 0},
    noted={"quotes": 2},
    paired=False,
)


def prepared(folder, **tasks):
    return Prepared(folder, "data", "abc", max_seq_len=32, lowercase=True, tasks=tasks)


def test_the_mark_holds_tables_by_task(tmp_path):
    write_mark(prepared(tmp_path, a=FULL, b=PreparedTask((), {"train": 3}, cut={}, settings={}, noted={})))
    assert json.loads((tmp_path / MARK).read_text()) == {
        "span_electra_prepared": 1,
        "data_dir": "data",
        "vocabulary_sha256": "abc",
        "max_seq_len": 32,
        "lowercase": True,
        "labels": {"a": ["no", "yes"], "b": []},
        "rows": {"a": {"train": 9, "dev": 2}, "b": {"train": 3}},
        "keys": {"a": "f00"},
        "cut": {"a": {"train": 1, "dev": 0}, "b": {}},
        "only_label": {"a": "no"},
        "settings": {"a": {"limit": 0}, "b": {}},
        "noted": {"a": {"quotes": 2}, "b": {}},
        "paired": {"a": False},
    }


@pytest.mark.parametrize(
    "tasks",
    [{}, {"a": FULL}, {"a": FULL, "b": replace(FULL, key=None, only_label=None, paired=None)}],
)
def test_what_is_written_is_read(tasks, tmp_path):
    made = prepared(tmp_path, **tasks)
    assert not is_prepared(tmp_path)
    write_mark(made)
    assert is_prepared(tmp_path) and open_prepared(tmp_path) == made


def test_a_task_without_a_key_is_not_held(tmp_path):
    made = prepared(tmp_path, a=FULL, b=replace(FULL, key=None))
    assert (made.key("a"), made.key("b"), made.key("c")) == ("f00", None, None)
    assert made.path("a", "test") is None and not made.holds("a", "f00"), "its rows are not there"
    (tmp_path / "a").mkdir()
    for split in FULL.rows:
        made.path("a", split).touch()
    assert made.holds("a", "f00") and not made.holds("a", "f01") and not made.holds("c", "f00")


@pytest.mark.parametrize("table", ["labels", "rows", "cut", "settings", "noted"])
def test_a_task_that_a_table_lacks_is_no_sound_mark(table, tmp_path):
    write_mark(prepared(tmp_path, a=FULL))
    described = json.loads((tmp_path / MARK).read_text())
    del described[table]["a"]
    (tmp_path / MARK).write_text(json.dumps(described))
    with pytest.raises(InputError, match="prepared.json: no prepared data of ours .*; remove the folder"):
        open_prepared(tmp_path)
