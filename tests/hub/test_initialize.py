"""Weights for a model that is to be trained: all of a network that computes as it does, and of no other.

Run: pytest tests/hub/test_initialize.py
"""

import warnings
from dataclasses import asdict, replace

import pytest
import torch
from export_examples import CASES, MODERN, export, model_of, name_of, spoil_config, vocabulary_of
from model_examples import batch_of, small_config
from safetensors.torch import load_file, save_file

from span_electra.errors import InputError
from span_electra.hub.folders import LONGEST
from span_electra.hub.initialize import initialize, load_exported
from span_electra.training import checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import ElectraForPreTraining


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


# --- from exports ---


@pytest.mark.parametrize("changes", CASES, ids=name_of)
def test_a_model_started_from_an_export_is_the_exported_one(changes, tmp_path):
    model, again = model_of(**changes), model_of(seed=1, **changes)
    export(model, tmp_path)
    notes, longest = load_exported(tmp_path, again, vocabulary_of())
    assert len(notes) == (4 if "use_SBGO" in changes else 2)
    assert longest == again.config.max_position_embeddings, "where nothing tells, all are taken for trained"
    batch = batch_of()
    assert torch.allclose(model(batch).loss, again(batch).loss, rtol=1e-5)
    assert torch.allclose(model(batch).tally, again(batch).tally, rtol=1e-4)


def test_a_span_head_that_does_not_fit_is_refused_before_anything_is_taken(tmp_path):
    both = {"use_SBGO": True, "use_SBPO": True}
    path = export(model_of(**both), tmp_path) / "discriminator/span_heads.safetensors"
    save_file({name: weight[:1].clone() for name, weight in load_file(path).items()}, path)
    model = model_of(seed=1, **both)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(InputError, match="discriminator: .* span-boundary head .* or use_SBPO=false"):
        load_exported(tmp_path, model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("trained", ["gdes", "none"])
def test_networks_that_share_less_than_the_model_would_are_refused(trained, tmp_path):
    folder = export(model_of(embedding_sharing=trained), tmp_path / "run")
    saved = checkpoint.save(tmp_path, 7, model_of(embedding_sharing="none").state_dict(), {}, {})
    for source in (folder, saved):
        model = model_of(1)
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        with pytest.raises(InputError, match="differ, which the model shares; give --embedding_sharing"):
            initialize(model, source)
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    initialize(model_of(1, embedding_sharing=trained), folder)


def test_one_network_alone_can_be_taken(tmp_path):
    model, again = model_of(embedding_sharing="none"), model_of(seed=1, embedding_sharing="none")
    export(model, tmp_path)
    before = again.generator.head.dense.weight.clone()
    load_exported(tmp_path / "discriminator", again)
    assert torch.equal(again.discriminator.head.dense.weight, model.discriminator.head.dense.weight)
    assert torch.equal(again.generator.head.dense.weight, before)
    load_exported(tmp_path, again, only="generator")
    assert torch.equal(again.generator.head.dense.weight, model.generator.head.dense.weight)
    with pytest.raises(InputError, match="holds no generator"):
        load_exported(tmp_path / "discriminator", again, only="generator")


def test_a_run_without_exports_and_its_checkpoint_start_a_model_whole_or_in_part(tmp_path):
    """Also the heads at spans' boundaries, for which exports have a file of their own."""
    both = {"use_SBGO": True, "use_SBPO": True}
    model = model_of(**both)
    meta = {"model": asdict(model.config), "mask_id": model.mask_id, LONGEST: 10}
    place = checkpoint.save(tmp_path, 7, model.state_dict(), {}, meta)
    (tmp_path / "tokenizer.json").write_text(vocabulary_of().to_json())
    for source in (tmp_path, place, place / "model.safetensors"):
        for only in (None, "generator"):
            again = model_of(seed=1, **both)
            assert initialize(again, source, vocabulary_of(), only)[1] == 10
            weights, taken = again.state_dict(), model.state_dict()
            same = {name for name, weight in taken.items() if torch.equal(weights[name], weight)}
            assert same >= {name for name in taken if name.startswith(only or "")}, source
            for head in ("discriminator.head.dense.weight", "discriminator.span_head.score.weight"):
                assert (head in same) == (only is None), source
            assert "discriminator.encoder.embeddings.word.weight" in same, "which the two share"


def test_a_folder_written_by_the_stock_class_starts_a_model(tmp_path):
    export(model_of(), tmp_path)
    stock = ElectraForPreTraining.from_pretrained(tmp_path / "discriminator")
    torch.nn.init.normal_(stock.electra.encoder.layer[1].attention.self.key.weight)
    stock.save_pretrained(tmp_path / "stock")
    again = model_of(seed=1)
    load_exported(tmp_path / "stock", again, vocabulary_of())
    width = again.config.discriminator.hidden_size
    key = again.discriminator.encoder.layers[1].qkv.weight[width : 2 * width]
    assert torch.equal(key, stock.electra.encoder.layer[1].attention.self.key.weight)


REFUSED = {
    "hidden_size is 32, the model's is 16; set discriminator.hidden_size=32": {"hidden_size": 32},
    "vocab_size is 30522, the model's is 300": {"vocab_size": 30522},
    "hidden_act is relu": {"hidden_act": "relu"},
    "model_type is 'bert', wanted is electra": {"model_type": "bert"},
    "its class is ElectraForTokenClassification": {"architectures": ["ElectraForTokenClassification"]},
}


@pytest.mark.parametrize("message", REFUSED)
def test_folders_that_do_not_fit_are_refused_by_name(message, tmp_path):
    folder = export(model_of(), tmp_path) / "discriminator"
    spoil_config(folder, **REFUSED[message])
    with pytest.raises(InputError, match=message) as caught:
        load_exported(folder, model_of())
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_vocabulary_of_the_same_tokens_in_other_roles_is_refused(tmp_path):
    """Rows of the one would end, or hide text, by a token that the network knows as another."""
    folder, vocabulary = export(model_of(), tmp_path) / "discriminator", vocabulary_of()
    load_exported(folder, model_of(), vocabulary)
    other = replace(vocabulary, special=replace(vocabulary.special, mask="word7"))
    with pytest.raises(InputError, match="made with vocabulary"):
        load_exported(folder, model_of(), other)


def test_pickles_damage_and_foreign_vocabularies_are_refused(tmp_path):
    folder, model = export(model_of(), tmp_path) / "discriminator", model_of()
    with pytest.raises(InputError, match="vocabulary"):
        load_exported(folder, model, vocabulary_of(last="lion"))
    # Copies: the file they are mapped from is about to be damaged.
    weights = {name: weight.clone() for name, weight in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").write_bytes(b"\x07damaged")
    with pytest.raises(InputError, match="cannot be read"):
        load_exported(folder, model)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="not there"):
        load_exported(folder, model)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="something else than tensors, or is broken"):
        load_exported(folder, model)
    save_file(weights, folder / "model.safetensors")
    load_exported(folder, model)
    with pytest.raises(InputError, match="config.json"):
        load_exported(tmp_path / "nowhere", model)
