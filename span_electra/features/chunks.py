"""A stream of token ids -> rows: max_seq_len - 2 content tokens with [CLS] and [SEP] round them.

Every token comes out once, in order. A share of rows is cut to a random shorter length, so that lengths run
from 1 content token to the most, as in BERT's and ELECTRA's data. Where sentences are respected, a row ends
with the last sentence that it has room for.

T tokens, D documents, S sentences, R rows.
"""

from __future__ import annotations

import numpy as np

from span_electra.data_config import ChunkConfig
from span_electra.features.keyed_random import random_below, random_bits
from span_electra.text.compiled import compiled

NO_SENTENCES = np.empty(0, np.int64)


def cut_chunks(
    document_ends_D: np.ndarray,
    chunking: ChunkConfig,
    key: np.uint64,
    sentence_ends_S: np.ndarray = NO_SENTENCES,
) -> np.ndarray:
    """Return the rows' exclusive ends in the stream, int64; no row crosses a document's end.

    document_ends_D: ascending exclusive ends, the last being the stream's; one entry where documents do not
    matter. Equal neighbours are documents without tokens. key: the stream's own, see `masking.row_keys`.
    sentence_ends_S: ascending; a row ends at the last of them in the second half of its room, a short row at
    the next of them, and where there is none as if there were no sentences.

    Example: max_seq_len 6, no short rows, documents ending at 3, 9 -> rows ending at 3, 7, 9
    """
    # As thresholds on 32 bits: a row is short when its random number is below.
    short_below = np.uint64(round(chunking.short_chunk_prob * 2.0**32))
    most, key = chunking.max_seq_len - 2, np.uint64(key)
    stops = (np.asarray(document_ends_D, dtype=np.int64), np.asarray(sentence_ends_S, dtype=np.int64))
    ends_R = np.empty(stops[0].max(initial=0), np.int64)  # room for rows of one token each
    rows = _cut(stops, most, short_below, key, ends_R)
    return ends_R[:rows].copy()


def document_ends(text: bytes, line_ends_N: np.ndarray) -> np.ndarray:
    """Return where documents end in the stream: at every blank line and at the end, int64.

    line_ends_N: the exclusive end in the stream of each of the text's lines.
    """
    # Blanks are ASCII's alone: others are text, whose tokens belong to a document.
    blank_N = np.array([not line.strip() for line in text.split(b"\n")[: len(line_ends_N)]], np.bool_)
    stream_end = line_ends_N[-1:]  # of a text without lines none, and so no document
    return np.concatenate([line_ends_N[blank_N], stream_end])


def frame_chunks(
    ids_T: np.ndarray, chunk_ends_R: np.ndarray, cls_id: int, sep_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put [CLS] and [SEP] round each row; return all rows' ids, one after another, and the rows' new ends.

    Example: ids 7 8 9, ends 2 3 -> [CLS] 7 8 [SEP] [CLS] 9 [SEP], ends 4 7
    """
    ends_R = chunk_ends_R + 2 * np.arange(1, len(chunk_ends_R) + 1)
    starts_R = np.concatenate([[0], ends_R])[:-1]
    content_T = np.ones(len(ids_T) + 2 * len(ends_R), np.bool_)
    content_T[starts_R] = content_T[ends_R - 1] = False
    framed_T = np.empty(len(content_T), ids_T.dtype)
    framed_T[content_T], framed_T[starts_R], framed_T[ends_R - 1] = ids_T, cls_id, sep_id
    return framed_T, ends_R


@compiled
def _cut(stops, most, short_below, key, ends_R):
    """Write the rows' ends; return how many there are."""
    (document_ends_D, sentence_ends_S), row, start, sentence = stops, 0, 0, 0
    for document in range(len(document_ends_D)):
        while start < document_ends_D[document]:
            size = most
            # One number a row: its lower half says whether the row is short, its upper half how short.
            bits = random_bits(key, row)
            if bits & np.uint64(0xFFFFFFFF) < short_below:
                size = 1 + random_below(bits, most)
            last = min(start + most, document_ends_D[document])
            end = min(start + size, last)
            if end < document_ends_D[document]:
                end, sentence = _sentence_end(sentence_ends_S, sentence, (start, end, last))
            ends_R[row] = start = end
            row += 1
    return row


@compiled
def _sentence_end(sentence_ends_S, sentence, places):
    """Where a row ends that would go from start to end and may go to last; the next sentence end behind."""
    start, end, last = places
    found = start
    while sentence < len(sentence_ends_S) and sentence_ends_S[sentence] <= end:
        found = sentence_ends_S[sentence]
        sentence += 1
    # A row that would lose more than half of its room goes on to the next sentence's end instead, if it can.
    if 2 * (found - start) >= end - start:
        return found, sentence
    if sentence < len(sentence_ends_S) and sentence_ends_S[sentence] <= last:
        return sentence_ends_S[sentence], sentence + 1
    return end, sentence
