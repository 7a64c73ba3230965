"""Files of stock folders, as they have been written over the years. Run: pytest tests/hub/test_folders.py"""

import hashlib
import json
import pickle

import pytest
import torch
from network_examples import exported, random_model, vocabulary_of_words

from span_electra.errors import InputError
from span_electra.hub.export import export_run
from span_electra.hub.folders import (
    final_masking_in,
    open_vocabulary,
    ours_in,
    read_config,
    read_weights,
    recorded_sha256,
    stamp_of,
    weights_sha256,
)
from span_electra.hub.networks import open_networks
from span_electra.hub.opening import open_model
from span_electra.training import checkpoint


class Trap:
    """What a pickle runs as it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def place_of(tmp_path):
    exported(tmp_path)
    return tmp_path / "discriminator"


def test_tensors_in_a_pickle_are_read_and_nothing_in_it_runs(tmp_path):
    place = place_of(tmp_path)
    weights = {name: weight.clone() for name, weight in read_weights(place).items()}
    (place / "model.safetensors").unlink()
    torch.save(weights, place / "pytorch_model.bin")
    found = read_weights(place)
    assert set(found) == set(weights) and all(torch.equal(found[name], weights[name]) for name in weights)
    mark = tmp_path / "it ran"
    for damage in (pickle.dumps(Trap(mark)), pickle.dumps({"weight": Trap(mark)}), b"", b"damaged"):
        (place / "pytorch_model.bin").write_bytes(damage)
        with pytest.raises(InputError, match="something else than tensors, or is broken") as caught:
            read_weights(place)
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert not mark.exists()
    torch.save([torch.zeros(2)], place / "pytorch_model.bin")
    with pytest.raises(InputError, match="something else than tensors by name"):
        read_weights(place)


def test_weights_are_told_apart_by_whichever_files_hold_them(tmp_path):
    place = place_of(tmp_path)
    whole = hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest()
    assert weights_sha256(place) == whole
    (place / "model.safetensors").rename(place / "model-00001-of-00002.safetensors")
    (place / "model-00002-of-00002.safetensors").write_bytes(b"more")
    pieces = weights_sha256(place)
    for path in place.glob("model-*"):
        path.unlink()
    (place / "pytorch_model.bin").write_bytes(b"more")
    assert weights_sha256(place) == hashlib.sha256(b"more").hexdigest() != pieces != whole


def test_a_checkpoint_tells_its_weights_without_the_state_of_its_optimizer(tmp_path):
    def recorded(files):
        return recorded_sha256({"files": {name: {"sha256": value} for name, value in files.items()}})

    shares = {
        f"shard-0000{number}-model-00001-of-00002.safetensors": value for number, value in enumerate("ab")
    }
    assert recorded({checkpoint.MODEL: "a", checkpoint.OPTIMIZER: "b"}) == "a"
    assert recorded(shares) == recorded(dict(reversed(shares.items()))) != recorded(shares | {"c": "c"})
    folder = checkpoint.save(tmp_path, 3, {"weight": torch.zeros(2)}, {}, {})
    written = hashlib.sha256((folder / checkpoint.MODEL).read_bytes()).hexdigest()
    assert weights_sha256(folder) == written
    assert stamp_of(checkpoint.read_meta(folder)) == {"step": 3, "weights": written}


@pytest.mark.parametrize(("told", "longest"), [(24, 24), (10**30, 32), (None, 32)])
def test_what_stock_classes_have_saved_tells_no_training_of_ours_but_the_row_of_its_tokenizer(
    told, longest, tmp_path
):
    """They keep our key, whatever they have trained the network to since."""
    model, masking = random_model(), dict.fromkeys(("mask_ratio", "geometric_p"), 0.5)
    meta = {
        "model": {},
        "max_seq_len": 16,
        "masking_law": masking | {"max_span_len": 1, "whole_words": False},
    }
    meta = checkpoint.read_meta(checkpoint.save(tmp_path / "run", 7, model.state_dict(), {}, meta))
    for place in export_run(model, vocabulary_of_words(), tmp_path, meta=meta):
        assert open_model(place).need(place.name).longest == open_networks(place, "cpu").longest == 16
        assert final_masking_in(ours_in(place), "here").mask_ratio == 0.5
        for name, changes in (
            ("config.json", {"transformers_version": "5.24.0"}),
            ("tokenizer_config.json", {"model_max_length": told}),
        ):
            settings = json.loads((place / name).read_text())
            (place / name).write_text(json.dumps(settings | changes))
        assert open_model(place).need(place.name).longest == open_networks(place, "cpu").longest == longest
        assert open_model(place).trained_length(32) == longest
        assert final_masking_in(ours_in(place), "here") is None and "sampling" not in ours_in(place)
    assert open_model(tmp_path).folders, "they stay a pair"


def test_old_names_of_norms_are_read_as_todays(tmp_path):
    place = place_of(tmp_path)
    weights = {name: weight.clone() for name, weight in read_weights(place).items()}
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in weights.items()
    }
    assert set(old) != set(weights)
    (place / "model.safetensors").unlink()
    torch.save(old, place / "pytorch_model.bin")
    assert set(read_weights(place)) == set(weights)


def test_a_config_from_before_model_types_is_known_by_its_class(tmp_path):
    place = place_of(tmp_path)
    settings = read_config(place)
    settings.pop("model_type")
    (place / "config.json").write_text(json.dumps(settings))
    assert read_config(place)["model_type"] == "electra"
    for wrong, message in (({"architectures": []}, "model_type is None"), ([], "not an object")):
        (place / "config.json").write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=message):
            read_config(place)


def test_a_vocabulary_of_text_alone_numbers_the_same(tmp_path):
    place, vocabulary = place_of(tmp_path), vocabulary_of_words()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (place / name).unlink()
    with pytest.raises(InputError, match="no tokenizer.json"):
        open_vocabulary(place)
    (place / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary.tokens_V))
    opened = open_vocabulary(place)
    text = "the cat undo the dogs"
    assert opened.tokenizer.encode(text).ids == vocabulary.tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("key", "value"),
    [("vocab_size", "300"), ("num_hidden_layers", 1.5), ("hidden_size", None), ("architectures", 5)],
)
def test_a_value_that_no_network_has_is_named(key, value, tmp_path):
    place = place_of(tmp_path)
    settings = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(settings | {key: value}))
    with pytest.raises(InputError, match=f"config.json: {key} is "):
        read_config(place)
