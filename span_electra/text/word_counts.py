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
from span_electra.text.tokenizer_rules import CharacterTable, why_not_cut
from span_electra.text.windows import Window, WordCutter
from span_electra.text.word_ids import COUNTING, new_model
from span_electra.text.word_starts import BYTE_OF_LETTER
from span_electra.text.word_table import WordTable

_NO_BOUND = 1 << 40


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
        self._model = new_model(COUNTING)
        self._table = WordTable(_NO_BOUND, id_bytes=2)
        self._apart: Counter[bytes] = Counter()  # segments that the compiled loops leave to the library
        self._apart_words: Counter[bytes] = Counter()  # of lines longer than a window can be

    def add(self, text: bytes) -> None:
        for window in self._cutter.windows(text):
            self._add_window(window)
            for line in window.skipped.values():
                self._apart_words.update(self._words_of(line))

    def _add_window(self, window: Window) -> None:
        progress, out_B = np.zeros(3, np.int64), np.empty(8, np.uint8)  # a word has no ids here
        line_ends_N = np.empty(len(window.line_words_N), np.int64)
        while True:
            status = lookup.look_up(
                *(window.text_B, window.words_W, window.line_words_N, self._model, self._table.table),
                *(self._table.max_words, self._table.scratch, progress, out_B, line_ends_N),
            )
            if status == lookup.DONE:
                return
            if status == lookup.TABLE_FULL:
                self._table.make_room()
            else:
                self._apart[window.word(progress[lookup.WORD])] += 1
                progress[lookup.WORD] += 1

    def counts(self) -> Counter[bytes]:
        """All words so far."""
        words, counts = self._table.words()
        if not self._characters.bpe:
            words = self._normalized(words)
        found = Counter(self._apart_words)
        for segment, count in self._apart.items():
            for word in [segment] if self._characters.bpe else self._words_of(segment.decode()):
                found[word] += count
        for word, count in zip(words, counts.tolist(), strict=True):
            found[word] += count
        del found[b""]  # what was nothing but characters that normalizing removes
        return found

    def _normalized(self, words: list[bytes]) -> list[bytes]:
        words_B = np.frombuffer(b"".join(words), np.uint8)
        ends_W = np.cumsum([len(word) for word in words], dtype=np.int64)
        normal_B, normal_ends_W = np.empty(len(words_B) * 15, np.uint8), np.empty_like(ends_W)
        forms_C, form_bytes_B = self._characters.forms_C, self._characters.form_bytes_B
        lookup.normalize_words(
            words_B,
            ends_W,
            forms_C=forms_C,
            form_bytes_B=form_bytes_B,
            normal_B=normal_B,
            normal_ends_W=normal_ends_W,
        )
        ends = [0, *normal_ends_W.tolist()]
        normal = normal_B[: ends[-1]].tobytes()
        return [normal[start:end] for start, end in zip(ends, ends[1:], strict=False)]

    def _words_of(self, text: str) -> list[bytes]:
        """Words of text by the library."""
        if not self._characters.bpe:
            text = self._tokenizer.normalizer.normalize_str(text)
        words = [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        if not self._characters.bpe:
            return [word.encode() for word in words]
        return [bytes(BYTE_OF_LETTER[letter] for letter in word) for word in words]
