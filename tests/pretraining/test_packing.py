"""Rows that share lines learn what they learn alone. Run: pytest tests/pretraining/test_packing.py"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from run_examples import LONGEST, assert_resumed_is_straight, small_run, write_rows
from varlen_examples import written_out

from span_electra.config import NetworkConfig
from span_electra.data_config import LoaderConfig, masking_phases
from span_electra.errors import InputError
from span_electra.features.store import open_features
from span_electra.pretraining.course import Course, masking_schedule
from span_electra.pretraining.data import open_data
from span_electra.pretraining.experiment import Pretraining, build_model, run_pretraining
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.packing import pack_into_lines
from span_electra.training import checkpoint
from span_electra.training.devices import Process

PACKED = LoaderConfig(batch_max_tokens=4 * LONGEST, pack_rows=True, workers=0)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.arrow", rows=60)


def apart(features, batch):
    """The same rows, each in a line of its own."""
    alone = LoaderConfig(len(batch.rows_B), workers=0)
    return next(iter(Batches(open_features(features), alone, 1, rows=batch.rows_B.numpy())))


def gradients(model, batch):
    model.zero_grad()
    output = model(batch)
    output.loss.backward()
    return output, [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


# Of both architectures what differs: tables of places or angles, windows, shared tables, every head.
@pytest.mark.parametrize("changes", [{"embedding_sharing": "gdes"}, {"use_SBGO": True, "use_SBPO": True}])
def test_rows_in_shared_lines_give_the_losses_and_gradients_of_rows_apart(
    features, tmp_path, architecture, changes
):
    settings = small_run(features, tmp_path, dropout=0.0)
    deep = {"discriminator": NetworkConfig(16, 3, 2, 32), "local_attention": 6}
    settings = replace(settings, model=replace(settings.model, **deep, **changes))
    model = build_model(settings, open_data(settings))
    batches = list(Batches(open_features(features), PACKED, 1))
    for batch in batches[:3]:
        assert len(batch.rows_B) > len(batch.original_BL)
        packed, found = gradients(model, batch)
        single, expected = gradients(model, apart(features, batch))
        torch.testing.assert_close(packed.loss, single.loss, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(packed.tally, single.tally, rtol=1e-5, atol=1e-5)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_attention_that_takes_rows_as_they_lie_gives_the_same(features, tmp_path, architecture, monkeypatch):
    varlen = pytest.importorskip("torch.nn.attention.varlen", reason="this torch has no varlen attention")
    monkeypatch.setattr(varlen, "varlen_attn", written_out)
    settings = small_run(features, tmp_path, dropout=0.0)
    model = build_model(settings, open_data(settings))
    batches = [next(iter(Batches(open_features(features), PACKED, 1, varlen=way))) for way in (False, True)]
    (masked, expected), (packed, found) = (gradients(model, batch) for batch in batches)
    torch.testing.assert_close(packed.tally, masked.tally, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("static", [False, True])
def test_every_row_comes_once_and_all_batches_have_one_shape(features, world, static):
    opened, seen, shapes = open_features(features), [], set()
    for epoch in range(3):
        for rank in range(world):
            for batch in Batches(opened, PACKED, epoch, rank=rank, world=world, static_shapes=static):
                seen += batch.rows_B.tolist()
                shapes.add((*batch.original_BL.shape, *(batch.slots_S.shape if static else ())))
                counted = batch.attention_mask_BL.sum(), (batch.slot_weight_S > 0).sum()
                lengths_B = opened.lengths_R[batch.rows_B.numpy()]
                assert counted == (lengths_B.sum(), np.rint((lengths_B - 2) * 0.2).sum())
    assert sorted(seen) == sorted(3 * list(range(60))) and len(shapes) == 1


@pytest.mark.parametrize("world", [1, 3])
def test_where_rows_begin_is_told_for_attention_that_takes_them_as_they_lie(features, world):
    opened = open_features(features)
    for rank in range(world):
        for batch in Batches(opened, PACKED, 1, rank=rank, world=world, varlen=True):
            ends, tokens = batch.cu_seqlens_P, batch.original_BL.numel()
            assert ends.dtype == torch.int32 and ends[0] == 0 and ends[-1] == tokens
            assert (len(ends) - 1).bit_count() == 1, "one of a few shapes"
            # Each row once, whole; between them what fills up lines, nowhere longer than a line.
            pieces = [
                (int(end - begin), bool(batch.attention_mask_BL.flatten()[begin:end].all()))
                for begin, end in itertools.pairwise(ends)
                if end > begin
            ]
            assert sorted(length for length, real in pieces if real) == sorted(
                opened.lengths_R[batch.rows_B.numpy()].tolist()
            )
            filling = [length for length, real in pieces if not real]
            assert sum(filling) == tokens - batch.attention_mask_BL.sum() and max(pieces)[0] <= LONGEST
            assert len(filling) <= len(batch.original_BL), "at most one piece a line"
    assert next(iter(Batches(opened, PACKED, 1))).cu_seqlens_P is None


def test_slots_are_enough_for_the_rows_that_hide_most(tmp_path):
    # Each of four rows of 5 hides 1 of 3 tokens at this ratio, a row of 20 only 3 of 18.
    features = open_features(write_rows(tmp_path / "rows.arrow", rows=200, longest=5))
    chunking = replace(features.header.chunking, max_seq_len=20)
    features.header = replace(features.header, chunking=chunking)
    schedule = masking_schedule(masking_phases(["0: mask_ratio=0.167"]), 10, features.header.masking)
    more = {"static_shapes": True, "rows": np.flatnonzero(features.lengths_R == 5)}
    batches = Batches(
        features, replace(PACKED, batch_max_tokens=80), 1, course=Course(schedule=schedule), **more
    )
    assert {len(batch.slots_S) for batch in batches} == {16}


def test_shares_of_processes_add_up(features, tmp_path, architecture):
    settings = small_run(features, tmp_path, dropout=0.0)
    model = build_model(settings, open_data(settings)).eval()
    opened = open_features(features)
    whole = [model(batch) for batch in Batches(opened, PACKED, 1)]
    ranks = [[model(batch) for batch in Batches(opened, PACKED, 1, rank=rank, world=2)] for rank in (0, 1)]
    for output, *shares in zip(whole, *ranks, strict=True):
        torch.testing.assert_close(sum(share.loss for share in shares), output.loss)
        torch.testing.assert_close(sum(share.tally for share in shares), output.tally)


def test_a_packed_run_stopped_and_resumed_is_one_never_stopped(features, tmp_path, architecture, monkeypatch):
    def run(name, **more):
        return run_pretraining(small_run(features, tmp_path / name, loader=PACKED, save_every="0", **more))

    assert_resumed_is_straight(run, tmp_path, monkeypatch, step=4)


def test_inside_an_epoch_rows_that_begin_to_share_lines_come_each_once(features, tmp_path):
    loader = replace(PACKED, pack_rows=False)
    more = {"loader": loader, "valid": (0,), "epochs": 1}
    first = run_pretraining(small_run(features, tmp_path, max_steps=2, **more))
    settings = small_run(features, tmp_path, resume=first.checkpoint, **more | {"loader": PACKED})
    result = run_pretraining(settings)
    assert checkpoint.read_meta(checkpoint.latest(tmp_path))["loop"]["epoch"] == 1 and result.step > 2


def test_the_start_tells_what_keeps_rows_apart(features, tmp_path):
    said = Pretraining(small_run(features, tmp_path, loader=PACKED), Process(torch.device("cpu"))).describe()
    assert said["batches"].endswith("share lines, kept apart by a mask (attention has dropout)")
    whole = small_run(features, tmp_path, loader=PACKED, dropout=0.0)
    said = Pretraining(whole, Process(torch.device("cpu"))).describe()
    assert said["batches"].endswith("kept apart by a mask (torch has no other way for a cpu)")


def test_what_cannot_share_lines_is_refused(features, tmp_path):
    with pytest.raises(
        InputError, match="pack_rows: its batches are counted in tokens; give --batch_max_tok"
    ):
        LoaderConfig(pack_rows=True)
    with pytest.raises(InputError, match="batch_max_tokens: 10 is less than the longest row"):
        Batches(open_features(features), replace(PACKED, batch_max_tokens=10), 0)
    settings = small_run(features, tmp_path, loader=PACKED)
    with pytest.raises(InputError, match="pack_rows: cannot be combined with sequence_objective"):
        run_pretraining(replace(settings, model=replace(settings.model, sequence_objective="contrastive")))


# --- rows in lines --------------------------------------------------------------------------------------


def test_the_example_of_rows_in_lines():
    line_R, start_R, lines = pack_into_lines(np.array([3, 6, 5, 2]), 8)
    assert (line_R.tolist(), start_R.tolist(), lines) == ([1, 0, 1, 0], [5, 0, 0, 6], 2)


@given(st.lists(st.integers(1, 40), max_size=80), st.integers(40, 50))
def test_every_row_has_a_place_of_its_own(lengths, width):
    line_R, start_R, lines = pack_into_lines(np.array(lengths, np.int64), width)
    taken = np.zeros((lines, width), int)
    for length, line, start in zip(lengths, line_R, start_R, strict=True):
        assert start + length <= width
        taken[line, start : start + length] += 1
    assert taken.max(initial=0) <= 1 and taken.sum() == sum(lengths)
    # No line without a row, and no gap within one: what is left lies at the end.
    assert (taken[:, 0] == 1).all() and (np.diff(taken, axis=1) <= 0).all()
    # Never two lines half empty: their rows would have shared one.
    assert np.sum(2 * taken.sum(1) <= width) <= 1


def test_rows_of_documents_leave_little_empty():
    lengths_R = np.random.default_rng(0).integers(3, 129, 5000)
    _, _, lines = pack_into_lines(lengths_R, 128)
    assert lengths_R.sum() / (lines * 128) > 0.97


def test_a_row_longer_than_a_line_is_refused():
    with pytest.raises(AssertionError, match="fits no line"):
        pack_into_lines(np.array([3, 9]), 8)
