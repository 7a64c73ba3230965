"""Data of every type of task, in words that the small networks know, and runs of fine-tuning on them."""

import json
import random
from pathlib import Path
from typing import Any

from network_examples import exported, vocabulary_of_words
from task_examples import task_file, write

from argument import FinetuneArgs
from span_electra.finetuning.batching import TaskRows
from span_electra.finetuning.experiment import open_rows
from span_electra.finetuning.prepare import prepare_tasks
from span_electra.finetuning.prepared import Prepared

NOUNS, VERBS = ["cat", "cats", "dog", "dogs", "mat"], ["sleep", "sleeps", "bark", "barks"]
ROWS = 26  # of each file; with 10 candidates there must be more than 10 different replies


def sentences(rows: int = ROWS, seed: int = 0) -> list[str]:
    """Short sentences, hardly two alike."""
    dice = random.Random(seed)
    return [
        " ".join(["the", dice.choice(NOUNS), dice.choice(VERBS), *dice.choices(NOUNS, k=dice.randint(1, 4))])
        for _ in range(rows)
    ]


def lines_of(kind: str, rows: int = ROWS, seed: int = 0) -> str:
    """A file of a task type; its labels can be read off the rows."""
    lines = []
    for number, text in enumerate(sentences(rows, seed)):
        words = text.split()
        cat = "cat" in words[1]
        told = {
            "SingleSenClassification": [str(number), "yes" if cat else "no", text],
            "SentencePairClassification": [str(number), "yes" if cat else "no", text, "the mat"],
            "MultiLabelClassification": [str(number), "cat,mat" if cat else "", text],
            "Regression": [str(number), str(len(words)), text],
            "NER": [str(number), str(["B-N" if w in NOUNS else "O" for w in words]), str(words)],
        }
        talk = [text, "the dog barks", f"{text} {'un' * (number % 4)}{chr(97 + number % 26)}"]
        lines.append("\t".join(told[kind]) if kind in told else json.dumps(talk))
    return "\n".join(lines) + "\n"


def write_task(folder: Path, kind: str, name: str = "t") -> dict[str, Any]:
    """Write train, dev and test files of a task below folder/data; return its section of a task file."""
    data = folder / "data"
    if kind.startswith("Spelling"):
        for split in ("train", "dev", "test"):
            text = sentences(seed=len(split))
            write(data, f"{name}/{split}/corrupt.txt", "\n".join(text) + "\n")
            marks = [" ".join(str(int(word == "mat")) for word in line.split()) for line in text]
            write(data, f"{name}/{split}/correct.txt", "\n".join(marks) + "\n")
        return {"task_type": kind, "file_names": {s: f"{name}/{s}" for s in ("train", "dev", "test")}}
    for split in ("train", "dev", "test"):
        write(data, f"{name}/{split}.tsv", lines_of(kind, seed=len(split)))
    return {"task_type": kind, "file_names": {s: f"{name}/{s}.tsv" for s in ("train", "dev", "test")}}


def prepared(folder: Path, tasks: dict[str, Any], place: str = "out", **settings: Any) -> Prepared:
    """Rows of at most 32 tokens of tasks whose files lie below folder/data."""
    settings = {"max_seq_len": 32} | settings
    loaded = task_file(folder, tasks)
    return prepare_tasks(loaded, folder / "data", folder / place, vocabulary_of_words(), **settings)


def sources_of(folder: Path, tasks: dict[str, Any], split: str = "train") -> list[TaskRows | None]:
    """The same, opened."""
    made = prepared(folder, tasks)
    return open_rows(task_file(folder, tasks).tasks, made, vocabulary_of_words(), split)


def settings_of(folder: Path, tasks: dict[str, Any], **changes: Any) -> FinetuneArgs:
    """Settings of a run that takes about a second; the task file and a small encoder are made."""
    write(folder, "tasks.yaml", json.dumps(tasks))
    if not (folder / "small").exists():
        exported(folder / "small")
    given = {
        "task_file": str(folder / "tasks.yaml"),
        "data_dir": str(folder / "data"),
        "out_dir": str(folder / "run"),
        "encoder": None if changes.get("load_saved_model") else str(folder / "small"),
        "max_seq_len": 32,
        "epochs": 2,
        "silent": True,
        "precision": "fp32",  # on the CPUs that are faster with bf16 too, so that all see the same
        "device": "cpu",
        "workers": 1,
    }
    return FinetuneArgs(**given | changes)
