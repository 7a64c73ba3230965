"""Lines with [MASK] -> what the generator would write: each mask by itself, and runs of them as a whole.

Shapes are in the names:
  S  masks of all lines   V  vocabulary   T  content tokens of a line
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from span_electra.hub.networks import Networks, filling_log_probability
from span_electra.text.letters import is_mark
from span_electra.text.pieces import Pieces
from span_electra.text.token_spans import Line, cut_windows, frame, read_lines


@dataclass(frozen=True)
class Filling:
    """Something the generator would write, and how probable it finds that."""

    text: str  # with the blank before it where a word starts
    probability: float


@dataclass(frozen=True)
class Blank:
    """A run of masks, mostly of one."""

    start: int  # characters of the line that it takes
    end: int
    tokens: list[list[Filling]]  # of each mask by itself, likeliest first
    joint: list[Filling]  # of the run together, likeliest first


@dataclass(frozen=True)
class Filled:
    """A line, its blanks, and the line with the likeliest fillings in them."""

    text: str
    blanks: list[Blank]
    filled: str


@dataclass(frozen=True)
class MaskRun:
    """Neighbouring masks of one line: content tokens [start, end)."""

    line: int
    start: int
    end: int


def fill(networks: Networks, texts: list[str], *, top_k: int) -> list[Filled]:
    """Return what the generator makes of each line; a line without [MASK] has no blanks."""
    lines = read_lines(networks.vocabulary, texts)
    runs = mask_runs(lines, networks.vocabulary.mask_id)
    pieces_V = Pieces(networks.vocabulary)
    alone = top_tokens(networks, lines, top_k)
    # Runs of one mask are answered above already; only neighbours need a search.
    joint = search(networks, lines, runs, top_k)
    blanks: list[list[Blank]] = [[] for _ in lines]
    for run, spans in zip(runs, joint, strict=True):
        line = lines[run.line]
        each = [alone[run.line, place] for place in range(run.start, run.end)]
        blanks[run.line].append(
            Blank(
                int(line.starts_T[run.start]),
                int(line.ends_T[run.end - 1]),
                [readable(found, pieces_V) for found in each],
                readable(spans, pieces_V) if run.end - run.start > 1 else readable(each[0], pieces_V),
            )
        )
    return [
        # Of letters that the vocabulary takes apart, a filling may go on with that before it.
        Filled(line.text, found, pieces_V.written(fill_in(line.text, found)) if found else line.text)
        for line, found in zip(lines, blanks, strict=True)
    ]


def readable(found: list[tuple[tuple[int, ...], float]], pieces_V: Pieces) -> list[Filling]:
    return [Filling(pieces_V.text(ids), share) for ids, share in found]


def fill_in(text: str, blanks: list[Blank]) -> str:
    """The line with the likeliest filling of every blank.

    A filling that starts a word brings its own blank, one that does not joins what stands before it. Behind
    an opening mark or a hyphen, where the line has no blank, it loses it: all words of WordPiece bring one.

    Example: "go [MASK]", " on" -> "go on"; "go [MASK]", "ing" -> "going"; "([MASK])", " on" -> "(on)"
    """
    for blank in reversed(blanks):  # from the right, so that places to the left stay what they are
        before = text[: blank.start].rstrip(" ")
        ends_word = before and (before[-1].isalnum() or is_mark(before[-1]))
        joined = not before or (before == text[: blank.start] and not ends_word)
        # A run too long for a row was not searched: its masks are filled each by itself.
        best = blank.joint[:1] or [fillings[0] for fillings in blank.tokens if fillings]
        filling = "".join(each.text for each in best)
        text = before + (filling.lstrip() if joined else filling) + text[blank.end :]
    return text


def mask_runs(lines: list[Line], mask_id: int) -> list[MaskRun]:
    """Find the runs of neighbouring masks, in order."""
    runs = []
    for number, line in enumerate(lines):
        edges = np.flatnonzero(np.diff(line.ids_T == mask_id, prepend=False, append=False))
        runs += [MaskRun(number, int(start), int(end)) for start, end in edges.reshape(-1, 2)]
    return runs


def top_tokens(
    networks: Networks, lines: list[Line], top_k: int
) -> dict[tuple[int, int], list[tuple[tuple[int, ...], float]]]:
    """Return, by line and place of each mask, the likeliest tokens ((id,), probability)."""
    ids = [line.ids_T for line in lines]
    masks = [np.flatnonzero(ids_T == networks.vocabulary.mask_id) for ids_T in ids]
    owners = [(line, place) for line, places in enumerate(masks) for place in places.tolist()]
    found = {}
    for numbers_S, log_SV in log_probability_at(networks, ids, masks):
        # Never so many that special tokens, whose probability was taken away, would fill up the list.
        answers = log_SV.shape[1] - len(networks.vocabulary.special.all)
        best = without_specials(networks, log_SV).topk(min(top_k, answers))
        for number, ids_K, share_K in zip(
            numbers_S, best.indices.tolist(), best.values.exp().tolist(), strict=True
        ):
            found[owners[number]] = [((token,), share) for token, share in zip(ids_K, share_K, strict=True)]
    return found


def log_probability_at(
    networks: Networks, ids: list[np.ndarray], masks: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """`filling_log_probability` at masks of lines of any length; `masks` are places among their content."""
    windows = cut_windows(np.array([len(ids_T) for ids_T in ids], dtype=np.int64), networks.longest - 2)
    rows, asked = [], []
    # Windows overlap; each mask is asked once, where it has most to read on both sides. They go from left to
    # right, so that masks are numbered in their order.
    for window in windows:
        first, last = np.searchsorted(masks[window.line], (window.scored_start, window.scored_end))
        if first < last:  # without a mask there is nothing to read a window for
            rows.append(frame(networks.vocabulary, ids[window.line][window.start : window.end]))
            asked.append(masks[window.line][first:last] - window.start + 1)  # [CLS] stands before it
    return filling_log_probability(networks, rows, asked)


def without_specials(networks: Networks, log_SV: torch.Tensor) -> torch.Tensor:
    """Log-probabilities with those of special tokens, and of rows beyond the vocabulary, taken away."""
    vocabulary = networks.vocabulary
    # Tables of words are padded to round sizes, and the rows beyond the vocabulary have logits as others do.
    log_SV = log_SV.clone()
    log_SV[:, [vocabulary.tokenizer.token_to_id(token) for token in vocabulary.special.all]] = -torch.inf
    log_SV[:, vocabulary.size :] = -torch.inf
    return log_SV


def search(
    networks: Networks, lines: list[Line], runs: list[MaskRun], top_k: int
) -> list[list[tuple[tuple[int, ...], float]]]:
    """Return the likeliest fillings of every run of several masks, by beam search from left to right.

    The probability is the product of each token's, given those before it in the run. A run that no row can
    hold with something round it has none.
    """
    # Each mask by itself would write "New" and "Angeles": neighbours must know what the other is.
    room = networks.longest - 2
    beams = {n: [((), 0.0)] for n, run in enumerate(runs) if 1 < run.end - run.start <= room // 2}
    step = 0
    while going := [n for n in beams if runs[n].end - runs[n].start > step]:
        rows, places, owners = [], [], []
        for number in going:
            run = runs[number]
            ids_T = lines[run.line].ids_T
            # The run in the middle of what one row can hold.
            start = max(0, min((run.start + run.end - room) // 2, len(ids_T) - room))
            for written, score in beams[number]:
                row = ids_T.copy()
                row[run.start : run.start + step] = written
                rows.append(frame(networks.vocabulary, row[start : start + room]))
                places.append(np.array([run.start + step - start + 1]))
                owners.append((number, written, score))
        longer: dict[int, list] = {number: [] for number in going}
        for numbers_S, log_SV in filling_log_probability(networks, rows, places):
            best = without_specials(networks, log_SV).topk(min(top_k, log_SV.shape[1]))
            for at, ids_K, log_K in zip(numbers_S, best.indices.tolist(), best.values.tolist(), strict=True):
                number, written, score = owners[at]
                longer[number] += [
                    ((*written, token), score + more) for token, more in zip(ids_K, log_K, strict=True)
                ]
        # Beams of all runs advance together, so that each step is one pass of the generator.
        for number, found in longer.items():
            beams[number] = sorted(found, key=lambda entry: -entry[1])[:top_k]
        step += 1
    return [
        [(ids, float(np.exp(score))) for ids, score in beams.get(n, []) if score > -np.inf]
        for n in range(len(runs))
    ]
