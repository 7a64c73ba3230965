"""Text, a window of lines at a time, cut into words: what encoding and counting have in common.

Shapes: B bytes, N lines, W words.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from span_electra.text import pretokenize
from span_electra.text.normal_form import NormalForm
from span_electra.text.tokenizer_rules import CharacterTable

WINDOW = 1 << 17  # bytes at a time: text, words and ids then stay in a core's own cache
_NEWLINE = 0x0A


@dataclass(frozen=True)
class Window:
    # The lines, a newline before the first and padding after the last; the next window reuses it.
    text_B: np.ndarray
    words_W: np.ndarray  # packed as in pretokenize.py
    line_words_N: np.ndarray  # words up to each line's end
    skipped: dict[int, str]  # lines not cut, by number

    def word(self, number: int) -> bytes:
        packed = int(self.words_W[number])
        start = packed >> 30
        return self.text_B[start : start + (packed >> 1 & 0x1FFFFFFF)].tobytes()


class WordCutter:
    """Cuts text into words; lines that hold one of `literals`, normalized or not, are left whole."""

    def __init__(
        self,
        characters: CharacterTable,
        literals: list[bytes],
        *,
        normal_form: NormalForm | None = None,
        bare_literals: Sequence[bytes] = (),
    ):
        """normal_form: of a BPE that has a normalizer.
        bare_literals: of WordPiece, those that stand for normalized text; as `bare_form` has them.
        """
        self._characters = characters
        self._literals = literals
        self._bare_literals = bare_literals
        self._normal_form = normal_form
        self._text_B = np.empty(0, np.uint8)
        self._words_W = np.empty(0, np.int64)

    def windows(self, text: bytes) -> Iterator[Window]:
        """Windows of whole lines of `text`, in order."""
        start = 0
        while start < len(text):
            end = text.find(b"\n", start + WINDOW) + 1 or len(text)
            yield self._cut(text[start:end])
            start = end

    def _cut(self, block: bytes) -> Window:
        normal = block if self._normal_form is None else self._normal_form.of(block)
        size = len(normal)
        if len(self._text_B) < size + 2 + pretokenize.PADDING:
            self._text_B = np.empty(2 * size + 2 + pretokenize.PADDING, np.uint8)
            self._words_W = np.empty(len(self._text_B), np.int64)  # a word has at least one byte of its own
        text_B, kinds_C = self._text_B, self._characters.kinds_C
        text_B[0] = _NEWLINE
        text_B[1 : 1 + size] = np.frombuffer(normal, np.uint8)
        text_B[1 + size : 1 + size + pretokenize.PADDING] = _NEWLINE
        # A last line without its end is a line too.
        lines = block.count(b"\n") + (block[-1] != _NEWLINE)
        skipped_N = lines_with(self._literals, normal)
        if normal is not block:
            skipped_N = np.union1d(skipped_N, lines_with(self._literals, block))
        if self._bare_literals:  # without the blanks it may find more lines than hold one, never fewer
            bare = self._characters.bare_form(block)
            skipped_N = np.union1d(skipped_N, lines_with(self._bare_literals, bare))
        # Places and lengths are packed into one number each, which has no room for more.
        if size >= pretokenize.MAX_TEXT_BYTES:
            skipped_N = np.arange(lines)
        line_words_N = np.zeros(lines, np.int64)
        progress = np.zeros(5, np.int64)
        progress[pretokenize.POS] = progress[pretokenize.AT_LINE_START] = 1
        cut, options = pretokenize.cut_wordpiece, {}
        if self._characters.bpe:
            cut, options = pretokenize.cut_bpe, {"prefix_space": self._characters.prefix_space}
        # The loop stops at a character of unknown kind, and goes on where it stopped once that is learned.
        while True:
            stopped = cut(
                text_B,
                lines,
                skipped_N=skipped_N,
                kinds_C=kinds_C,
                progress=progress,
                words_W=self._words_W,
                line_words_N=line_words_N,
                **options,
            )
            if stopped < 0:
                break
            # With all others that follow, for asking the library takes longer than to look them over.
            rest_B = text_B[progress[pretokenize.POS] : 1 + size][:WINDOW]
            self._characters.learn(chr(stopped) + rest_B.tobytes().decode(errors="ignore"))
        skipped = {}
        if len(skipped_N):
            window_lines = block.decode().split("\n")
            skipped = {int(line): window_lines[line] for line in skipped_N}
        return Window(text_B, self._words_W[: progress[pretokenize.WORDS]], line_words_N, skipped)


def lines_with(literals: Sequence[bytes], text: bytes) -> np.ndarray:
    """Numbers of the lines that hold one of the literals, in order."""
    # Most text holds none of their first bytes, which numpy finds at once. What begins alike is looked for
    # together: of thousands of words few beginnings are in a text.
    text_B, hits = np.frombuffer(text, np.uint8), []
    places: dict[bytes, np.ndarray] = {}  # where a beginning stands
    for literal in literals:
        found = text_B
        for last, byte in enumerate(literal):
            beginning = literal[: last + 1]
            if beginning not in places and last == 0:
                places[beginning] = np.flatnonzero(text_B == byte)
            elif beginning not in places:
                inside = found[: np.searchsorted(found, len(text_B) - last)]
                places[beginning] = inside[text_B[inside + last] == byte]
            found = places[beginning]
            if len(found) == 0:
                break
        hits.append(found)
    if not any(len(found) for found in hits):
        return np.empty(0, np.int64)
    newlines = np.flatnonzero(text_B == _NEWLINE)
    return np.unique(np.searchsorted(newlines, np.concatenate(hits)))
