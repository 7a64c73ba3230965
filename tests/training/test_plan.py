"""Where a run stands is read from checkpoints of every release. Run: pytest tests/training/test_plan.py"""

from dataclasses import asdict

import pytest

from span_electra.training.plan import LoopState


def test_a_state_saved_by_an_earlier_release_is_read_under_its_former_names():
    saved = {"step": 3, "agreed": 7, "told_at": 1.5, "untried": True, "told": ["topic"]}
    state = LoopState.from_dict(saved)
    assert (state.step, state.agreed_seconds, state.logged_at) == (3, 7, 1.5)
    assert state.validation_due and state.warned == ["topic"]
    assert LoopState.from_dict(asdict(state)) == state
    with pytest.raises(TypeError):
        LoopState.from_dict({"mood": "good"})
