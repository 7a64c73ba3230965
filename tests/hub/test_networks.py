"""Opened networks compute what the model did, from all kinds of folder.

Run: pytest tests/hub/test_networks.py
"""

import json
import shutil
import warnings
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from network_examples import exported, random_model, vocabulary_of_words
from predictor_examples import finetuned
from safetensors.torch import load_file, save_file

from span_electra.errors import InputError
from span_electra.finetuning.export import export_tasks
from span_electra.finetuning.task_model import load_task_model
from span_electra.hub.export import export_run
from span_electra.hub.model_card import checkpoint_facts
from span_electra.hub.networks import (
    filling_log_probability,
    for_each_token,
    length_batches,
    open_networks,
    replaced_probability,
)
from span_electra.training import checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers  # its import warns of things that are not ours

SENTENCES = ["the cat sleeps", "dogs bark on the mat.", "a", "undo the cat and the dogs"]


def rows_of(vocabulary):
    return [np.array(vocabulary.tokenizer.encode(text).ids) for text in SENTENCES]


def logits_of(model, row):
    ids_1L = torch.tensor(row)[None]
    generator = model.generator
    states_1LD = generator.encoder(ids_1L, None)
    filled_LV = generator.head(states_1LD, generator.encoder)[0]
    return filled_LV.log_softmax(-1), model.discriminator.head(model.discriminator.encoder(ids_1L, None))[0]


def check(networks, model, tolerance=1e-5):
    """All rows in padded batches against each row alone in the model that was exported."""
    networks, rows = replace(networks, batch_size=3), rows_of(networks.vocabulary)
    answers = [logits_of(model, row) for row in rows]
    if networks.discriminator:
        found = replaced_probability(networks, rows)
        for ours_L, (_, theirs_L) in zip(found, answers, strict=True):
            assert np.allclose(ours_L, theirs_L.sigmoid().numpy(), atol=tolerance)
    if networks.generator:
        places = [np.arange(1, len(row) - 1) for row in rows]
        theirs_SV = torch.cat([filled_LV[1:-1] for filled_LV, _ in answers])
        seen = []
        for numbers_S, ours_SV in filling_log_probability(networks, rows, places):
            seen += numbers_S.tolist()
            assert torch.allclose(ours_SV, theirs_SV[numbers_S], atol=10 * tolerance)
        assert sorted(seen) == list(range(len(theirs_SV)))


@torch.no_grad()
@pytest.mark.parametrize(
    "changes", [{}, {"embedding_sharing": "gdes", "hidden_act": "gelu_new"}], ids=["", "gdes"]
)
def test_a_pair_and_each_alone_compute_what_was_exported(changes, tmp_path, architecture):
    model = exported(tmp_path, **changes)
    check(open_networks(tmp_path), model)
    alone = open_networks(tmp_path / "discriminator")
    assert alone.generator is None
    check(alone, model)
    check(open_networks(tmp_path / "generator"), model)


@torch.no_grad()
@pytest.mark.parametrize("heads", [("use_SBGO",), ("use_SBPO",), ("use_SBGO", "use_SBPO")])
def test_a_run_with_heads_at_spans_boundaries_is_opened_before_it_is_exported(heads, tmp_path):
    model = random_model(**dict.fromkeys(heads, True), average_span_predictions=True)
    told = {"model": asdict(model.config), "mask_id": model.mask_id}
    checkpoint.save(tmp_path, 7, model.state_dict(), {}, told)
    (tmp_path / "tokenizer.json").write_text(vocabulary_of_words().to_json())
    check(open_networks(tmp_path), model)


@pytest.mark.parametrize("trained", [10, None])
def test_rows_are_as_long_as_those_it_was_trained_on(trained, tmp_path, architecture):
    """A model has more positions; what lies behind the longest row of its training it cannot read."""
    model, vocabulary = random_model(), vocabulary_of_words()
    told = {} if trained is None else {"max_seq_len": trained}  # older releases did not tell
    told |= {"model": asdict(model.config), "mask_id": vocabulary.mask_id}
    saved = checkpoint.save(tmp_path / "run", 7, model.state_dict(), {}, told)
    (tmp_path / "run/tokenizer.json").write_text(vocabulary.to_json())
    meta = checkpoint.read_meta(saved)
    export_run(model, vocabulary, tmp_path, checkpoint_facts(meta), meta)
    longest = trained or model.config.max_position_embeddings
    for place in (saved, tmp_path, tmp_path / "generator", tmp_path / "discriminator"):
        assert open_networks(place).longest == longest
    for part in ("generator", "discriminator"):
        folder = tmp_path / part
        config = json.loads((folder / "config.json").read_text())
        assert config["max_position_embeddings"] == model.config.max_position_embeddings
        assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == longest
        assert f"| longest row | {longest} |" in (folder / "README.md").read_text()


@torch.no_grad()
def test_a_folder_saved_by_the_stock_class_with_an_old_vocabulary_file(tmp_path):
    model = exported(tmp_path / "ours")
    stock = transformers.ElectraForPreTraining.from_pretrained(tmp_path / "ours" / "discriminator")
    stock.save_pretrained(tmp_path / "stock")
    tokens = vocabulary_of_words().tokens_V
    (tmp_path / "stock" / "vocab.txt").write_text("".join(token + "\n" for token in tokens))
    (tmp_path / "stock" / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    check(open_networks(tmp_path / "stock"), model)


@torch.no_grad()
def test_the_stock_classes_stand_in_where_our_encoder_cannot(tmp_path):
    model = exported(tmp_path, hidden_act="gelu_new")
    for part in ("generator", "discriminator"):  # the same function under a name that we do not know
        path = tmp_path / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "gelu_pytorch_tanh"}))
    networks = open_networks(tmp_path)
    assert type(networks.generator.encode).__name__ == "function"
    check(networks, model)


@torch.no_grad()
def test_a_stock_class_computes_in_float32_whatever_was_stored(tmp_path):
    exported(tmp_path)
    folder = tmp_path / "discriminator"
    half = {name: weight.half() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"  # an activation that we do not know, so that the stock class computes
    other = {"hidden_act": "gelu_pytorch_tanh", "dtype": "float16"}
    path.write_text(json.dumps(json.loads(path.read_text()) | other))
    network = open_networks(folder).need("discriminator")
    assert network.encode(torch.tensor([[0, 5, 1]]), None).dtype == torch.float32


def test_what_is_asked_of_hidden_states_comes_by_row(tmp_path):
    exported(tmp_path)
    networks = open_networks(tmp_path, batch_size=2)
    rows = rows_of(networks.vocabulary)
    states = for_each_token(networks, "discriminator", rows, lambda states_BLD: states_BLD)
    assert [found.shape for found in states] == [(len(row), 16) for row in rows]
    assert for_each_token(networks, "discriminator", [], lambda states_BLD: states_BLD) == []


def test_batches_hold_every_row_once_and_few_tokens():
    lengths_R = np.random.default_rng(0).integers(3, 9000, 300)
    batches = list(length_batches(lengths_R, 16))
    assert sorted(np.concatenate(batches).tolist()) == list(range(300))
    assert all(len(rows) == 1 or len(rows) * lengths_R[rows].max() <= 16384 for rows in batches)
    assert max(map(len, batches)) == 16


def damage(folder, name):
    (folder / "discriminator" / name).write_bytes(b"damaged")


def begin_run(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "config.json").write_text('{"model": {}}')
    (folder / "run.json").write_text("{}")


REFUSED = {
    "no checkpoint yet": begin_run,
    "no network there": lambda folder: shutil.rmtree(folder) or folder.mkdir(),
    "different vocabularies": lambda folder: other_vocabulary(folder),
    "cannot be read": lambda folder: damage(folder, "model.safetensors"),
    "not JSON": lambda folder: damage(folder, "config.json"),
    "not a tokenizer": lambda folder: damage(folder, "tokenizer.json"),
    "no tokenizer.json": lambda folder: (folder / "generator" / "tokenizer.json").unlink(),
}


def other_vocabulary(folder):
    vocabulary = vocabulary_of_words()
    vocabulary.tokenizer.add_tokens(["lion"])
    (folder / "generator" / "tokenizer.json").write_text(vocabulary.to_json())


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_opened_is_refused_in_one_line(message, tmp_path):
    exported(tmp_path)
    REFUSED[message](tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        open_networks(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_network_from_left_to_right_is_no_generator_of_masked_tokens(tmp_path, architecture):
    finetuned(tmp_path / "run", "chat", architecture=architecture)
    [folder] = export_tasks(load_task_model(tmp_path / "run"), tmp_path / "out")
    with pytest.raises(
        InputError, match=f"{folder}: foretells next tokens and fills no .MASK.; name a run of"
    ):
        open_networks(folder)


@pytest.mark.parametrize("task", ["film", "tags", "near it"])
def test_an_exported_task_is_called_so_and_its_run_is_named(task, tmp_path):
    finetuned(tmp_path / "run", task)
    for out, named in (("run/exported", f"its run, {tmp_path}/run, or"), ("elsewhere", "its run, or")):
        [folder] = export_tasks(load_task_model(tmp_path / "run"), tmp_path / out)
        with pytest.raises(InputError, match=f"{folder}: holds task '{task}' as exported; name {named} open"):
            open_networks(folder)


def test_a_network_that_is_not_there_is_named(tmp_path):
    exported(tmp_path)
    with pytest.raises(InputError, match="needs a generator; name a model with both networks"):
        open_networks(tmp_path / "discriminator").need("generator")


def test_weights_that_are_no_numbers_are_refused_where_they_would_answer(tmp_path):
    exported(tmp_path)
    networks = open_networks(tmp_path, batch_size=4)
    rows = rows_of(networks.vocabulary)
    for network in (networks.generator, networks.discriminator):
        for parameter in network.encode.parameters():
            parameter.data.fill_(float("nan"))
    with pytest.raises(InputError, match="discriminator: its answers are not numbers"):
        replaced_probability(networks, rows)
    with pytest.raises(InputError, match="generator: its answers are not numbers"):
        list(filling_log_probability(networks, rows, [np.array([1])] * len(rows)))
