"""Lines of text as tokens that know their place: which characters, which word, in which window.

Shapes are in the names:
  T  content tokens of a line   W  words of a line   N  lines   L  tokens of a row
  C  characters of a line
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import CLASSES, PARTS, character_classes

WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Line:
    """One line of text; `text[starts_T[t]:ends_T[t]]` is what token t stands for."""

    text: str
    ids_T: np.ndarray  # int64, without [CLS] and [SEP]
    starts_T: np.ndarray  # int64, characters; blanks before the word are not counted
    ends_T: np.ndarray
    word_T: np.ndarray  # int64; number of the word that the token belongs to
    word_spans: tuple[tuple[int, int], ...]  # characters of each word

    @property
    def words(self) -> list[str]:
        return [self.text[start:end] for start, end in self.word_spans]


@dataclass(frozen=True)
class TokenWindow:
    """Tokens [start, end) of a line, seen together; those of [scored_start, scored_end) are scored."""

    line: int
    start: int
    end: int
    scored_start: int
    scored_end: int


def read_lines(vocabulary: Vocabulary, texts: list[str], *, blanks_alone: bool = False) -> list[Line]:
    """Cut texts into tokens and words.

    A word is what stands between white space; in scripts that write none between words, what a token is, or
    several that make one character. With `blanks_alone` white space alone parts words in every script.
    """
    encodings = vocabulary.tokenizer.encode_batch(texts, add_special_tokens=False)
    return [
        _line(text, encoding.ids, encoding.offsets, blanks_alone)
        for text, encoding in zip(texts, encodings, strict=True)
    ]


def _line(text: str, ids: list[int], offsets: list[tuple[int, int]], blanks_alone: bool) -> Line:
    starts_T, ends_T = np.array(offsets, dtype=np.int64).reshape(-1, 2).T.copy()
    spans = _word_spans(text, starts_T[:0] if blanks_alone else starts_T)
    if not spans:  # tokens of blanks alone belong to no word
        starts_T, ends_T, ids = starts_T[:0], ends_T[:0], []
    word_T = np.zeros(len(ids), np.int64)
    if len(ids):
        first_W, end_W = np.array(spans).T
        word_T = words_of_tokens(starts_T, ends_T, end_W)
        starts_T = np.minimum(np.maximum(starts_T, first_W[word_T]), end_W[word_T])
        ends_T = np.maximum(ends_T, starts_T)
    return Line(
        text, np.array(ids, dtype=np.int64), starts_T=starts_T, ends_T=ends_T, word_T=word_T, word_spans=spans
    )


def words_of_tokens(starts_T: np.ndarray, ends_T: np.ndarray, end_W: np.ndarray) -> np.ndarray:
    """The word that each token belongs to, int64 [T]: the one its last character lies in.

    The characters of tokens, int64 [T], and behind the last one of each word, int64 [W].
    Example: words "ab" "c" of "ab c", tokens at (0, 1) (1, 2) (2, 4) -> 0 0 1
    """
    # By its last character: a token of byte-level BPE may begin with the blank before its word, and one that
    # is nothing but blanks belongs to the word they lead to. Empty ones (of characters that the normalizer
    # took away) stay where they stand.
    word_T = np.searchsorted(end_W, np.maximum(ends_T - 1, starts_T), side="right")
    return np.minimum(word_T, len(end_W) - 1)


def _word_spans(text: str, starts_T: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Characters of each word, cut at white space and where a token starts beside a character that parts."""
    spans = [match.span() for match in WORD.finditer(text)]
    if text.isascii() or not spans:
        return tuple(spans)
    code_C = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    parts_C = character_classes()[np.minimum(code_C, CLASSES - 1)] & PARTS > 0
    # The token of a blank that ends the line may start behind it, where its tokenizer trims offsets.
    inner_T = np.unique(starts_T[(starts_T > 0) & (starts_T < len(text))])
    inner_T = inner_T[parts_C[inner_T] | parts_C[inner_T - 1]]
    cuts = [cut for cut in inner_T.tolist() if not (text[cut].isspace() or text[cut - 1].isspace())]
    first_W, end_W = (sorted([*edge, *cuts]) for edge in zip(*spans, strict=True))
    return tuple(zip(first_W, end_W, strict=True))


def cut_windows(lengths_N: np.ndarray, room: int) -> list[TokenWindow]:
    """Cut lines of `lengths_N` tokens into windows of at most `room`, each token scored in exactly one.

    Neighbours overlap by at least half a window, and where two see a token the one in which it lies deeper
    scores it; so every scored token has room // 4 tokens, or the line's end, on either side.

    Example: one line of 10 tokens, room 4 -> [0, 4) scores [0, 3), [2, 6) scores [3, 5),
    [4, 8) scores [5, 7), [6, 10) scores [7, 10)
    """
    assert room > 0
    windows = []
    # Half a window: each token then has a quarter of one to read on either side, for twice the passes.
    stride = max(1, room // 2)
    for line, length in enumerate(lengths_N.tolist()):
        if length == 0:
            continue
        last = max(0, length - room)
        starts = [*range(0, last, stride), last]
        ends = [min(start + room, length) for start in starts]
        middles = [(start + end) // 2 for start, end in zip(starts[1:], ends[:-1], strict=True)]
        borders = [0, *middles, length]
        windows += [
            TokenWindow(line, start, end, borders[number], borders[number + 1])
            for number, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]
    return windows


def frame(vocabulary: Vocabulary, ids_T: np.ndarray) -> np.ndarray:
    return np.concatenate([[vocabulary.cls_id], ids_T, [vocabulary.sep_id]]).astype(np.int64)


def over_windows(
    vocabulary: Vocabulary,
    longest: int,
    ids: list[np.ndarray],
    score: Callable[[list[np.ndarray]], list[np.ndarray]],
) -> list[np.ndarray]:
    """Return `score`'s value for every content token of every line, whatever the lines' lengths.

    longest: tokens of the longest row, [CLS] and [SEP] included. `score` gets rows and gives one array
    [L, ...] for each. A line without tokens gives an array of length 0.
    """
    windows = cut_windows(np.array([len(ids_T) for ids_T in ids], dtype=np.int64), longest - 2)
    answers = score([frame(vocabulary, ids[each.line][each.start : each.end]) for each in windows])
    parts: list[list[np.ndarray]] = [[] for _ in ids]
    for window, answer_L in zip(windows, answers, strict=True):
        shift = 1 - window.start  # the content begins after [CLS]
        parts[window.line].append(answer_L[window.scored_start + shift : window.scored_end + shift])
    return [np.concatenate(part) if part else np.zeros(0, np.float32) for part in parts]


def pool_words(probability_T: np.ndarray, word_T: np.ndarray, words: int, pooling: str) -> np.ndarray:
    """Return one probability a word from those of its tokens, float64 [W]; a word without tokens gets 0.

    max: the highest; mean: the mean; any: 1 - product of (1 - p), as if tokens were independent.
    """
    if pooling == "max":
        pooled_W = np.zeros(words)
        np.maximum.at(pooled_W, word_T, probability_T)
        return pooled_W
    if pooling == "mean":
        counts_W = np.bincount(word_T, minlength=words)
        return np.bincount(word_T, probability_T, words) / np.maximum(counts_W, 1)
    assert pooling == "any", pooling
    # In logarithms: a product of many numbers near 1 would round to 1.
    kept_T = np.log1p(-np.minimum(probability_T.astype(np.float64), 1 - 1e-12))
    return 0.0 - np.expm1(np.bincount(word_T, kept_T, words))
