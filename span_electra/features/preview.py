"""A feature file for the eye: its settings, lengths, masks, and some rows with their hidden spans coloured.

R rows, C row lengths, L span lengths.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from span_electra.counted import counted
from span_electra.features.masking import length_distribution
from span_electra.features.store import Features, open_features
from span_electra.storage import atomic_file
from span_electra.text.pieces import Pieces

LINES_SHOWN = 8  # of a list of files
ROWS_SHOWN = 3
TOKENS_SHOWN = 120  # of each shown row
BAR = 40  # characters of the longest bar
SAMPLED_ROWS = 100_000  # mask statistics look at no more rows than these
COLOUR, PLAIN = "\033[1;30;43m", "\033[0m"


def describe(path: str | Path, colour: bool | None = None) -> str:
    """Return a page about a feature file, or a folder or glob of them.

    colour: mark hidden spans by colour, or by double brackets; None: by colour on a terminal.
    Raises InputError when it is none, or damaged.
    """
    if colour is None:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    features = open_features(path)
    parts = [_settings(features), _lengths(features), _masks(features), _rows(features, colour)]
    return "\n\n".join(parts)


def _settings(features: Features) -> str:
    header, files = features.header, [str(file) for file in features.files]
    sources = [
        f"{source.path}  {f'{source.size:,} bytes  ' if source.size else ''}sha256 {source.sha256[:12]}"
        for source in header.sources
    ]
    kind, sha256 = features.vocabulary.kind, header.vocabulary_sha256[:12]
    masking, chunking = header.masking, header.chunking
    documents = "respected" if chunking.respect_documents else "joined"
    sentences = "respected" if chunking.respect_sentences else "cut"
    facts = {
        "features": _few(files),
        "vocabulary": f"{kind}, {header.vocab_size:,} tokens, sha256 {sha256}",
        "rows": f"{header.rows:,} of at most {header.max_seq_len} tokens",
        "tokens": f"{header.content:,} of text, {header.tokens:,} with [CLS] and [SEP]",
        "masking": f"ratio {masking.mask_ratio:g}, at most {counted(masking.max_span_len, 'word')}, "
        f"p {masking.geometric_p:g}, format {header.format}",
        "chunking": f"{chunking.short_chunk_prob:.0%} short, documents {documents}, sentences {sentences}, "
        f"{header.chunk_size:,} lines a block",
        "seed": str(header.seed),
        "sources": _few(sources),
    }
    return "\n".join(f"{name:<12} {value}" for name, value in facts.items())


def _few(lines: list[str]) -> str:
    more = [f"... and {len(lines) - LINES_SHOWN} more"] if len(lines) > LINES_SHOWN else []
    return "\n             ".join(lines[:LINES_SHOWN] + more)


def _lengths(features: Features) -> str:
    """Histogram of row lengths, in eighths of the longest allowed."""
    longest, lengths_R = features.header.max_seq_len, features.lengths_R
    fill = lengths_R.sum(dtype=np.int64) / max(1, len(lengths_R) * longest)
    # Rows of fewer than eight tokens have fewer eighths.
    edges = np.unique(np.linspace(0, longest, 9).round().astype(int))
    counts_C, _ = np.histogram(lengths_R, np.append(edges[:-1] + 1, longest + 1))
    labels = [f"{low + 1:>5}-{high:<5}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return f"row lengths: {fill:.1%} full\n" + _bars(labels, counts_C)


def _masks(features: Features) -> str:
    """Share hidden, and span lengths in tokens; in words they follow the geometric law."""
    # The first rows do: they are masked as all others are.
    rows_R = np.arange(min(features.rows, SAMPLED_ROWS))
    spans = features.spans(rows_R)
    content = int(features.lengths_R[rows_R].sum(dtype=np.int64)) - 2 * len(rows_R)
    hidden = int(spans.lengths_S.sum(dtype=np.int64))
    probability_L = length_distribution(features.header.masking)
    mean_words = probability_L @ np.arange(1, len(probability_L) + 1)
    most = int(spans.lengths_S.max(initial=1))
    lengths_L = np.minimum(spans.lengths_S, 20)  # the last bar stands for all longer ones
    counts_L = np.bincount(lengths_L, minlength=min(most, 20) + 1)[1:]
    labels = [f"{length:>5}" + ("+" if length == 20 else " ") for length in range(1, len(counts_L) + 1)]
    share = hidden / max(1, content)
    mean = hidden / max(1, len(spans.lengths_S))
    return (
        f"masks: {share:.2%} of the text's tokens hidden, mean span {mean:.2f} tokens "
        f"(law: {mean_words:.2f} words before the last is cut to the budget)\n" + _bars(labels, counts_L)
    )


def _bars(labels: list[str], counts: np.ndarray) -> str:
    longest = max(1, int(counts.max(initial=0)))
    return "\n".join(
        f"  {label} {'#' * round(BAR * int(count) / longest):<{BAR}} {count:,}"
        for label, count in zip(labels, counts, strict=True)
    )


def _rows(features: Features, colour: bool) -> str:
    """The first rows, hidden spans coloured, or in double brackets without colours."""
    before, after = (COLOUR, PLAIN) if colour else ("[[", "]]")
    rows_R = np.arange(min(ROWS_SHOWN, features.rows))
    spans = features.spans(rows_R)
    lines, span, pieces_V = [], 0, Pieces(features.vocabulary)
    for row, end in zip(rows_R, spans.row_ends_R, strict=True):
        length = int(features.lengths_R[row])
        ids = features.gather(np.array([row]), length)[0]
        shown, place = [f"row {row} ({length} tokens): "], 0
        # Text between the spans is decoded in one piece: characters may lie in several tokens.
        for start, size in zip(spans.starts_S[span:end], spans.lengths_S[span:end], strict=True):
            if start >= TOKENS_SHOWN:
                break
            shown.append(_text(pieces_V, ids[place:start]))
            shown.append(before + _text(pieces_V, ids[start : start + size]) + after)
            place = start + size
        shown.append(_text(pieces_V, ids[place:TOKENS_SHOWN]))
        lines.append("".join(shown) + (" ..." if length > TOKENS_SHOWN else ""))
        span = end
    return "\n\n".join(lines)


def _text(pieces_V: Pieces, ids: np.ndarray) -> str:
    """Tokens as text; control characters are shown, not obeyed by the terminal."""
    text = pieces_V.text(ids.tolist())
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def write_tokens(path: str | Path, out_file: str | Path) -> None:
    """Write the rows of a feature file as text, a row a line, tokens as the vocabulary spells them."""
    features, out_file = open_features(path), Path(out_file)
    tokens_V, longest = features.vocabulary.tokens_V, int(features.lengths_R.max(initial=1))
    out_file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out_file) as beside, beside.open("w", encoding="utf-8") as lines:
        for begin in range(0, features.rows, 1000):
            rows_B = np.arange(begin, min(begin + 1000, features.rows))
            for ids_L, length in zip(
                features.gather(rows_B, longest), features.lengths_R[rows_B], strict=True
            ):
                lines.write(" ".join(tokens_V[number] for number in ids_L[:length]) + "\n")
