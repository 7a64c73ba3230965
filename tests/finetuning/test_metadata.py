"""What a run must have kept where it goes on. Run: pytest tests/finetuning/test_metadata.py"""

import pytest

from span_electra.errors import InputError
from span_electra.finetuning.metadata import check_same_tasks


def test_tasks_in_another_order_are_other_tasks():
    facts = {"heads": [{"kind": "sequence"}] * 2, "prepared": {"film": "1" * 64, "book": "2" * 64}}
    check_same_tasks(facts, facts, "run")
    turned = facts | {"prepared": dict(reversed(facts["prepared"].items()))}
    with pytest.raises(InputError, match="run: was trained with rows .*film.*book.*this is .*book.*film"):
        check_same_tasks(turned, facts, "run")
