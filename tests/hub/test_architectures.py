"""Records of encoder types: what is written is read back, what ours cannot compute is told.

Run: pytest tests/hub/test_architectures.py   (that logits agree: test_export.py, finetuning/test_export.py)
"""

import pytest
from export_examples import written_settings
from model_examples import small_config

from span_electra.config import ARCHITECTURES as NAMES
from span_electra.config import NetworkConfig
from span_electra.errors import InputError
from span_electra.hub.architectures import ARCHITECTURES, architecture_of, model_config
from span_electra.model.layers import LAYERS

KEPT = ("hidden_act", "layer_norm_eps", "vocab_size")
WINDOWS = [
    {},
    {"local_attention": 6},
    {"local_attention": 8, "global_attention_every": 2, "rope_theta": 500.0},
]


def test_every_architecture_has_a_layer_and_a_record():
    assert set(NAMES) == set(LAYERS) == set(ARCHITECTURES)


@pytest.mark.parametrize("head", ["sequence", "causal"])
@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("name", NAMES)
def test_settings_come_back(name, windows, head):
    windows = windows if name == "modern" else {}
    deep = NetworkConfig(16, 5, 4, 24)
    config = small_config(architecture=name, discriminator=deep, hidden_act="silu", **windows)
    again = model_config(written_settings(config, head), "here")
    assert again.discriminator == config.discriminator
    for key in (*KEPT, "local_attention", "rope_theta", "architecture"):
        assert getattr(again, key) == getattr(config, key), key
    if windows.get("local_attention"):
        assert again.global_attention_every == config.global_attention_every


def test_a_type_that_nobody_knows_is_refused_with_those_we_know():
    with pytest.raises(InputError, match="model_type is 'bert', wanted is electra or modernbert or"):
        architecture_of({"model_type": "bert"}, "here/config.json")
