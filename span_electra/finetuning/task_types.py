"""The types of task there are: one record each, and all that the package knows of a type by its name.

To add a type, write its record here and, where its files look like no other type's, its reader in readers.py.
The other modules ask the record, never the name. (A head that no type has yet is model/multi_task.py's.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MISSPELT = ("0", "1")  # labels of a spelling task; 1 is misspelt
MOST_CLASSES = 1 << 20

Head = Literal["sequence", "several", "number", "tokens", "replaced", "language", "ranking", "similarity"]
Reader = Literal["rows", "tagged_words", "conversations", "spelling"]
Inputs = Literal["text", "pair", "text or pair", "words", "turns"]
Labels = Literal["class", "classes", "number", "misspelt", "none"]
StockHead = Literal["sequence", "tokens", "discriminator", "causal", "none"]


@dataclass(frozen=True)
class TaskType:
    """One type of task.

    Example: TASK_TYPES["NER"].metrics[0] -> "chunk_f1"
    """

    name: str  # `task_type` in task files, saved with every model
    head: Head  # what the network learns; see model/multi_task.py
    reader: Reader  # of files whose columns have no names; see readers.py
    inputs: Inputs  # what an example consists of
    labels: Labels  # what a row says is true of it: one class, any number of them, ...
    metrics: tuple[str, ...]  # that can be taken; the first is the default
    stock_head: StockHead  # which of an architecture's stock classes holds the exported task
    problem_type: str | None = None  # `problem_type` of the exported config.json

    @property
    def by_word(self) -> bool:
        """Whether each word has a label of its own."""
        return self.inputs == "words"

    @property
    def takes_pairs(self) -> bool:
        return self.inputs in ("pair", "text or pair")

    @property
    def named_labels(self) -> bool:
        """Whether the labels are a person's, listed in the task file or found in the train file."""
        return self.labels in ("class", "classes")

    @property
    def in_turns(self) -> bool:
        """Whether rows are conversations; these bring what is to be learnt themselves."""
        return self.inputs == "turns"

    @property
    def is_conversation(self) -> bool:
        """Whether the next turn is learned, token by token."""
        return self.head == "language"

    @property
    def compares_vectors(self) -> bool:
        """Whether texts become vectors, each by itself, and what is near is the answer."""
        return self.head == "similarity"

    @property
    def has_candidates(self) -> bool:
        """Whether a row's last turn is to be chosen among candidates."""
        return self.head == "ranking" or self.compares_vectors

    @property
    def has_dropout(self) -> bool:
        """Whether the head has dropout of its own: not those of pretraining, nor what has no weights."""
        return not (self.head == "replaced" or self.is_conversation or self.compares_vectors)

    @property
    def class_range(self) -> tuple[int, int] | None:
        """The least and the most `class_num` may be; None where there are no classes."""
        return {
            "class": (2, MOST_CLASSES),
            "classes": (2, MOST_CLASSES),
            "misspelt": (2, 2),
            "number": (1, 1),
            "none": None,
        }[self.labels]

    def outputs(self, labels: tuple[str, ...]) -> int:
        """Numbers that the head gives: one a label, one alone, or 0 where vocabulary or encoder decide."""
        if self.is_conversation or self.compares_vectors:
            return 0
        return len(labels) if self.head in ("sequence", "several", "tokens") else 1


OF_CLASSES = ("accuracy", "macro_f1", "matthews", "f1")

SINGLE = TaskType(
    name="SingleSenClassification",
    head="sequence",
    reader="rows",
    inputs="text",
    labels="class",
    metrics=OF_CLASSES,
    stock_head="sequence",
    problem_type="single_label_classification",
)
CONVERSATION = TaskType(
    name="Conversation",
    head="language",
    reader="conversations",
    inputs="turns",
    labels="none",
    metrics=("perplexity",),
    stock_head="causal",
)
RECORDS = (
    SINGLE,
    replace(SINGLE, name="SentencePairClassification", inputs="pair"),
    TaskType(
        name="NER",
        head="tokens",
        reader="tagged_words",
        inputs="words",
        labels="class",
        metrics=("chunk_f1", "chunk_precision", "chunk_recall", "accuracy", "macro_f1"),
        stock_head="tokens",
    ),
    TaskType(
        name="MultiLabelClassification",
        head="several",
        reader="rows",
        inputs="text or pair",
        labels="classes",
        metrics=("f1", "macro_f1", "accuracy"),
        stock_head="sequence",
        problem_type="multi_label_classification",
    ),
    TaskType(
        name="Regression",
        head="number",
        reader="rows",
        inputs="text or pair",
        labels="number",
        metrics=("pearson", "spearman"),
        stock_head="sequence",
        problem_type="regression",
    ),
    replace(
        CONVERSATION,
        name="ResponseSelection",
        head="ranking",
        metrics=("recall_at_1",),
        stock_head="sequence",
        problem_type="regression",  # one score a candidate
    ),
    replace(
        CONVERSATION,
        name="ResponseRetrieval",
        head="similarity",
        metrics=("recall_at_1",),
        stock_head="none",
    ),
    CONVERSATION,
    TaskType(
        name="SpellingWords",
        head="replaced",
        reader="spelling",
        inputs="words",
        labels="misspelt",
        metrics=("word_f1", "accuracy", "macro_f1", "matthews"),
        stock_head="discriminator",
    ),
    replace(
        SINGLE,
        name="SpellingSequence",
        reader="spelling",
        labels="misspelt",
        metrics=("f1", "accuracy", "macro_f1", "matthews"),
    ),
)
TASK_TYPES = {record.name: record for record in RECORDS}
