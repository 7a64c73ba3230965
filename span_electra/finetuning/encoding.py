"""Examples -> rows of token ids: what a prepared file holds, one JSON object a row.

    {"uid": "7", "input_ids": [0, 52, 8, 1], "token_type_ids": [0, 0, 0, 0], "label": 1}

Tasks by words add `word_ids`, the word of each token (-1: of none), and `words`, how many there are, of which
the last may have been cut off. Conversations hold `turns`, lists of ids, which become rows
when they are read; sentences that are misspelt anew in each epoch hold `text`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding

from span_electra.finetuning.readers import Example
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_types import TaskType
from span_electra.finetuning.turns import row_length
from span_electra.text.token_spans import words_of_tokens
from span_electra.text.unknown import lost_characters
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import without_blanks

MISSPELLINGS = "misspellings.json"  # beside the rows that are misspelt anew by it, which need no other file
TOKENLESS, CHARACTERS, LOST = "tokenless", "characters", "lost"  # what is noted of words and texts


@dataclass(frozen=True)
class TaskSpec:
    """What decides the rows of a task besides its examples."""

    task: Task
    labels: tuple[str, ...]
    max_seq_len: int  # tokens of the longest row, special ones included
    lowercase: bool = False  # the tokenizer folds capital letters first

    @property
    def type(self) -> TaskType:
        return self.task.type

    @cached_property
    def number_of(self) -> dict[str, int]:
        """The number of each label."""
        return {name: number for number, name in enumerate(self.labels)}

    def reading(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary as the task's texts are read with it, in training and when it is exported."""
        return vocabulary.folded if self.lowercase else vocabulary


class EncodedLines(NamedTuple):
    """Lines of a prepared file, and what of their examples a person should hear of."""

    lines: list[str]
    cut: int  # examples that are too long
    noted: Counter[str]  # words that are TOKENLESS, CHARACTERS of the texts and those LOST


def line_encoder(settings: tuple[Vocabulary, TaskSpec]) -> Callable[[Sequence[Example]], EncodedLines]:
    """What a process of its own does with examples, once it has vocabulary and spec."""
    return partial(encode_lines, *settings)


def encode_lines(vocabulary: Vocabulary, spec: TaskSpec, examples: Sequence[Example]) -> EncodedLines:
    """The lines of a prepared file for these examples, in order."""
    # Text to lines of JSON in the worker itself: rows as objects would be pickled on their way back.
    noted: Counter[str] = Counter()
    encoded = [*encoded_rows(vocabulary, spec, examples, noted)]
    noted[TOKENLESS] = sum(starmap(_tokenless, encoded))
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row, _ in encoded]
    return EncodedLines(lines, sum(cut for _, cut in encoded), noted)


def _tokenless(row: dict[str, Any], cut: bool) -> int:
    """How many of a row's words have no token, those behind its end not counted."""
    seen = {*row.get("word_ids", ())} - {-1}
    return (max(seen, default=-1) + 1 if cut else row.get("words", 0)) - len(seen)


def encode_examples(
    vocabulary: Vocabulary, spec: TaskSpec, examples: Sequence[Example]
) -> list[dict[str, Any]]:
    """Return one row for each example, in order."""
    return [row for row, _ in encoded_rows(vocabulary, spec, examples)]


def encoded_rows(
    vocabulary: Vocabulary, spec: TaskSpec, examples: Sequence[Example], noted: Counter[str] | None = None
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each example's row, and whether it lost text because it is too long; `noted` counts what is unknown."""
    encode = partial(_encode, spec.reading(vocabulary), noted)
    if spec.type.in_turns:
        for example in examples:
            turns = [piece.ids for piece in encode(list(example.texts))]
            yield {"uid": example.uid, "turns": turns}, _loses_turns(turns, spec)
        return
    # All texts in one call, which the tokenizer spreads over the cores by itself.
    # Words of a text that was cut by hand: it had no blanks where its script has none. Sentences that are
    # checked for misspelt words were parted at the blanks that they have.
    joined = spec.type.reader == "tagged_words"
    spelt = [with_blanks(one.words, joined) if spec.type.by_word else [] for one in examples]
    texts = [
        ("".join(words),) if spec.type.by_word else one.texts
        for one, words in zip(examples, spelt, strict=True)
    ]
    encodings = iter(encode([text for pair in texts for text in pair]))
    for example, pair, spelt_words in zip(examples, texts, spelt, strict=True):
        pieces = [next(encodings) for _ in pair]
        ids, words = [piece.ids for piece in pieces], []
        if spec.type.by_word:
            # By offsets, not word by word: byte-level BPE gives a word after a blank other tokens.
            words = word_ids(pieces[0].offsets, spelt_words)
            if words != word_ids([(start, start) for start, _ in pieces[0].offsets], spelt_words):
                # A token that begins in one word and ends in another: none of them is any word's own.
                ids[0], words = words_apart(encode, spelt_words)
        cut = sum(map(len, ids)) + len(ids) + 1 > spec.max_seq_len
        if spec.task.noise and example.label is None:
            # Misspelt anew whenever it is read; as it stands it has about as many tokens.
            yield {"uid": example.uid, "text": example.texts[0]}, cut
            continue
        row = _framed(vocabulary, ids, spec.max_seq_len)
        if spec.type.by_word:
            room = len(row["input_ids"]) - 2
            row |= {"word_ids": [-1, *words[:room], -1], "words": len(example.words)}
        label = {} if example.label is None else {"label": numbered(example.label, spec)}
        yield {"uid": example.uid} | row | label, cut


def _encode(vocabulary: Vocabulary, noted: Counter[str] | None, texts: list[str]) -> list[Encoding]:
    encodings = vocabulary.tokenizer.encode_batch(texts, add_special_tokens=False)
    if noted is not None:
        noted[CHARACTERS] += sum(len(text) - text.count(" ") for text in texts)
        noted[LOST] += lost_characters(vocabulary, texts, encodings)
    return encodings


def _loses_turns(turns: list[list[int]], spec: TaskSpec) -> bool:
    """Whether a row does not hold a conversation.

    One to be continued is cut into windows instead: there a turn loses tokens that alone is too long.
    """
    rows = [[turn] for turn in turns] if spec.type.is_conversation else [turns]
    return any(row_length(row) > spec.max_seq_len for row in rows)


def _framed(vocabulary: Vocabulary, texts: list[list[int]], longest: int) -> dict[str, list[int]]:
    """[CLS] a [SEP], or [CLS] a [SEP] b [SEP] of types 0 and 1; what is too long loses its end."""
    room = longest - 1 - len(texts)
    assert room >= 0, "the settings see to it that a row holds its special tokens"
    kept = [room] if len(texts) == 1 else kept_of_pair(len(texts[0]), len(texts[1]), room)
    ids, types = [vocabulary.cls_id], [0]
    for number, (text, length) in enumerate(zip(texts, kept, strict=True)):
        cut = text[:length]
        ids += [*cut, vocabulary.sep_id]
        types += [number] * (len(cut) + 1)
    return {"input_ids": ids, "token_type_ids": types}


def kept_of_pair(first: int, second: int, room: int) -> tuple[int, int]:
    """How much of two texts stays: the longer one is cut until both are equal, then both.

    The odd token goes to the longer one, of two equal ones to the second, as with `longest_first` of
    `tokenizers`. Example: 9 and 3 tokens, room for 7 -> 4 and 3
    """
    # Taking turns from the longer one, done at once: down to the shorter's length, then from both alike.
    shorter = min(first, second, room // 2)
    longer = min(max(first, second), room - shorter)
    return (longer, shorter) if first > second else (shorter, longer)


def with_blanks(words: Sequence[str], joined: bool) -> list[str]:
    """Words with the blanks before them that make a text of them.

    joined: whether there is none where both sides are of scripts that write none.

    Example: "the", "cat" -> "the", " cat"; joined: "无法", "打开", "PDF" -> "无法", "打开", " PDF"
    """
    text = [*words[:1]]
    for before, word in zip(words[:-1], words[1:], strict=True):
        bare = joined and before and word and without_blanks(before[-1]) and without_blanks(word[0])
        text.append(word if bare else f" {word}")
    return text


def words_apart(
    encode: Callable[[list[str]], list[Encoding]], words: Sequence[str]
) -> tuple[list[int], list[int]]:
    """The tokens of `"".join(words)` if none may hold parts of two words, and the word of each.

    Example: words "我" "无" "法" -> the tokens of 我, 无 and 法, also where 无法 is a token
    """
    # Byte-level BPE merges nothing over the end of a line, and puts no blank behind it; to others it is one.
    apart = [*words[:1], *(f"\n{word}" for word in words[1:])]
    text, [encoding] = "".join(apart), encode(["".join(apart)])
    tokens = zip(encoding.ids, word_ids(encoding.offsets, apart), encoding.offsets, strict=True)
    kept = [(number, word) for number, word, (_, end) in tokens if text[end - 1 : end] != "\n"]
    return [number for number, _ in kept], [word for _, word in kept]


def word_ids(offsets: Sequence[tuple[int, int]], words: Sequence[str]) -> list[int]:
    """The word that each token of `"".join(words)` belongs to; the words have their blanks before them.

    Example: words "ab" " c", tokens at (0, 1) (1, 2) (2, 4) -> 0 0 1
    """
    starts_T, ends_T = np.array(offsets, np.int64).reshape(-1, 2).T
    end_W = np.cumsum([len(word) for word in words], dtype=np.int64)
    return words_of_tokens(starts_T, ends_T, end_W).tolist()


def numbered(label: str | tuple[str, ...], spec: TaskSpec) -> int | float | list[int]:
    """A label as the network's target: its number, those of several, or the number that it is."""
    if spec.type.labels == "number":
        return float(label)
    if isinstance(label, str):
        return spec.number_of[label]
    return [spec.number_of[name] for name in label]
