"""Which stock ELECTRAs ours computes. Run: pytest tests/hub/test_electra.py"""

import pytest
from model_examples import small_config

from span_electra.hub.architectures import model_config
from span_electra.hub.electra import ELECTRA


def written():
    config = small_config()
    return ELECTRA.write_settings(config, config.generator, "generator") | {"model_type": "electra"}


def test_heads_go_by_their_classes():
    for head, name in ELECTRA.classes.items():
        assert ELECTRA.head_in({"architectures": [name]}) == head
    assert ELECTRA.head_in({"architectures": ["ElectraModel"]}) == "none"
    assert ELECTRA.head_in({}) == "none"


@pytest.mark.parametrize(
    "changes",
    [{"hidden_act": "tanh"}, {"position_embedding_type": "relative_key"}, {"tie_word_embeddings": False}],
)
def test_layers_that_ours_are_not_are_told(changes):
    assert model_config(written(), "here").generator == small_config().generator
    assert model_config(written() | changes, "here") is None
