"""How many cores are ours. Run: pytest tests/test_cores.py"""

import os

from span_electra.cores import available_cores


def test_where_no_process_is_tied_to_cores_all_count(monkeypatch):
    assert 1 <= available_cores() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert available_cores() == os.cpu_count()
