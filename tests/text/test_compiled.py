"""Loops run without the interpreter's lock; where their machine code is kept is in test_machine_code.py.

Run: pytest tests/text/test_compiled.py
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from span_electra.features.keyed_random import random_bits


def test_threads_share_loops():
    keys = [np.uint64(key) for key in range(200)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda key: random_bits(key, 1), keys))
    assert together == [random_bits(key, 1) for key in keys]
