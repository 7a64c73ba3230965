"""Correction: the discriminator finds wrong words, the generator proposes, and what both agree on is kept.

The generator alone would write any word that fits the place. So a candidate is scored as a noisy channel
does: how likely the generator finds it, times how likely one comes to type what stands there instead. The
discriminator then judges the line with each candidate in it, best first, and the first that it finds right
is kept; where it finds none right, the word stays.

Shapes are in the names:
  V  vocabulary   N  candidates   C  letters of the longest candidate   S  wrong words of all lines
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np

from span_electra.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from span_electra.transfer.examples import Pieces
from span_electra.transfer.networks import Networks, filling_log_probability, replaced_probability
from span_electra.transfer.text import Line, cut_windows, framed, over_windows, pool_words, read_lines

CORE = re.compile(r"\W*([\w'’-]*\w)\W*")  # a word without the punctuation round it; with some inside, none
# How tokens' probabilities become a word's. A misspelt word falls into several odd tokens, none of which need
# be improbable by itself: of text.pool_words' three ways this has found most on development sets.
POOLING = "any"
# Nats that each wrong letter costs: about one letter in 150 is mistyped, and a candidate far from what was
# typed should have to be e^5 times likelier than one a letter nearer.
NATS_A_LETTER = 5.0


@dataclass(frozen=True)
class Detected:
    """A line, its words, and the probability that each is wrong."""

    text: str
    words: list[str]
    spans: list[tuple[int, int]]  # characters of each word
    probability: list[float]


@dataclass(frozen=True)
class Change:
    """A word that was replaced; or, `after` being None, one that was found wrong and stayed."""

    word: int
    before: str
    after: str | None
    suggestions: list[str]  # best first


@dataclass(frozen=True)
class Corrected:
    """A line and the line with its changes."""

    text: str
    corrected: str
    changes: list[Change] = field(default_factory=list)


# --- detection ----------------------------------------------------------------------------------------


def token_probabilities(networks: Networks, lines: list[Line], batch_size: int) -> list[np.ndarray]:
    """Return the discriminator's probability of `was replaced` for every token of every line."""
    return over_windows(
        networks.vocabulary,
        networks.longest,
        [line.ids_T for line in lines],
        lambda rows: replaced_probability(networks, rows, batch_size),
    )


def detect(networks: Networks, texts: list[str], batch_size: int) -> list[Detected]:
    """Return the probability that each word of each line is wrong, that is, any of its tokens."""
    lines = read_lines(networks.vocabulary, texts)
    return [
        Detected(
            line.text,
            line.words,
            list(line.word_spans),
            pool_words(found_T, line.word_T, len(line.word_spans), POOLING).tolist(),
        )
        for line, found_T in zip(lines, token_probabilities(networks, lines, batch_size), strict=True)
    ]


# --- candidates ---------------------------------------------------------------------------------------


class Candidates:
    """The whole words of a vocabulary, as rows of letters, to be compared with a word all at once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        pieces_V = Pieces(vocabulary)
        texts = [pieces_V[number] for number in range(vocabulary.size)]
        kept = [n for n, text in enumerate(texts) if text.strip().isalpha() and vocabulary.starts_word_V[n]]
        self.ids_N = np.array(kept, dtype=np.int64)
        self.words = [texts[number].strip() for number in kept]
        self.blank_N = np.array([texts[number].startswith(" ") for number in kept], dtype=bool)
        self.lengths_N = np.array([len(word) for word in self.words], dtype=np.int64)
        self.letters_NC = np.zeros((len(kept), max(self.lengths_N, default=0)), np.int32)
        for row, word in enumerate(self.words):
            self.letters_NC[row, : len(word)] = [ord(letter) for letter in word]

    def distances(self, word: str) -> np.ndarray:
        """Return the edits from each candidate to `word`: a letter more, less, other, or two exchanged, [N].

        Optimal string alignment (Damerau 1964), one row of its table for all candidates at a time.

        Example: to "teh": the -> 1, tea -> 1, he -> 2
        """
        count, width = self.letters_NC.shape
        before = old = np.tile(np.arange(width + 1), (count, 1))
        for row, letter in enumerate(map(ord, word), start=1):
            now = np.empty_like(before)
            now[:, 0] = row
            for column in range(1, width + 1):
                same = self.letters_NC[:, column - 1] == letter
                now[:, column] = np.minimum(
                    before[:, column - 1] + ~same, np.minimum(before[:, column], now[:, column - 1]) + 1
                )
                if row > 1 and column > 1:
                    swapped = same_letters(self.letters_NC, column, ord(word[row - 2]), letter)
                    now[swapped, column] = np.minimum(now[swapped, column], old[swapped, column - 2] + 1)
            old, before = before, now
        return before[np.arange(count), self.lengths_N]


def same_letters(letters_NC: np.ndarray, column: int, first: int, second: int) -> np.ndarray:
    """Whether the two letters that end at `column` are these two, the other way round."""
    return (letters_NC[:, column - 1] == first) & (letters_NC[:, column - 2] == second)


@dataclass(frozen=True)
class Suspect:
    """A word to correct: its letters without punctuation, and the tokens they are."""

    line: int
    word: int
    start: int  # characters
    end: int
    first: int  # content tokens
    last: int


def suspects(number: int, line: Line, wrong: list[int]) -> list[Suspect]:
    """The wrong words of a line that have letters, from left to right."""
    found = []
    for word in wrong:
        begin, end = line.word_spans[word]
        core = CORE.fullmatch(line.text, begin, end)
        if core is None or any(token in line.text[begin:end] for token in SPECIAL_TOKENS):
            continue
        inside = np.flatnonzero((line.starts_T < core.end(1)) & (line.ends_T > core.start(1)))
        inside = inside[line.word_T[inside] == word]
        if len(inside):
            place = int(inside[0]), int(inside[-1]) + 1
            found.append(Suspect(number, word, core.start(1), core.end(1), *place))
    return found


def suggest(
    networks: Networks,
    table: Candidates,
    lines: list[Line],
    wrong: list[list[int]],
    top_k: int,
    batch_size: int,
) -> list[tuple[Suspect, list[str]]]:
    """Return every suspect of every line with its best candidates, all suspects of a line hidden at once."""
    pieces_V = Pieces(networks.vocabulary)
    asked, rows, places = [], [], []
    for number, (line, words) in enumerate(zip(lines, wrong, strict=True)):
        found = suspects(number, line, words)
        ids_T, at = hide_suspects(line.ids_T, found, networks.vocabulary.mask_id)
        windows = cut_windows(np.array([len(ids_T)]), networks.longest - 2)
        for window, row in zip(windows, framed(networks.vocabulary, [ids_T], windows), strict=True):
            here = [n for n, place in enumerate(at) if window.judged_start <= place < window.judged_end]
            if here:
                rows.append(row)
                places.append(np.array([at[n] - window.start + 1 for n in here]))
                asked += [found[n] for n in here]
    best: list[list[str]] = [[] for _ in asked]
    for numbers_S, log_SV in filling_log_probability(networks, rows, places, batch_size):
        for number, log_V in zip(numbers_S, log_SV.cpu().numpy(), strict=True):
            suspect = asked[number]
            line = lines[suspect.line]
            typed = line.text[suspect.start : suspect.end]
            blank = pieces_V[int(line.ids_T[suspect.first])].startswith(" ")
            best[number] = rank(table, typed, log_V, blank, networks.vocabulary.lowercase, top_k)
    return list(zip(asked, best, strict=True))


def hide_suspects(ids_T: np.ndarray, found: list[Suspect], mask_id: int) -> tuple[np.ndarray, list[int]]:
    """Return the tokens with each suspect's become one [MASK], and where these stand."""
    parts, places, done, length = [], [], 0, 0
    for suspect in found:
        parts += [ids_T[done : suspect.first], [mask_id]]
        length += suspect.first - done + 1
        places.append(length - 1)
        done = suspect.last
    return np.concatenate([*parts, ids_T[done:]]).astype(np.int64), places


def rank(
    table: Candidates, typed: str, log_V: np.ndarray, blank: bool, lowercase: bool, top_k: int
) -> list[str]:
    """Return the candidates of the highest score; what was typed may be one of them."""
    compared = typed.lower() if lowercase else typed
    distance_N = table.distances(compared)
    score_N = log_V[table.ids_N] - NATS_A_LETTER * distance_N
    score_N[table.blank_N != blank] = -np.inf  # a word after a bracket is another token than after a blank
    score_N[distance_N > max(1, len(typed) // 2)] = -np.inf  # another word, not a correction of this one
    order = np.argsort(-score_N, kind="stable")[:top_k]
    words = [table.words[number] for number in order if score_N[number] > -np.inf]
    return [word[:1].upper() + word[1:] if lowercase and typed[:1].isupper() else word for word in words]


# --- correction ---------------------------------------------------------------------------------------


def correct(
    networks: Networks, table: Candidates, texts: list[str], threshold: float, top_k: int, batch_size: int
) -> list[Corrected]:
    """Return each line with the words at or above the threshold replaced where both networks agree."""
    before = detect(networks, texts, batch_size)
    wrong = [[n for n, share in enumerate(line.probability) if share >= threshold] for line in before]
    lines = read_lines(networks.vocabulary, texts)
    asked = suggest(networks, table, lines, wrong, top_k, batch_size)
    taken: dict[tuple[int, int], tuple[Suspect, str]] = {}
    for turn in range(top_k):
        undecided = [(suspect, words[turn]) for suspect, words in asked if turn < len(words)]
        undecided = [entry for entry in undecided if (entry[0].line, entry[0].word) not in taken]
        numbers = sorted({suspect.line for suspect, _ in undecided})
        if not numbers:
            break
        tried = [write(texts[n], n, [*taken.values(), *undecided]) for n in numbers]
        judged = dict(zip(numbers, detect(networks, tried, batch_size), strict=True))
        for suspect, word in undecided:
            now = judged[suspect.line].probability[suspect.word]
            if now < min(threshold, before[suspect.line].probability[suspect.word]) or same(
                texts, suspect, word
            ):
                taken[suspect.line, suspect.word] = suspect, word
    results = [Corrected(text, write(text, n, list(taken.values()))) for n, text in enumerate(texts)]
    changes: list[list[Change]] = [[] for _ in texts]
    for suspect, words in asked:
        typed = texts[suspect.line][suspect.start : suspect.end]
        after = taken.get((suspect.line, suspect.word), (None, None))[1]
        changes[suspect.line].append(Change(suspect.word, typed, None if after == typed else after, words))
    return [replace(result, changes=found) for result, found in zip(results, changes, strict=True)]


def same(texts: list[str], suspect: Suspect, word: str) -> bool:
    """Whether the generator's own choice is what was typed: then nothing is to be changed."""
    return texts[suspect.line][suspect.start : suspect.end] == word


def write(text: str, number: int, entries: list[tuple[Suspect, str]]) -> str:
    """The line with words put in the places of suspects."""
    here = [entry for entry in entries if entry[0].line == number]
    for suspect, word in sorted(here, key=lambda entry: -entry[0].start):
        text = text[: suspect.start] + word + text[suspect.end :]
    return text
