"""Features -> the data in numbers, for the report; plain JSON values.

R rows used, N rows looked into, T tokens of these, S spans of these, V vocabulary.
All is of the rows that a run uses, which limits and splits choose. Row lengths are counted over all of these;
what needs the tokens themselves, over at most SAMPLE.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from span_electra.data_config import MaskingConfig
from span_electra.features.masking import length_distribution, span_budget
from span_electra.features.store import Features
from span_electra.storage import STATISTICS, write_text
from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import Vocabulary

SAMPLE = 2000  # rows, evenly spaced; some 40,000 spans at 512 tokens a row
MOST_BINS = 32  # of the lengths' histogram


@dataclass(frozen=True)
class UsedRows:
    """Opened features and the rows of them that a run uses."""

    features: Features
    rows_R: np.ndarray  # int64, ascending
    run_masking: MaskingConfig | None = None  # of the run's own spans; None: those of the file

    @property
    def masking(self) -> MaskingConfig:
        """How the rows are masked."""
        return self.run_masking or self.features.header.masking

    @property
    def lengths_R(self) -> np.ndarray:
        """Tokens of each row used, [CLS] and [SEP] included."""
        return self.features.lengths_R[self.rows_R].astype(np.int64)


def describe_data(train: UsedRows, valid: UsedRows | None = None) -> dict[str, Any]:
    """Return the statistics of the training rows, their vocabulary and, if given, the validation's."""
    splits = {"train": split_statistics(train)}
    if valid is not None:
        splits["valid"] = split_statistics(valid)
    features, rows = train.features, len(train.rows_R)
    # Evenly over all rows: files are often sorted, and the first ones would tell of one source alone.
    rows_N = train.rows_R[np.unique(np.linspace(0, rows - 1, min(SAMPLE, rows)).astype(np.int64))]
    word_starts_T = features.word_starts(rows_N)
    return {
        "splits": splits,
        "lengths": length_histogram(train),
        "spans": span_statistics(train, rows_N, word_starts_T),
        "vocabulary": vocabulary_statistics(
            features.vocabulary, content_of(features, rows_N), words=int(word_starts_T.sum())
        ),
    }


def write_statistics(run_folder: str | Path, train: UsedRows, valid: UsedRows | None = None) -> None:
    """Keep the statistics in the run folder for the report, whole or not at all."""
    write_text(Path(run_folder, STATISTICS), json.dumps(describe_data(train, valid)) + "\n")


def split_statistics(used: UsedRows) -> dict[str, Any]:
    """Rows, tokens, how full the rows are, and where they came from."""
    header, lengths_R = used.features.header, used.lengths_R
    return {
        "rows": len(lengths_R),
        "rows_in_files": used.features.rows,
        "tokens": int(lengths_R.sum()),
        "masked": int(span_budget(lengths_R, used.masking.mask_ratio).sum()),
        "fill": float(lengths_R.mean() / header.max_seq_len) if len(lengths_R) else 0.0,
        "longest": int(lengths_R.max(initial=0)),
        "max_seq_len": header.max_seq_len,
        "mask_ratio": used.masking.mask_ratio,
        # Names without their folders: a page may be shown to people whom a path tells too much.
        "sources": [Path(source.path).name for source in header.sources[:5]],
        "more_sources": max(0, len(header.sources) - 5),
    }


def length_histogram(used: UsedRows) -> dict[str, list]:
    """Rows by length: `edges`, one more than `counts`."""
    longest = used.features.header.max_seq_len
    # Bins of one whole width: of uneven ones a wider bar would look like more rows.
    width = -(-longest // MOST_BINS)
    edges = np.arange(0, longest + width + 1, width) + 1
    edges = edges[: np.searchsorted(edges, longest + 1) + 1]
    counts = np.histogram(used.lengths_R, edges)[0]
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def content_of(features: Features, rows_N: np.ndarray) -> np.ndarray:
    """The rows' tokens without [CLS] and [SEP], one row after another."""
    if not len(rows_N):
        return np.empty(0, np.int64)
    lengths_N = features.lengths_R[rows_N].astype(np.int64)
    ids_NL = features.gather(rows_N, int(lengths_N.max()))
    place_L = np.arange(ids_NL.shape[1])
    return ids_NL[(place_L >= 1) & (place_L < lengths_N[:, None] - 1)]


def span_statistics(used: UsedRows, rows_N: np.ndarray, word_starts_T: np.ndarray) -> dict[str, Any]:
    """Spans by their length in whole words or tokens, as they are drawn, as shares beside those expected."""
    features, masking = used.features, used.masking
    probability_L = length_distribution(masking)
    if used.run_masking is None:
        spans = features.spans(rows_N)
    else:  # any seed will do: of so many spans the shares are those expected
        spans = features.sample_spans(rows_N, 0, 0, masking)
    content_N = features.lengths_R[rows_N].astype(np.int64) - 2
    starts_N = np.cumsum(content_N) - content_N
    starts_word = np.concatenate([[0], np.cumsum(word_starts_T)])
    row_S = np.repeat(np.arange(len(rows_N)), np.diff(spans.row_ends_R, prepend=0))
    first_S = starts_N[row_S] + spans.starts_S - 1  # spans count from [CLS]
    # The span's own first token opens a word whether or not it is spelt so (a row may start inside a word).
    words_S = 1 + starts_word[first_S + spans.lengths_S] - starts_word[first_S + 1]
    # What is longer than the masking allows (a file of another) is shown in the last bar.
    units_S = words_S if masking.whole_words else spans.lengths_S
    counts_L = np.bincount(np.minimum(units_S, len(probability_L)), minlength=len(probability_L) + 1)[1:]
    total = max(1, int(counts_L.sum()))
    return {
        "shares": (counts_L / total).tolist(),
        "law": probability_L.tolist(),
        "mean_words": float(words_S.mean()) if len(words_S) else 0.0,
        "mean_tokens": float(spans.lengths_S.mean()) if len(words_S) else 0.0,
        "geometric_p": masking.geometric_p,
        "unit": "whole words" if masking.whole_words else "tokens",
        "rows": len(rows_N),
    }


def vocabulary_statistics(vocabulary: Vocabulary, ids_T: np.ndarray, *, words: int) -> dict[str, Any]:
    """What the vocabulary is, and how the text, which has so many words, uses it."""
    counts_V = np.bincount(ids_T, minlength=vocabulary.size)
    total = max(1, len(ids_T))
    return {
        "type": vocabulary.kind,
        "size": vocabulary.size,
        "sha256": vocabulary.sha256,
        "used": float((counts_V > 0).mean()),
        "tokens_a_word": len(ids_T) / max(1, words),
        "unknown": float(counts_V[vocabulary.unk_id] / total),
        "commonest_share": float(counts_V.max() / total) if len(ids_T) else 0.0,
        "commonest": Pieces(vocabulary)[int(counts_V.argmax())].strip() if len(ids_T) else "",
    }
