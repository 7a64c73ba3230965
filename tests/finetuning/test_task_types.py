"""The record of each type of task holds together. Run: pytest tests/finetuning/test_task_types.py"""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_examples import sentences, settings_of
from task_examples import write

from span_electra.finetuning import readers, task_types
from span_electra.finetuning.metrics import METRICS
from span_electra.finetuning.readers import READERS, Example
from span_electra.finetuning.rows import read_lines
from span_electra.finetuning.stage import finetune
from span_electra.finetuning.task_types import MOST_CLASSES, RECORDS, TASK_TYPES
from span_electra.hub.architectures import ARCHITECTURES
from span_electra.model.multi_task import HEAD_KINDS


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_all_that_a_record_names_is_there(record):
    assert TASK_TYPES[record.name] is record
    assert record.head in HEAD_KINDS and record.reader in READERS
    for architecture in ARCHITECTURES.values():  # or its decoder's, of a causal head
        heads = architecture.heads | (architecture.decoder.heads if architecture.decoder else {})
        assert record.stock_head in heads
    assert record.metrics and set(record.metrics) <= set(METRICS)
    # Stock sequence classes choose their loss by the problem's type, the others have but one.
    assert (record.problem_type is not None) == (record.stock_head == "sequence")


def test_every_head_reader_and_metric_is_of_some_type():
    assert {record.head for record in RECORDS} == set(HEAD_KINDS)
    assert {record.reader for record in RECORDS} == set(READERS)
    assert {name for record in RECORDS for name in record.metrics} == set(METRICS)


CHOICES = ["ResponseSelection", "ResponseRetrieval"]


def test_what_follows_from_a_record():
    assert [record.name for record in RECORDS if record.by_word] == ["NER", "SpellingWords"]
    assert [record.name for record in RECORDS if record.in_turns] == [*CHOICES, "Conversation"]
    assert [record.name for record in RECORDS if record.has_candidates] == CHOICES
    assert [record.name for record in RECORDS if record.compares_vectors] == ["ResponseRetrieval"]
    assert [record.name for record in RECORDS if record.is_conversation] == ["Conversation"]
    several = TASK_TYPES["MultiLabelClassification"]
    assert several.takes_pairs and several.named_labels and several.class_range == (2, MOST_CLASSES)
    assert (
        TASK_TYPES["SpellingWords"].class_range == (2, 2) and TASK_TYPES["Conversation"].class_range is None
    )


@pytest.mark.parametrize("room", ["finetuning", "inference", "evaluation", "report"])
def test_what_a_record_answers_is_asked_of_it(room):
    """`is_conversation`, not `head == "language"`: what that head means stands once."""
    package = Path(task_types.__file__).parents[1]
    asked = re.compile(r"""(==|!=|\bin) *[(\[{]?[^)\]}\n]*["'](language|similarity)["']""")
    for path in package.joinpath(room).rglob("*.py"):
        if path != Path(task_types.__file__):
            assert not asked.search(path.read_text(encoding="utf-8")), path


def test_outputs_of_heads():
    found = {name: record.outputs(("a", "b", "c")) for name, record in TASK_TYPES.items()}
    assert found == {
        "SingleSenClassification": 3,
        "SentencePairClassification": 3,
        "NER": 3,
        "MultiLabelClassification": 3,
        "Regression": 1,
        "ResponseSelection": 1,
        "ResponseRetrieval": 0,
        "Conversation": 0,
        "SpellingWords": 1,
        "SpellingSequence": 3,
    }


def test_one_more_type_is_a_record_and_its_reader(tmp_path, monkeypatch):
    """Of a file with `points|text` a line, from the task file to the export."""

    def read_points(reading):
        for number, line in read_lines(reading.path):
            points, text = line.split("|")
            yield Example(str(number), (text,), None, points)

    record = replace(TASK_TYPES["Regression"], name="Points", reader="points", inputs="text")
    monkeypatch.setitem(TASK_TYPES, "Points", record)
    monkeypatch.setitem(readers.READERS, "points", read_points)
    monkeypatch.chdir(tmp_path)
    for split in ("train", "dev"):
        lines = [f"{len(text.split())}|{text}\n" for text in sentences(seed=len(split))]
        write(tmp_path / "data", f"t/{split}.txt", "".join(lines))
    task = {"task_type": "Points", "file_names": {s: f"t/{s}.txt" for s in ("train", "dev")}}
    assert finetune(settings_of(tmp_path, {"t": task}, epochs=1)) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert math.isfinite(results["t"]["dev"]["pearson"])
    exported = json.loads((tmp_path / "run/exported/t/config.json").read_text())
    assert exported["problem_type"] == "regression" and exported["span_electra"]["task_type"] == "Points"
