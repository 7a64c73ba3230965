"""A third architecture needs one record and one layer class. Run: pytest tests/hub/test_architecture.py"""

from dataclasses import replace

import pytest
import torch
from model_examples import MASK, batch_of, small_config

from span_electra import config as ground
from span_electra.hub import architectures
from span_electra.hub.architecture import both, weight
from span_electra.hub.electra import ELECTRA
from span_electra.hub.weights import our_weights, stock_weights, weights_from_stock
from span_electra.model.electra import SpanElectra
from span_electra.model.layers import LAYERS, ElectraLayer


class PlainLayer(ElectraLayer):
    """ELECTRA's under another name."""


def test_rows_name_weights_and_biases():
    assert both("a", "b", "c") == (("a.weight", ("b.weight", "c.weight")), ("a.bias", ("b.bias", "c.bias")))
    assert weight("a", "b") == (("a.weight", ("b.weight",)),)


@pytest.fixture
def plain(monkeypatch):
    record = replace(ELECTRA, name="plain", model_types=("plain",), prefix="plain.", derived=frozenset())
    monkeypatch.setitem(LAYERS, "plain", PlainLayer)
    monkeypatch.setitem(architectures.ARCHITECTURES, "plain", record)
    field = ground.ModelConfig.__dataclass_fields__["architecture"]
    choices = {**field.metadata, "choices": (*ground.ARCHITECTURES, "plain")}
    monkeypatch.setattr(field, "metadata", choices)
    return record


def test_a_third_architecture_is_a_layer_class_and_a_record(plain):
    model = SpanElectra(small_config(architecture="plain"), MASK)
    model(batch_of()).loss.backward()
    assert isinstance(model.generator.encoder.layers[0], PlainLayer)
    assert architectures.record_of(model.config, "generator") is plain
    stock = stock_weights(model.generator, plain, "generator")
    assert any(name.startswith("plain.") for name in stock)
    again = weights_from_stock(stock, plain, head="generator", layers=2, projected=True, source="here")
    assert all(torch.equal(weight, again[name]) for name, weight in our_weights(model.generator).items())
