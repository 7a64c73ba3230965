"""The keys of an entry (errors: test_task_file.py). Run: pytest tests/finetuning/test_task_keys.py"""

from dataclasses import fields

import pytest
from model_examples import small_config
from task_examples import write

from span_electra.finetuning.metrics import METRICS
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_entry import TaskEntry
from span_electra.finetuning.task_keys import LOSS_HEADS, NOISE_READ_BY, OTHER_METRICS, TASK_KEYS, task_of
from span_electra.finetuning.task_types import TASK_TYPES
from span_electra.model.multi_task import HEAD_KINDS, HeadConfig
from span_electra.text.noise import KINDS, NoiseConfig, corrupt_words

CONFIG = small_config(vocab_size=30)


def test_every_field_of_a_task_has_its_key():
    found = ("listed", "paired")  # from the entry, and from the train file
    # The name is the entry's, and sampling the file's.
    assert len(TASK_KEYS) == len(fields(Task)) - len(found) and not set(found) & set(TASK_KEYS)
    assert {"file_names", "label_map_or_file", "sampling"} <= set(TASK_KEYS) and "files" not in TASK_KEYS


def test_names_of_another_system_are_names_of_ours():
    assert set(OTHER_METRICS.values()) <= set(METRICS) and not set(OTHER_METRICS) & set(METRICS)
    assert set(LOSS_HEADS.values()) <= {record.head for record in TASK_TYPES.values()}


def test_an_entry_with_problems_is_no_task(tmp_path):
    write(tmp_path, "a.tsv", "1\tx\ta\n")
    values = {"task_type": "NER", "file_names": {"train": "a.tsv"}}
    assert task_of(TaskEntry("t", values, tmp_path)) == Task(
        "t", "NER", {"train": ("a.tsv",)}, metrics=("chunk_f1",)
    )
    wrong = TaskEntry("t", values | {"limit": -1, "dropout_prob": 2}, tmp_path)
    assert task_of(wrong) is None
    assert [problem.split(":")[0] for problem in wrong.problems] == ["t.dropout_prob", "t.limit"]


@pytest.mark.parametrize("name", TASK_TYPES)
def test_dropout_is_refused_where_no_head_reads_it(tmp_path, name):
    """Whether a head reads it, its module says."""
    record = TASK_TYPES[name]
    task = HeadConfig(record.head, record.outputs(("a", "b")))
    head = HEAD_KINDS[record.head].make(task, CONFIG.discriminator, CONFIG)
    assert record.has_dropout == hasattr(head, "dropout")
    entry = TaskEntry("t", {"task_type": name, "dropout_prob": 0.1}, tmp_path)
    task_of(entry)
    told = [problem for problem in entry.problems if problem.startswith("t.dropout_prob: ")]
    assert bool(told) != record.has_dropout and all(
        "has no dropout of its own" in problem for problem in told
    )


@pytest.mark.parametrize("kind", KINDS)
def test_keys_that_a_kind_of_noise_does_not_read_are_refused(tmp_path, kind):
    """Whether it reads one, the errors say: they differ with it."""
    write(tmp_path, "known.json", "{}")
    words, known = ("the", "cats", "sleep", "softly") * 20, {"cats": ["catz"], "sleep": ["slep"]}
    values = {"word_share": 0.7, "geometric_p": 0.2, "edits": ["swap"], "realistic_share": 0.3}
    least = {"misspellings": "known.json"} if kind in ("realistic", "mixed") else {}
    plain = corrupt_words(words, NoiseConfig(kind, **least), known, (0, 0, 0))
    for key, value in (values | {"misspellings": "known.json"}).items():
        noise = {"kind": kind} | least | {key: value}
        entry = TaskEntry("t", {"task_type": "SpellingWords", "noise": noise}, tmp_path)
        task_of(entry)
        told = [problem for problem in entry.problems if problem.startswith("t.noise")]
        assert [f"t.noise.{key}: kind {kind} does not read it" in problem for problem in told] == [True] * (
            kind not in NOISE_READ_BY[key]
        )
        if key != "misspellings":
            differs = corrupt_words(words, NoiseConfig(**noise), known, (0, 0, 0)) != plain
            assert differs == (kind in NOISE_READ_BY[key]), key
