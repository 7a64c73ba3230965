"""Pairs as rows: a stretch of text and, behind a [SEP], the same once more with some of its tokens left out.

Small networks that read plain text hardly learn to look a token up in another sentence; what a pair hides or
replaces in one part stands in the other. So do rows of text and translation (Lample and Conneau 2019, section
3.3); here a text is its own. Tasks of two texts are read in the same frame: [CLS] one [SEP] other [SEP].

Shapes are in the names:
  B  rows   L  tokens of the longest row   T  tokens of one row's content
"""

from __future__ import annotations

import warnings

import numpy as np

from span_electra.features.masking import row_keys

SHORTEST = 12  # tokens of a row; of fewer, two parts would say nothing
KEPT = 0.61  # share of a stretch's tokens that its shorter copy has at least, but for rounding


def check_lengths(share: float, lengths_R: np.ndarray) -> None:
    """Say it where rows of these lengths are to be paired, and all are too short."""
    if share and lengths_R.max(initial=0) < SHORTEST:
        warnings.warn(
            f"paired_rows: {share} makes no pairs: no row has {SHORTEST} tokens; give 0, or make longer rows",
            stacklevel=2,
        )


class Pairing:
    """Makes a share of rows pairs; which and how depends on (seed, epoch, row) alone."""

    def __init__(self, share: float, sep_id: int, seed: int) -> None:
        self.share, self.sep_id, self.seed = share, sep_id, seed

    def pair(
        self, ids_BL: np.ndarray, lengths_B: np.ndarray, rows_B: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, some of them pairs as long as before, and where a [SEP] parts them, bool [B, L].

        lengths_B: real tokens of each row, [CLS] and [SEP] included.
        """
        ids_BL, parted_BL = ids_BL.copy(), np.zeros(ids_BL.shape, bool)
        # A key of its own purpose: which rows are pairs says nothing of their masks or samples.
        keys_B = row_keys(self.seed, epoch, rows_B, "pair")
        for row, (length, key) in enumerate(zip(lengths_B.tolist(), keys_B.tolist(), strict=True)):
            rng = np.random.Generator(np.random.Philox(key=key))
            if rng.random() < self.share and length >= SHORTEST:
                first, second = self._parts(ids_BL[row, 1 : length - 1], rng)
                ids_BL[row, 1 : length - 1] = np.concatenate([first, [self.sep_id], second])
                parted_BL[row, 1 + len(first)] = True
        return ids_BL, parted_BL

    def _parts(self, ids_T: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Two parts that with a [SEP] between them are as long as the content; either may be the shorter."""
        room = len(ids_T) - 1
        longer = int(np.ceil(room * rng.uniform(0.5, 1 / (1 + KEPT))))
        stretch = ids_T[:longer]
        kept = np.sort(rng.permutation(longer)[: room - longer])
        parts = stretch, stretch[kept]
        return parts if rng.random() < 0.5 else parts[::-1]
