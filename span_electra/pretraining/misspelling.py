"""Misspelt words as corruption: some words of a row are misspelt, and the discriminator learns to find them.

A generator's replacements are words, well spelt and in place; a misspelt word is neither, and the
discriminator meets none unless some are made. They are made in the ids: a word's tokens are decoded, edited
as `text/noise.py` edits words, and encoded again. The row keeps its length: what is
pushed over its end is cut. A word whose ids do not come back from its text alone, or that holds a special
token, stays as it is. In scripts without blanks a word is encoded behind its neighbour, since alone it would
begin a text; it stays where what comes of it cannot be parted from that one.

As in what people write, errors come together: most rows have none, and the others each a share of its own. So
both networks also read most text as they will meet it, and what is asked of plain sentences gains
(docs/learning.md).

Shapes are in the names:
  B  rows   L  tokens of the longest row   T  tokens of one row's content   V  vocabulary
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache

import numpy as np

from span_electra.features.masking import row_keys
from span_electra.features.store import Features
from span_electra.features.words import TokenRows, word_starts
from span_electra.text.letters import alphabets, drops_accents, letters_for
from span_electra.text.noise import NoiseConfig, edit_word
from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import without_blanks

KEPT_WORDS = 1 << 16  # decoded words that are remembered; a word is edited anew each time
NOISY_ROWS = 1 / 3  # share of the rows that have errors, if these can hold them all


class Misspeller:
    """Misspells a share of the words of all rows; which and how depends on (seed, epoch, row) alone."""

    def __init__(self, vocabulary: Vocabulary, share: float, seed: int) -> None:
        self.share, self.seed = share, seed
        self._tokenizer = vocabulary.tokenizer
        self._special = {self._tokenizer.token_to_id(token) for token in vocabulary.special.all}
        self._token_words = vocabulary.token_words
        self._config = NoiseConfig(kind="artificial")
        self._letters = alphabets(self._tokenizer.decode([number]) for number in range(vocabulary.size))
        self._accents, self._pieces = not drops_accents(vocabulary), Pieces(vocabulary)
        self._text_of = lru_cache(KEPT_WORDS)(self._decode)

    def misspell(
        self, ids_BL: np.ndarray, lengths_B: np.ndarray, rows_B: np.ndarray, epoch: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the rows with errors, and which tokens are of a misspelt word, under MaskedBatch's names.

        lengths_B: real tokens of each row, [CLS] and [SEP] included. Returned with them is where each token
        of the rows went, int64 [B, L]: to its place there, a misspelt one to the first of its word, one that
        was cut to the place of [SEP].
        """
        ids_BL, wrong_BL = ids_BL.copy(), np.zeros(ids_BL.shape, bool)
        moved_BL = np.tile(np.arange(ids_BL.shape[1]), (len(ids_BL), 1))
        # A key of its own purpose: the errors of a row are no part of its masks or samples.
        keys_B = row_keys(self.seed, epoch, rows_B, "misspelling")
        # As whole-word masks have it: where no blank parts words, an error is not of a whole line.
        rows = TokenRows(ids_BL.ravel(), np.arange(len(ids_BL)) * ids_BL.shape[1], lengths_B)
        starts_T = word_starts(rows, self._token_words)
        starts_B = np.split(starts_T, np.cumsum(lengths_B[:-1] - 2))
        for row, (length, key) in enumerate(zip(lengths_B.tolist(), keys_B.tolist(), strict=True)):
            content = slice(1, length - 1)  # between [CLS] and [SEP]
            rng = np.random.Generator(np.random.Philox(key=key))
            share = share_of_row(self.share, *rng.random(2))
            found = self._row(ids_BL[row, content], starts_B[row], share, rng)
            ids_BL[row, content], wrong_BL[row, content], moved_T = found
            moved_BL[row, content] = 1 + moved_T
        return {"original_BL": ids_BL, "misspelt_BL": wrong_BL}, moved_BL

    def can_misspell(self, features: Features, rows_R: np.ndarray) -> bool:
        """Whether any word of these rows can be misspelt at all."""
        lengths_R = np.asarray(features.lengths_R)[rows_R].astype(np.int64)
        ids_BL = features.gather(rows_R, int(lengths_R.max(initial=1)))
        every = copy(self)
        every.share = 1.0
        return bool(every.misspell(ids_BL, lengths_R, rows_R, 0)[0]["misspelt_BL"].any())

    def _row(
        self, ids_T: np.ndarray, starts_T: np.ndarray, share: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # In the ids, not in the text: rows are cut at tokens, and their text might not give these ids again.
        # A row's first token begins no word that began in another row.
        goes_on = not self._token_words.starts_V[ids_T[:1]].any()
        starts = np.flatnonzero(starts_T)[int(goes_on) :]
        ids, wrong, moved, done = [], [], [], 0
        # The last word may go on in the next row, and what comes before the first began in another.
        for number in np.flatnonzero(rng.random(max(0, len(starts) - 1)) < share):
            begin, end = starts[number], starts[number + 1]
            # A word without a blank before it begins no text: its neighbour says how it is encoded.
            behind = ids_T[starts[number - 1] if number else 0 : begin]
            noisy = self._edited(tuple(ids_T[begin:end].tolist()), tuple(behind.tolist()), rng)
            if noisy is None:
                continue
            place = len(ids) + begin - done  # of the word, behind what precedes it
            moved += [*range(len(ids), place), *[place] * (end - begin)]
            ids += [*ids_T[done:begin].tolist(), *noisy]
            wrong += [False] * (begin - done) + [True] * len(noisy)
            done = end
        moved += range(len(ids), len(ids) + len(ids_T) - done)
        ids += ids_T[done:].tolist()
        wrong += [False] * (len(ids_T) - done)
        length = len(ids_T)
        return (
            np.array(ids[:length], ids_T.dtype),
            np.array(wrong[:length], bool),
            np.array(moved, np.int64).clip(max=length),
        )

    def _edited(
        self, word: tuple[int, ...], behind: tuple[int, ...], rng: np.random.Generator
    ) -> list[int] | None:
        """The tokens of the word with an error in it; None where it has none that keeps the row's length.

        behind: the tokens before it, of its neighbour.
        """
        found, joins = self._text_of(word), self._joins(word)
        if found is None:
            return self._edited_behind(word, behind, rng) if joins else None
        space, text, letters = found
        edited = edit_word(text, self._config, letters, rng, accents=joins and self._accents)
        ids = self._tokenizer.encode(space + edited, add_special_tokens=False).ids
        # Fewer tokens would leave a hole at the row's end.
        return None if edited == text or len(ids) < len(word) or self._special & {*ids} else ids

    def _joins(self, word: tuple[int, ...]) -> bool:
        """Whether it is a word of a script that writes no blanks between words."""
        letters = filter(str.isalpha, self._pieces.text(word))
        return not self._special & {*word} and without_blanks(next(letters, " "))

    def _edited_behind(
        self, word: tuple[int, ...], behind: tuple[int, ...], rng: np.random.Generator
    ) -> list[int] | None:
        text, before = self._pieces.text(word), self._pieces.text(behind)[-2:]
        space = text[: len(text) - len(text.lstrip())]
        text = text.strip()
        # Parts of characters are no text, and what begins a row has no neighbour to be encoded behind.
        if not before or "\ufffd" in before + text or len(text.split()) != 1:
            return None
        letters = letters_for(text, self._letters)
        edited = edit_word(text, self._config, letters, rng, accents=self._accents)
        encoding = self._tokenizer.encode(before + space + edited, add_special_tokens=False)
        tokens = zip(encoding.ids, encoding.offsets, strict=True)
        inside = [(number, start) for number, (start, end) in tokens if end > len(before)]
        ids = [number for number, _ in inside]
        joined = not inside or inside[0][1] < len(before)
        return None if joined or edited == text or len(ids) < len(word) or self._special & {*ids} else ids

    def _decode(self, word: tuple[int, ...]) -> tuple[str, str, list[str]] | None:
        """The space before a word, its text, and the letters of its script; None unless it is one word."""
        # [UNK] stands for text that is not known, and [MASK] for none: neither is spelt in any way.
        if self._special & {*word}:
            return None
        decoded = self._tokenizer.decode(list(word), skip_special_tokens=False)
        text = decoded.strip()
        if len(text.split()) != 1 or not any(mark.isalpha() for mark in text):
            return None
        space = decoded[: len(decoded) - len(decoded.lstrip())]
        if tuple(self._tokenizer.encode(decoded, add_special_tokens=False).ids) != word:
            return None  # part of a character, say: what is written back would differ by more than the error
        return space, text, letters_for(text, self._letters)


def share_of_row(share: float, which: float, how_many: float) -> float:
    """The share of one row's words that is misspelt, by two draws from [0, 1); over all rows `share`.

    `which` says whether the row has errors, `how_many` how many, evenly up to twice the mean of such rows.
    Example: share 0.05 -> 0 for two thirds of the rows, 0 to 0.3 for the others
    """
    noisy = min(1.0, max(NOISY_ROWS, 2 * share))
    most = min(1.0, 2 * share / noisy)
    least = 2 * share / noisy - most  # above 0 where half of all words and more are misspelt
    return least + how_many * (most - least) if which < noisy else 0.0
