"""Finding wrong words with a discriminator made by hand. Run: pytest tests/inference/test_detection.py"""

import numpy as np
import pytest
from network_examples import by_hand, spotter

from span_electra.inference.detection import Detected, detect


def test_a_word_is_wrong_if_any_of_its_tokens_is():
    networks = by_hand(discriminator=spotter({"##do": 1.0, "cat": 0.0}, usual=-2.0))
    found = detect(networks, ["undo cat  the", ""])
    assert found[0].words == ["undo", "cat", "the"]
    do, others = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2))
    assert found[0].probability == pytest.approx([1 - (1 - do) * (1 - others), 0.5, others])
    assert found[0].spans == [(0, 4), (5, 8), (10, 13)]
    assert found[1].words == []


def test_the_words_that_a_stretch_touches_say_how_wrong_it_is():
    found = Detected("ab c def", ["ab", "c", "def"], [(0, 2), (3, 4), (5, 8)], [0.1, 0.9, 0.2])
    assert [found.highest(*span) for span in ((0, 2), (1, 4), (3, 4), (4, 8), (0, 8))] == [
        0.1, 0.9, 0.9, 0.2, 0.9,
    ]  # fmt: skip
