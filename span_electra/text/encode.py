"""Lines of text to token ids at the speed of looking words up: exactly the ids of the tokenizer library.

Natural text has few distinct words. A compiled loop cuts a window of lines into words (pretokenize.py),
another looks each up in a table that persists from call to call (lookup.py) and works out the ids of
those not met before (word_ids.py). What the loops cannot know goes to the library: lines that hold an added
token ("[MASK]") literally, words of more than 64 kB, a few rare marks, and every line of a tokenizer whose
settings are not understood (`fallback_reason`).

    >>> encoder = TextEncoder(tokenizer)
    >>> lines = encoder.encode(b"first line\\nsecond\\n")
    >>> lines.ids_T[: lines.line_ends_N[0]]  # tokenizer.encode("first line", add_special_tokens=False).ids

Shapes: T tokens, N lines, W words, B bytes, S slots.
"""

import json
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from span_electra.errors import InputError
from span_electra.text import lookup
from span_electra.text.lookup import WordTable
from span_electra.text.normal_form import NormalForm
from span_electra.text.tokenizer_rules import NOT_BY_ITSELF, CharacterTable, read_model, why_not
from span_electra.text.windows import WINDOW, Window, WordCutter
from span_electra.text.word_ids import new_scratch
from span_electra.text.word_starts import byte_letters

MAX_WORDS = 1 << 20  # in the table: 64 MB of slots; 150 MB of English text has about half as many words
# Characters of a line or a word that goes to the library, which takes some hundred bytes of memory for each.
LONGEST_BY_LIBRARY = 1 << 24
LIBRARY_BATCH = 1024  # lines handed to the library at a time where it does all the work

_AS_LETTERS = dict(enumerate(byte_letters()))  # bytes read as Latin-1 -> as byte-level BPE writes them


@dataclass(frozen=True)
class EncodedLines:
    ids_T: np.ndarray  # uint16 when the vocabulary fits, else uint32; all lines' ids one after another
    line_ends_N: np.ndarray  # int64, exclusive end in ids_T of each line


class TextEncoder:
    """Encodes lines as `tokenizer.encode(line, add_special_tokens=False)` does, but never pads."""

    def __init__(self, tokenizer: Tokenizer):
        if tokenizer.padding is not None:
            tokenizer = Tokenizer.from_str(tokenizer.to_str())
            tokenizer.no_padding()
        self.tokenizer = tokenizer
        settings = json.loads(tokenizer.to_str())
        self.fallback_reason = why_not(settings)
        # By the highest id, not by the number of tokens: a stranger's vocabulary may leave ids out.
        highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        self.id_dtype = np.uint16 if highest < 1 << 16 else np.uint32
        if self.fallback_reason is not None:
            return
        added = [token["content"].encode() for token in settings["added_tokens"] if token["content"]]
        self._characters = CharacterTable(tokenizer, settings)
        normal_form, bare = None, []
        if self._characters.bpe and tokenizer.normalizer is not None:
            normal_form = NormalForm(tokenizer, settings)
            # The library looks for some of them in normalized text, and normalizes these too.
            added += [normal_form.of(token) for token in added]
        elif not self._characters.bpe:
            in_normal = [token["content"] for token in settings["added_tokens"] if token["normalized"]]
            bare = [self._characters.bare_form(content.encode()) for content in in_normal]
            if not all(bare) or any(NOT_BY_ITSELF in content for content in bare):
                self.fallback_reason = "an added token that is not normalized character by character"
                return
            bare += [bytes([NOT_BY_ITSELF])] if bare else []
        self._cutter = WordCutter(self._characters, added, normal_form=normal_form, bare_literals=bare)
        model = read_model(settings, np.dtype(self.id_dtype).itemsize, self._characters)
        if model is None:
            self.fallback_reason = "a BPE whose merges are out of order"
            return
        self._model = model
        self._words, self._scratch = WordTable(MAX_WORDS, model.id_bytes), new_scratch()
        self._out_B = np.empty(WINDOW * model.id_bytes, np.uint8)

    def encode(self, text: bytes) -> EncodedLines:
        """Ids of every line of `text`: valid UTF-8; a newline ends a line, the last may lack it.

        Raises InputError for a line or a word that is too long for the library and not for the loops.
        """
        if self.fallback_reason is not None:
            return self._encode_by_library(text)
        # An empty part first, so that a text without lines has arrays of the right types too.
        parts = [EncodedLines(np.empty(0, self.id_dtype), np.empty(0, np.int64))]
        parts += [self._encode_window(window) for window in self._cutter.windows(text)]
        shifts = np.cumsum([0] + [len(part.ids_T) for part in parts[:-1]])
        ends = [part.line_ends_N + shift for part, shift in zip(parts, shifts, strict=True)]
        return EncodedLines(np.concatenate([part.ids_T for part in parts]), np.concatenate(ends))

    def _encode_window(self, window: Window) -> EncodedLines:
        line_ends_N = np.empty(len(window.line_words_N), np.int64)
        progress = np.zeros(3, np.int64)
        if self._model.form_bytes_B is not self._characters.form_bytes_B:  # cutting learned more
            self._model = self._model._replace(form_bytes_B=self._characters.form_bytes_B)
        while True:
            status = lookup.look_up(
                *(window.text_B, window.words_W, window.line_words_N, self._model, self._words.table),
                *(self._scratch, progress, self._out_B, line_ends_N),
            )
            if status == lookup.DONE:
                break
            # The loops stop rather than grow: room is made here, and they go on from `progress`.
            if status == lookup.TABLE_FULL:
                self._words.make_room()
            elif status == lookup.OUTPUT_FULL:
                self._out_B = np.concatenate([self._out_B, np.empty_like(self._out_B)])
            else:
                self._ask_library(window.word(progress[lookup.WORD]), progress)
        ids_T = self._out_B[: progress[lookup.OUT_BYTES]].view(self.id_dtype)
        lines = EncodedLines(ids_T.copy(), line_ends_N)
        return self._with_skipped(lines, window.skipped) if window.skipped else lines

    def _ask_library(self, word: bytes, progress: np.ndarray) -> None:
        """Keep the ids of a word that the loops cannot encode; write them out if it is too long to keep."""
        text = _checked_length(word.decode(), "word")
        if self._characters.bpe:
            written = word.decode("latin-1").translate(_AS_LETTERS)
            ids = [token.id for token in self.tokenizer.model.tokenize(written)]
        else:
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        ids_B = np.array(ids, self.id_dtype).view(np.uint8)
        # What fits a slot is kept, and met there the next time; a longer word is seldom met twice.
        if len(word) <= lookup.MAX_KEPT and len(ids) <= lookup.MAX_KEPT:
            self._words.insert(word, ids_B, len(ids))
            return
        start, end = progress[lookup.OUT_BYTES], progress[lookup.OUT_BYTES] + len(ids_B)
        if end > len(self._out_B):
            self._out_B = np.concatenate([self._out_B, np.empty(len(ids_B), np.uint8)])
        self._out_B[start:end] = ids_B
        progress[lookup.OUT_BYTES] = end
        progress[lookup.WORD] += 1

    def _with_skipped(self, lines: EncodedLines, skipped: dict[int, str]) -> EncodedLines:
        """Put in the ids of lines that were not cut."""
        counts_N, numbers = np.diff(lines.line_ends_N, prepend=0), list(skipped)
        lines_of_library = map(_checked_length, skipped.values())
        ids = [self.tokenizer.encode(line, add_special_tokens=False).ids for line in lines_of_library]
        counts_N[numbers] = [len(of_line) for of_line in ids]  # these lines are empty so far
        places_T = np.repeat(lines.line_ends_N[numbers], counts_N[numbers])
        ids_T = np.insert(lines.ids_T, places_T, [*chain.from_iterable(ids)])
        return EncodedLines(ids_T, np.cumsum(counts_N))

    def _encode_by_library(self, text: bytes) -> EncodedLines:
        lines = text.decode().split("\n")
        if lines[-1] == "":
            lines.pop()  # a newline ends a line, it does not begin one
        ids = []
        for start in range(0, len(lines), LIBRARY_BATCH):
            some = [*map(_checked_length, lines[start : start + LIBRARY_BATCH])]
            batch = self.tokenizer.encode_batch_fast(some, add_special_tokens=False)
            ids += [np.array(encoding.ids, self.id_dtype) for encoding in batch]
        ends_N = np.cumsum([len(line) for line in ids], dtype=np.int64)
        return EncodedLines(np.concatenate([np.empty(0, self.id_dtype), *ids]), ends_N)


def _checked_length(line: str, kind: str = "line") -> str:
    if len(line) > LONGEST_BY_LIBRARY:
        raise InputError(
            f"a {kind} of {len(line):,} characters, of which the tokenizer library would need gigabytes "
            f"({line[:20]!r} ...); break it into lines"
        )
    return line
