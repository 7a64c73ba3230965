"""The words of text and how often each occurs, as the tokenizer library's trainers count them.

    count_words([b"The cat, the dog\\n"], wordpiece) -> {b"the": 2, b"cat": 1, b",": 1, b"dog": 1}

Lines are counted without their line ends, as `train_from_iterator` over lines does. Words are bytes: of
byte-level BPE those of the text itself (the library spells them in letters, see byte_letters), of WordPiece
those of normalized text.

Shapes: B bytes, W words.
"""

import json
from collections import Counter
from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer

from span_electra.errors import InputError
from span_electra.text import lookup
from span_electra.text.lookup import WordTable
from span_electra.text.pretokenize import cut_rare
from span_electra.text.tokenizer_rules import CharacterTable, why_not_cut
from span_electra.text.windows import WordCutter
from span_electra.text.word_starts import BYTE_OF_LETTER, PARTS, character_classes

_NO_BOUND = 1 << 40
MAX_SIZE = 1 << 22  # bytes of distinct words in scripts without blanks; few English texts have as many
MOST_BYTES = 24  # eight characters of most scripts without blanks


def count_words(texts: Iterable[bytes], tokenizer: Tokenizer) -> Counter[bytes]:
    """Count the words of blocks of lines (UTF-8); the tokenizer's vocabulary does not matter.

    Raises InputError for a tokenizer that cuts text in a way of its own.
    """
    counter = WordCounter(tokenizer)
    for text in texts:
        counter.add(text)
    return counter.counts()


class WordCounter:
    """Counts words block by block in the table that encoding uses."""

    def __init__(self, tokenizer: Tokenizer):
        settings = json.loads(tokenizer.to_str())
        reason = why_not_cut(settings)
        if reason is not None:
            raise InputError(f"the words of this tokenizer cannot be counted: {reason}")
        self._tokenizer = tokenizer
        self._characters = CharacterTable(tokenizer, settings)
        self._cutter = WordCutter(self._characters, [])  # trainers see added tokens as any text
        self._table = WordTable(_NO_BOUND, id_bytes=2)
        self._allowed = MAX_SIZE
        self._most = 0  # bytes that words in scripts without blanks are cut to, when they have become many
        self._apart: Counter[bytes] = Counter()  # segments that the compiled loops leave to the library
        self._apart_words: Counter[bytes] = Counter()  # of lines longer than a window can be

    def add(self, text: bytes) -> None:
        for window in self._cutter.windows(text):
            self._count(window.text_B, window.words_W, np.ones(len(window.words_W), np.int64))
            for line in window.skipped.values():
                self._apart_words.update(self._words_of(line))
            if self._characters.bpe and self.size > self._allowed:
                self._make_smaller()

    @property
    def size(self) -> int:
        """Bytes of all distinct words so far, those of up to 16 bytes taken as 16."""
        words, key_bytes, _ = self._table.table.fill.tolist()
        return 16 * words + key_bytes + sum(map(len, self._apart))

    def _count(self, text_B: np.ndarray, words_W: np.ndarray, uses_W: np.ndarray) -> None:
        if self._most:
            words_W, uses_W = _cut_rare(text_B, words_W, uses_W, rare=_NO_BOUND, most=self._most)
        # The lowest bit marks what the loops do not cut as the library does.
        apart_W = (words_W & 1 != 0) | (words_W >> 1 & 0x1FFFFFFF > lookup.MAX_KEPT)
        for packed, uses in zip(words_W[apart_W].tolist(), uses_W[apart_W].tolist(), strict=True):
            self._apart[text_B[packed >> 30 :][: packed >> 1 & 0x1FFFFFFF].tobytes()] += uses
        words_W, uses_W, done = words_W[~apart_W], uses_W[~apart_W], 0
        while done < len(words_W):
            done = lookup.count_uses(text_B, words_W, uses_W, table=self._table.table, done=done)
            if done < len(words_W):
                self._table.make_room()

    def _make_smaller(self) -> None:
        """Cut the rarest words of scripts without blanks in halves, until there is room for more.

        A sentence there is one word to byte-level BPE, and most are seen once: kept whole, their number would
        grow as the text does. Pieces hold the same pairs of tokens but for those at the cuts.
        """
        self._most, rare = MOST_BYTES, 1
        while self.size > MAX_SIZE // 2:
            words, uses_W = self._table.words()
            words += self._apart
            uses_W = np.concatenate([uses_W, np.fromiter(self._apart.values(), np.int64)])
            text_B = np.frombuffer(b"".join(words) + bytes(lookup.PADDING), np.uint8)
            lengths_W = np.array([len(word) for word in words], np.int64)
            words_W = np.cumsum(lengths_W) - lengths_W << 30 | lengths_W << 1
            if len(_cut_rare(text_B, words_W, uses_W, rare=_NO_BOUND, most=0)[0]) == len(words):
                break  # the rest has blanks, or is of two characters
            words_W, uses_W = _cut_rare(text_B, words_W, uses_W, rare=rare, most=0)
            self._table, self._apart = WordTable(_NO_BOUND, id_bytes=2), Counter()
            self._count(text_B, words_W, uses_W)
            rare *= 4
        self._allowed = max(MAX_SIZE, 2 * self.size)

    def counts(self) -> Counter[bytes]:
        """All words so far."""
        words, counts = self._table.words()
        if not self._characters.bpe:
            words = self._characters.normal_forms(words)
        found = Counter(self._apart_words)
        for segment, count in self._apart.items():
            for word in [segment] if self._characters.bpe else self._words_of(segment.decode()):
                found[word] += count
        for word, count in zip(words, counts.tolist(), strict=True):
            found[word] += count
        del found[b""]  # what was nothing but characters that normalizing removes
        return found

    def _words_of(self, text: str) -> list[bytes]:
        """Words of text by the library."""
        cutter = self._tokenizer.pre_tokenizer
        if self._characters.bpe:
            words = (word for word, _ in cutter.pre_tokenize_str(text))
            return [bytes(BYTE_OF_LETTER[letter] for letter in word) for word in words]
        normal = self._tokenizer.normalizer.normalize_str(text)
        return [word.encode() for word, _ in cutter.pre_tokenize_str(normal)]


def _cut_rare(
    text_B: np.ndarray, words_W: np.ndarray, uses_W: np.ndarray, *, rare: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    parts_C = character_classes() & PARTS != 0
    return cut_rare(text_B, words_W, uses_W, rare=rare, most=most, parts_C=parts_C)
