"""What a misspelt word may have been meant as: whole words of the vocabulary, and what one edit makes of it.

V  vocabulary   N  its whole words
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from span_electra.text.letters import alphabets, is_mark, letters_for, scripts
from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import without_blanks

# The numbers below are the best of a grid on a development set in which one word in five is misspelt.
NATS_AN_EDIT = 5.0  # that each edit costs a candidate: one word in 150 has it, e^-5
MOST_EDITS = 2  # of a correction; what is further off is another word
SHORT = 3  # letters of words that bear one edit only; two turn `cat` into half of all short words
# Strings with a letter put in or exchanged, each to be encoded: 48 characters by an alphabet of 80 letters.
MOST_TRIED = 8000


class Candidates:
    """The whole words of a vocabulary, to be compared with a word all at once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        pieces_V = Pieces(vocabulary)
        texts = [pieces_V[number] for number in range(vocabulary.size)]
        alone_V, known = vocabulary.starts_word_V, set(texts)
        # Where blanks are part of tokens, a word behind a bracket is another token than behind a blank.
        if vocabulary.kind in ("BPE", "SentencePiece"):
            alone_V = alone_V | [f" {text}" in known or all(map(without_blanks, text)) for text in texts]
        # Pieces and punctuation are no corrections; nor is what only goes on inside a word.
        kept = [number for number, text in enumerate(texts) if alone_V[number] and of_letters(text.strip())]
        self.vocabulary, self.lowercase = vocabulary, vocabulary.lowercase
        special = vocabulary.special.all
        self.pieces_V = pieces_V
        self.letters = alphabets(pieces_V.parted(text) for text in texts if text.strip() not in special)
        self.ids_N = np.array(kept, dtype=np.int64)
        self.words = [texts[number].strip() for number in kept]
        self._parted = [pieces_V.parted(word) for word in self.words]
        self.blank_N = np.array([texts[number].startswith(" ") for number in kept], dtype=bool)

    def as_read(self, word: str) -> str:
        """A word as the vocabulary has it: by its rules maybe without case, or without accents."""
        rules = self.vocabulary.tokenizer.normalizer
        if rules is None:
            return word
        # Without the blanks that rules put round each Han, or before a text; some spell them as "\u2581".
        return "".join(rules.normalize_str(word).replace("\u2581", " ").split())

    def distances(self, word: str, most: int | None = None) -> np.ndarray:
        """Return the edits from each candidate to `word`: a letter more, less, other, or two exchanged, [N].

        Optimal string alignment (Damerau 1964). Above `most` edits are not counted on, but given as most + 1.

        Example: to "teh": the -> 1, tea -> 1, he -> 2
        """
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        if not self.words:
            return np.zeros(0, np.int32)
        words = [self.pieces_V.parted(word)], self._parted
        return process.cdist(*words, scorer=OSA.distance, score_cutoff=most, dtype=np.int32)[0]

    def best(
        self, typed: str, log_probability_V: np.ndarray, *, after_blank: bool, top_k: int
    ) -> list[tuple[str, float]]:
        """Return the words nearest to what was typed with their scores, best first.

        The score is that of a noisy channel: log P(word here) - NATS_AN_EDIT * edits, in nats. What was typed
        may be among them. A word that was typed with a capital keeps it where the vocabulary has none.
        """
        # The cutoff lets rapidfuzz leave a word as soon as it is too far: most of the vocabulary is.
        read = self.pieces_V.parted(self.as_read(typed))
        most = MOST_EDITS if len(read) > SHORT else 1
        distance_N = self.distances(read, most)
        near = np.flatnonzero((distance_N <= most) & (self.blank_N == after_blank))
        # A word of one letter is an edit away from any other, of whatever script.
        known = scripts(typed)
        near = near[[not known.isdisjoint(scripts(self.words[number])) for number in near]]
        score_N = log_probability_V[self.ids_N[near]] - NATS_AN_EDIT * distance_N[near]
        # Stable: of equal scores the word of the smaller id, which is mostly the commoner.
        order = np.argsort(-score_N, kind="stable")[:top_k]
        words = recased([self.words[number] for number in near[order]], typed, self.lowercase)
        return list(zip(words, score_N[order].tolist(), strict=True))


def of_letters(text: str) -> bool:
    """Whether a text is letters alone, in any script: marks over, under and beside them are parts of them."""
    return text[:1].isalpha() and all(each.isalpha() or is_mark(each) for each in text)


def letters_within(word: str, known: dict[str, list[str]]) -> list[str]:
    """The letters that an edit of the word may bring: those of its script, unless these are too many to try.

    In Han and Hangul, where a letter is a word or a syllable, a long word would take seconds.
    """
    letters = letters_for(word, known)
    return letters if len(letters) * (2 * len(word) + 1) <= MOST_TRIED else []


def recased(words: list[str], typed: str, lowercase: bool) -> list[str]:
    """Candidates of a vocabulary without capitals, with a capital where what was typed begins with one."""
    return [word[:1].upper() + word[1:] for word in words] if lowercase and typed[:1].isupper() else words


def one_edit_away(word: str, letters: Iterable[str]) -> list[str]:
    """All that one edit makes of a word: a letter less, two exchanged, another letter, a letter more.

    The other letters are the word's own and `letters`. Example: "ab", a to z -> "b", "a", "ba", "bb", "cb",
    ..., "abz"
    """
    letters = sorted(set(word.lower()).union(letters))
    cuts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    made = [left + right[1:] for left, right in cuts if right]
    made += [left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1]
    made += [left + letter + right[1:] for left, right in cuts if right for letter in letters]
    made += [left + letter + right for left, right in cuts for letter in letters]
    return [text for text in dict.fromkeys(made) if text and text != word]
