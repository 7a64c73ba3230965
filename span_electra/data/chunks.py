"""A stream of token ids -> rows: max_seq_len - 2 content tokens with [CLS] and [SEP] round them.

Every token comes out once, in order. A share of rows is cut to a random shorter length, so that lengths run
from 1 content token to the most, as in BERT's and ELECTRA's data.

T tokens, D documents, R rows.
"""

from __future__ import annotations

import numpy as np

from span_electra.config import ChunkConfig
from span_electra.data.kernel import kernel, pick_below, random_bits


def cut_chunks(document_ends_D: np.ndarray, chunking: ChunkConfig, key: np.uint64) -> np.ndarray:
    """Return the rows' exclusive ends in the stream, int64; no row crosses a document's end.

    document_ends_D: ascending exclusive ends, the last being the stream's; one entry where documents do not
    matter. Equal neighbours are documents without tokens. key: the stream's own, see `masking.row_keys`.

    Example: max_seq_len 6, no short rows, documents ending at 3, 9 -> rows ending at 3, 7, 9
    """
    # As thresholds on 32 bits: a row is short when its random number is below.
    short_below = np.uint64(round(chunking.short_chunk_prob * 2.0**32))
    most = chunking.max_seq_len - 2
    return _cut(np.asarray(document_ends_D, dtype=np.int64), most, short_below, np.uint64(key))


def document_ends(text: bytes, line_ends_N: np.ndarray) -> np.ndarray:
    """Return where documents end in the stream: at every blank line and at the end, int64.

    line_ends_N: the exclusive end in the stream of each of the text's lines.
    """
    blank_N = _blank_lines(np.frombuffer(text, np.uint8), len(line_ends_N))
    stream_end = line_ends_N[-1:]
    return np.concatenate([line_ends_N[blank_N], stream_end])


def frame_chunks(
    ids_T: np.ndarray, chunk_ends_R: np.ndarray, cls_id: int, sep_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put [CLS] and [SEP] round each row; return all rows' ids, one after another, and the rows' new ends.

    Example: ids 7 8 9, ends 2 3 -> [CLS] 7 8 [SEP] [CLS] 9 [SEP], ends 4 7
    """
    framed_T = _frame(ids_T, chunk_ends_R, cls_id, sep_id)
    return framed_T, chunk_ends_R + 2 * np.arange(1, len(chunk_ends_R) + 1)


@kernel
def _cut(document_ends_D, most, short_below, key):
    ends_R = np.empty(1024, np.int64)
    row, start = 0, 0
    for document_end in document_ends_D:
        while start < document_end:
            if row == len(ends_R):
                grown_R = np.empty(2 * row, np.int64)
                grown_R[:row] = ends_R
                ends_R = grown_R
            size = most
            bits = random_bits(key, row)
            if bits & np.uint64(0xFFFFFFFF) < short_below:
                size = 1 + pick_below(bits, most)
            start = min(start + size, document_end)
            ends_R[row] = start
            row += 1
    return ends_R[:row].copy()


@kernel
def _blank_lines(text_B, lines):
    """bool a line: nothing in it but white space (space, tab, carriage return, form feed, vertical tab)."""
    blank_N = np.ones(lines, np.bool_)
    line = 0
    for byte in text_B:
        if byte == 10:
            line += 1
        elif byte != 32 and not 9 <= byte <= 13:
            blank_N[line] = False
    return blank_N


@kernel
def _frame(ids_T, chunk_ends_R, cls_id, sep_id):
    framed_T = np.empty(len(ids_T) + 2 * len(chunk_ends_R), ids_T.dtype)
    start, place = 0, 0
    for end in chunk_ends_R:
        framed_T[place] = cls_id
        framed_T[place + 1 : place + 1 + end - start] = ids_T[start:end]
        place += end - start + 2
        framed_T[place - 1] = sep_id
        start = end
    return framed_T
