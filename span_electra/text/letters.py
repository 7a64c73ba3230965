"""Letters and their scripts: what an error or its correction may put into a word, and what no word is.

An alphabet holds the marks of its script too: the vowel signs of Devanagari and Thai, the points of Arabic.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # settings of noise are read where no tokenizer is needed
    from span_electra.text.vocabulary import Vocabulary


JOINERS = "\u200c\u200d"  # of no width: Persian and Indic scripts have them inside words


def alphabets(texts: Iterable[str]) -> dict[str, list[str]]:
    """The small letters and marks that occur in `texts`, by script, each sorted.

    Example: "Да", "no" -> CYRILLIC а д, LATIN n o
    """
    found: dict[str, set[str]] = {}
    for text in texts:
        name = "COMBINING"
        # In small letters some (the Turkish capital I) are no longer one character.
        for letter in (character.lower()[0] for character in text):
            if letter.isalpha() or is_mark(letter):
                # Accents that letters of many scripts have, in NFD, are of the script that they occur with.
                own = script(letter)
                name = name if own == "COMBINING" else own
                found.setdefault(name, set()).add(letter)
    return {name: sorted(letters) for name, letters in found.items()}


def letters_for(word: str, known: Mapping[str, list[str]]) -> list[str]:
    """The letters of a word's script, which is that of its first letter; its own where none are known."""
    first = next(letter for letter in word if letter.isalpha())
    return known.get(script(first)) or [first.lower()]  # of a rare script marks alone may be known


def script(letter: str) -> str:
    """The script of a letter or mark, the first word of its Unicode name: LATIN, CYRILLIC, CJK ..."""
    return unicodedata.name(letter, "unnamed").split()[0]


def scripts(word: str) -> set[str]:
    """The scripts of a word's letters. Example: "食べる" -> CJK, HIRAGANA"""
    return {script(letter) for letter in word if letter.isalpha()}


def is_mark(character: str) -> bool:
    """Whether it is a part of the letter before it: an accent of its own, a vowel sign, a point."""
    return unicodedata.category(character)[0] == "M"


def goes_on(character: str) -> bool:
    """Whether nobody parts it from the character before: a mark, a joiner, a part of a syllable (NFD)."""
    return is_mark(character) or character in JOINERS or "\u1160" <= character <= "\u11ff"


def is_spelt(word: str) -> bool:
    """Whether nothing but letters decides what a word says: it has one, and no digit.

    Example: "don't" -> True; "1987", "3rd", "x²", "--" -> False
    """
    return any(map(str.isalpha, word)) and not any(unicodedata.category(each)[0] == "N" for each in word)


def drops_accents(vocabulary: Vocabulary) -> bool:
    """Whether a text's accents are lost on a vocabulary, as on BERT's in lower case."""
    rules = vocabulary.tokenizer.normalizer
    return rules is not None and not {"é", "\u0301"} & {*rules.normalize_str("é")}
