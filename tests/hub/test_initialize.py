"""Weights for a model that is to be trained: only those of a network that computes as it does.

Run: pytest tests/hub/test_initialize.py   (the rest of export.py: test_export.py)
"""

from dataclasses import asdict, replace

import pytest
import torch
from model_examples import MASK, small_config

from span_electra.errors import InputError
from span_electra.hub.export import initialize
from span_electra.model.electra import SpanElectra
from span_electra.training import checkpoint

MODERN = {"architecture": "modern", "layer_norm_eps": 1e-5}


def model_of(seed=0, **changes):
    return SpanElectra(small_config(**changes), MASK, seed)


UNSEEN = [  # a model, and what another computes with that no shape of a weight tells
    ({}, {"hidden_act": "relu"}),
    ({}, {"layer_norm_eps": 1e-3}),
    ({}, {"generator": replace(small_config().generator, num_attention_heads=1)}),
    ({}, {"discriminator": replace(small_config().discriminator, num_attention_heads=1)}),
    (MODERN, {"rope_theta": 500.0}),
    (MODERN, {"local_attention": 6}),
    ({**MODERN, "local_attention": 6}, {"global_attention_every": 2}),
]


@pytest.mark.parametrize("form", [".", "model.safetensors"])
@pytest.mark.parametrize("ours, theirs", UNSEEN, ids=lambda case: "-".join(case))
def test_a_checkpoint_of_a_network_that_computes_otherwise_is_refused_by_name(ours, theirs, form, tmp_path):
    trained = model_of(embedding_sharing="none", **{**ours, **theirs})
    place = checkpoint.save(tmp_path, 7, trained.state_dict(), {}, {"model": asdict(trained.config)})
    ((name, value),) = theirs.items()
    told = f"{name}.num_attention_heads=1" if name in ("generator", "discriminator") else f"{name}={value}"
    for only in (None, "generator"):
        again = model_of(seed=1, embedding_sharing="none", **ours)
        if only and name == "discriminator":
            initialize(again, place / form, only=only)  # of the other network nothing is taken
            continue
        before = {label: weight.clone() for label, weight in again.state_dict().items()}
        with pytest.raises(InputError, match=f"set {told}$"):
            initialize(again, place / form, only=only)
        assert all(torch.equal(weight, before[label]) for label, weight in again.state_dict().items())
