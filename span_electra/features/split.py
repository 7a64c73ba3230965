"""Which rows are learned from, and which are held out."""

from __future__ import annotations

import numpy as np

from span_electra.counted import counted
from span_electra.errors import InputError


def train_valid_split(
    total: int, limit: int = 0, valid: float = 0.0, seed: int = 0, source: str = "features"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and the rows held out for validation, each ascending.

    Args:
        total: rows of the features.
        limit: use only the first so many rows; 0: all.
        valid: held-out rows: a count, or below 1 a share (at least one row); 0: none.
        seed: of the choice.
        source: of the rows, for the error.

    Raises InputError when nothing would be left to train on.
    """
    rows_R = np.arange(min(total, limit) if limit else total, dtype=np.int64)
    if not valid:
        return rows_R, rows_R[:0]
    # At least one: a share of a small file must not leave a run without any validation.
    held = max(1, round(valid * len(rows_R))) if valid < 1 else int(valid)
    if held >= len(rows_R):
        raise InputError(
            f"{source}: has {counted(len(rows_R), 'row')}, and valid_split {valid:g} holds {held} out; give "
            "--valid_split 0, shorter rows (create_feature_SE.py --max_seq_len 128) or more text"
        )
    # A key of its own (epochs count from 0), so that the split is no part of any epoch's shuffle.
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, 2**64 - 1], np.uint64)))
    held_R = np.zeros(len(rows_R), bool)
    held_R[rng.permutation(len(rows_R))[:held]] = True
    return rows_R[~held_R], rows_R[held_R]
