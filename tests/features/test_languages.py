"""Spans in every script as in English: enough of them, different ones, everywhere, no character cut.

Run: pytest tests/features/test_languages.py
"""

import pytest
from script_examples import SCRIPTS, figures, script_text

from span_electra.data_config import MaskingConfig


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_row_of_128_is_hidden_as_in_english(tmp_path, script, kind):
    text = script_text(script, 60_000, mixed=True)
    found = figures(text, kind, tmp_path, format=MaskingConfig().format, vocab_size=1500)
    assert 4 <= found.spans <= 6
    assert found.fewest_masks >= 19
    assert found.never <= 0.03
    assert found.cut == 0 and found.off_budget == 0


def test_format_1_failed_there(tmp_path):
    """Else the test above could not fail."""
    found = figures(script_text("Han", 60_000), "BPE", tmp_path, format=1, vocab_size=1500)
    assert found.spans < 2 and found.fewest_masks < 19 and found.never > 0.05
