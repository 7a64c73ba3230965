"""One way to open whatever holds trained weights. Run: pytest tests/hub/test_opening.py

Runs of fine-tuning, damaged folders and what heads are taken: tests/finetuning/test_take_pretrained.py.
"""

import json
import shutil
from dataclasses import asdict

import pytest
import torch
from network_examples import exported, random_model, vocabulary_of_words
from predictor_examples import finetuned

from span_electra.config import ARCHITECTURES
from span_electra.errors import InputError
from span_electra.hub.export import export_run
from span_electra.hub.opening import load_model, open_model, part_of
from span_electra.hub.weights import PARTS, our_weights
from span_electra.training import checkpoint
from span_electra.training.run_folder import write_mark


@pytest.fixture(params=ARCHITECTURES)
def model(request, tmp_path):
    """The same model as a run with a checkpoint and as its exports."""
    model = random_model(architecture=request.param, layer_norm_eps=1e-5)
    meta = {"model": asdict(model.config), "mask_id": model.mask_id, "metric": None}
    checkpoint.save(tmp_path / "run", 7, model.state_dict(), {}, meta)
    (tmp_path / "run/tokenizer.json").write_text(vocabulary_of_words().to_json())
    exported(tmp_path / "out", architecture=request.param, layer_norm_eps=1e-5)
    return model


def test_every_kind_of_place_gives_the_same_weights(model, tmp_path):
    places = ["run", "run/checkpoints/step-00000007", "out"]
    for part in PARTS:
        expected = our_weights(getattr(model, part))
        for place in [*places, f"out/{part}"]:
            pretrained = open_model(tmp_path / place).need(part)
            assert pretrained.part == part and pretrained.config.discriminator == getattr(model.config, part)
            assert set(pretrained.weights) == set(expected), place
            for name, weight in expected.items():
                assert torch.allclose(pretrained.weights[name], weight, atol=1e-6), (place, name)


def test_a_head_of_another_width_is_the_discriminators_alone(tmp_path):
    model = random_model(dim_final_feedforward=12)
    assert model.config.generator.hidden_size < 12
    meta = {"model": asdict(model.config), "mask_id": model.mask_id, "metric": None}
    checkpoint.save(tmp_path / "run", 7, model.state_dict(), {}, meta)
    (tmp_path / "run/tokenizer.json").write_text(vocabulary_of_words().to_json())
    widths = [open_model(tmp_path / "run").need(part).config.dim_final_feedforward for part in PARTS]
    assert widths == [0, 12]


def test_exports_that_tell_no_checkpoint_give_way_to_one(model, tmp_path):
    exported(tmp_path / "run", architecture=model.config.architecture, layer_norm_eps=1e-5)
    opened = open_model(tmp_path / "run")
    assert opened.checkpoint == tmp_path / "run/checkpoints/step-00000007" and not opened.folders


def exported_of(run, place, seed):
    """Another state of a run: its checkpoint of step `seed`, and that exported into `place`."""
    model = random_model(seed)
    meta = {"model": asdict(model.config), "mask_id": model.mask_id, "metric": None}
    saved = checkpoint.save(run, seed, model.state_dict(), {}, meta)
    export_run(model, vocabulary_of_words(), place, meta=checkpoint.read_meta(saved))


def test_exports_are_a_runs_where_they_are_of_its_newest_checkpoint(tmp_path):
    """An export that failed leaves the older one, or one network of each."""
    run, newer = tmp_path / "run", tmp_path / "newer"
    exported_of(run, run, 1)
    (run / "tokenizer.json").write_text(vocabulary_of_words().to_json())
    write_mark(run, "finished", 1)
    assert open_model(run).folders
    exported_of(run, newer, 2)
    for part in PARTS:
        opened = open_model(run)
        assert opened.checkpoint == run / "checkpoints/step-00000002" and not opened.folders
        shutil.rmtree(run / part)
        shutil.copytree(newer / part, run / part)
    assert open_model(run).folders
    (run / "checkpoints/step-00000002" / checkpoint.META).write_text("damaged")
    assert open_model(run).folders
    shutil.rmtree(run / "checkpoints")
    assert open_model(run).folders


def test_networks_of_two_exports_are_no_pair(tmp_path):
    exported_of(tmp_path / "run", tmp_path / "one", 1)
    exported_of(tmp_path / "run", tmp_path / "two", 2)
    shutil.rmtree(tmp_path / "one/generator")
    shutil.copytree(tmp_path / "two/generator", tmp_path / "one/generator")
    told = "one: generator/ and discriminator/ were exported from different checkpoints; export again"
    with pytest.raises(InputError, match=told):
        open_model(tmp_path / "one")
    assert open_model(tmp_path / "one/generator").folders


def test_a_strangers_tokenizer_that_transformers_reads_otherwise_is_refused_to_who_trains(tmp_path):
    exported(tmp_path)
    place, told = tmp_path / "discriminator", tmp_path / "discriminator/tokenizer_config.json"
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
    told.write_text(json.dumps(json.loads(told.read_text()) | settings))
    config = json.loads((place / "config.json").read_text())
    del config["span_electra"]
    (place / "config.json").write_text(json.dumps(config))
    opened = open_model(place)
    with pytest.raises(InputError, match="AutoTokenizer gives other ids .*; mend its tokenizer_config.json"):
        opened.check_tokenizer()
    told.write_text(json.dumps(json.loads(told.read_text()) | {"do_lower_case": True}))
    opened.check_tokenizer()


def test_a_part_that_is_not_there_is_named(tmp_path):
    exported(tmp_path / "alone", objective="generator")
    with pytest.raises(InputError, match="trained its generator alone; use --network generator"):
        open_model(tmp_path / "alone").need("discriminator")
    assert open_model(tmp_path / "alone/generator").need("discriminator").part == "generator", "there is one"


@pytest.mark.parametrize(("there", "asked"), [("generator", "discriminator"), ("discriminator", "generator")])
def test_one_network_is_not_taken_for_another_that_was_asked_for(there, asked, tmp_path):
    exported(tmp_path)
    told = f"--network {asked}: .*{there} holds a {there} alone; name"
    with pytest.raises(InputError, match=f"{told} .*{tmp_path.name}/{asked}$"):
        open_model(tmp_path / there).check_part(asked)
    shutil.rmtree(tmp_path / asked)
    with pytest.raises(InputError, match=f"{told} a run, or the folder of a {asked}$"):
        open_model(tmp_path / there).check_part(asked)
    open_model(tmp_path / there).check_part(there)
    (tmp_path / "tuned").mkdir()
    finetuned(tmp_path / "tuned", "film")
    with pytest.raises(InputError, match=f"--network {asked}: .*tuned holds an encoder alone; leave it out"):
        open_model(tmp_path / "tuned").check_part(asked)


def test_both_networks_of_a_checkpoint_come_back_as_one_model(model, tmp_path):
    again = load_model(tmp_path / "run/checkpoints/step-00000007")
    assert again.config == model.config
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_heads_are_good_for_the_network_they_were_trained_with():
    heads = {"generator": "generator", "causal": "generator", "discriminator": "discriminator"}
    assert {head: part_of(head) for head in heads} == heads
    assert {part_of(head) for head in ("sequence", "tokens", "none")} == {"none"}
