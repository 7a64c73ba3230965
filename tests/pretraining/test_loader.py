"""Laws of the loader: each row once, order and masks from (seed, epoch, row), shares that add up.

Run: pytest tests/pretraining/test_loader.py
"""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from span_examples import words_of

from span_electra.data_config import LoaderConfig, MaskingConfig, masking_phases
from span_electra.errors import InputError
from span_electra.features.masking import Spans, row_keys, sample_spans, span_budget
from span_electra.features.words import TokenRows
from span_electra.pretraining.course import Course, masking_schedule
from span_electra.pretraining.loader import Batches, locate_slots, plan_epoch

MASKING = MaskingConfig()
SPECIAL = range(4)  # [CLS], [SEP], [PAD], [MASK]


class InMemoryFeatures:
    """Rows of random tokens with the interface of features/store.py's Features."""

    def __init__(self, lengths, seed=0):
        self.lengths_R = np.asarray(lengths, np.int32)
        self.rows = len(lengths)
        self.starts_R = np.concatenate([[0], np.cumsum(self.lengths_R)[:-1]])
        self.ids_T = np.random.default_rng(seed).integers(5, 100, self.lengths_R.sum()).astype(np.uint16)
        self.ids_T[self.starts_R], self.ids_T[np.cumsum(self.lengths_R) - 1] = 0, 1
        special = dict(zip(("cls_id", "sep_id", "pad_id", "mask_id"), SPECIAL, strict=True))
        self.header = SimpleNamespace(max_seq_len=int(max(lengths)), masking=MASKING, **special)

    def gather(self, rows_B, width):
        ids_BL = np.full((len(rows_B), width), 2, np.int64)
        for number, row in enumerate(rows_B):
            ids_BL[number, : self.lengths_R[row]] = self.row(row)
        return ids_BL

    def row(self, row):
        return self.ids_T[self.starts_R[row] : self.starts_R[row] + self.lengths_R[row]]

    def sample_spans(self, rows_B, epoch, seed, masking=MASKING):
        keys = row_keys(seed, epoch, rows_B, "spans")
        rows = TokenRows(self.ids_T, self.starts_R[rows_B], self.lengths_R[rows_B])
        return sample_spans(rows, words_of(np.ones(100, bool)), keys, masking)

    def spans(self, rows_B):
        return self.sample_spans(rows_B, 0, 77)


def features_of(rows, longest=40, seed=0):
    lengths = np.random.default_rng(seed).integers(3, longest + 1, rows)
    return InMemoryFeatures(lengths, seed)


def by_row(batches):
    """Every row's (tokens, slots in the row, uniforms) by row number."""
    seen = {}
    for masked in batches:
        width = masked.original_BL.shape[1]
        for number, row in enumerate(masked.rows_B.tolist()):
            assert row not in seen, "a row came twice"
            real = slice(None) if masked.attention_mask_BL is None else masked.attention_mask_BL[number]
            here = (masked.slots_S // width == number) & (masked.slot_weight_S > 0)
            slots = (masked.slots_S[here] % width).tolist()
            seen[row] = (masked.original_BL[number][real].tolist(), slots, masked.uniform_S[here].tolist())
    return seen


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 60),
    size=st.integers(1, 9),
    tokens=st.sampled_from([0, 40, 100, 333]),
    span=st.integers(1, 5),
    world=st.integers(1, 4),
    workers=st.integers(0, 2),
    shapes=st.sampled_from(["static_shapes", "rounded_shapes", None]),
)
def test_every_row_comes_once_whatever_the_cut_and_the_processes(
    rows, size, tokens, span, world, workers, shapes
):
    features = features_of(rows)
    config = LoaderConfig(size, tokens, span, workers=workers)
    more = {shapes: True} if shapes else {}
    shares = [Batches(features, config, 3, rank=rank, world=world, **more) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    seen = by_row(masked for share in shares for masked in share)
    alone = by_row(Batches(features, config, 3))
    assert seen == alone and sorted(seen) == list(range(rows))
    for row, (ids, slots, uniforms) in seen.items():
        assert ids == features.row(row).tolist()
        assert len(slots) == len(uniforms) == span_budget(features.lengths_R[[row]], 0.2)[0]


def test_rounded_shapes_come_again_and_keep_to_the_tokens_allowed():
    """A CPU keeps machine code for each shape: 1.8 GB instead of 1.1 by 80 steps."""
    features = features_of(300, longest=64)
    batches = list(Batches(features, LoaderConfig(8, bucket_span=2), 1, rounded_shapes=True))
    assert {batch.original_BL.shape[1] % 8 for batch in batches} == {0}
    assert {len(batch.slots_S) % 64 for batch in batches} == {0}
    bounded = Batches(features, LoaderConfig(8, 200, workers=0), 1, rounded_shapes=True)
    assert max(batch.original_BL.numel() for batch in bounded) <= 200


def test_masks_and_samples_of_a_row_do_not_depend_on_its_batch():
    features = features_of(50)
    one = by_row(Batches(features, LoaderConfig(4, seed=5), 2))
    other = by_row(Batches(features, LoaderConfig(9, 100, 3, seed=5), 2, rows=np.arange(10, 30)))
    assert all(one[row] == other[row] for row in range(10, 30))


def test_the_place_of_a_rows_crop_depends_on_seed_epoch_and_row_alone():
    def crops(seed=0, epoch=1, world=1, static=False, **config):
        found = {}
        for rank in range(world):
            more = {"rank": rank, "world": world, "static_shapes": static, "crops": True}
            for batch in Batches(
                features_of(70), LoaderConfig(workers=0, seed=seed, **config), epoch, **more
            ):
                found |= dict(zip(batch.rows_B.tolist(), batch.crop_B.tolist(), strict=False))
        return found

    usual = crops(batch_size=5)
    assert usual == crops(batch_size=9, world=2) == crops(batch_size=8, static=True) and len(usual) == 70
    assert all(0 <= place < 1 for place in usual.values()) and len(set(usual.values())) == 70
    for other in (crops(seed=1, batch_size=5), crops(epoch=2, batch_size=5)):
        assert not set(other.values()) & set(usual.values())
    batches = list(Batches(features_of(70), LoaderConfig(6, workers=0), 0, together=2, crops=True))
    assert [batch.row_total.item() for batch in batches] == [12.0] * 10 + [10.0] * 2
    assert next(iter(Batches(features_of(70), LoaderConfig(6, workers=0), 0))).crop_B is None


def test_seed_and_epoch_change_order_masks_and_samples():
    features = features_of(50)
    orders, tables = [], []
    for seed, epoch in ((0, 1), (0, 2), (1, 1)):
        batches = Batches(features, LoaderConfig(4, seed=seed), epoch)
        orders.append(batches.rows_R.tolist())
        tables.append(by_row(batches))
    assert len({tuple(order) for order in orders}) == 3
    long = int(np.argmax(features.lengths_R))
    assert len({tuple(table[long][1]) for table in tables}) == 3
    assert len({tuple(table[long][2]) for table in tables}) == 3


def test_epoch_0_and_static_masking_use_the_masks_of_the_file():
    features = features_of(30)
    dynamic, static = LoaderConfig(4, seed=5), LoaderConfig(4, masking="static", seed=5)
    file_masks = {row: slots for row, (_, slots, _) in by_row(Batches(features, dynamic, 0)).items()}
    later = by_row(Batches(features, static, 4))
    redrawn = by_row(Batches(features, dynamic, 4))
    assert all(later[row][1] == file_masks[row] for row in range(30))
    assert any(redrawn[row][1] != file_masks[row] for row in range(30))


@pytest.mark.parametrize("tokens", [0, 120])
@pytest.mark.parametrize("together", [1, 3])
def test_totals_are_those_of_all_processes_and_of_the_whole_step(tokens, together):
    features = features_of(41)
    config = LoaderConfig(4, tokens, 2, workers=0)
    shares = [list(Batches(features, config, 1, rank=r, world=3, together=together)) for r in range(3)]
    for first in range(0, len(shares[0]), together):
        step = [masked for share in shares for masked in share[first : first + together]]
        masked_total = sum(float(masked.slot_weight_S.sum()) for masked in step)
        token_total = sum(int(features.lengths_R[masked.rows_B].sum()) for masked in step)
        assert {float(masked.masked_total) for masked in step} == {max(masked_total, 1.0)}
        assert {float(masked.token_total) for masked in step} == {float(token_total)}


def test_starting_in_the_middle_gives_the_rest_of_the_same_epoch():
    features = features_of(37)
    whole = list(Batches(features, LoaderConfig(4), 2))
    rest = list(Batches(features, LoaderConfig(4), 2, start=5))
    assert len(rest) == len(whole) - 5
    for one, other in zip(whole[5:], rest, strict=True):
        assert torch.equal(one.original_BL, other.original_BL) and torch.equal(one.slots_S, other.slots_S)


def test_batches_keep_to_the_tokens_they_are_allowed_and_waste_few():
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(4, 0.8, 4000).astype(int) + 3, 128)
    features = InMemoryFeatures(lengths)
    batches = Batches(features, LoaderConfig(batch_max_tokens=4096), 1)
    padded = 0
    for masked in batches:
        assert masked.original_BL.numel() <= 4096
        padded += masked.original_BL.numel()
    assert lengths.sum() / padded >= 0.97


def test_batches_of_one_span_are_shuffled_and_rows_sorted_inside():
    lengths = np.random.default_rng(0).integers(3, 100, 640)
    order, ends = plan_epoch(lengths, LoaderConfig(32, bucket_span=20), 0)
    firsts = [lengths[order[begin]] for begin in np.concatenate([[0], ends[:-1]])]
    assert firsts != sorted(firsts)
    assert all((np.diff(lengths[rows]) >= 0).all() for rows in np.split(order, ends[:-1]))


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("config", [LoaderConfig(16), LoaderConfig(batch_max_tokens=600, bucket_span=4)])
def test_static_shapes_are_few_and_follow_from_the_width_alone(config, world):
    features = features_of(410, longest=64)
    shapes = {}
    for rank in range(world):
        for masked in Batches(features, config, 1, rank=rank, world=world, static_shapes=True):
            rows, width = masked.original_BL.shape
            assert shapes.setdefault(width, (rows, len(masked.slots_S))) == (rows, len(masked.slots_S))
            assert len(masked.rows_B) <= rows and rows * width * world <= 16 * 64 + world * width
    assert 1 < len(shapes) <= 8


def test_slots_know_their_span():
    spans = Spans(np.array([2, 1]), np.array([2, 1]), np.array([1, 2]))
    slots, counts = locate_slots(spans, 8)
    assert slots["slots_S"].tolist() == [2, 3, 9]
    assert slots["left_S"].tolist() == [1, 1, 8]
    assert slots["right_S"].tolist() == [4, 4, 10]
    assert slots["offset_S"].tolist() == [0, 1, 0]
    assert counts.tolist() == [2, 1]


def test_a_share_without_rows_is_an_empty_batch():
    features = features_of(5)
    shares = [list(Batches(features, LoaderConfig(4), 0, rank=r, world=4)) for r in range(4)]
    assert [len(share) for share in shares] == [2, 2, 2, 2]
    assert (
        sum(share[1].original_BL.shape[0] == 0 for share in shares)
        + sum(share[0].original_BL.shape[0] == 0 for share in shares)
        == 3
    )


def test_an_error_in_a_thread_reaches_the_consumer_and_no_thread_stays():
    features = features_of(40)
    features.gather = lambda rows_B, width: 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(Batches(features, LoaderConfig(4, workers=2), 0))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_threads_end_when_the_consumer_stops_early():
    iterator = iter(Batches(features_of(200), LoaderConfig(4, workers=2), 0))
    next(iterator)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_rows_longer_than_the_token_budget_are_refused():
    with pytest.raises(InputError, match="batch_max_tokens: 30 is less than the longest row"):
        Batches(InMemoryFeatures([40, 3]), LoaderConfig(batch_max_tokens=30), 0)


def test_masks_that_break_the_headers_promise_are_refused():
    features = features_of(10)
    features.spans = lambda rows_B: Spans(np.array([]), np.array([]), np.zeros(len(rows_B), np.int64))
    with pytest.raises(InputError, match="hides 0 tokens.*create_feature_SE.py"):
        list(Batches(features, LoaderConfig(4, workers=0), 0))


def test_a_schedule_hides_by_its_phases_the_same_on_any_processes_and_after_a_resume():
    features = features_of(60)
    lines = ["0: mask_ratio=0.3 max_span_len=1 whole_words=false", "0.5: mask_ratio=0.15 max_span_len=4"]
    schedule = masking_schedule(masking_phases(lines), total_steps=8, base=MASKING)
    more = {"course": Course(schedule=schedule, first_step=2), "together": 2}
    config = LoaderConfig(8, workers=0)

    def spans_of(batch):
        width = batch.original_BL.shape[1]
        return {
            row: (batch.slots_S[batch.slots_S // width == number] % width).tolist()
            for number, row in enumerate(batch.rows_B.tolist())
        }

    batches = list(Batches(features, config, 0, **more))  # 8 batches are 4 steps, of 2 phases
    seen = [spans_of(batch) for batch in batches]
    for number, rows in enumerate(seen):
        masking = schedule.maskings[number >= 4]
        for row, places in rows.items():
            assert len(places) == span_budget(features.lengths_R[[row]], masking.mask_ratio)[0]
            if number < 4:
                assert all(after - before > 1 for before, after in zip(places, places[1:], strict=False))
    totals = [sum(map(len, (*seen[n].values(), *seen[n + 1].values()))) for n in range(0, 8, 2)]
    assert [float(batch.masked_total) for batch in batches[::2]] == totals
    resumed = [spans_of(batch) for batch in Batches(features, config, 0, 3, **more)]
    assert resumed == seen[3:]
    shares = [Batches(features, config, 0, rank=rank, world=2, **more) for rank in (0, 1)]
    together = [spans_of(a) | spans_of(b) for a, b in zip(*shares, strict=True)]
    assert together == seen
    static = list(Batches(features, config, 0, static_shapes=True, **more))
    widths = {batch.original_BL.shape: len(batch.slots_S) for batch in static}
    assert all(widths[batch.original_BL.shape] == len(batch.slots_S) for batch in static)


class EverySecondToken:
    """Stands in for a Misspeller: marks every second token of the content, and adds 1 to its id."""

    def misspell(self, ids_BL, lengths_B, rows_B, epoch):
        place_L = np.arange(ids_BL.shape[1])
        wrong_BL = (place_L % 2 == 1) & (place_L < lengths_B[:, None] - 1)
        return {"original_BL": ids_BL + wrong_BL, "misspelt_BL": wrong_BL}, np.tile(place_L, (len(ids_BL), 1))


def test_words_are_misspelt_once_the_discriminator_learns_and_never_masked():
    features = features_of(24)
    config = LoaderConfig(batch_size=4, workers=0)
    course = Course(first_step=10, alone_until=13)
    misspelt = Batches(features, config, 0, course=course, misspeller=EverySecondToken(), crops=True)
    batches = list(misspelt)
    assert [batch.generator_alone for batch in batches] == [True] * 3 + [False] * 3
    for batch in batches[:3]:
        assert batch.misspelt_BL is None and batch.slot_weight_S.all()
    for batch in batches[3:]:
        wrong_S = batch.misspelt_BL.flatten()[batch.slots_S]
        assert wrong_S.any() and not wrong_S.all()
        assert torch.equal(batch.slot_weight_S, (~wrong_S).float())
        plain_BL = torch.from_numpy(features.gather(batch.rows_B.numpy(), batch.original_BL.shape[1]))
        assert torch.equal(batch.original_BL, plain_BL + batch.misspelt_BL)
        assert torch.equal(batch.clean_BL, plain_BL), "a crop is of the text as it was"


class OneMore:
    """Stands in for a Misspeller: each row's first word gets one more token, and the last one is cut."""

    def misspell(self, ids_BL, lengths_B, rows_B, epoch):
        place_BL = np.tile(np.arange(ids_BL.shape[1]), (len(ids_BL), 1))
        content_BL = (place_BL > 0) & (place_BL < lengths_B[:, None] - 1)
        longer_BL = np.where(content_BL & (place_BL > 1), np.roll(ids_BL, 1, axis=1), ids_BL)
        wrong_BL = content_BL & (place_BL <= 2)
        moved_BL = np.where(content_BL & (place_BL > 1), place_BL + 1, place_BL)
        return {"original_BL": longer_BL, "misspelt_BL": wrong_BL}, moved_BL


def test_spans_go_where_their_tokens_go_when_words_are_misspelt():
    features, config, seen = features_of(24), LoaderConfig(batch_size=4, workers=0), 0
    plain = list(Batches(features, config, 0))
    for batch, before in zip(Batches(features, config, 0, misspeller=OneMore()), plain, strict=True):
        width, learnt_S = batch.original_BL.shape[1], batch.slot_weight_S > 0
        seen += int(learnt_S.sum())
        hidden = (some.original_BL.flatten()[some.slots_S[learnt_S]] for some in (batch, before))
        assert torch.equal(*hidden), "the same tokens"
        for name in ("slots_S", "left_S", "right_S"):
            now_S, then_S = (getattr(some, name)[learnt_S] for some in (batch, before))
            sep_S = torch.from_numpy(features.lengths_R[batch.rows_B.numpy()])[now_S // width] - 1
            # A place of the content past the first word moves on by one, up to [SEP].
            place_S = then_S % width
            moved_S = torch.where((place_S > 1) & (place_S < sep_S), place_S + 1, place_S)
            assert torch.equal(now_S % width, torch.minimum(moved_S, sep_S))
    assert seen > 20


@pytest.mark.parametrize("causal", [False, True])
def test_no_sep_between_two_parts_is_foretold(causal):
    features, course = features_of(40), Course(alone_until=99, next_token_share=float(causal))
    parted = 0
    for masked in Batches(features, LoaderConfig(8, paired_rows=0.9, workers=0), epoch=0, course=course):
        rows, width = masked.original_BL.shape
        lengths_B1 = torch.tensor([[features.lengths_R[row]] for row in masked.rows_B])
        # [SEP] is 1; that at a row's end parts nothing.
        between_BL = (masked.original_BL == 1) & (torch.arange(width) < lengths_B1 - 1)
        foretold_S = between_BL.reshape(-1)[masked.slots_S + causal]
        assert torch.equal(masked.slot_weight_S > 0, ~foretold_S)
        assert not causal or foretold_S.sum() == between_BL.sum()
        parted += int(between_BL.sum())
    assert parted > 15


def test_special_tokens_that_a_text_spells_out_are_not_hidden_in_pairs():
    features, rng, special = features_of(60), np.random.default_rng(0), torch.tensor(SPECIAL)
    spelt_T = rng.random(len(features.ids_T)) < 0.2
    features.ids_T[spelt_T] = rng.choice(SPECIAL, spelt_T.sum())
    slots = 0
    for masked in Batches(features, LoaderConfig(8, paired_rows=0.9, workers=0), epoch=0):
        spelt_S = torch.isin(masked.original_BL.flatten()[masked.slots_S], special)
        assert torch.equal(masked.slot_weight_S > 0, ~spelt_S)
        slots += int(spelt_S.sum())
    assert slots > 20
