"""Spelling noise as data: right words in, words with errors, what is wrong, and where each came from out.

Artificial noise edits characters, realistic noise takes misspellings that people made, mixed noise does both,
and spaces between words can be lost, or stand inside them, besides. What happens to a row depends on
(seed, epoch, row) and on its words, on nothing else. The noisy row can have more or fewer words than the
right one; `origin` says which belong together.

W words of a row, N words of the noisy row
"""

from __future__ import annotations

import json
import math
import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from span_electra.errors import InputError, not_among, reason_of
from span_electra.schema import check_fields, setting
from span_electra.text.letters import JOINERS, alphabets, goes_on, letters_for
from span_electra.utf8 import is_encodable, read_text

KINDS = ("none", "artificial", "realistic", "mixed", "white_space")
EDITS = ("insert", "delete", "swap", "replace")
PURPOSE = int.from_bytes(b"noise", "big")  # sets these draws apart from others with the same seed and epoch
USUAL_WHITE_SPACE = 0.1  # of kind white_space: an error in ten places leaves a row readable
TRIES = 100  # draws of one edit before a word without any that changes it is given up, "aaa" by swaps, say


@dataclass(frozen=True)
class NoiseConfig:
    """Which errors are made, and how many."""

    kind: str = setting(
        "none",
        "artificial: edited characters; realistic: known misspellings; mixed: both; white_space: only "
        "words merged and split; none",
        KINDS,
    )
    # The published word-level benchmark has 23 % of its words wrong, none or nearly none without a letter.
    word_share: float = setting(
        0.2,
        "share of the words with a letter that is corrupted; realistic: of those, the known ones",
        least=0,
        most=1,
    )
    # In that benchmark 82 % of the artificial errors are one edit away, 15 % two: the law at 0.8.
    geometric_p: float = setting(
        0.8, "p of the law of a word's edits: P(k) ~ p (1 - p)^(k - 1)", above=0, most=1
    )
    edits: list[str] = setting(list(EDITS), "which edits of characters there are, each as likely")
    misspellings: str | None = setting(None, "a JSON file: an object of words, each with a list of texts")
    # Mostly what people write; the rest, so that a word's listed errors are not its only ones.
    realistic_share: float = setting(
        0.8, "mixed: share of known misspellings where a word has any", least=0, most=1
    )
    white_space_share: float | None = setting(
        None,
        "share of spaces lost and of words split, with any kind; null: 0.1 for white_space, else 0",
        least=0,
        most=1,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("word_share", "geometric_p", "realistic_share", "white_space_share"):
            value = getattr(self, name)
            unsaid = value is None and name == "white_space_share"
            if not unsaid and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise InputError(f"{name}: {value!r} is no number; give one, without quotes")
        for edit in self.edits:
            if edit not in EDITS:
                raise InputError(f"edits: {not_among(edit, EDITS)}")
        if not self.edits or len(set(self.edits)) != len(self.edits):
            raise InputError(f"edits: {self.edits} must be different ones of {', '.join(EDITS)}")
        if self.kind in ("realistic", "mixed") and self.misspellings is None:
            raise InputError(f"misspellings: kind {self.kind} needs a file of them; or take artificial")

    @property
    def white_space(self) -> float:
        """The share of white space that is wrong, resolved."""
        if self.white_space_share is None:
            return USUAL_WHITE_SPACE if self.kind == "white_space" else 0.0
        return self.white_space_share


@dataclass(frozen=True)
class NoisyText:
    """A row with errors. A word is wrong where it differs from its original words, joined by one space."""

    words: tuple[str, ...]  # N
    wrong: tuple[int, ...]  # N, 0 or 1
    origin: tuple[tuple[int, int], ...]  # N, (start, end) in the W original words; parts of one share theirs


class Unit(NamedTuple):
    """Noisy words that stand for some original ones; only one noisy word can be merged or split further."""

    words: tuple[str, ...]
    origin: tuple[int, int]


# --- known misspellings -------------------------------------------------------------------------------


def load_misspellings(path: str | Path) -> dict[str, list[str]]:
    """Read a JSON object of words and their misspellings, {"their": ["thier", "there"], ...}.

    Raises InputError naming the file, and the word that has no list of texts.
    """
    text = read_text(path, "give a JSON object of words and misspellings")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = reason_of(error)
        raise InputError(f"{path}: not valid JSON ({reason}); give words and their misspellings") from None
    if not isinstance(content, dict):
        raise InputError(f'{path}: a JSON {type(content).__name__}; give an object, {{"their": ["thier"]}}')
    for word, texts in content.items():
        if not (_is_text(word) and isinstance(texts, list) and all(_is_text(text) for text in texts)):
            raise InputError(f'{path}: {word!r} has no list of texts; write "word": ["misspelling", ...]')
    return content


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and is_encodable(value)


# --- a row --------------------------------------------------------------------------------------------


def corrupt_words(
    words: Sequence[str],
    config: NoiseConfig,
    misspellings: Mapping[str, list[str]],
    key: tuple[int, int, int],
    *,
    accents: bool = False,
) -> NoisyText:
    """Put errors into a row of words, the same ones whenever the key (seed, epoch, row) is the same.

    Example: ("I", "think", "so.") -> words ("I", "thnik", "so."), wrong (0, 1, 0),
    origin ((0, 1), (1, 2), (2, 3)); with white-space noise -> ("Ithink", "so."), (1, 0), ((0, 2), (2, 3)).
    Misspellings of several words, "a lot", become several, all of one origin. Words without a letter keep
    their characters: nobody can see that a number is misspelt. accents: whether the reader tells letters by
    them, so that one more or less is an error too.
    """
    rng = _generator(key)
    # An error stays within its word's script. A row of Latin may be short, and all of its letters are known.
    letters = alphabets([*words, string.ascii_lowercase])
    chosen_W = rng.random(len(words)) < config.word_share
    units = []
    for place, (word, chosen) in enumerate(zip(words, chosen_W.tolist(), strict=True)):
        noisy = _misspell(word, config, misspellings, letters, rng, accents=accents) if chosen else word
        # A word as it was is not cut: it may be empty, or hold white space of its own.
        units.append(Unit((word,) if noisy == word else tuple(noisy.split()), (place, place + 1)))
    if config.white_space:
        units = _move_spaces(units, config.white_space, rng)
    flat = [(word, unit.origin) for unit in units for word in unit.words]
    return NoisyText(
        words=tuple(word for word, _ in flat),
        wrong=tuple(int(word != " ".join(words[start:end])) for word, (start, end) in flat),
        origin=tuple(origin for _, origin in flat),
    )


def _generator(key: tuple[int, int, int]) -> np.random.Generator:
    seed, epoch, row = key
    # The row is the counter's highest word: rows never meet, however much each draws.
    counter = np.array([0, 0, PURPOSE, row], np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=counter))


def _misspell(
    word: str,
    config: NoiseConfig,
    misspellings: Mapping[str, list[str]],
    letters: Mapping[str, list[str]],
    rng: np.random.Generator,
    *,
    accents: bool,
) -> str:
    if config.kind in ("none", "white_space"):
        return word
    # Two numbers from the stream for every word that is to be misspelt, whatever becomes of them.
    by_list, which = rng.random(2)
    if config.kind == "realistic" or (config.kind == "mixed" and by_list < config.realistic_share):
        known = list(known_misspellings(word, misspellings))
        if known:
            return known[int(which * len(known))]
    if config.kind == "realistic" or not any(map(str.isalpha, word)):
        return word
    return edit_word(word, config, letters_for(word, letters), rng, accents=accents)


def cut_core(word: str) -> tuple[str, str, str]:
    """Cut a word into what stands before it, itself, and what follows: '"Don't!"' -> ('"', "Don't", '!"')."""
    inner = [place for place, mark in enumerate(word) if unicodedata.category(mark)[0] in "LMN"]
    start, end = (inner[0], inner[-1] + 1) if inner else (0, 0)
    return word[:start], word[start:end], word[end:]


def known_misspellings(word: str, misspellings: Mapping[str, list[str]]) -> Iterator[str]:
    """The misspellings listed for a word, with its punctuation and in its case; none that equals it.

    Example: {"their": ["thier"]}: "Their," -> "Thier,"; {"English": ["english"]}: "English" -> "english"
    """
    before, core, after = cut_core(word)
    lists = (misspellings.get(written) for written in (core, core.lower(), core.capitalize()))
    for text in next(filter(None, lists), []):
        listed = " ".join(text.split())
        cased = _in_case_of(core, listed)
        # Where the case is the error, it stays as it is listed.
        text = listed if cased == core else cased
        if text and text != core:
            yield before + text + after


def _in_case_of(core: str, text: str) -> str:
    if len(core) > 1 and core.isupper():
        return text.upper()
    return text[:1].upper() + text[1:] if core[:1].isupper() else text


# --- edits of characters ------------------------------------------------------------------------------


def edit_word(
    word: str,
    config: NoiseConfig,
    letters: Sequence[str],
    rng: np.random.Generator,
    *,
    accents: bool = False,
) -> str:
    """Edit the characters of a word's core. Unchanged only if it has no letter, or no edit changes it.

    accents: whether a letter that differs in its accents alone is another one.
    """
    before, core, after = cut_core(word)
    if not any(mark.isalpha() for mark in core):
        return word
    right = _seen(core, accents)
    for _ in range(sample_edit_count(len(core), config.geometric_p, rng)):
        for _ in range(TRIES):
            edited = _edit(core, config.edits, letters, rng)
            # Never empty, nor back to the right word, nor to what an uncased tokenizer cannot tell from it.
            if edited != core and _seen(edited, accents) not in ("", right):
                core = edited
                break
    return before + core + after


def sample_edit_count(longest: int, geometric_p: float, rng: np.random.Generator) -> int:
    """Draw k from 1 to `longest` with P(k) ~ p (1 - p)^(k - 1), by the inverse of its distribution.

    Example: p 0.5, longest 2 -> 1 with probability 2/3, 2 with 1/3
    """
    uniform = rng.random()
    if geometric_p == 1.0:
        return 1
    log_fail = math.log1p(-geometric_p)
    mass = -math.expm1(longest * log_fail)  # of the law without its tail
    return min(longest, 1 + int(math.log1p(-uniform * mass) / log_fail))


def _edit(core: str, edits: Sequence[str], letters: Sequence[str], rng: np.random.Generator) -> str:
    """Draw one edit and where; it may change nothing."""
    which, where, what = rng.random(3)
    edit = edits[int(which * len(edits))]
    place = int(where * (len(core) + {"insert": 1, "swap": -1}.get(edit, 0)))
    if edit == "delete":
        return core[:place] + core[place + 1 :]
    if edit == "swap":
        return core[:place] + core[place : place + 2][::-1] + core[place + 2 :]
    letter, beside = letters[int(what * len(letters))], core[min(place, len(core) - 1)]
    if beside.isupper() and len(letter.upper()) == 1:
        letter = letter.upper()
    return core[:place] + letter + core[place + (edit == "replace") :]


def _seen(text: str, accents: bool) -> str:
    """The text as an uncased tokenizer sees it: without case, and without accents where it drops them."""
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFD", text.casefold())
    if accents:
        return parts
    return "".join(mark for mark in parts if unicodedata.category(mark) != "Mn")


# --- white space --------------------------------------------------------------------------------------


def _move_spaces(units: list[Unit], share: float, rng: np.random.Generator) -> list[Unit]:
    """Lose some spaces between words, and split some of the words that kept theirs, inside their core."""
    draws_W3 = rng.random((len(units), 3)).tolist()
    moved: list[Unit] = []
    for place, (unit, (lost, _, _)) in enumerate(zip(units, draws_W3, strict=True)):
        if place and lost < share and len(unit.words) == len(moved[-1].words) == 1:
            merged = moved.pop()
            unit = Unit((merged.words[0] + unit.words[0],), (merged.origin[0], unit.origin[1]))
        moved.append(unit)
    for place, unit in enumerate(moved):
        start, end = unit.origin
        _, split, where = draws_W3[start]
        if split < share and end - start == 1 and len(unit.words) == 1:
            moved[place] = Unit(_split(unit.words[0], where), unit.origin)
    return moved


def _split(word: str, where: float) -> tuple[str, ...]:
    before, core, _ = cut_core(word)
    # Between letters as people write them: no part of one is left at an end, to be told from a right word by.
    cuts = [
        place for place in range(1, len(core)) if not goes_on(core[place]) and core[place - 1] not in JOINERS
    ]
    if not cuts or not any(mark.isalpha() for mark in core):
        return (word,)
    cut = len(before) + cuts[int(where * len(cuts))]
    return word[:cut], word[cut:]
