"""Held-out text: losses of networks made by hand. Run: pytest tests/evaluation/test_heldout.py"""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from network_examples import by_hand, exported, frequencies, random_model, spotter, vocabulary_of_words

from span_electra.data_config import ChunkConfig, LoaderConfig, MaskingConfig, TextConfig
from span_electra.errors import InputError
from span_electra.evaluation.heldout import (
    ExportedPair,
    bins,
    characters,
    joint_model,
    masking_of,
    sampling_text,
    score_text,
)
from span_electra.features.build import build_features
from span_electra.features.header import wanted_features
from span_electra.features.store import open_features
from span_electra.hub.export import export_run
from span_electra.hub.networks import open_networks
from span_electra.model.electra import SpanElectra
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.metrics import validation_metrics
from span_electra.training import checkpoint
from span_electra.training.devices import Process

TEXT = "the cat sleeps on the mat\ndogs bark\n\nthe dog barks on the mat\n" * 20

SPANS = {"use_SBGO": True, "use_SBPO": True, "average_span_predictions": True}


def written(folder, text=TEXT):
    path = folder / "held out.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def scored(networks, path):
    """By the networks themselves, with the sampling of most runs."""
    return score_text(networks, ExportedPair(networks), path, max_seq_len=24)


def test_a_generator_that_always_says_the_by_hand(tmp_path):
    networks = by_hand(frequencies({"the": 0.0}, usual=0.0))
    found = scored(networks, written(tmp_path))["held-out text"]
    size = networks.vocabulary.size
    assert found["generator_loss"] == pytest.approx(math.log(size), rel=1e-5)
    tokens, letters = 20 * 14, 20 * (len("the cat sleeps on the mat") + len("dogs bark") + 24)
    assert found["tokens"] == tokens
    assert found["bits_per_character"] == pytest.approx(math.log2(size) * tokens / letters, rel=1e-5)
    assert "discriminator_loss" not in found


def test_a_discriminator_that_spots_all_the_generator_writes(tmp_path):
    generator = frequencies({"un": 40.0}, usual=0.0)
    discriminator = spotter({"un": 40.0}, usual=-40.0)
    report = scored(by_hand(generator, discriminator), written(tmp_path))
    found = report["held-out text"]
    assert found["discriminator_f1"] == 1.0 and found["replaced_of_masked"] == 1.0
    assert found["calibration_error"] == pytest.approx(0.0, abs=1e-6)
    assert list(report["calibration of the discriminator"]) == ["0.0 to 0.1", "0.9 to 1.0"]


def test_replacements_are_drawn_as_in_training(tmp_path):
    generator = frequencies({"un": math.log(3), "##do": 0.0}, usual=-40.0)  # neither stands in the text
    networks = by_hand(generator, spotter({"un": 40.0}, usual=-40.0))
    found = scored(networks, written(tmp_path))["held-out text"]
    assert found["discriminator_recall"] == pytest.approx(0.75, abs=0.15)


def words(report):
    return {name: value for name, value in report.items() if isinstance(value, str)}


def numbers(report):
    return {name: value for name, value in report.items() if name not in words(report)}


def test_any_batch_size_gives_the_same_numbers(tmp_path):
    exported(tmp_path / "model")
    networks, path = open_networks(tmp_path / "model"), written(tmp_path)
    one, many = (scored(replace(networks, batch_size=size), path)["held-out text"] for size in (1, 64))
    assert numbers(one) == pytest.approx(numbers(many), rel=1e-4) and words(one) == words(many)


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_answers_that_are_not_numbers_are_refused(part, tmp_path):
    model = exported(tmp_path / "model")
    networks = open_networks(tmp_path / "model")
    with torch.no_grad():
        for broken in (getattr(model, part), getattr(networks, part).encode):
            for name, parameter in broken.named_parameters():
                if "layer." in name or "layers." in name:  # the words' table is both networks'
                    parameter.fill_(math.nan)
    for computing in (ExportedPair(networks), model):
        with pytest.raises(InputError, match=f"{part}: its answers are not numbers; its weights are broken"):
            score_text(networks, computing, written(tmp_path), max_seq_len=24)


def test_a_text_without_anything_to_mask_is_refused(tmp_path):
    networks = by_hand(frequencies({"the": 0.0}))
    with pytest.raises(InputError, match="held out.txt: so short that no token is masked"):
        scored(networks, written(tmp_path, "a\n"))


def test_characters_are_counted_not_bytes(tmp_path):
    assert characters(written(tmp_path, "äöü\n漢字 x"), TextConfig()) == 7


def test_bins_by_hand():
    table = bins(np.array([True, False, True]), np.array([0.05, 0.07, 1.0]))
    assert table["0.0 to 0.1"] == {"mean probability": pytest.approx(0.06), "replaced": 0.5, "tokens": 2}
    assert table["0.9 to 1.0"]["tokens"] == 1


def test_a_discriminator_alone_is_refused(tmp_path):
    with pytest.raises(InputError, match="needs a generator"):
        scored(by_hand(discriminator=spotter({})), written(tmp_path))


@pytest.mark.parametrize("changes", [{"sampling": "argmax"}, {"temperature": 3.0}, SPANS])
def test_a_runs_numbers_are_those_of_its_validation_on_the_same_rows(changes, tmp_path, architecture):
    """One forward: sampling, temperature and span-boundary heads are the run's own."""
    model, path = random_model(**changes), written(tmp_path)
    vocabulary = vocabulary_of_words()
    meta = {"model": asdict(model.config), "mask_id": vocabulary.mask_id}
    checkpoint.save(tmp_path / "run", 7, model.state_dict(), {}, meta)
    (tmp_path / "run" / "tokenizer.json").write_text(vocabulary.to_json(), encoding="utf-8")
    networks = open_networks(tmp_path / "run")
    joint = joint_model(tmp_path / "run", networks)
    found = score_text(networks, joint, path, max_seq_len=24)["held-out text"]
    named = joint_model(next(checkpoint.in_run(tmp_path / "run")), networks)
    assert score_text(networks, named, path, max_seq_len=24)["held-out text"] == found
    usual = scored(networks, path)["held-out text"]

    chunking = ChunkConfig(max_seq_len=24, short_chunk_prob=0.0)
    wanted_rows = wanted_features(vocabulary, chunking, MaskingConfig())
    build_features([path], vocabulary, tmp_path / "valid.arrow", wanted_rows, progress=False)
    batches = Batches(open_features(tmp_path / "valid.arrow"), LoaderConfig(8, workers=0), epoch=0)
    with torch.no_grad():
        wanted = validation_metrics(model, batches, Process(torch.device("cpu")), lambda: False)
    assert {name: found[name] for name in wanted if name in found} == pytest.approx(
        {name: value for name, value in wanted.items() if name in found}, rel=1e-5
    )
    assert {"discriminator_loss", "generator_loss", "discriminator_f1"} <= wanted.keys() & found.keys()
    assert usual["discriminator_loss"] != pytest.approx(found["discriminator_loss"], rel=1e-3)


def test_exports_tell_their_sampling_and_else_the_run_and_else_it_is_assumed(tmp_path):
    exported(tmp_path, sampling="argmax", temperature=1.5)
    joint = joint_model(tmp_path, open_networks(tmp_path))
    assert (joint.sampling, joint.temperature, joint.assumed) == ("argmax", 1.5, False)
    for part in ("generator", "discriminator"):  # of an older release
        path = tmp_path / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"span_electra": {"part": part}}))
    (tmp_path / "config.json").write_text(json.dumps({"model": {"sampling": "argmax", "temperature": 2}}))
    joint = joint_model(tmp_path, open_networks(tmp_path))
    assert sampling_text(joint) == "argmax at temperature 2"
    (tmp_path / "config.json").unlink()
    joint = joint_model(tmp_path, open_networks(tmp_path))
    assert sampling_text(joint).startswith("sample at temperature 1 (assumed")


def test_exports_are_not_computed_by_another_checkpoint(tmp_path):
    """Where the one that they are of is damaged or gone, the run's newest is another model."""
    model, vocabulary = random_model(), vocabulary_of_words()
    meta = {"model": asdict(model.config), "mask_id": vocabulary.mask_id}
    checkpoint.save(tmp_path, 3, random_model(1).state_dict(), {}, meta)
    newest = checkpoint.save(tmp_path, 7, model.state_dict(), {}, meta)
    export_run(model, vocabulary, tmp_path, meta=checkpoint.read_meta(newest))
    assert isinstance(joint_model(tmp_path, open_networks(tmp_path)), SpanElectra)
    (newest / "model.safetensors").write_bytes(b"cut off")
    with pytest.warns(UserWarning, match="passed over"):
        assert isinstance(joint_model(tmp_path, open_networks(tmp_path)), ExportedPair)


MASKING = {"mask_ratio": 0.5, "max_span_len": 1, "geometric_p": 0.2, "whole_words": False}
SAID = "mask_ratio=0.5 max_span_len=1 geometric_p=0.2 whole_words=false"
TOLD = {  # what a checkpoint records -> what is said
    "law": ({"masking_law": MASKING}, SAID),
    "schedule": ({"loader": {"masking_schedule": ["0: mask_ratio=0.3", f"0.5: {SAID}"]}}, SAID),
    "neither": ({"loader": {"masking_schedule": []}}, "(the default: the model does not tell its own)"),
}


@pytest.mark.parametrize("case", TOLD)
def test_text_is_masked_as_the_model_has_learned(case, tmp_path):
    """As validations, by the last of a run; and which it was stands among the numbers."""
    (told, said), model, vocabulary = TOLD[case], random_model(), vocabulary_of_words()
    meta = {"model": asdict(model.config), "mask_id": vocabulary.mask_id} | told
    saved = checkpoint.save(tmp_path / "run", 7, model.state_dict(), {}, meta)
    (tmp_path / "run/tokenizer.json").write_text(vocabulary.to_json(), encoding="utf-8")
    export_run(model, vocabulary, tmp_path / "exported", meta=checkpoint.read_meta(saved))
    path, found = written(tmp_path), []
    for folder in (tmp_path / "run", tmp_path / "exported"):
        networks = open_networks(folder)
        masking = masking_of(folder, networks)
        joint = joint_model(folder, networks)
        found.append(score_text(networks, joint, path, max_seq_len=24, masking=masking)["held-out text"])
        share = MASKING["mask_ratio"] if said == SAID else MaskingConfig().mask_ratio
        assert said in found[-1]["masks"] and found[-1]["replacements"] == "sample at temperature 1"
        assert found[-1]["hidden"] / found[-1]["tokens"] == pytest.approx(share, abs=0.05)
    assert numbers(found[0]) == pytest.approx(numbers(found[1]), rel=1e-4)


def test_a_masking_that_is_none_of_ours_is_refused(tmp_path):
    exported(tmp_path)
    path = tmp_path / "generator/config.json"
    settings = json.loads(path.read_text())
    for masking in ({"mask_ratio": 7}, {"share": 0.1}, [1]):
        ours = settings["span_electra"] | {"masking_law": masking}
        path.write_text(json.dumps(settings | {"span_electra": ours}))
        with pytest.raises(InputError, match="records no masking of ours"):
            masking_of(tmp_path, open_networks(tmp_path))
