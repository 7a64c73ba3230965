"""Each row once an epoch, in an order of (seed, epoch) alone. Run: pytest tests/finetuning/test_order.py"""

from collections import Counter

import numpy as np
import pytest

from span_electra.finetuning.order import Order, plan_tasks, quotas


def seen(plan):
    return Counter((task, int(row)) for task, rows_B in plan for row in rows_B)


def as_lists(plan):
    return [(task, rows_B.tolist()) for task, rows_B in plan]


LENGTHS = [np.arange(21) % 7 + 3, np.arange(50) % 5 + 3]


@pytest.mark.parametrize("buffer", [0, 3, 16])
def test_each_row_comes_once_an_epoch_in_batches_of_one_task(buffer):
    plan = plan_tasks(LENGTHS, Order(4, shuffle_buffer_size=buffer), 0)
    assert seen(plan) == Counter((task, row) for task in (0, 1) for row in range(len(LENGTHS[task])))
    assert len(plan) == 6 + 13 and max(len(rows_B) for _, rows_B in plan) == 4


def test_quotas_are_those_worked_by_hand():
    assert quotas([4, 16], Order(sampling="square_root"), 0) == [7, 13]  # 20 x 2/6, 20 x 4/6
    annealed = Order(sampling="annealed", epochs=3)
    assert quotas([4, 16], annealed, 0) == [4, 16]
    assert quotas([4, 16], annealed, 1) == [6, 14]  # powers .6: 2.297, 5.278 of 7.575 -> 6.07, 13.93
    assert quotas([4, 16], annealed, 2) == [9, 11]  # powers .2: 1.320, 1.741 of 3.061 -> 8.62, 11.38
    for sampling in ("proportional", "square_root", "annealed"):
        for own in ([1, 1, 1], [3, 500], [7], [2, 3, 5, 7, 11]):
            assert sum(quotas(own, Order(sampling=sampling, epochs=2), 1)) == sum(own)


def test_the_order_is_that_of_seed_and_epoch():
    first = as_lists(plan_tasks(LENGTHS, Order(4, seed=5), 2))
    assert first == as_lists(plan_tasks(LENGTHS, Order(4, seed=5), 2))
    assert first != as_lists(plan_tasks(LENGTHS, Order(4, seed=5), 3))
    assert first != as_lists(plan_tasks(LENGTHS, Order(4, seed=6), 2))


def test_a_row_comes_no_more_than_a_buffer_from_its_place():
    lengths = [np.random.default_rng(0).integers(3, 30, 500), LENGTHS[1]]
    plan = plan_tasks(lengths, Order(4, shuffle_buffer_size=42), 0)
    order = np.concatenate([rows_B for task, rows_B in plan if task == 0])
    # Places are counted from where the epoch began, which is drawn.
    ahead_PR = (order - np.arange(500) - np.arange(500)[:, None] + 250) % 500 - 250
    assert np.abs(ahead_PR).max(axis=1).min() < 42 and len(set(np.diff(order))) > 2


def test_a_buffer_leaves_no_row_out_of_every_epoch():
    lengths = [np.full(8, 5), np.full(800, 5)]  # 1 and 100 batches, of which square_root takes 9 and 92
    order = Order(8, "square_root", epochs=10, shuffle_buffer_size=64)
    found = sum((seen(plan_tasks(lengths, order, epoch)) for epoch in range(10)), Counter())
    assert {row for task, row in found if task == 1} == set(range(800))
