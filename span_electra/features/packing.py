"""Rows of different lengths -> lines of one width, several rows one after another in a line.

R rows, W the width of a line.
"""

from __future__ import annotations

import numpy as np

from span_electra.text.compiled import compiled


def pack_into_lines(lengths_R: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Lay rows into lines, the longest first, each where the least room that it fits is left (best fit).

    Returns each row's line and the place of its first token in it, int64, and the number of lines. Rows of
    one length go into lines in the order in which they come.

    Example: lengths 3, 6, 5, 2 in lines of 8 -> lines 1, 0, 1, 0 at places 5, 0, 0, 6
    """
    lengths_R = np.ascontiguousarray(lengths_R, dtype=np.int64)
    assert not len(lengths_R) or 0 < lengths_R.min() <= lengths_R.max() <= width, "a row fits no line"
    line_R, start_R = np.empty((2, len(lengths_R)), np.int64)
    order_R = np.argsort(-lengths_R, kind="stable")
    return line_R, start_R, _best_fit(lengths_R, order_R, width, line_R, start_R)


@compiled
def _best_fit(lengths_R, order_R, width, line_R, start_R):
    # Lines with the same room are chained, so that one is found without a look at all the others.
    newest_W = np.full(width + 1, -1, np.int64)  # by the room that is left
    before_N = np.empty(len(order_R), np.int64)  # the next line with as much room as this one
    lines = 0
    for row in order_R:
        room = lengths_R[row]
        while room <= width and newest_W[room] < 0:
            room += 1
        if room > width:
            room, line = width, lines
            lines += 1
        else:
            line = newest_W[room]
            newest_W[room] = before_N[line]
        line_R[row], start_R[row] = line, width - room
        room -= lengths_R[row]
        before_N[line] = newest_W[room]
        newest_W[room] = line
    return lines
