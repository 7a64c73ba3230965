"""What a fine-tuned model says of texts, from Python or line by line:

    >>> predictor = TaskPredictor.from_folder("runs/finetune-1")
    >>> predictor(["A fine film."])["sentiment"][0]          # Label(label='1', probability=0.97, cut=False)
    >>> predictor([("A cat.", "A dog.")], "same")            # a task that reads pairs
    >>> predictor([["My", "name"]], ["ner"])["ner"][0].labels
    >>> predictor([(["Hello."], ["Hi!", "No."])], "select")["select"][0].scores

`predictor.Predictor` does the same for pretrained models; `is_finetuned` says which one opens a
folder, as predict_SE.py does. Answers stand in the order of the texts.

Shapes are in the names:
  R  rows   B  rows of a batch   L  tokens of a row   T  content tokens of a text   W  words   C  classes
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from span_electra.accelerators import find_device
from span_electra.errors import InputError, not_among
from span_electra.finetuning.batching import UnpaddedRows, collate, rows_of_candidates
from span_electra.finetuning.encoding import TaskSpec, encode_examples, encoded_rows
from span_electra.finetuning.predictions import decided, scores_of_vectors, word_scores
from span_electra.finetuning.readers import Example
from span_electra.finetuning.task_model import load_task_model
from span_electra.finetuning.turns import row_length
from span_electra.hub.networks import check_numbers, length_batches
from span_electra.inference.arguments import GenerationArguments
from span_electra.inference.chat import reply
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.text.token_spans import over_windows, pool_words, read_lines
from span_electra.text.vocabulary import Vocabulary
from span_electra.utf8 import is_encodable

WHOLE = 1 << 40  # tokens; a row that is not cut


@dataclass(frozen=True)
class Label:
    """The likeliest of several classes."""

    label: str
    probability: float
    cut: bool = False  # whether the row does not hold all of the text, as in training


@dataclass(frozen=True)
class Labels:
    """The labels that are true of a text, and the probability of each there is."""

    labels: tuple[str, ...]
    probability: dict[str, float]
    cut: bool = False


@dataclass(frozen=True)
class Number:
    """The value of a regression."""

    value: float
    cut: bool = False


@dataclass(frozen=True)
class Words:
    """A label for each word. probability: of that label; of being misspelt for SpellingWords."""

    words: tuple[str, ...]
    labels: tuple[str, ...]
    probability: tuple[float, ...]  # 0 for a word that the vocabulary has no token for


@dataclass(frozen=True)
class Ranking:
    """How well each candidate answers the turns; any number, the highest is the best."""

    scores: tuple[float, ...]
    cut: bool = False


@dataclass(frozen=True)
class Reply:
    """What the model says next."""

    text: str
    cut: bool = False


Answer = Label | Labels | Number | Words | Ranking | Reply
# A text; a pair (str, str); words or turns [str, ...]; turns with candidates ([str, ...], [str, ...])
Text = str | tuple[str, str] | list[str] | tuple[list[str], list[str]]


@dataclass(frozen=True)
class TaskPredictor:
    """A fine-tuned network and what its tasks read."""

    network: TaskNetwork
    specs: tuple[TaskSpec, ...]
    vocabulary: Vocabulary
    source: str
    device: str = "cpu"
    batch_size: int = 32  # rows computed together
    threshold: float = 0.5  # probability from which a word is called misspelt
    speech: GenerationArguments = GenerationArguments()

    @classmethod
    def from_folder(
        cls, folder: str | Path, device: str = "auto", batch_size: int = 32, **others: Any
    ) -> TaskPredictor:
        """Open a run of finetune_SE.py, of which the best checkpoint is taken, or one of its checkpoints.

        others: threshold and speech. Raises InputError for any other folder.
        """
        device = str(find_device(device))
        network, specs, vocabulary, _ = load_task_model(folder)
        return cls(
            network=network.to(device).eval(),
            specs=specs,
            vocabulary=vocabulary,
            source=str(folder),
            device=device,
            batch_size=batch_size,
            **others,
        )

    def __call__(self, texts: Sequence[Text], tasks: Sequence[str] | str = ()) -> dict[str, list[Answer]]:
        """Return an answer for each text, by task. tasks: names, or none: all that can read every text.

        Sentences and pairs are cut as in training; every word is judged, however long its text.
        Raises InputError for an unknown task, and for texts that a task, or none of them, can read.
        """
        # A text is a list of texts to Python, a letter each.
        if isinstance(texts, str):
            raise InputError("texts: one text alone; give a list of them, [text]")
        # Every text is read by every task that was asked for before a network runs: refusals cost nothing.
        named = self.numbers_of(tasks)
        read = {
            number: [example_of(self.specs[number], text, self.vocabulary) for text in texts]
            for number in named
        }
        able = [number for number, examples in read.items() if None not in examples]
        if not able:
            wanted = "; ".join(self.wants(number) for number in named)
            raise InputError(f"texts: no task can read them all: {wanted}")
        if tasks and able != named:
            number = next(number for number in named if number not in able)
            raise InputError(f"text {read[number].index(None) + 1}: {self.wants(number)}")
        return {self.specs[number].task.name: self.answers(number, read[number]) for number in able}

    def numbers_of(self, tasks: Sequence[str] | str) -> list[int]:
        """The tasks' numbers; of all where none is named. Raises InputError naming the nearest one."""
        known = [spec.task.name for spec in self.specs]
        names = [tasks] if isinstance(tasks, str) else list(tasks or known)
        for name in names:
            if name not in known:
                raise InputError(f"task {not_among(name, known)}")
        return [known.index(name) for name in dict.fromkeys(names)]

    def wants(self, number: int) -> str:
        """What a task reads, to one who gave it something else."""
        spec = self.specs[number]
        return f"task {spec.task.name!r} ({spec.task.task_type}) reads {expected_input(spec)}"

    def longest_row(self, spec: TaskSpec) -> int:
        """Tokens of the longest row that a task reads whole, special ones included: a reply needs room."""
        longest = spec.max_seq_len
        reply_room = self.speech.fitted(longest).max_new_tokens if spec.type.is_conversation else 0
        return longest - reply_room

    def talker(self, names: Sequence[str] = ()) -> Callable[[list[str]], str]:
        """What replies to turns: the named Conversation task, or the only one. Raises InputError."""
        able = [number for number in self.numbers_of(names) if self.specs[number].type.is_conversation]
        if len(able) != 1:
            tasks = ", ".join(f"{spec.task.name} ({spec.task.task_type})" for spec in self.specs)
            problem = (
                "name one Conversation task with --task" if able else "has no Conversation task to talk with"
            )
            raise InputError(f"{self.source}: {problem}; its tasks are {tasks}")
        self.speech.fitted(self.specs[able[0]].max_seq_len)  # refused before the talk begins
        return lambda turns: self._reply(able[0], turns).text

    # --- answers ------------------------------------------------------------------------------------------

    def answers(self, number: int, examples: list[Example]) -> list[Answer]:
        """A task's answer to each example, as `example_of` makes them for it."""
        # Without noise: what is misspelt in training is judged here as it stands.
        spec = self.specs[number]
        spec = replace(spec, task=replace(spec.task, noise={}))
        if spec.type.is_conversation:
            return [self._reply(number, example.texts) for example in examples]
        if spec.type.has_candidates:
            return self._rankings(number, spec, examples)
        if spec.type.by_word:
            return self._words(number, spec, examples)
        rows = [*encoded_rows(self.vocabulary, spec, examples)]
        ids, types = ([row[name] for row, _ in rows] for name in ("input_ids", "token_type_ids"))
        found = zip(rows, self._logits(number, ids, types), strict=True)
        head = self.network.tasks[number]
        return [_of_text(spec, head, logits_C, cut) for (_, cut), logits_C in found]

    def _reply(self, number: int, turns: Sequence[str]) -> Reply:
        text, cut = reply(
            self.network,
            turns,
            task=number,
            spec=self.specs[number],
            vocabulary=self.vocabulary,
            speech=self.speech,
        )
        return Reply(text, cut)

    def _rankings(self, number: int, spec: TaskSpec, examples: list[Example]) -> list[Answer]:
        """Each candidate in a row of its own, after the turns or, where vectors are compared, beside them."""
        unpadded, cut, sep_id = [], [], self.vocabulary.sep_id
        before = encode_examples(self.vocabulary, spec, examples)
        last = encode_examples(self.vocabulary, spec, [Example("", example.words) for example in examples])
        for talk, candidates in zip(before, last, strict=True):
            # The turns are encoded once, whatever the number of candidates.
            turns, replies = talk["turns"], candidates["turns"]
            unpadded.append(rows_of_candidates(spec, sep_id, turns, replies))
            apart = spec.type.compares_vectors
            texts = [turns, *([one] for one in replies)] if apart else [[*turns, one] for one in replies]
            cut.append(any(row_length(text) > spec.max_seq_len for text in texts))
        flat = [row for rows in unpadded for row in rows]
        answers = iter(self._logits(number, [row.ids for row in flat], [row.types for row in flat]))
        found = [[next(answers) for _ in rows] for rows in unpadded]
        if spec.type.compares_vectors:
            scores = [scores_of_vectors(np.stack(one)[None])[0].tolist() for one in found]
        else:
            scores = [[float(score[0]) for score in one] for one in found]
        return [Ranking(tuple(one), lost) for one, lost in zip(scores, cut, strict=True)]

    def _words(self, number: int, spec: TaskSpec, examples: list[Example]) -> list[Answer]:
        """Long texts in overlapping windows, so that every word is judged."""
        rows = encode_examples(self.vocabulary, replace(spec, max_seq_len=WHOLE), examples)
        ids = [np.array(row["input_ids"][1:-1], np.int64) for row in rows]

        def logits_of(windows: list[np.ndarray]) -> list[np.ndarray]:
            rows = [window.tolist() for window in windows]
            return self._logits(number, rows, [[0] * len(row) for row in rows])

        found = over_windows(self.vocabulary, spec.max_seq_len, ids, logits_of)
        return [
            self._of_words(number, example.words, np.array(row["word_ids"][1:-1], np.int64), logits)
            for example, row, logits in zip(examples, rows, found, strict=True)
        ]

    def _of_words(self, number: int, words: tuple[str, ...], word_T: np.ndarray, logits: np.ndarray) -> Words:
        """A word's label: that of its first token; misspelt where any of its tokens is."""
        spec = self.specs[number]
        if spec.type.head == "replaced":
            wrong_W = pool_words(_sigmoid(logits), word_T, len(words), "max")
            labels = tuple(spec.labels[int(share >= self.threshold)] for share in wrong_W)
            return Words(words, labels, tuple(wrong_W.tolist()))
        # By the rule of training's evaluation, also for words without tokens (of control characters, say).
        scores_WC, first_W = word_scores(logits, word_T, len(words), spec.labels)
        [label_W] = decided([scores_WC], spec, self.network.tasks[number], shift=0.0)
        share_W = np.where(first_W >= 0, _softmax(scores_WC)[np.arange(len(words)), label_W], 0.0)
        return Words(words, tuple(spec.labels[label] for label in label_W), tuple(share_W.tolist()))

    @torch.inference_mode()
    def _logits(self, number: int, ids: list[list[int]], types: list[list[int]]) -> list[np.ndarray]:
        """The head's logits for each row, float32 [C], or [L] or [L, C] where it judges tokens."""
        by_tokens, found = self.specs[number].type.by_word, [np.zeros(0)] * len(ids)
        # Rows of one length together, then each row's answer back in its place.
        lengths_R = np.array([len(row) for row in ids], np.int64)
        for rows_B in length_batches(lengths_R, self.batch_size):
            no_targets = np.zeros(len(rows_B), np.int64)
            unpadded = UnpaddedRows([ids[row] for row in rows_B], [types[row] for row in rows_B], no_targets)
            batch = collate(number, unpadded, self.vocabulary.pad_id, 1.0, rows_B).to(self.device)
            logits = self.network.logits(batch).cpu().numpy()
            for place, row in enumerate(rows_B):
                found[row] = logits[place, : lengths_R[row]] if by_tokens else logits[place]
                check_numbers(np.isfinite(found[row]).all(), self.source)
        return found


def _of_text(spec: TaskSpec, head: HeadConfig, logits_C: np.ndarray, cut: bool) -> Answer:
    """A number, or the label or labels that training's evaluation would decide for."""
    if spec.type.head == "number":
        return Number(float(logits_C[0]), cut)
    [chosen] = decided([logits_C], spec, head, shift=0.0)  # a threshold is in the bias by now
    if spec.type.head == "several":
        share_C = _sigmoid(logits_C).tolist()
        true = tuple(spec.labels[label] for label in chosen)
        return Labels(true, dict(zip(spec.labels, share_C, strict=True)), cut)
    return Label(spec.labels[chosen], float(_softmax(logits_C)[chosen]), cut)


def _softmax(logits: np.ndarray) -> np.ndarray:
    # In float64: probabilities near 1 are told apart, and they add up to 1.
    return torch.from_numpy(logits).double().softmax(-1).numpy()


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).double().sigmoid().numpy()


# --- what a task reads ----------------------------------------------------------------------------------


def expected_input(spec: TaskSpec) -> str:
    """What the texts of a task are, in a few words; lines say pairs with a TAB and lists in JSON."""
    if spec.type.has_candidates:
        return '(turns, candidates), two lists; as a line {"turns": [...], "candidates": [...]}'
    if spec.type.is_conversation:
        return "a list of turns; as a line one turn, or a JSON list of them"
    if spec.task.pairs:
        return "a pair of texts; as a line one TAB between them"
    return "a text or a list of words, as a line in JSON" if spec.type.by_word else "a text"


def example_of(spec: TaskSpec, text: Text | None, vocabulary: Vocabulary) -> Example | None:
    """A text as the task's readers would give it, None where it is none of the task's.

    Words are cut at blanks and, for tags, where a token begins in scripts without, as by `read_lines`.
    The texts of an example with candidates are the turns before, its words the candidates.
    Raises InputError for what no tokenizer takes.
    """
    _refuse_halves(text)
    listed = isinstance(text, list) and all(isinstance(part, str) for part in text)
    if spec.type.has_candidates:
        return _with_candidates(text)
    if spec.type.by_word:
        if isinstance(text, str):
            # Of misspelt words a mark was learnt for all that stands between two blanks.
            alone = spec.type.reader != "tagged_words"
            words = read_lines(spec.reading(vocabulary), [text], blanks_alone=alone)[0].words
            if words != text.split():
                # From here, not from whoever asks: a warning is shown once a place.
                warnings.warn(
                    f"{spec.task.name}: where a script has no blanks, each token of a text is tagged as if "
                    "it were a word; if you know the words, give a list of them (a line of JSON)",
                    stacklevel=1,
                )
            text = words
        elif not listed:
            return None
        return Example("", (" ".join(text),), tuple(text))
    if spec.type.is_conversation:
        turns = [text] if isinstance(text, str) else text if listed else None
        return None if turns is None else Example("", tuple(turns))
    paired = isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text)
    if paired and spec.task.pairs is not False:  # None: of an earlier version, which does not tell
        return Example("", text)
    alone = isinstance(text, str) and not spec.task.pairs
    return Example("", (text,)) if alone else None


def _refuse_halves(text: Any) -> None:
    """Refuse half a surrogate pair, in a text or in any of several."""
    if isinstance(text, str) and not is_encodable(text):
        raise InputError(f"{text[:60]!r} holds half a surrogate pair; mend the text")
    for part in text if isinstance(text, list | tuple) else ():
        _refuse_halves(part)


def _with_candidates(text: Any) -> Example | None:
    lists = isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(part, list) for part in text)
    if not lists or not all(isinstance(turn, str) for part in text for turn in part):
        return None
    turns, candidates = text
    return Example("", tuple(turns), tuple(candidates))
