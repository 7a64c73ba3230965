"""Weights between our names and stock ones: nothing lost either way. Run: pytest tests/hub/test_weights.py"""

import pytest
import torch
from model_examples import MASK, batch_of, small_config

from span_electra.errors import InputError
from span_electra.hub.weights import PARTS, name_table, stock_weights, take_stock_weights
from span_electra.model.electra import SpanElectra

SHARING = ["auto", "embeddings", "gdes", "none"]


def model_of(seed=0, **changes):
    model = SpanElectra(small_config(**changes), MASK, seed)
    with torch.no_grad():
        for weight in model.parameters():  # norms, biases and changes away from their starts
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * 0.1)
    return model


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("part", PARTS)
def test_every_weight_has_one_place_and_comes_back(sharing, part):
    model, again = model_of(embedding_sharing=sharing), model_of(seed=1, embedding_sharing=sharing)
    table = name_table(part, 2, projected=True)
    assert len({ours for ours, _ in table}) == len(table)
    theirs = [name for _, names in table for name in names]
    assert len(set(theirs)) == len(theirs)
    stock = {name: stock_weights(getattr(model, name), name) for name in PARTS}
    for name in PARTS:
        take_stock_weights(getattr(again, name), name, stock[name], "here")
    for name in PARTS:
        for key, weight in stock_weights(getattr(again, name), name).items():
            assert torch.allclose(weight, stock[name][key], atol=1e-6), key
    batch = batch_of()
    assert torch.allclose(model(batch).loss, again(batch).loss, rtol=1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_the_table_names_every_parameter(part):
    network = getattr(model_of(embedding_sharing="none"), part)
    assert {ours for ours, _ in name_table(part, 2, projected=True)} == set(network.state_dict())


def test_gdes_is_folded_into_one_table():
    model = model_of(embedding_sharing="gdes")
    embeddings = model.discriminator.encoder.embeddings
    folded = stock_weights(model.discriminator, "discriminator")["electra.embeddings.word_embeddings.weight"]
    assert torch.equal(folded, embeddings.base.word.weight + embeddings.delta.word.weight)


def test_what_does_not_fit_is_refused_and_nothing_is_copied():
    model = model_of()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    stock = stock_weights(model_of(seed=1).generator, "generator")
    wrong = {
        "lacks generator_lm_head.bias": {k: v for k, v in stock.items() if k != "generator_lm_head.bias"},
        "classifier.weight has no place": stock | {"classifier.weight": torch.zeros(2)},
        "is \\(301,\\), the model's is \\(300,\\)": stock | {"generator_lm_head.bias": torch.zeros(301)},
        "not tied": stock | {"generator_lm_head.weight": torch.zeros(300, 12)},
    }
    for message, weights in wrong.items():
        with pytest.raises(InputError, match=message):
            take_stock_weights(model.generator, "generator", weights, "there")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
