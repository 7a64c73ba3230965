"""Correction: the discriminator finds wrong words, the generator proposes, and what both agree on is kept.

The generator alone would write any word that fits the place. So a candidate is scored as a noisy channel
does: how likely the generator finds it, times how likely one comes to type what stands there instead. What
was typed is scored the same way, with a mask for each of its tokens, and a candidate has to beat it. The
discriminator judges the line with each candidate in it, which adds to the evidence; one that it finds wrong
is not taken. Without enough evidence the word stays.

Shapes are in the names:
  V  vocabulary   N  candidates   S  wrong words of all lines
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from span_electra.hub.networks import Networks, filling_log_probability, replaced_probability
from span_electra.report.examples import Pieces
from span_electra.text.token_spans import Line, cut_windows, framed, over_windows, pool_words, read_lines
from span_electra.text.vocabulary import SPECIAL_TOKENS, Vocabulary

CORE = re.compile(r"\W*([\w'’-]*\w)\W*")  # a word without the punctuation round it; with some inside, none
# How tokens' probabilities become a word's. A misspelt word falls into several odd tokens, none of which need
# be improbable by itself: of text.pool_words' three ways this has found most on development sets.
POOLING = "any"
# The numbers below are the best of a grid on a development set in which one word in five is misspelt.
NATS_AN_EDIT = 5.0  # that each edit costs a candidate
FAR = 2  # most edits of a correction; more make another word
SHORT = 3  # letters of words that bear one edit only
JUDGE = 1.0  # weight of the discriminator's log odds, beside the generator's nats
MARGIN = 5.0  # nats by which a candidate must be ahead of what was typed
KNOWN_MARGIN = 8.0  # the same where a whole word of the vocabulary was typed, which is rarely a slip
SEVERAL = (2, 3)  # tokens of words that the vocabulary does not have whole; each number is one more pass
LEAST_GAIN = -6.0  # nats of the generator below which the discriminator is not asked
DOUBTED = 0.8  # probability of being wrong from which a candidate is not taken, whatever it has gained


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
    """The whole words of a vocabulary, to be compared with a word all at once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        pieces_V = Pieces(vocabulary)
        texts = [pieces_V[number] for number in range(vocabulary.size)]
        kept = [n for n, text in enumerate(texts) if text.strip().isalpha() and vocabulary.starts_word_V[n]]
        self.ids_N = np.array(kept, dtype=np.int64)
        self.words = [texts[number].strip() for number in kept]
        self.blank_N = np.array([texts[number].startswith(" ") for number in kept], dtype=bool)

    def distances(self, word: str, most: int | None = None) -> np.ndarray:
        """Return the edits from each candidate to `word`: a letter more, less, other, or two exchanged, [N].

        Optimal string alignment (Damerau 1964). Above `most` edits are not counted on, but told as most + 1.

        Example: to "teh": the -> 1, tea -> 1, he -> 2
        """
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        if not self.words:
            return np.zeros(0, np.int32)
        return process.cdist([word], self.words, scorer=OSA.distance, score_cutoff=most, dtype=np.int32)[0]


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


@dataclass(frozen=True)
class Asked:
    """A suspect, its candidates, and by how many nats each is likelier meant than what was typed."""

    suspect: Suspect
    words: list[str]  # best first
    gains: list[float]


def suggest(
    networks: Networks,
    table: Candidates,
    lines: list[Line],
    wrong: list[list[int]],
    top_k: int,
    batch_size: int,
) -> list[Asked]:
    """Return every suspect of every line with its best candidates, all suspects of a line hidden at once.

    A whole word of the vocabulary is seen at one mask, what was typed at a mask for each of its tokens, and
    so is what is one edit away from it in fewer: a misspelt word falls into more tokens than a right one.
    """
    pieces_V = Pieces(networks.vocabulary)
    found = [
        suspect
        for number, (line, words) in enumerate(zip(lines, wrong, strict=True))
        for suspect in suspects(number, line, words)
    ]
    best: list[list[tuple[str, float]]] = [[] for _ in found]
    typed_S = np.zeros(len(found))
    for number, _, log_V in at_masks(networks, lines, found, [1] * len(found), batch_size):
        suspect, line = found[number], lines[found[number].line]
        blank = pieces_V[int(line.ids_T[suspect.first])].startswith(" ")
        typed = line.text[suspect.start : suspect.end]
        best[number] = ranked(table, typed, log_V, blank, networks.vocabulary.lowercase, top_k)
    widths = [suspect.last - suspect.first for suspect in found]
    for width in SEVERAL:
        for number, more in in_pieces(networks, lines, found, width, batch_size):
            best[number] = sorted(best[number] + more, key=lambda scored: -scored[1])[:top_k]
    for number, place, log_V in at_masks(networks, lines, found, widths, batch_size):
        suspect = found[number]
        typed_S[number] += log_V[lines[suspect.line].ids_T[suspect.first + place]]
    return [
        Asked(suspect, [word for word, _ in words], [score - typed for _, score in words])
        for suspect, words, typed in zip(found, best, typed_S.tolist(), strict=True)
    ]


def in_pieces(
    networks: Networks, lines: list[Line], found: list[Suspect], width: int, batch_size: int
) -> Iterator[tuple[int, list[tuple[str, float]]]]:
    """Yield each suspect of more than `width` tokens with what is one edit away and has just so many."""
    vocabulary, seen = networks.vocabulary, {}
    long = [number for number, suspect in enumerate(found) if suspect.last - suspect.first > width]
    widths = [width if suspect.last - suspect.first > width else 1 for suspect in found]
    if long:
        for number, place, log_V in at_masks(networks, lines, found, widths, batch_size):
            seen[number, place] = log_V
    for number in long:
        line, suspect = lines[found[number].line], found[number]
        typed = line.text[suspect.start : suspect.end]
        words = one_edit_away(typed.lower() if vocabulary.lowercase else typed)
        blank = " " if suspect.start and line.text[suspect.start - 1] == " " else ""
        encodings = vocabulary.tokenizer.encode_batch_fast(
            [blank + word for word in words], add_special_tokens=False
        )
        scored = [
            (word, sum(float(seen[number, place][token]) for place, token in enumerate(encoding.ids)))
            for word, encoding in zip(words, encodings, strict=True)
            if len(encoding.ids) == width
        ]
        yield number, [(word, score - NATS_AN_EDIT) for word, score in scored]


def one_edit_away(word: str) -> list[str]:
    """All that one edit makes of a word: a letter less, two exchanged, another letter, a letter more.

    Letters are those of the word and a to z. Example: "ab" -> "b", "a", "ba", "bb", "cb", ..., "abz"
    """
    letters = sorted(set(word.lower()) | set("abcdefghijklmnopqrstuvwxyz"))
    cuts = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    made = [left + right[1:] for left, right in cuts if right]
    made += [left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1]
    made += [left + letter + right[1:] for left, right in cuts if right for letter in letters]
    made += [left + letter + right for left, right in cuts for letter in letters]
    return [text for text in dict.fromkeys(made) if text and text != word]


def at_masks(
    networks: Networks, lines: list[Line], found: list[Suspect], widths: list[int], batch_size: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Hide each suspect behind so many masks; yield (suspect, which of its masks, log probabilities [V])."""
    rows, places, owners = [], [], []
    for line in sorted({suspect.line for suspect in found}):
        here = [n for n, suspect in enumerate(found) if suspect.line == line]
        hidden = hide_suspects(
            lines[line].ids_T,
            [found[n] for n in here],
            [widths[n] for n in here],
            networks.vocabulary.mask_id,
        )
        mask_of = {
            place: (n, offset)
            for n, start in zip(here, hidden.starts, strict=True)
            for offset, place in enumerate(range(start, start + widths[n]))
        }
        windows = cut_windows(np.array([len(hidden.ids_T)]), networks.longest - 2)
        for window, row in zip(windows, framed(networks.vocabulary, [hidden.ids_T], windows), strict=True):
            judged = [place for place in mask_of if window.judged_start <= place < window.judged_end]
            if judged:
                rows.append(row)
                places.append(np.array(judged) - window.start + 1)
                owners += [mask_of[place] for place in judged]
    for numbers_S, log_SV in filling_log_probability(networks, rows, places, batch_size):
        for number, log_V in zip(numbers_S, log_SV.cpu().numpy(), strict=True):
            yield *owners[number], log_V


@dataclass(frozen=True)
class Hidden:
    """A line's tokens with suspects behind masks, and where the masks of each begin."""

    ids_T: np.ndarray
    starts: list[int]


def hide_suspects(ids_T: np.ndarray, found: list[Suspect], widths: list[int], mask_id: int) -> Hidden:
    """Put so many [MASK] in the place of each suspect's tokens."""
    parts, starts, done, length = [], [], 0, 0
    for suspect, width in zip(found, widths, strict=True):
        parts += [ids_T[done : suspect.first], [mask_id] * width]
        length += suspect.first - done
        starts.append(length)
        length += width
        done = suspect.last
    return Hidden(np.concatenate([*parts, ids_T[done:]]).astype(np.int64), starts)


def rank(
    table: Candidates, typed: str, log_V: np.ndarray, blank: bool, lowercase: bool, top_k: int
) -> list[str]:
    """Return the candidates of the highest score; what was typed may be one of them."""
    return [word for word, _ in ranked(table, typed, log_V, blank, lowercase, top_k)]


def ranked(
    table: Candidates, typed: str, log_V: np.ndarray, blank: bool, lowercase: bool, top_k: int
) -> list[tuple[str, float]]:
    """Return the candidates of the highest score with it, best first: nats of the word, less its edits'."""
    most = FAR if len(typed) > SHORT else 1
    distance_N = table.distances(typed.lower() if lowercase else typed, most)
    # A word after a bracket is another token than after a blank.
    near = np.flatnonzero((distance_N <= most) & (table.blank_N == blank))
    score_N = log_V[table.ids_N[near]] - NATS_AN_EDIT * distance_N[near]
    order = np.argsort(-score_N, kind="stable")[:top_k]
    found = [(table.words[near[number]], float(score_N[number])) for number in order]
    if lowercase and typed[:1].isupper():
        found = [(word[:1].upper() + word[1:], score) for word, score in found]
    return found


# --- correction ---------------------------------------------------------------------------------------


def correct(
    networks: Networks, table: Candidates, texts: list[str], threshold: float, top_k: int, batch_size: int
) -> list[Corrected]:
    """Return each line with the words at or above the threshold replaced where both networks agree."""
    before = detect(networks, texts, batch_size)
    wrong = [[n for n, share in enumerate(line.probability) if share >= threshold] for line in before]
    lines = read_lines(networks.vocabulary, texts)
    asked = suggest(networks, table, lines, wrong, top_k, batch_size)
    best: dict[int, tuple[float, str]] = {}  # of each suspect: its evidence and the word
    for turn in range(top_k):
        tried = [
            (number, entry.suspect, entry.words[turn])
            for number, entry in enumerate(asked)
            if turn < len(entry.words) and entry.gains[turn] > LEAST_GAIN
        ]
        numbers = sorted({suspect.line for _, suspect, _ in tried})
        entries = [(suspect, word) for _, suspect, word in tried]
        judged = detect(networks, [write(texts[n], n, entries) for n in numbers], batch_size)
        now = dict(zip(numbers, judged, strict=True))
        for number, suspect, word in tried:
            was, becomes = (
                line.probability[suspect.word] for line in (before[suspect.line], now[suspect.line])
            )
            evidence = asked[number].gains[turn] + JUDGE * (logit(was) - logit(becomes))
            if becomes < DOUBTED and evidence > best.get(number, (0.0, ""))[0]:
                best[number] = evidence, word
    taken = {
        number: word
        for number, (evidence, word) in best.items()
        if evidence > margin_of(asked[number].suspect)
    }
    entries = [(asked[number].suspect, word) for number, word in taken.items()]
    results = [Corrected(text, write(text, n, entries)) for n, text in enumerate(texts)]
    changes: list[list[Change]] = [[] for _ in texts]
    for number, entry in enumerate(asked):
        typed = texts[entry.suspect.line][entry.suspect.start : entry.suspect.end]
        change = Change(entry.suspect.word, typed, taken.get(number), entry.words)
        changes[entry.suspect.line].append(change)
    return [replace(result, changes=found) for result, found in zip(results, changes, strict=True)]


def margin_of(suspect: Suspect) -> float:
    """Nats that a candidate must be ahead by; more where a whole word was typed, which is rarely a slip."""
    return KNOWN_MARGIN if suspect.last - suspect.first == 1 else MARGIN


def logit(probability: float) -> float:
    """Example: .5 -> 0"""
    held = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(held / (1 - held))


def write(text: str, number: int, entries: list[tuple[Suspect, str]]) -> str:
    """The line with words put in the places of suspects."""
    here = [entry for entry in entries if entry[0].line == number]
    for suspect, word in sorted(here, key=lambda entry: -entry[0].start):
        text = text[: suspect.start] + word + text[suspect.end :]
    return text
