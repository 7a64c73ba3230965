"""Finding wrong words with a discriminator made by hand. Run: pytest tests/inference/test_detection.py"""

import numpy as np
import pytest
from network_examples import by_hand, spotter

from span_electra.inference.detection import detect


def test_a_word_is_wrong_if_any_of_its_tokens_is():
    networks = by_hand(discriminator=spotter({"##do": 1.0, "cat": 0.0}, usual=-2.0))
    found = detect(networks, ["undo cat  the", ""], batch_size=8)
    assert found[0].words == ["undo", "cat", "the"]
    do, others = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2))
    assert found[0].probability == pytest.approx([1 - (1 - do) * (1 - others), 0.5, others])
    assert found[0].spans == [(0, 4), (5, 8), (10, 13)]
    assert found[1].words == []
