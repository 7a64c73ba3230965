"""The record of each type of task holds together. Run: pytest tests/finetuning/test_task_types.py"""

import pytest

from span_electra.finetuning.export import HEAD_OF
from span_electra.finetuning.metrics import METRICS
from span_electra.finetuning.readers import READERS
from span_electra.finetuning.task_types import MOST_CLASSES, TASK_TYPES
from span_electra.hub.architectures import ARCHITECTURES
from span_electra.model.multi_task import KINDS

RECORDS = list(TASK_TYPES.values())


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_all_that_a_record_names_is_there(record):
    assert TASK_TYPES[record.name] is record
    assert record.head in KINDS and record.reader in READERS
    for architecture in ARCHITECTURES.values():  # or its decoder's, of a causal head
        heads = architecture.heads | (architecture.decoder.heads if architecture.decoder else {})
        assert HEAD_OF.get(record.stock_head, record.stock_head) in heads
    assert record.metrics and set(record.metrics) <= set(METRICS)
    # Stock sequence classes choose their loss by the problem's type, the others have but one.
    assert (record.problem_type is not None) == (record.stock_head == "sequence")


def test_every_head_reader_and_metric_is_of_some_type():
    assert {record.head for record in RECORDS} == set(KINDS)
    assert {record.reader for record in RECORDS} == set(READERS)
    assert {name for record in RECORDS for name in record.metrics} == set(METRICS)


def test_what_follows_from_a_record():
    assert [record.name for record in RECORDS if record.by_word] == ["NER", "SpellingWords"]
    assert [record.name for record in RECORDS if record.in_turns] == ["ResponseSelection", "Conversation"]
    several = TASK_TYPES["MultiLabelClassification"]
    assert several.takes_pairs and several.named_labels and several.class_range == (2, MOST_CLASSES)
    assert (
        TASK_TYPES["SpellingWords"].class_range == (2, 2) and TASK_TYPES["Conversation"].class_range is None
    )


def test_outputs_of_heads():
    found = {name: record.outputs(("a", "b", "c")) for name, record in TASK_TYPES.items()}
    assert found == {
        "SingleSenClassification": 3,
        "SentencePairClassification": 3,
        "NER": 3,
        "MultiLabelClassification": 3,
        "Regression": 1,
        "ResponseSelection": 1,
        "Conversation": 0,
        "SpellingWords": 1,
        "SpellingSequence": 3,
    }
