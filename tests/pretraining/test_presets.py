"""Presets as users train with them: each is read, and a run of one that was stopped goes on exactly.

Run: pytest tests/pretraining/test_presets.py
"""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from encode_examples import train
from feature_examples import build, text
from run_examples import assert_same_end, lines_of, stop_at

from span_electra.compose import PRESET_FOLDER, Layer, compose, preset, preset_names
from span_electra.data_config import ChunkConfig, LoaderConfig
from span_electra.pretraining.arguments import PretrainingArguments
from span_electra.pretraining.data import open_data, token_counts
from span_electra.pretraining.experiment import Pretraining, build_model, run_pretraining
from span_electra.pretraining.loader import plan_epoch
from span_electra.pretraining.stage import run_settings
from span_electra.schema import flatten
from span_electra.text.vocabulary import assemble
from span_electra.training.devices import Process

RECIPES = {"tiny": 16, "quick": 16, "small-modern": 8}  # and how wide the generator is here


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Rows of words that can be misspelt."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "text").mkdir()
    (folder / "text/a.txt").write_text(text(40))
    model = json.loads(train("bpe").to_str())["model"]
    vocabulary = assemble("BPE", model["vocab"], [tuple(pair) for pair in model["merges"]])
    build(folder / "text", vocabulary, folder / "rows.arrow", chunking=ChunkConfig(max_seq_len=24))
    return str(folder / "rows.arrow")


def small(name, features, folder, resume=None):
    """A run of the preset, of which sizes alone are other ones."""

    def network(width):
        sizes = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
        return sizes | {"intermediate_size": 2 * width}

    width = RECIPES[name]
    model = {"embedding_size": width, "generator": network(width), "discriminator": network(16)}
    sizes = {
        "model": model | {"max_position_embeddings": 24},
        "training": {"epochs": 3, "log_steps": 2, "precision": "fp32", "eval_every": "5 steps"},
        "train_data": {
            "train_batch_size": 8,
            "batch_max_tokens": 0,
            "spelling_noise": 0.3,
            "paired_rows": 0.3,
        },
        "valid_data": {"valid_split": [0.1]},
        "workers": 1,
    }
    settings = compose(PretrainingArguments, [preset(name), Layer("sizes", sizes)])
    run = run_settings(settings, folder, (features,), ())
    return replace(run, resume_from=None if resume is None else str(resume), silent=True)


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_is_read_as_it_stands(name):
    read = flatten(asdict(compose(PretrainingArguments, [preset(name)])))
    said = flatten(json.loads((PRESET_FOLDER / f"{name}.json").read_text()))
    assert said and {key: read[key] for key in said} == said


def test_held_out_rows_are_read_as_they_were_written(features, tmp_path):
    valid = small("quick", features, tmp_path).valid_loader
    assert (valid.spelling_noise, valid.paired_rows, valid.masking_schedule) == (0, 0, [])


@pytest.mark.parametrize("name", ["tiny", "quick"])
@pytest.mark.parametrize("length", [64, 128, 512])
def test_a_step_of_the_recipes_for_cpus_is_as_large_whatever_rows_there_are(name, length):
    data = compose(PretrainingArguments, [preset(name)]).train_data
    loader = replace(LoaderConfig.of(data), batch_size=data.train_batch_size)
    _, ends_N = plan_epoch(np.full(4096, length), loader, epoch=0)
    assert set(np.diff(ends_N, prepend=0) * length) == {4096}


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_stopped_around_its_turns_is_never_stopped(name, features, tmp_path, monkeypatch):
    straight = run_pretraining(small(name, features, tmp_path / "straight"))
    settings = small(name, features, tmp_path)
    begins = round(settings.model.generator_first * straight.step)
    assert 3 < begins < straight.step - 3, "both parts of the course are long enough to be stopped in"
    for step in (begins - 1, begins, begins + 1, straight.step - 2):
        folder = tmp_path / f"stopped-{step}"
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            assert run_pretraining(small(name, features, folder)).state == "stopped"
        assert_same_end(straight, run_pretraining(small(name, features, folder, resume=folder)))
        assert lines_of(folder) == lines_of(tmp_path / "straight")


@pytest.mark.parametrize("name", RECIPES)
def test_the_generator_begins_at_the_frequencies_of_tokens(name, features, tmp_path):
    settings = small(name, features, tmp_path)
    data = open_data(settings)
    counts_V = token_counts(data, 1 << 20) + 0.5
    bias_V = build_model(settings, data).generator.head.bias.detach().numpy()
    np.testing.assert_allclose(bias_V, np.log(counts_V / counts_V.sum()), rtol=1e-5)


def test_words_are_misspelt_by_seed_epoch_and_row_wherever_the_batches_begin(features, tmp_path):
    settings = small("quick", features, tmp_path)

    def rows(rank=0, world=1, start=0, epoch=2):
        process = Process(torch.device("cpu"), rank, world)
        found = {}
        for batch in Pretraining(settings, process).train_batches(epoch, start):
            for number, row in enumerate(batch.rows_B.tolist()):
                real = slice(None) if batch.attention_mask_BL is None else batch.attention_mask_BL[number]
                ids, wrong = batch.original_BL[number][real], batch.misspelt_BL[number][real]
                found[row] = ids.tolist(), wrong.tolist()
        return found

    whole = rows()
    assert sum(any(wrong) for _, wrong in whole.values()) > len(whole) / 5
    assert rows(0, 2) | rows(1, 2) == whole
    tail = rows(start=4)
    assert 0 < len(tail) < len(whole) and tail.items() <= whole.items()
