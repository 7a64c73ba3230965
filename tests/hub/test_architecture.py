"""A third architecture, BERT, needs one record and one layer class, and nothing else of the package changes.

Run: pytest tests/hub/test_architecture.py
"""

import warnings
from dataclasses import replace

import pytest
import torch
from model_examples import batch_of
from network_examples import random_model, vocabulary_of_words

from span_electra import config as ground
from span_electra.hub import architectures
from span_electra.hub.architecture import both, weight
from span_electra.hub.electra import ELECTRA
from span_electra.hub.export import export_run
from span_electra.hub.initialize import initialize
from span_electra.hub.networks import open_networks
from span_electra.model.electra import SpanElectra
from span_electra.model.layers import LAYERS, ElectraLayer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers


class BertLayer(ElectraLayer):
    """ELECTRA's layers are BERT's."""


BERT = replace(
    ELECTRA,
    name="bert",
    tag="bert",
    model_type="bert",
    classes={"none": "BertModel", "generator": "BertForMaskedLM"},
    prefix="bert.",
    projection=(),
    heads={
        "none": (),
        "generator": (
            *both("head.dense", "cls.predictions.transform.dense"),
            *both("head.norm", "cls.predictions.transform.LayerNorm"),
            ("head.bias", ("cls.predictions.bias",)),
        ),
    },
    stock_head=lambda model, head, states: model.cls(states),
    derived=frozenset({"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}),
)


def test_rows_name_weights_and_biases():
    assert both("a", "b", "c") == (("a.weight", ("b.weight", "c.weight")), ("a.bias", ("b.bias", "c.bias")))
    assert weight("a", "b") == (("a.weight", ("b.weight",)),)


@pytest.fixture
def generator(monkeypatch):
    """A generator of the new architecture, trained a step; its name is in the three lists that have all."""
    monkeypatch.setitem(LAYERS, "bert", BertLayer)
    monkeypatch.setitem(architectures.ARCHITECTURES, "bert", BERT)
    field = ground.ModelConfig.__dataclass_fields__["architecture"]
    monkeypatch.setattr(field, "metadata", {**field.metadata, "choices": (*ground.ARCHITECTURES, "bert")})
    size = ground.NetworkConfig(16, 2, 2, 24)  # BERT has no narrower table of words
    model = random_model(architecture="bert", generator=size, embedding_size=16, objective="generator")
    batch = batch_of()
    batch = replace(batch, original_BL=batch.original_BL % vocabulary_of_words().size)
    model(batch).loss.backward()
    return model


@torch.no_grad()
def test_its_export_is_what_the_stock_class_computes_and_comes_back(generator, tmp_path):
    vocabulary = vocabulary_of_words()
    (folder,) = export_run(generator, vocabulary, tmp_path)
    stock = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    ids_BL = torch.randint(5, vocabulary.size, (3, 9))
    ours = generator.generator
    expected = ours.head(ours.encoder(ids_BL, None), ours.encoder)
    assert torch.allclose(stock(ids_BL).logits, expected, atol=1e-5)
    network = open_networks(folder).generator
    assert torch.allclose(network.answer(network.encode(ids_BL, None)), expected, atol=1e-5)
    assert 'tags: ["bert", "span-electra"]' in (folder / "README.md").read_text()
    again = SpanElectra(generator.config, vocabulary.mask_id, seed=1)
    initialize(again, tmp_path, vocabulary)
    assert torch.equal(again.generator.head.dense.weight, ours.head.dense.weight)
