"""Rows are known by more than their number. Run: pytest tests/pretraining/test_resume.py"""

import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from model_examples import small_config
from run_examples import small_run, stop_at, write_rows

from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.pretraining.data import open_data
from span_electra.pretraining.experiment import run_pretraining
from span_electra.pretraining.resume import check_data, check_model, data_facts, fingerprint, longest_row
from span_electra.text.inputs import Source
from span_electra.training import checkpoint


def features_of(lengths=(3, 5, 4, 5), *sources):
    header = SimpleNamespace(sources=tuple(Source(path, 9, sha256) for path, sha256 in sources))
    return SimpleNamespace(lengths_R=np.array(lengths), header=header)


def test_rows_are_told_by_number_length_and_text_wherever_that_lies():
    rows, plain = np.array([0, 2]), fingerprint(features_of((3, 5, 4), ("a.txt", "11")), np.array([0, 2]))
    same = [features_of((3, 5, 4), ("b.txt", "11")), features_of((3, 9, 4, 7), ("a.txt", "11"))]
    assert all(fingerprint(features, rows) == plain for features in same)
    other = [features_of((3, 5, 5), ("a.txt", "11")), features_of((3, 5, 4), ("a.txt", "12"))]
    assert all(fingerprint(features, rows) != plain for features in other)
    assert fingerprint(features_of((3, 4, 4), ("a.txt", "11")), np.array([0, 1])) != plain
    assert fingerprint(features_of(), rows[:0]) is None


def facts(**order):
    return {
        "vocabulary_sha256": "v",
        "held_out": None,
        "masks": {"mask_ratio": 0.2, "seed": 0},
        "order": {"seed": 0, "rows": 4, "content": "c"} | order,
    }


def test_other_rows_are_refused_inside_an_epoch_alone_and_releases_that_did_not_tell_them_go_on():
    meta = facts(content="other") | {"loop": {"batch": 2}}
    with pytest.raises(InputError, match="step-3: stopped inside an epoch of 4 other rows; go on with"):
        check_data(facts(), meta, "step-3", warn=True)
    with pytest.warns(UserWarning, match="step-3: goes on with 4 rows, which are not those it was"):
        assert not check_data(facts(), meta | {"loop": {"batch": 0}}, "step-3", warn=True)
    del meta["order"]["content"]
    assert not check_data(facts(pack_rows=False), meta, "step-3", warn=True)
    assert check_data(facts(pack_rows=True), meta, "step-3", warn=True), "its batches are others"


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"held_out": "h"}, "the rows held out are others now"),
        ({"masks": {"mask_ratio": 0.3, "seed": 0}}, "with mask_ratio=0.2 seed=0, these with mask_ratio=0.3"),
        ({"masks": {"mask_ratio": 0.2, "seed": 1}}, "these with mask_ratio=0.2 seed=1"),
        ({}, None),
    ],
)
def test_what_is_not_as_it_was_is_said_in_a_line_wherever_a_run_stopped(other, said, batch):
    meta = facts(pack_rows=False) | {"loop": {"batch": batch}}
    with pytest.warns(UserWarning, match=f"step-3: .*{said}") if said else nullcontext():
        assert not check_data(facts() | other, meta, "step-3", warn=True)
    assert not check_data(facts() | other, meta, "step-3", warn=False)
    for name in other:  # of a release that did not tell it
        meta.pop(name)
    assert not check_data(facts() | other, meta, "step-3", warn=True)


@pytest.mark.parametrize("before", [None, 10, 20])
@pytest.mark.parametrize("here", [12, 16])
def test_the_longest_row_counts_whatever_a_run_goes_on_from(before, here, tmp_path):
    """Where a checkpoint of an older release does not tell, a resumed run's rows were most likely these."""
    told = {} if before is None else {"max_seq_len": before}
    features = SimpleNamespace(lengths_R=np.array([40, here, 5]), vocabulary=None)
    data = SimpleNamespace(train=features, train_rows=np.array([1, 2]))  # a longer one is held out
    settings = small_run("rows.arrow", tmp_path / "run")
    positions = settings.model.max_position_embeddings
    assert longest_row(data, settings) == here
    assert longest_row(data, replace(settings, resume_from="run"), meta=told) == max(here, before or here)
    started, begun = replace(settings, init_from="weights"), before or positions
    assert longest_row(data, started, begun=begun) == max(here, begun)
    alone = replace(started, init_only="generator")  # the other network begins here
    assert longest_row(data, alone, begun=begun) == here
    resumed = replace(started, resume_from="run")
    assert longest_row(data, resumed, meta=told) == max(here, begun)
    assert longest_row(data, resumed) == here


@pytest.mark.parametrize("tokens", [0, 48])
def test_rows_of_a_batch_change_its_order_where_they_decide_it(tokens, tmp_path):
    features = write_rows(tmp_path / "rows.arrow")
    runs = (
        small_run(features, tmp_path, loader=LoaderConfig(rows, batch_max_tokens=tokens)) for rows in (4, 8)
    )
    few, many = (data_facts(open_data(run), run) for run in runs)
    assert check_data(many, few | {"loop": {"batch": 2}}, "step-3", warn=True) == (tokens == 0)
    # A release that told them always.
    few["order"]["batch_size"] = 4
    assert check_data(many, few | {"loop": {"batch": 2}}, "step-3", warn=True) == (tokens == 0)


@pytest.mark.parametrize("change", ["nothing", "seed", "split", "file", "schedule", "masks"])
@pytest.mark.parametrize("separate", [True, False])
def test_scores_are_compared_on_the_same_rows_and_masks_alone(change, separate, tmp_path):
    """In the loop and in retention, which both ask `same_score`."""
    names = [write_rows(tmp_path / f"{name}.arrow", rows=20, seed=ord(name)) for name in "tvw"]
    plain = small_run(names[0], tmp_path)
    plain = replace(plain, valid_features=(names[1],)) if separate else plain
    training = replace(plain.training, seed=1)
    other = {
        "nothing": plain,
        "seed": replace(plain, training=training),
        "split": replace(plain, valid_split=(0.5,)),
        "file": replace(plain, valid_features=(names[2],)),
        "schedule": replace(
            plain, train_loader=LoaderConfig(8, masking_schedule=["0: mask_ratio=0.4", "0.5: mask_ratio=0.3"])
        ),
        "masks": plain,
    }[change]
    data = open_data(other)
    if change == "masks":
        masking = replace(data.valid.header.masking, mask_ratio=0.3)
        data.valid.header = replace(data.valid.header, masking=masking)
    now, before = data_facts(data, other), data_facts(open_data(plain), plain)
    same = change == "nothing" or (separate and change in ("seed", "split"))
    assert checkpoint.same_score(before, now) == same
    assert checkpoint.score_of({"metric": 0.5}, now) == 0.5, "an earlier release did not tell them"
    none = data_facts(open_data(replace(plain, valid_features=(), valid_split=(0.0,))), plain)
    assert none["measured"] is None


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run of 60 rows that stopped late in its first epoch, and how it was asked for."""
    loader = LoaderConfig(8, batch_max_tokens=48)

    def settings(features, **more):
        return small_run(features, tmp_path / "run", loader=loader, valid=(0,), **more)

    with monkeypatch.context() as patch:
        stop_at(patch, 16)
        run_pretraining(settings(write_rows(tmp_path / "rows.arrow")))
    return settings


def test_as_many_other_rows_are_refused_by_a_stopped_run(stopped, tmp_path):
    other = write_rows(tmp_path / "other.arrow", seed=1)
    with pytest.raises(InputError, match="step-00000016: stopped inside an epoch of 60 other rows"):
        run_pretraining(stopped(other, resume=tmp_path / "run"))


def test_an_epoch_without_a_batch_that_is_left_is_an_error_and_no_endless_loop(stopped, tmp_path):
    file = next(checkpoint.in_run(tmp_path / "run")) / checkpoint.META
    meta = json.loads(file.read_text())
    del meta["order"]["content"]  # as an earlier release wrote it
    file.write_text(json.dumps(meta))
    short = write_rows(tmp_path / "short.arrow", longest=8)
    with pytest.raises(InputError, match="made [0-9]+ of this epoch's .* epoch has only [0-9]+;"):
        run_pretraining(stopped(short, resume=tmp_path / "run"))


@pytest.mark.parametrize("other", ["rows", "file"])
def test_scores_on_other_held_out_rows_are_no_best_to_be_beaten(tmp_path, other):
    features, valid = (write_rows(tmp_path / f"{name}.arrow", rows=20, seed=ord(name)) for name in "tv")
    options = {"monitor": "loss", "epochs": 1}
    first = small_run(features, tmp_path / "run", **options)
    first = replace(first, valid_features=(valid,)) if other == "file" else first
    saved = Path(run_pretraining(first).checkpoint)
    meta = json.loads((saved / checkpoint.META).read_text())
    meta["loop"]["best"] = 0.0  # which no loss beats
    (saved / checkpoint.META).write_text(json.dumps(meta))
    again = replace(first, resume_from=str(saved), training=replace(first.training, epochs=2))
    kept = checkpoint.read_meta(Path(run_pretraining(again).checkpoint))["loop"]
    assert kept["best"] == 0.0, "on the same rows it counts"
    shorter = {"valid_rows": (5,)} if other == "file" else {"valid_split": (0.5,)}
    again = replace(again, resume_from=str(tmp_path / "run"), training=replace(first.training, epochs=3))
    with pytest.warns(UserWarning, match="held out are others") if other == "rows" else nullcontext():
        result = run_pretraining(replace(again, **shorter))
    assert (tmp_path / "run" / "log.txt").read_text().count("the best is found anew") == 1
    kept = checkpoint.read_meta(Path(result.checkpoint))
    assert kept["loop"]["best"] == kept["metric"] > 0


def test_a_network_that_computes_otherwise_is_refused_and_what_only_trains_it_is_free():
    """Names and shapes of weights do not tell: other heads or wavelengths would go on from damaged ones."""
    config = small_config(architecture="modern", vocab_size=300)
    meta = {"model": asdict(config)}
    others = {
        "hidden_act is gelu, .* is relu; set hidden_act=gelu": {"hidden_act": "relu"},
        "rope_theta is 10000.0, .* is 500": {"rope_theta": 500.0},
        "local_attention is 0, .* is 8": {"local_attention": 8},
        "embedding_sharing is auto, .* is none": {"embedding_sharing": "none"},
        "set generator.num_attention_heads=": {"generator": replace(config.generator, num_attention_heads=1)},
    }
    for said, changes in others.items():
        with pytest.raises(InputError, match=f"step-3: .*{said}"):
            check_model(replace(config, **changes), meta, "step-3")
    free = replace(
        config, hidden_dropout_prob=0.3, generator_weight=2.0, temperature=0.5, objective="generator"
    )
    check_model(free, meta, "step-3")
    # What a release did not record is taken for the same, of a network too.
    del meta["model"]["rope_theta"], meta["model"]["generator"]["num_attention_heads"]
    check_model(
        replace(config, rope_theta=500.0, generator=replace(config.generator, num_attention_heads=1)),
        meta,
        "step-3",
    )
    check_model(config, {}, "step-3")


def test_a_run_is_not_gone_on_with_as_another_network(stopped, tmp_path):
    again = stopped(str(tmp_path / "rows.arrow"), resume=tmp_path / "run")
    with pytest.raises(InputError, match="step-00000016: hidden_act is gelu, the model's is relu"):
        run_pretraining(replace(again, model=replace(again.model, hidden_act="relu")))
