"""A small fine-tuned run with a task of every type, with random weights, for the tests of its use."""

from __future__ import annotations

from dataclasses import asdict

import torch
from model_examples import small_config
from network_examples import away_from_start, vocabulary_of_words

from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.task import Task
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.training import checkpoint

LONGEST = 16
TASKS = {
    "film": ("SingleSenClassification", ("no", "yes", "maybe")),
    "same": ("SentencePairClassification", ("0", "1")),
    "topics": ("MultiLabelClassification", ("a", "b", "c", "d")),
    "near": ("Regression", ()),
    "tags": ("NER", ("O", "B-X", "I-X")),
    "select": ("ResponseSelection", ()),
    "near it": ("ResponseRetrieval", ()),
    "chat": ("Conversation", ()),
    "wrong": ("SpellingWords", ("0", "1")),
    "clean": ("SpellingSequence", ("0", "1")),
}


def spec_of(name: str) -> TaskSpec:
    """The spec of one of TASKS; spelling tasks are trained on clean text with noise."""
    task_type, labels = TASKS[name]
    noise = {"edits": ["swap"]} if task_type.startswith("Spelling") else {}
    return TaskSpec(Task(name, task_type, {"train": ("a.tsv",)}, noise=noise), labels, LONGEST)


def finetuned(folder, *names: str, seed: int = 0, **changes) -> None:
    """Write a run with the named tasks, none: all of them."""
    vocabulary, specs = vocabulary_of_words(), [spec_of(name) for name in names or TASKS]
    heads = tuple(HeadConfig(spec.type.head, spec.type.outputs(spec.labels)) for spec in specs)
    config = small_config(vocab_size=vocabulary.size + 3, **changes)  # with rows that no token has
    network = away_from_start(TaskNetwork(config, heads, seed), seed)
    told = {"heads": [asdict(head) for head in heads], "recipes": [asdict(spec) for spec in specs]}
    meta = {"model": asdict(config), "metric": 0.5, **told}
    checkpoint.save(folder, 1, network.state_dict(), {"step": torch.ones(1)}, meta)
    (folder / "tokenizer.json").write_text(vocabulary.to_json(), encoding="utf-8")
