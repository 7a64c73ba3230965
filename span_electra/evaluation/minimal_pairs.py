"""Minimal pairs: does a network prefer the acceptable sentence of two (BLiMP's format), without fine-tuning?

Shapes are in the names:
  N  sentences   G  sentences of one length   L  tokens of a sentence, [CLS] and [SEP] included   C  L - 2
  Q  masked copies of sentences               P  pairs                                         V  vocabulary
A sentence's score is a sum over its content tokens, so longer sentences have lower ones, as probabilities do:
  discriminator  log-probability of `original`, all tokens in one pass
  pll            the generator's log-probability of each token with it alone hidden (Salazar et al. 2020)
  pll_l2r        the same with the rest of its word, to the right, hidden too (Kauf & Ivanova 2023)
Sentences are grouped by length, so that no row is padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from span_electra.errors import InputError
from span_electra.evaluation.metrics import wilson_interval
from span_electra.features.words import TokenRows, word_starts
from span_electra.finetuning.rows import read_json_lines
from span_electra.hub.networks import Networks, batch_rows, check_numbers
from span_electra.text.encode import TextEncoder
from span_electra.text.inputs import suffixes_of
from span_electra.text.vocabulary import Vocabulary

SCORES = ("discriminator", "pll", "pll_l2r")
GROUPINGS = {"by field": "field", "by phenomenon": "linguistics_term", "by paradigm": "paradigm"}


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in one thing, and what they are an example of."""

    good: str
    bad: str
    paradigm: str
    field: str
    linguistics_term: str
    place: str = ""  # file and line


def read_pairs(paths: list[str]) -> list[Pair]:
    """Read pairs from .jsonl files, also packed, and folders of them.

    A line without UID belongs to its file's paradigm.

    Raises InputError naming file and line for what is no pair.
    """
    files: list[Path] = []
    for path in map(Path, paths):  # BLiMP is a folder of 67 files, a paradigm each
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: no .jsonl file in it; name files of minimal pairs")
        files += found
    pairs = [pair for file in files for pair in _read_file(file)]
    if not pairs:
        raise InputError(f"{' '.join(paths)}: no minimal pair in it; name files that have some")
    return pairs


def _read_file(path: Path) -> Iterator[Pair]:
    paradigm = (path.with_suffix("") if suffixes_of(path.name)[1] else path).stem
    for number, entry in read_json_lines(path):
        try:
            good, bad = entry["sentence_good"], entry["sentence_bad"]
            if not isinstance(good, str) or not isinstance(bad, str) or "\n" in good + bad:
                raise TypeError
            # BLiMP spells one of its fields in two ways: syntax_semantics and syntax/semantics.
            names = [
                str(entry.get(key, "")).replace("/", "_") for key in ("UID", "field", "linguistics_term")
            ]
            # JSON can spell half a surrogate pair, which no tokenizer takes; its error is a ValueError too.
            "".join([good, bad, *names]).encode()
        except (ValueError, TypeError, KeyError):
            raise InputError(
                f"{path}: line {number} is no JSON object with sentence_good and sentence_bad, one line of "
                "text each"
            ) from None
        yield Pair(good, bad, names[0] or paradigm, *names[1:], place=f"{path}: line {number}")


# --- scores -------------------------------------------------------------------------------------------


def score_sentences(
    networks: Networks, sentences: list[str], scores: list[str], places: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Return the score of every sentence under each name of SCORES that is asked for, float64 [N].

    places: where each stands, for errors. Raises InputError for one without a token, or with too many, and
    where a network's answers are not numbers.
    """
    # By length, so that no score hangs on how a batch was padded.
    groups = groups_by_length(networks, sentences, places or ["a sentence"] * len(sentences))
    found = {name: np.zeros(len(sentences)) for name in scores}
    for numbers_G, ids_GL in groups:
        if "discriminator" in scores:
            found["discriminator"][numbers_G] = original_score(networks, ids_GL)
        if "pll" in scores or "pll_l2r" in scores:
            plain_G, rightward_G = pseudo_score(networks, ids_GL, "pll_l2r" in scores)
            for name, score_G in (("pll", plain_G), ("pll_l2r", rightward_G)):
                if name in scores:
                    found[name][numbers_G] = score_G
    return found


def groups_by_length(
    networks: Networks, sentences: list[str], places: list[str]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (numbers_G, ids_GL) of the sentences of each length; raises InputError as `score_sentences`."""
    vocabulary = networks.vocabulary
    text = "".join(sentence + "\n" for sentence in sentences).encode()
    lines = TextEncoder(vocabulary.tokenizer).encode(text)
    lengths_N = np.diff(lines.line_ends_N, prepend=0)
    starts_N = lines.line_ends_N - lengths_N
    # Cut, a sentence would lose what makes it good or bad; its score would compare other sentences. Without a
    # token (blanks, control characters) it would score 0 in every network, more than any other can.
    unfit_N = (lengths_N == 0) | (lengths_N > networks.longest - 2)
    if unfit_N.any():
        number = int(unfit_N.argmax())
        raise InputError(
            f"{places[number]}: {sentences[number][:60]!r} has {lengths_N[number]} tokens, the model reads 1 "
            f"to {networks.longest - 2}; take such pairs out"
        )
    for length in np.unique(lengths_N).tolist():
        numbers_G = np.flatnonzero(lengths_N == length)
        ids_GL = np.empty((len(numbers_G), length + 2), np.int64)
        ids_GL[:, 0], ids_GL[:, -1] = vocabulary.cls_id, vocabulary.sep_id
        ids_GL[:, 1:-1] = lines.ids_T[starts_N[numbers_G, None] + np.arange(length)]
        yield numbers_G, ids_GL


@torch.inference_mode()
def original_score(networks: Networks, ids_GL: np.ndarray) -> np.ndarray:
    """Return the sum of the discriminator's log-probabilities of `original` over the content, [G]."""
    network, parts = networks.need("discriminator"), []
    for rows_BL in torch.from_numpy(ids_GL).split(batch_rows(ids_GL.shape[1], networks.batch_size)):
        states_BLD = network.encode(rows_BL.to(networks.device), None)
        # [CLS] and [SEP] are the same in both sentences, and were never replaced in training.
        logits_BC = network.answer(states_BLD[:, 1:-1]).float()
        parts.append(F.logsigmoid(-logits_BC).sum(-1).cpu().double().numpy())
    score_G = np.concatenate(parts)
    # Compared, NaN is never the larger one: every pair would be wrong, which looks like a bad network.
    check_numbers(not np.isnan(score_G).any(), network.source)
    return score_G


def pseudo_score(networks: Networks, ids_GL: np.ndarray, rightward: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return both pseudo-log-likelihoods of the sentences, [G] each.

    The two differ only at tokens whose word goes on: nothing else is computed twice, and with `rightward`
    off nothing at all.
    """
    sentences, length = ids_GL.shape
    row_Q, place_Q = np.divmod(np.arange(sentences * (length - 2)), length - 2)
    place_Q += 1
    alone_Q = masked_score(networks, ids_GL, row_Q=row_Q, place_Q=place_Q, end_Q=place_Q + 1)
    plain_G = np.bincount(row_Q, alone_Q, sentences)
    if not rightward:
        return plain_G, plain_G
    end_Q = word_ends(word_starts_of(networks.vocabulary, ids_GL))[row_Q, place_Q]
    more_Q = end_Q > place_Q + 1
    asked = row_Q[more_Q], place_Q[more_Q], end_Q[more_Q]
    # Within a word in pieces the rest gives a piece away, and long rare words would score high: such pieces
    # are asked again with the rest of their word hidden.
    alone_Q[more_Q] = masked_score(networks, ids_GL, *asked)
    return plain_G, np.bincount(row_Q, alone_Q, sentences)


def word_starts_of(vocabulary: Vocabulary, ids_GL: np.ndarray) -> np.ndarray:
    """Return where words begin, bool [G, L], as whole-word masks have it; [CLS] and [SEP] begin some too.

    By the tokens around it, not by a token's spelling alone: in scripts without blanks every character is a
    word, also where a byte-level vocabulary cuts characters.
    """
    sentences, length = ids_GL.shape
    starts_GL = np.ones((sentences, length), bool)
    rows = TokenRows(ids_GL.ravel(), np.arange(sentences) * length, np.full(sentences, length))
    marks_T = word_starts(rows, vocabulary.token_words)
    starts_GL[:, 1:-1] = marks_T.reshape(sentences, length - 2)
    return starts_GL


def word_ends(starts_GL: np.ndarray) -> np.ndarray:
    """Return where the word of each content token ends (exclusive), int64 [G, L].

    Example: [CLS] un ##do it [SEP] starts words at 0, 1, 3, 4 -> 1 3 3 4 5
    """
    starts_GL = starts_GL.copy()
    starts_GL[:, -1] = True  # [SEP] ends the last word, whatever its spelling
    length = starts_GL.shape[1]
    next_GL = np.where(starts_GL, np.arange(length), length)
    next_GL = np.concatenate([next_GL[:, 1:], np.full((len(next_GL), 1), length)], axis=1)
    return np.minimum.accumulate(next_GL[:, ::-1], axis=1)[:, ::-1]


@torch.inference_mode()
def masked_score(
    networks: Networks, ids_GL: np.ndarray, row_Q: np.ndarray, place_Q: np.ndarray, end_Q: np.ndarray
) -> np.ndarray:
    """Return the generator's log-probability of token `place` of sentence `row`, [place, end) hidden, [Q]."""
    network, mask_id = networks.need("generator"), networks.vocabulary.mask_id
    found_Q, place_L = np.empty(len(row_Q)), np.arange(ids_GL.shape[1])
    size = batch_rows(ids_GL.shape[1], networks.batch_size)
    for start in range(0, len(row_Q), size):
        rows_B, place_B, end_B = (some_Q[start : start + size] for some_Q in (row_Q, place_Q, end_Q))
        ids_BL = ids_GL[rows_B]
        target_B = torch.from_numpy(ids_BL[np.arange(len(rows_B)), place_B]).to(networks.device)
        hidden_BL = (place_L >= place_B[:, None]) & (place_L < end_B[:, None])
        ids_BL[hidden_BL] = mask_id
        states_BLD = network.encode(torch.from_numpy(ids_BL).to(networks.device), None)
        asked_B = torch.from_numpy(place_B).to(networks.device)
        # One place of each row: the vocabulary's logits elsewhere are nobody's question.
        states_BD = states_BLD[torch.arange(len(rows_B), device=networks.device), asked_B]
        loss_B = F.cross_entropy(network.answer(states_BD).float(), target_B, reduction="none")
        found_Q[start : start + size] = -loss_B.cpu().double().numpy()
    check_numbers(not np.isnan(found_Q).any(), network.source)
    return found_Q


# --- accuracy -----------------------------------------------------------------------------------------


def score_pairs(networks: Networks, pairs: list[Pair], scores: list[str]) -> dict[str, Any]:
    """Return the accuracy under each score, overall, by field, by phenomenon and by paradigm.

    Each accuracy has its 95% interval (Wilson) beside it. A tie counts as wrong.
    """
    sentences = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    found = score_sentences(networks, sentences, scores, [pair.place for pair in pairs] * 2)
    # A tie is what a network gives that tells nothing apart, and must not look like knowledge.
    right = {name: score_N[: len(pairs)] > score_N[len(pairs) :] for name, score_N in found.items()}
    ties = {name: int((s_N[: len(pairs)] == s_N[len(pairs) :]).sum()) for name, s_N in found.items()}
    report: dict[str, Any] = {"pairs": len(pairs), **{f"ties, {name}": count for name, count in ties.items()}}
    for title, key in GROUPINGS.items():
        names = np.array([getattr(pair, key) for pair in pairs])
        table = {name: accuracies(right, names == name) for name in sorted(set(names)) if name}
        if title == "by field":
            table["all"] = accuracies(right, np.ones(len(pairs), bool))
        if len(table) > 1 or title == "by field":
            report[title] = table
    return report


def accuracies(right: dict[str, np.ndarray], chosen_P: np.ndarray) -> dict[str, Any]:
    """One row of a table: pairs, and per score the accuracy and its interval."""
    pairs = int(chosen_P.sum())
    row: dict[str, Any] = {"pairs": pairs}
    for name, right_P in right.items():
        hits = int(right_P[chosen_P].sum())
        row[name] = hits / pairs
        row[f"{name}, 95%"] = list(wilson_interval(hits, pairs))
    return row
