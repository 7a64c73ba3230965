"""Of ModernBERTs, those that ours computes, and no others. Run: pytest tests/hub/test_modernbert.py"""

import pytest
from export_examples import written_settings
from model_examples import small_config

from span_electra.hub.architectures import model_config
from span_electra.hub.modernbert import MODERN

FOREIGN = [
    {"attention_bias": False},
    {"mlp_bias": True},
    {"norm_bias": True},
    {"classifier_bias": True},
    {"decoder_bias": False},
    {"hidden_activation": "tanh"},
    {"layer_types": ["sliding_attention", "full_attention"]},
    {"layer_types": ["full_attention", "sliding_attention"], "rope_parameters": None},
    {"architectures": ["ModernBertForMaskedLM"], "classifier_activation": "silu"},
]


@pytest.mark.parametrize("changes", FOREIGN, ids=str)
def test_modernberts_that_ours_does_not_compute_are_none_of_ours(changes):
    settings = written_settings(small_config(architecture="modern"))
    settings.pop("global_rope_theta")
    settings.pop("local_rope_theta")
    assert model_config(settings, "here") is not None
    assert model_config(settings | changes, "here") is None


def test_one_class_for_two_heads_is_told_by_its_labels():
    settings = {"architectures": ["ModernBertForTokenClassification"]}
    assert MODERN.head_in(settings | {"id2label": {"0": "original", "1": "replaced"}}) == "discriminator"
    assert MODERN.head_in(settings | {"id2label": {"0": "O", "1": "B-PER"}}) == "tokens"
    assert MODERN.head_in({"architectures": ["ModernBertModel"]}) == "none"


@pytest.mark.parametrize("head", ["generator", "causal"])
def test_a_network_that_sees_all_is_written_with_windows_that_hold_every_row(head):
    config = small_config(architecture="modern")
    settings = written_settings(config, head)
    # Without a local layer transformers 5.10 to 5.16 would refuse it.
    assert settings["layer_types"] == ["full_attention", "sliding_attention"]
    assert settings["local_attention"] // 2 >= config.max_position_embeddings
    before = settings | {
        "layer_types": ["full_attention"] * 2,
        "local_attention": 128,
    }  # as it was until then
    for found in (settings, before):
        assert model_config(found, "here").local_attention == 0
    assert model_config(settings | {"local_attention": 8}, "here").local_attention == 8 - 2 * (
        head == "causal"
    )
