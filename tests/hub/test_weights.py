"""Weights between our names and stock ones: nothing lost either way. Run: pytest tests/hub/test_weights.py"""

import model_examples
import pytest
import torch
from model_examples import MASK, batch_of, small_config

from span_electra.config import ARCHITECTURES as NAMES
from span_electra.errors import InputError
from span_electra.hub.architectures import ARCHITECTURES
from span_electra.hub.weights import PARTS, our_weights, stock_weights, take_weights, weights_from_stock
from span_electra.model.electra import SpanElectra

SHARING = ["auto", "embeddings", "gdes", "none"]


@pytest.fixture(autouse=True, params=NAMES)
def record(request, monkeypatch):
    monkeypatch.setattr(model_examples, "ARCHITECTURE", request.param)
    return ARCHITECTURES[request.param]


def model_of(seed=0, **changes):
    model = SpanElectra(small_config(**changes), MASK, seed)
    with torch.no_grad():
        for weight in model.parameters():  # norms, biases and changes away from their starts
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * 0.1)
    return model


def back(stock, record, part, source="here"):
    """Ours again, of stock weights of one of the small networks."""
    projected = bool(record.projection)
    return weights_from_stock(stock, record, head=part, layers=2, projected=projected, source=source)


@pytest.mark.parametrize("sharing", SHARING)
def test_every_weight_comes_back_where_it_was(sharing, record):
    model, again = model_of(embedding_sharing=sharing), model_of(seed=1, embedding_sharing=sharing)
    for part in PARTS:
        take_weights(getattr(again, part), our_weights(getattr(model, part)), "here")
    batch = batch_of()
    assert torch.allclose(model(batch).loss, again(batch).loss, rtol=1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_stock_names_are_one_to_one_and_every_parameter_has_its_place(part, record):
    network = getattr(model_of(embedding_sharing="none"), part)
    table = record.table(part, 2, projected=bool(record.projection))
    theirs = [name for _, names in table for name in names]
    assert len({ours for ours, _ in table}) == len(table) and len(set(theirs)) == len(theirs)
    packed = record.pack(our_weights(network), part)
    assert {ours for ours, _ in table} == set(packed)
    again = back(stock_weights(network, record, part), record, part)
    for name, weight in record.unpack(packed, part).items():
        assert torch.equal(again[name], weight), name


def test_gdes_is_folded_into_one_table(record):
    model = model_of(embedding_sharing="gdes")
    embeddings = model.discriminator.encoder.embeddings
    folded = our_weights(model.discriminator)["encoder.embeddings.word.weight"]
    assert torch.equal(folded, embeddings.base.word.weight + embeddings.delta.word.weight)


def test_factors_are_folded_into_one_table_where_stock_has_no_projection(record):
    model = model_of()
    stock, encoder = stock_weights(model.generator, record, "generator"), model.generator.encoder
    table = record.table("none", 2, projected=False)
    name = next(names[0] for ours, names in table if ours.endswith("word.weight"))
    expected = encoder.embeddings.word.weight
    if not record.projection:
        expected = expected @ encoder.project.weight.T
    assert torch.allclose(stock[name], expected, atol=1e-6)


def test_what_does_not_fit_is_refused_and_nothing_is_copied(record):
    model = model_of()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    stock = stock_weights(model_of(seed=1).generator, record, "generator")
    bias = dict(record.heads["generator"])["head.bias"][0]
    decoder = next(name for name in record.derived if name.endswith("weight"))
    wrong = {
        f"lacks {bias}": {k: v for k, v in stock.items() if k != bias},
        "classifier.strange has no place": stock | {"classifier.strange": torch.zeros(2)},
        "not tied": stock | {decoder: torch.zeros(300, 12)},
    }
    for message, weights in wrong.items():
        with pytest.raises(InputError, match=message):
            back(weights, record, "generator", source="there")
    ours = our_weights(model_of(seed=1).generator)
    wrong = {
        r"is \(301,\), the model's is \(300,\)": ours | {"head.bias": torch.zeros(301)},
        "lacks head.bias": {name: weight for name, weight in ours.items() if name != "head.bias"},
        "has no place for head.strange": ours | {"head.strange": torch.zeros(2)},
    }
    for message, weights in wrong.items():
        with pytest.raises(InputError, match=message):
            take_weights(model.generator, weights, "there")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
