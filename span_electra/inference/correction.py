"""Correction: the discriminator finds wrong words, the generator proposes, and what both agree on is kept.

The generator alone would write any word that fits the place. So a candidate is scored as a noisy channel
does: how likely the generator finds it, times how likely one comes to type what stands there instead. What
was typed is scored the same way, with a mask for each of its tokens, and a candidate has to beat it. The
discriminator reads the line with each candidate in it, which adds to the evidence; one that it finds wrong
is not taken. Without enough evidence the word stays.

Shapes are in the names:
  V  vocabulary   C  candidates of one width   W  tokens of such a candidate   S  wrong words of all lines
  M  masks of a line
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from span_electra.hub.networks import Networks
from span_electra.inference.candidates import (
    NATS_AN_EDIT,
    Candidates,
    letters_within,
    one_edit_away,
    recased,
)
from span_electra.inference.detection import Detected, detect, detect_lines
from span_electra.inference.filling import log_probability_at
from span_electra.text.letters import is_mark, is_spelt
from span_electra.text.pieces import Pieces
from span_electra.text.token_spans import Line, read_lines

INSIDE = "'’-\u200c\u200d"  # beside letters and digits in the midst of a word; the last two are invisible
# Characters of the longest word that is corrected. One edit makes 53 strings a letter or more, to be encoded,
# so that without a bound a line of base64 would take minutes and gigabytes; nobody types words of this size.
LONGEST_WORD = 48
# The numbers below are the best of a grid on a development set in which one word in five is misspelt.
DISCRIMINATOR_WEIGHT = 1.0  # of the discriminator's log odds, beside the generator's nats
MARGIN = 5.0  # nats by which a candidate must be ahead of what was typed
KNOWN_MARGIN = 8.0  # the same where a whole word of the vocabulary was typed, which is rarely a slip
SEVERAL = (2, 3)  # tokens of words that the vocabulary does not have whole; each number is one more pass
LEAST_GAIN = -6.0  # nats of the generator below which the discriminator is not asked
DOUBTED = 0.8  # probability of being wrong from which a candidate is not taken, whatever it has gained


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
    changes: list[Change]


@dataclass(frozen=True)
class Suspect:
    """A word to correct: its letters without punctuation, and the tokens they are."""

    line: int
    word: int
    start: int  # characters
    end: int
    first: int  # content tokens
    last: int  # exclusive

    @property
    def width(self) -> int:
        """Tokens of the word."""
        return self.last - self.first


@dataclass(frozen=True)
class Proposal:
    """A suspect, its candidates, and by how many nats each is likelier meant than what was typed."""

    suspect: Suspect
    words: list[str]  # best first
    gains: list[float]


def correct(
    networks: Networks, table: Candidates, texts: list[str], *, threshold: float, top_k: int
) -> list[Corrected]:
    """Return each line with the words at or above the threshold replaced where both networks agree.

    Words of more than LONGEST_WORD characters stay as they are. Memory grows with the text, not with its
    words' lengths.
    """
    # All lines together at each step: a line has few wrong words, and a batch of one is a batch wasted.
    lines = read_lines(networks.vocabulary, texts)
    before = detect_lines(networks, lines)
    suspects = []
    for number, (line, detected) in enumerate(zip(lines, before, strict=True)):
        wrong = [word for word, called in enumerate(detected.wrong(threshold)) if called]
        found = suspects_of(number, line, wrong, networks.vocabulary.special.all)
        suspects += [one for one in found if can_spell(table, line.text[one.start : one.end])]
    # Proposed for all lines, then judged for all: each network is run in few large batches.
    proposals = propose(networks, table, lines, suspects, top_k=top_k)
    taken = agreed(networks, proposals, texts, before)
    corrected = replace_words(texts, [(proposals[number].suspect, word) for number, word in taken.items()])
    changes: list[list[Change]] = [[] for _ in texts]
    for number, proposal in enumerate(proposals):
        suspect = proposal.suspect
        typed = texts[suspect.line][suspect.start : suspect.end]
        changes[suspect.line].append(Change(suspect.word, typed, taken.get(number), proposal.words))
    return [
        Corrected(text, corrected[number].text if number in corrected else text, changes[number])
        for number, text in enumerate(texts)
    ]


# --- suspects -----------------------------------------------------------------------------------------


def suspects_of(number: int, line: Line, wrong: list[int], special: Sequence[str]) -> list[Suspect]:
    """The wrong words of a line that can be corrected, from left to right: not too long, and of letters.

    A word with a digit in it stays as it is: what number was meant, nothing round it says.
    """
    found = []
    for word in wrong:
        begin, end = line.word_spans[word]
        fits = end - begin <= LONGEST_WORD and is_spelt(line.text[begin:end])
        core = core_of(line.text[begin:end]) if fits else None
        # "[MASK]" is a word by its letters, and nothing to correct.
        if core is None or any(token in line.text[begin:end] for token in special):
            continue
        core_start, core_end = begin + core[0], begin + core[1]
        # Tokens that touch the letters. One that also reaches into punctuation goes with them.
        inside = np.flatnonzero((line.starts_T < core_end) & (line.ends_T > core_start))
        inside = inside[line.word_T[inside] == word]
        if len(inside):
            found.append(
                Suspect(
                    line=number,
                    word=word,
                    start=core_start,
                    end=core_end,
                    first=int(inside[0]),
                    last=int(inside[-1]) + 1,
                )
            )
    return found


def can_spell(table: Candidates, word: str) -> bool:
    """Whether the vocabulary has all of a word but its capitals; corrections lose accents that it has not.

    What else its rules take away is kept in the same way: the joiner in a Persian word, say.
    """
    typed = word.lower() if table.lowercase else word
    # Put together again, for Korean is taken apart and loses nothing.
    return unicodedata.normalize("NFC", table.as_read(word)) == unicodedata.normalize("NFC", typed)


def core_of(word: str) -> tuple[int, int] | None:
    """Where a word stands between the punctuation round it; None where there is some inside, or no word.

    Example: "(don't," -> 1, 6; "a.b" -> None
    """
    of_word: list[bool] = []
    for each in word:
        # Marks are parts of the letter before them; emoji have some too, and are no words.
        of_word.append(each.isalnum() or each == "_" or (of_word[-1:] == [True] and is_mark(each)))
    if True not in of_word:
        return None
    start, end = of_word.index(True), len(word) - of_word[::-1].index(True)
    inside = zip(word[start:end], of_word[start:end], strict=True)
    return (start, end) if all(known or each in INSIDE for each, known in inside) else None


# --- the generator proposes ---------------------------------------------------------------------------


def propose(
    networks: Networks, table: Candidates, lines: list[Line], suspects: list[Suspect], *, top_k: int
) -> list[Proposal]:
    """Return every suspect with its best candidates, all suspects of a line masked at once.

    A whole word of the vocabulary is seen at one mask, what was typed at a mask for each of its tokens, and
    so is what is one edit away from it in fewer: a misspelt word falls into more tokens than a right one.
    """
    pieces_V = Pieces(networks.vocabulary)
    best: list[list[tuple[str, float]]] = [[] for _ in suspects]
    for number, _, log_V in at_masks(networks, lines, suspects, [1] * len(suspects)):
        suspect, line = suspects[number], lines[suspects[number].line]
        after_blank = pieces_V[int(line.ids_T[suspect.first])].startswith(" ")
        typed = line.text[suspect.start : suspect.end]
        best[number] = table.best(typed, log_V, after_blank=after_blank, top_k=top_k)
    for width in SEVERAL:
        for number, more in in_pieces(networks, table, lines, suspects, width):
            best[number] = sorted(best[number] + more, key=lambda scored: -scored[1])[:top_k]
    # What was typed, by the same measure: log P of its tokens, each at a mask. A rare right word thus costs a
    # candidate as much as it costs itself.
    typed_S = np.zeros(len(suspects))
    widths = [suspect.width for suspect in suspects]
    for number, place, log_V in at_masks(networks, lines, suspects, widths):
        suspect = suspects[number]
        typed_S[number] += log_V[lines[suspect.line].ids_T[suspect.first + place]]
    return [
        Proposal(suspect, [word for word, _ in words], [score - typed for _, score in words])
        for suspect, words, typed in zip(suspects, best, typed_S.tolist(), strict=True)
    ]


def in_pieces(
    networks: Networks, table: Candidates, lines: list[Line], suspects: list[Suspect], width: int
) -> Iterator[tuple[int, list[tuple[str, float]]]]:
    """Yield each suspect of more than `width` tokens with what is one edit away and has just so many."""
    # No suspect of so many tokens: the pass over the lines is spared.
    if not any(suspect.width > width for suspect in suspects):
        return
    # Candidates and sums of the suspects whose masks are still coming in: those of a batch or two, so that
    # neither candidates nor log-probabilities of a whole text are ever held.
    pending: dict[int, tuple[list[str], np.ndarray, np.ndarray, int]] = {}
    widths = [width if suspect.width > width else 1 for suspect in suspects]
    for number, place, log_V in at_masks(networks, lines, suspects, widths):
        if suspects[number].width <= width:
            continue
        if number not in pending:
            suspect = suspects[number]
            words, ids_CW = spelt_in(table, lines[suspect.line].text, suspect, width)
            pending[number] = words, ids_CW, np.zeros(len(words)), 0
        words, ids_CW, score_C, seen = pending[number]
        score_C += log_V[ids_CW[:, place]]
        pending[number] = words, ids_CW, score_C, seen + 1
        if seen + 1 == width:
            yield number, list(zip(words, (score_C - NATS_AN_EDIT).tolist(), strict=True))
            del pending[number]


def spelt_in(table: Candidates, text: str, suspect: Suspect, width: int) -> tuple[list[str], np.ndarray]:
    """Return what is one edit away from a suspect and has just `width` tokens, and these, int64 [C, W]."""
    vocabulary, typed = table.vocabulary, text[suspect.start : suspect.end]
    read = table.pieces_V.parted(table.as_read(typed))
    words = one_edit_away(read, letters_within(read, table.letters))
    # With what stands before it: of a word alone a tokenizer may take the blank for granted, or put it there.
    before = text[max(0, suspect.start - 2) : suspect.start]
    encodings = vocabulary.tokenizer.encode_batch([before + word for word in words], add_special_tokens=False)
    # The blank before a word is part of its first token; no other character may be.
    first = len(before) - before[-1:].isspace()
    ids_of = {}
    for word, encoding in zip(words, encodings, strict=True):
        tokens = zip(encoding.ids, encoding.offsets, strict=True)
        inside = [(number, start) for number, (start, end) in tokens if end > len(before)]
        if len(inside) == width and inside[0][1] >= first:
            ids_of[word] = [number for number, _ in inside]
    ids_CW = np.array(list(ids_of.values()), np.int64).reshape(-1, width)
    return recased([*map(table.pieces_V.written, ids_of)], typed, table.lowercase), ids_CW


def at_masks(
    networks: Networks, lines: list[Line], suspects: list[Suspect], widths: list[int]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Put so many masks in each suspect's place; yield (suspect, mask, log-probabilities [V])."""
    # All of a line at once: a wrong word beside another would only mislead the generator.
    of_line: dict[int, list[int]] = {}
    for number, suspect in enumerate(suspects):
        of_line.setdefault(suspect.line, []).append(number)
    ids, masks, owners = [], [], []
    for line, here in of_line.items():
        ids_T, mask_M = mask_suspects(
            lines[line].ids_T,
            [suspects[n] for n in here],
            [widths[n] for n in here],
            networks.vocabulary.mask_id,
        )
        ids.append(ids_T)
        masks.append(mask_M)
        owners += [(n, offset) for n in here for offset in range(widths[n])]
    for numbers_S, log_SV in log_probability_at(networks, ids, masks):
        for number, log_V in zip(numbers_S, log_SV.cpu().numpy(), strict=True):
            yield *owners[number], log_V


def mask_suspects(
    ids_T: np.ndarray, suspects: list[Suspect], widths: list[int], mask_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put so many [MASK] in the place of each suspect's tokens; return the ids, and where these masks are.

    Suspects go from left to right.
    """
    parts, masks, done, length = [], [], 0, 0
    for suspect, width in zip(suspects, widths, strict=True):
        parts += [ids_T[done : suspect.first], [mask_id] * width]
        length += suspect.first - done
        masks += range(length, length + width)
        length += width
        done = suspect.last
    return np.concatenate([*parts, ids_T[done:]]).astype(np.int64), np.array(masks)


# --- the discriminator agrees -------------------------------------------------------------------------


def agreed(
    networks: Networks, proposals: list[Proposal], texts: list[str], before: list[Detected]
) -> dict[int, str]:
    """Return the word to take for each proposal that has one: that of the most evidence, if it is enough.

    In each turn every suspect gets its next candidate, and the lines are read once with all of them in.
    """
    best: dict[int, tuple[float, str]] = {}  # of each proposal: its evidence and the word
    for turn in range(max((len(proposal.words) for proposal in proposals), default=0)):
        attempts = [
            (number, proposal.suspect, proposal.words[turn])
            for number, proposal in enumerate(proposals)
            if turn < len(proposal.words) and proposal.gains[turn] > LEAST_GAIN
        ]
        # One reading for all suspects: neighbours are judged with each other's candidates in place, which is
        # as good as the neighbours are; one by one would be a pass for each.
        written = replace_words(texts, [(suspect, word) for _, suspect, word in attempts])
        read_again = detect(networks, [line.text for line in written.values()])
        now = dict(zip(written, read_again, strict=True))
        for number, suspect, word in attempts:
            was = before[suspect.line].probability[suspect.word]
            # By characters: in scripts without blanks a candidate may join its neighbours, or part from them,
            # and the words behind it then have other numbers.
            start = written[suspect.line].starts[suspect]
            becomes = now[suspect.line].highest(start, start + len(word))
            gain = proposals[number].gains[turn]
            # Two witnesses of one thing, taken as independent: their log odds add up (naive Bayes).
            evidence = gain + DISCRIMINATOR_WEIGHT * (log_odds(was) - log_odds(becomes))
            if becomes < DOUBTED and evidence > best.get(number, (0.0, ""))[0]:
                best[number] = evidence, word
    return {
        number: word
        for number, (evidence, word) in best.items()
        if evidence > (KNOWN_MARGIN if proposals[number].suspect.width == 1 else MARGIN)
    }


def log_odds(probability: float) -> float:
    """Example: .5 -> 0"""
    held = min(max(probability, 1e-6), 1 - 1e-6)  # a float32 sigmoid may be 0 or 1 exactly
    return math.log(held / (1 - held))


@dataclass(frozen=True)
class Rewritten:
    """A line with words put in suspects' places, and the character at which each of them begins."""

    text: str
    starts: dict[Suspect, int]


def replace_words(texts: list[str], words: list[tuple[Suspect, str]]) -> dict[int, Rewritten]:
    """Return the lines that have suspects, by number, with words put in the suspects' places."""
    of_line: dict[int, list[tuple[Suspect, str]]] = {}
    for suspect, word in words:
        of_line.setdefault(suspect.line, []).append((suspect, word))
    found = {}
    for line, here in sorted(of_line.items()):
        parts, starts, done, length = [], {}, 0, 0
        # From left to right, in whichever order they were agreed upon.
        for suspect, word in sorted(here, key=lambda pair: pair[0].start):
            parts += [texts[line][done : suspect.start], word]
            starts[suspect] = length + suspect.start - done
            length, done = starts[suspect] + len(word), suspect.end
        found[line] = Rewritten("".join([*parts, texts[line][done:]]), starts)
    return found
