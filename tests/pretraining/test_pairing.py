"""Laws of pairs: as long as their rows, one part left over of the other, by (seed, epoch, row) alone.

Run: pytest tests/pretraining/test_pairing.py
"""

import numpy as np
import pytest

from span_electra.pretraining.pairing import KEPT, SHORTEST, Pairing

CLS, SEP, PAD = 0, 1, 2


def rows_of(lengths, width):
    """Rows whose tokens are all different, so that a copied one is known."""
    ids_BL = np.full((len(lengths), width), PAD)
    for row, length in enumerate(lengths):
        ids_BL[row, :length] = [CLS, *range(10 + 1000 * row, 10 + 1000 * row + length - 2), SEP]
    return ids_BL


def parts_of(ids_L, length, place):
    return ids_L[1:place].tolist(), ids_L[place + 1 : length - 1].tolist()


def test_both_parts_are_of_the_row_and_the_shorter_is_left_over_of_the_longer():
    lengths_B = np.random.default_rng(0).integers(3, 60, 300)
    ids_BL = rows_of(lengths_B, 60)
    paired_BL, parted_BL = Pairing(1.0, SEP, seed=3).pair(ids_BL, lengths_B, np.arange(300), epoch=1)
    orders = set()
    for row, length in enumerate(lengths_B):
        places = np.flatnonzero(parted_BL[row])
        assert len(places) == (length >= SHORTEST)
        assert (paired_BL[row, length - 1 :] == ids_BL[row, length - 1 :]).all()
        if not len(places):
            assert (paired_BL[row] == ids_BL[row]).all()
            continue
        assert paired_BL[row, places[0]] == SEP
        first, second = parts_of(paired_BL[row], length, places[0])
        longer, shorter = sorted((first, second), key=len, reverse=True)
        assert longer == ids_BL[row, 1 : 1 + len(longer)].tolist()
        assert shorter == [token for token in longer if token in shorter]
        assert len(shorter) >= KEPT * len(longer) - 2
        orders.add(first is longer)
    assert orders == {True, False}


def test_the_share_is_that_of_the_rows():
    lengths_B = np.full(4000, 20)
    _, parted_BL = Pairing(0.15, SEP, seed=0).pair(rows_of(lengths_B, 20), lengths_B, np.arange(4000), 0)
    assert parted_BL.any(1).mean() == pytest.approx(0.15, abs=0.02)


def test_a_pair_depends_on_seed_epoch_and_row_alone():
    lengths_B, rows_B = np.full(50, 30), np.arange(100, 150)
    ids_BL = rows_of(lengths_B, 30)

    def pairs(seed=0, epoch=0, chosen=slice(None)):
        made = Pairing(0.5, SEP, seed).pair(ids_BL[chosen], lengths_B[chosen], rows_B[chosen], epoch)
        return made[0].tolist()

    assert pairs() == pairs()
    assert pairs(chosen=slice(20, 30)) == pairs()[20:30]
    assert pairs() != pairs(seed=1)
    assert pairs() != pairs(epoch=1)
