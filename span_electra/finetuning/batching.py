"""Prepared rows -> batches of one task each, whose order is that of (seed, epoch) alone.

Shapes are in the names:
  R  rows of a task          N  batches of an epoch     B  rows of a batch, or of this process's share
  P  pieces: what is learnt one by one, windows of conversations, else rows
  L  tokens of the longest   G  candidates of a reply, the true one first
"""

from __future__ import annotations

import json
import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from span_electra.errors import InputError
from span_electra.finetuning.encoding import MISSPELLINGS, TaskSpec, encode_examples, kept_of_pair
from span_electra.finetuning.order import REPLIES, Order, plan_tasks
from span_electra.finetuning.readers import Example
from span_electra.finetuning.turns import TurnRow, join_turns, row_length
from span_electra.model.multi_task import IGNORED, TaskBatch
from span_electra.text.letters import drops_accents
from span_electra.text.noise import NoiseConfig, corrupt_words, load_misspellings
from span_electra.text.vocabulary import Vocabulary

ANEW = "remove that file, then run prepare_tasks_SE.py again"
PIECE = 16 << 20  # bytes of a file that are searched for line ends at once
TRAIN_CANDIDATES, TEST_CANDIDATES = 4, 10  # replies to choose from; the test is recall@1 of 10


class TaskRows:
    """The rows of one split of one task, read from the file when they are asked for."""

    def __init__(self, path: str | Path, spec: TaskSpec, vocabulary: Vocabulary) -> None:
        self.path, self.spec, self.vocabulary = Path(path), spec, vocabulary
        # Mapped, with where lines begin: rows are read by chance, and a file may be larger than memory.
        try:
            with self.path.open("rb") as file:
                self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # absent, or empty
            raise InputError(f"{self.path}: {error}; {ANEW}") from None
        self.ends_R = _line_ends(np.frombuffer(self.bytes, np.uint8))
        self.starts_R = np.concatenate([[0], self.ends_R[:-1] + 1])
        # A file that was cut off would otherwise lose its last row without a word.
        if not len(self.ends_R) or self.ends_R[-1] != len(self.bytes) - 1:
            raise InputError(f"{self.path}: its end is missing; {ANEW}")
        self.stored(0)  # what a damaged file holds is told now, not in the middle of an epoch
        self.noise = NoiseConfig(**spec.task.noise)
        named = self.noise.misspellings
        self.misspellings = load_misspellings(self.path.with_name(MISSPELLINGS)) if named else {}

    def __len__(self) -> int:
        return len(self.ends_R)

    def stored(self, row: int) -> dict[str, Any]:
        """The row as its file has it. Raises InputError when it is damaged."""
        try:
            return json.loads(self.bytes[self.starts_R[row] : self.ends_R[row]])
        except ValueError:
            raise InputError(f"{self.path}: line {row + 1} is damaged; {ANEW}") from None

    @cached_property
    def lengths_R(self) -> np.ndarray:
        """Tokens of each row, about, where it is made anew each epoch; at most max_seq_len."""
        return np.array([min(self._length(row), self.spec.max_seq_len) for row in range(len(self))])

    @cached_property
    def windows_P(self) -> list[tuple[int, int, int]]:
        """Of conversations to be continued: windows (row, begin, end) that together hold every turn once."""
        longest = self.spec.max_seq_len
        # Cut at turns, never within: half a turn would teach that a turn ends there.
        cut = (turn_windows(self.stored(row)["turns"], longest) for row in range(len(self)))
        return [(row, *place) for row, places in enumerate(cut) for place in places]

    @cached_property
    def lengths_P(self) -> np.ndarray:
        """Tokens of each piece, about."""
        if not self.spec.type.is_conversation:
            return self.lengths_R
        pieces = map(self.turns, range(len(self.windows_P)))
        return np.array([min(row_length(turns), self.spec.max_seq_len) for turns in pieces])

    @cached_property
    def last_turns(self) -> list[list[int]]:
        """The last turns of conversations, each text once."""
        ends = (tuple(self.stored(row)["turns"][-1]) for row in range(len(self)))
        return [list(end) for end in dict.fromkeys(ends)]

    def turns(self, piece: int) -> list[list[int]]:
        """The turns in a window."""
        row, begin, end = self.windows_P[piece]
        return self.stored(row)["turns"][begin:end]

    @cached_property
    def _accents(self) -> bool:
        """Whether the task's tokenizer tells letters by their accents."""
        return not drops_accents(self.spec.reading(self.vocabulary))

    def _length(self, row: int) -> int:
        stored = self.stored(row)
        if "turns" in stored:
            return row_length(stored["turns"])
        # A guess for text that is yet to be misspelt: lengths only decide which rows share a batch.
        return len(stored["input_ids"]) if "input_ids" in stored else len(stored["text"]) // 4

    def rows(self, rows_B: Sequence[int], seed: int, epoch: int) -> list[dict[str, Any]]:
        """The rows as they are seen in an epoch."""
        stored = [self.stored(row) for row in rows_B]
        # Sentences that are misspelt anew each epoch may stand among others that have labels.
        examples = [
            self._misspelt(entry, (seed, epoch, int(row)))
            for entry, row in zip(stored, rows_B, strict=True)
            if "text" in entry
        ]
        noisy = iter(encode_examples(self.vocabulary, self.spec, examples))
        return [next(noisy) if "text" in entry else entry for entry in stored]

    # Keyed by the row, not by the batch: another batch size or another process sees the same errors.
    def _misspelt(self, stored: dict[str, Any], key: tuple[int, int, int]) -> Example:
        words = stored["text"].split()
        noisy = corrupt_words(words, self.noise, self.misspellings, key, accents=self._accents)
        text = " ".join(noisy.words)
        if self.spec.type.head == "replaced":
            return Example(stored["uid"], (text,), noisy.words, tuple(map(str, noisy.wrong)))
        return Example(stored["uid"], (text,), None, str(int(any(noisy.wrong))))


def _line_ends(bytes_N: np.ndarray) -> np.ndarray:
    """Where the newlines are, int64."""
    # A piece at a time: a comparison of all bytes would take as much memory as the file.
    pieces = range(0, len(bytes_N), PIECE)
    return np.concatenate([start + np.flatnonzero(bytes_N[start : start + PIECE] == 10) for start in pieces])


@dataclass(frozen=True)
class UnpaddedRows:
    """Rows ready to be padded."""

    ids: list[list[int]]
    types: list[list[int]]
    targets: Any  # an array of a value a row, or one list a row (of tokens)


# --- rows -> tensors ----------------------------------------------------------------------------------


def rows_and_targets(
    source: TaskRows, rows_B: np.ndarray, rows: list[dict[str, Any]], seed: int, epoch: int, training: bool
) -> UnpaddedRows:
    """The ids, types and targets of `rows`, whose numbers are `rows_B`. (Of windows: `windows_and_targets`.)

    A reply's candidates are rows of their own, the true one first; of a retrieval the turns before are too.
    """
    if source.spec.type.has_candidates:
        return _candidates(source, rows_B, rows=rows, seed=seed, epoch=epoch, training=training)
    ids = [row["input_ids"] for row in rows]
    return UnpaddedRows(ids, [row["token_type_ids"] for row in rows], _targets(source.spec, rows))


def _targets(spec: TaskSpec, rows: list[dict[str, Any]]) -> Any:
    if spec.type.head == "number":
        return np.array([row["label"] for row in rows], np.float32)
    if spec.type.head == "sequence":
        return np.array([row["label"] for row in rows], np.int64)
    if spec.type.head == "several":
        return marked([row["label"] for row in rows], len(spec.labels)).astype(np.float32)
    return [token_targets(row, spec.type.head == "replaced") for row in rows]


def marked(rows: list[list[int]], classes: int) -> np.ndarray:
    """Lists of classes as rows of 0 and 1, [R, C]."""
    marked_RC = np.zeros((len(rows), classes), np.int64)
    for number, row in enumerate(rows):
        marked_RC[number, row] = 1
    return marked_RC


def token_targets(row: dict[str, Any], every: bool) -> list[int]:
    """The label of each token: that of its word on the first of the word's tokens, or on `every` one."""
    # A word is judged once, by its first token, as CoNLL counts; `every`: as in pretraining.
    targets, before = [], -1
    for word in row["word_ids"]:
        labelled = word >= 0 and (every or word != before)
        targets.append(row["label"][word] if labelled else IGNORED)
        before = word
    return targets


def windows_and_targets(source: TaskRows, windows: list[list[list[int]]]) -> UnpaddedRows:
    """The turns of each window as a row; every next token is a target."""
    unpadded = [join_turns(turns, source.vocabulary.sep_id, source.spec.max_seq_len) for turns in windows]
    ids = [row.ids for row in unpadded]
    return UnpaddedRows(ids, [row.types for row in unpadded], [[*row[1:], IGNORED] for row in ids])


def turn_windows(turns: list[list[int]], longest: int) -> list[tuple[int, int]]:
    """Cut a conversation into windows of whole turns that fit a row; every turn is in exactly one.

    Example: turns of 3, 3 and 9 tokens, rows of 10 -> (0, 2), (2, 3)
    """
    windows, begin, used = [], 0, 1
    for number, turn in enumerate(turns):
        if number > begin and used + len(turn) + 1 > longest:
            windows.append((begin, number))
            begin, used = number, 1
        used += len(turn) + 1
    return [*windows, (begin, len(turns))]


def _candidates(
    source: TaskRows, rows_B: np.ndarray, rows: list[dict[str, Any]], seed: int, epoch: int, training: bool
) -> UnpaddedRows:
    """For each conversation its true reply and those of others, after the same turns.

    In training any turn but the first may be the reply, and any turn of others; else the last ones are. Where
    turns and replies are read apart, training draws no others: the batch has them.
    """
    ids, types = [], []
    apart = source.spec.type.compares_vectors
    count = TEST_CANDIDATES if not training else 1 if apart else TRAIN_CANDIDATES
    for number, row in zip(rows_B, rows, strict=True):
        # Keyed by the conversation, as noise is, so that every start and every process draws the same.
        rng = np.random.default_rng([REPLIES, seed, epoch, int(number)])
        turns = row["turns"]
        if training:
            turns = turns[: rng.integers(2, len(turns) + 1)]
        others = _other_replies(
            source, int(number), truth=turns[-1], count=count - 1, rng=rng, training=training
        )
        replies = [turns[-1], *others]
        for unpadded in rows_of_candidates(source.spec, source.vocabulary.sep_id, turns[:-1], replies):
            ids.append(unpadded.ids)
            types.append(unpadded.types)
    return UnpaddedRows(ids, types, np.zeros(len(rows_B), np.int64))


def rows_of_candidates(
    spec: TaskSpec, sep_id: int, turns: list[list[int]], replies: list[list[int]]
) -> list[TurnRow]:
    """Each reply after the turns; or the turns, and then each reply by itself, where they are read apart."""
    longest = spec.max_seq_len
    if spec.type.compares_vectors:
        # Of one form, so that a text has one vector whether it asks or answers.
        texts = [turns, *([reply] for reply in replies)]
        return [join_turns(text, sep_id, longest, open_ended=True) for text in texts]
    # As two texts are cut, from the left: none is read without the other.
    before = row_length(turns) - 2  # the turns and the separators between them
    kept = [kept_of_pair(before, len(reply), longest - 3)[1] for reply in replies]
    return [
        join_turns([*turns, reply[len(reply) - length :]], sep_id, longest)
        for reply, length in zip(replies, kept, strict=True)
    ]


def _other_replies(
    source: TaskRows, row: int, truth: list[int], count: int, rng: np.random.Generator, training: bool
) -> list[list[int]]:
    """Replies of other conversations that differ from the truth; when tested also from each other."""
    replies: list[list[int]] = []
    if training:
        for _ in range(100 * count):  # where there are enough, so many draws miss hardly ever
            other = int((row + 1 + rng.integers(len(source) - 1)) % len(source))
            turns = source.stored(other)["turns"]
            reply = turns[rng.integers(len(turns))]
            if reply != truth:
                replies.append(reply)
            if len(replies) == count:
                break
    else:
        # Of the texts, not of the rows: where nearly all end alike, drawn rows would be too few that differ.
        ends = source.last_turns
        drawn = rng.choice(len(ends), min(count + 1, len(ends)), replace=False)
        replies = [ends[number] for number in drawn if ends[number] != truth][:count]
    if len(replies) < count:
        raise InputError(f"{source.spec.task.name}: too few replies that differ; give more conversations")
    return replies


def check_replies(source: TaskRows, training: bool) -> None:
    """Refuse conversations of which too few end differently to choose a reply from, before it is needed."""
    # In training one other reply is enough, as it may come again; a test's must all differ (recall@1 of 10).
    needed, found = 2 if training else TEST_CANDIDATES, set()
    for row in range(len(source)):
        found.add(tuple(source.stored(row)["turns"][-1]))
        if len(found) == needed:
            return
    raise InputError(
        f"{source.spec.task.name}, {source.path.stem}: {len(found)} different last turns, and {needed} are "
        "needed to choose a reply from; give more conversations"
    )


def collate(task: int, unpadded: UnpaddedRows, pad_id: int, total: float, rows_B: np.ndarray) -> TaskBatch:
    """Pad rows and targets to tensors on the CPU."""
    lengths_B = np.array([len(row) for row in unpadded.ids], np.int64)
    width = int(lengths_B.max()) if len(lengths_B) else 1
    # Filled through the mask in one assignment: rows one after another are what its True places are.
    mask_BL = np.arange(width) < lengths_B[:, None]

    def padded(rows: list[list[int]], value: int) -> torch.Tensor:
        array_BL = np.full((len(rows), width), value, np.int64)
        if rows:
            array_BL[mask_BL] = np.concatenate(rows)
        return torch.from_numpy(array_BL)

    targets = unpadded.targets
    targets = padded(targets, IGNORED) if isinstance(targets, list) else torch.from_numpy(targets)
    types_BL = padded(unpadded.types, 0) if any(any(row) for row in unpadded.types) else None
    return TaskBatch(
        task=task,
        ids_BL=padded(unpadded.ids, pad_id),
        types_BL=types_BL,
        # None: attention then needs no mask at all, which is the faster kernel.
        attention_mask_BL=None if mask_BL.all() else torch.from_numpy(mask_BL),
        targets=targets,
        target_total=torch.tensor(float(total)),
        rows_B=torch.from_numpy(np.asarray(rows_B, np.int64)),
    )


# --- batches --------------------------------------------------------------------------------------------


class TaskBatches:
    """The batches of one epoch, from batch `start` on, as this process's shares."""

    def __init__(
        self,
        sources: Sequence[TaskRows],
        order: Order,
        epoch: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        together: int = 1,
    ) -> None:
        self.sources, self.order, self.epoch, self.start = sources, order, epoch, start
        self.rank, self.world, self.together = rank, world, together
        # The whole epoch's, by every process alike: shares are cut from one plan, not agreed on.
        self.plan = plan_tasks([source.lengths_P for source in sources], order, epoch)
        self.ends_N = np.cumsum([len(rows_B) for _, rows_B in self.plan])

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[TaskBatch]:
        # From the beginning of the step that `start` lies in: its mean is over all of the step's batches.
        for first in range(self.start - self.start % self.together, len(self), self.together):
            group = self.plan[first : first + self.together]
            unpadded = [self._unpadded(*planned) for planned in group]
            totals: Counter[int] = Counter()
            for (task, _), rows in zip(group, unpadded, strict=True):
                totals[task] += _targets_in(rows)
            for number, ((task, rows_B), rows) in enumerate(zip(group, unpadded, strict=True), start=first):
                if number >= self.start:
                    # Each task's loss is a mean over its targets of the step; its tasks weigh alike.
                    yield self._share(task, rows, rows_B, totals[task] * len(totals))

    def _unpadded(self, task: int, rows_B: np.ndarray) -> UnpaddedRows:
        source, order = self.sources[task], self.order
        if source.spec.type.is_conversation:
            return windows_and_targets(source, [source.turns(piece) for piece in rows_B])
        rows = source.rows(rows_B, order.seed, self.epoch)
        return rows_and_targets(source, rows_B, rows, order.seed, self.epoch, training=True)

    def _share(self, task: int, unpadded: UnpaddedRows, rows_B: np.ndarray, total: float) -> TaskBatch:
        """Every world-th row of the batch, with all its candidates."""
        # Rows were sorted by length: taking turns gives each process as much work. A last batch smaller than
        # the number of processes leaves some without a row, and they must come to the step all the same.
        each = len(unpadded.ids) // len(rows_B)
        mine = range(self.rank, len(rows_B), self.world)
        rows = [row * each + candidate for row in mine for candidate in range(each)]
        targets = unpadded.targets
        targets = [targets[row] for row in mine] if isinstance(targets, list) else targets[list(mine)]
        share = UnpaddedRows(
            [unpadded.ids[row] for row in rows], [unpadded.types[row] for row in rows], targets
        )
        return collate(task, share, self.sources[task].vocabulary.pad_id, total, rows_B[list(mine)])


def _targets_in(unpadded: UnpaddedRows) -> int:
    if isinstance(unpadded.targets, list):
        return sum(target != IGNORED for row in unpadded.targets for target in row)
    return len(unpadded.targets)
