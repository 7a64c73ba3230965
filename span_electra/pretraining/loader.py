"""Features -> batches: order, masks and random numbers from (seed, epoch, row) alone.

Shapes are in the names:
  R  rows of an epoch           N  batches of an epoch          P  spans; of cu_seqlens_P, rows' beginnings
  B  rows of a batch (share)    L  tokens of the longest row    S  hidden tokens of a batch
A global batch is what all processes together compute in one pass; each process builds its own share of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from span_electra.counted import counted
from span_electra.data_config import LoaderConfig, MaskingConfig
from span_electra.errors import InputError
from span_electra.features.masking import Spans, row_keys, span_budget, uniforms
from span_electra.model.batch import MaskedBatch
from span_electra.pretraining.course import Course, MaskingSchedule
from span_electra.pretraining.misspelling import Misspeller
from span_electra.pretraining.next_tokens import Candidates, evenly, next_token_slots
from span_electra.pretraining.packing import PackedEpoch, cumulative_lengths, pack, plan_packed_epoch
from span_electra.pretraining.pairing import Pairing

if TYPE_CHECKING:
    from span_electra.features.store import Features

AHEAD = 4  # batches in preparation for each thread; enough to hide a slow one, little memory
RUNGS = 8  # static shapes: rows are padded to one of so many widths
# Steps of rounded shapes: matrix products on a CPU keep machine code for each shape that they meet.
WIDTH_STEP, SLOT_STEP = 8, 64
BY_DEFAULT = Course()  # both networks learn, on the features' own spans


class Batches:
    """The batches of one epoch, from batch number `start` on, as this process's shares.

    Every row of `rows` comes once. `together` batches make one optimizer step (accumulation): they share
    their totals, so that adding their losses gives the mean over the step. A process whose share of a small
    last batch is empty gets a batch of no rows. With `static_shapes`, for compiled models, a row's width
    decides all shapes: widths are few, a small batch is filled up with rows of padding alone, which count
    nowhere, and slots to the most that such rows hide. With `rounded_shapes` widths (where rows decide the
    batches) and slots are rounded up, so that shapes come again. With `pack_rows` all batches are of the
    longest row's width, and rows share lines (see packing.py); `varlen`: where they begin is told as
    `cu_seqlens_P`.

    `course`: which spans are hidden at which step, and which networks learn; without a schedule these are the
    features' own spans in epoch 0, and others by the same settings later. The generator's steps from left to
    right predict among `candidates`; once both networks learn `misspeller` misspells words. `crops`: say
    where to cut rows.
    """

    def __init__(
        self,
        features: Features,
        config: LoaderConfig,
        epoch: int,
        start: int = 0,
        *,
        course: Course = BY_DEFAULT,
        rank: int = 0,
        world: int = 1,
        rows: np.ndarray | None = None,
        together: int = 1,
        static_shapes: bool = False,
        rounded_shapes: bool = False,
        pinned: bool = False,
        varlen: bool = False,
        candidates: Candidates | None = None,
        misspeller: Misspeller | None = None,
        crops: bool = False,
    ) -> None:
        self.features, self.config, self.epoch, self.start = features, config, epoch, start
        self.rank, self.world, self.pinned, self.varlen = rank, world, pinned, varlen
        self.static_shapes, self.rounded_shapes = static_shapes, rounded_shapes
        rows_R = np.arange(features.rows, dtype=np.int64) if rows is None else np.asarray(rows, np.int64)
        longest = features.header.max_seq_len
        self.ladder = width_ladder(longest) if static_shapes else None
        if config.pack_rows:  # lines are as wide as the longest row of all, whichever lie in a batch
            self.ladder = np.array([longest])
        lengths_R = np.asarray(features.lengths_R)[rows_R].astype(np.int64)
        self.packed = plan_packed(lengths_R, config, epoch, longest) if config.pack_rows else None
        order_R, self.ends_N = (
            self.packed[:2] if self.packed else plan_epoch(lengths_R, config, epoch, self.ladder)
        )
        self.rows_R, self.lengths_R = rows_R[order_R], lengths_R[order_R]
        self.schedule = course.schedule or MaskingSchedule.constant(features.header.masking)
        # The file's own spans do for the first epoch: they are sampled in the same way, and there already.
        self.redrawn = course.schedule is not None or (epoch > 0 and config.masking == "dynamic")
        # A step's batches share their totals, so they share the masking too, wherever a phase ends.
        steps_N = course.first_step + np.arange(len(self.ends_N)) // together
        self.phase_N = self.schedule.phases_of(steps_N)
        self.alone_N, self.misspeller = steps_N < course.alone_until, misspeller
        self.causal_N = self.alone_N & evenly(steps_N, course.next_token_share)
        self.candidates, self.crops = candidates, crops
        self.pairing = None
        if config.paired_rows:
            self.pairing = Pairing(config.paired_rows, features.header.sep_id, config.seed)
        self.masked_N, self.tokens_N, self.row_counts_N = self._totals(together)

    def __len__(self) -> int:
        return len(self.ends_N)

    def __iter__(self) -> Iterator[MaskedBatch]:
        """Build with threads, in order; the threads end when the consumer stops, whyever it does."""
        numbers = range(self.start, len(self))
        if self.config.workers == 0:
            yield from map(self.build, numbers)
            return
        # Threads, not processes: NumPy and the compiled loops let others run meanwhile, and no batch needs to
        # be copied from one process to another.
        pool = ThreadPoolExecutor(self.config.workers, thread_name_prefix="batches")
        # In the order of the numbers, whichever thread is done first: the order is that of the seed.
        waiting: deque[Future[MaskedBatch]] = deque()
        try:
            for number in numbers:
                waiting.append(pool.submit(self.build, number))
                if len(waiting) >= AHEAD * self.config.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _totals(self, together: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hidden and real tokens, and rows, of each batch's optimizer step (all processes)."""
        rows_N = np.diff(self.ends_N, prepend=0)
        # From lengths alone, before any mask is sampled: the budget of a row is exact.
        ratio_N = np.array([masking.mask_ratio for masking in self.schedule.maskings])[self.phase_N]
        ratio_R, causal_R = np.repeat(ratio_N, rows_N), np.repeat(self.causal_N, rows_N)
        slots_R = np.where(causal_R, self.lengths_R - 1, span_budget(self.lengths_R, ratio_R))
        first_N, numbers_N = self.ends_N - rows_N, np.arange(len(rows_N))
        masked_N, tokens_N = (np.add.reduceat(each_R, first_N) for each_R in (slots_R, self.lengths_R))
        masked, tokens, rows = (
            np.add.reduceat(each_N, numbers_N[::together])[numbers_N // together]
            for each_N in (masked_N, tokens_N, rows_N)
        )
        return masked, tokens, rows

    def build(self, number: int) -> MaskedBatch:
        """Return this process's share of global batch `number`, on the CPU."""
        batch = slice(self.ends_N[number - 1] if number else 0, self.ends_N[number])
        width = self._width_of(batch)
        # Rows lie sorted by length: every world-th of them gives each process about the same work.
        mine = slice(self.rank, None, self.world)
        if self.packed:  # every world-th line, with all its rows
            mine = self.packed.line_R[batch] % self.world == self.rank
        rows_B, lengths_B = self.rows_R[batch][mine], self.lengths_R[batch][mine]
        rows = self._rows_of(width) if self.static_shapes or self.packed else len(rows_B)
        alone, causal = bool(self.alone_N[number]), bool(self.causal_N[number])
        if causal:
            arrays = next_token_slots(lengths_B, width)
        else:
            arrays = self._masks(rows_B, lengths_B, width, self.schedule.maskings[self.phase_N[number]])
        arrays["original_BL"] = self.features.gather(rows_B, width)
        if self.pairing is not None:
            arrays = self._paired(arrays, rows_B, lengths_B, causal)
        if self.misspeller is not None and not alone:
            arrays = self._misspelt(arrays, rows_B, lengths_B)
        if self.crops and not alone:
            keys_B = row_keys(self.config.seed, self.epoch, rows_B, "crop")
            arrays["crop_B"] = uniforms(keys_B, np.ones(len(rows_B), np.int64))
        if self.packed:
            line_B, start_B = (values_R[batch][mine] for values_R in self.packed[2:])
            arrays = pack(arrays, lengths_B, line_B=line_B // self.world, start_B=start_B, lines=rows)
        else:
            arrays["attention_mask_BL"] = np.arange(width) < lengths_B[:, None]
        # The mask hides rows that fill up, and a weight of 0 slots that do.
        if self.static_shapes:
            arrays = filled(arrays, rows, (width - 1 if causal else self._slots_of(width)) * rows)
        elif self.rounded_shapes:
            slots = rounded_up(len(arrays["slots_S"]), SLOT_STEP)
            arrays = filled(arrays, len(arrays["original_BL"]), slots)
        if self.packed and self.varlen:
            arrays["cu_seqlens_P"] = cumulative_lengths(arrays["position_BL"], arrays["attention_mask_BL"])
        if arrays["attention_mask_BL"].all() and not self.packed:
            arrays["attention_mask_BL"] = None
        if causal and self.candidates:
            arrays |= self.candidates.draw(self.config.seed, self.epoch, number)
        arrays |= {"rows_B": rows_B} | self._totals_of(number)
        tensors = {name: self._tensor(value) for name, value in arrays.items()}
        return MaskedBatch(**tensors, generator_alone=alone, causal=causal)

    def _width_of(self, batch: slice) -> int:
        """The padded length of a batch's rows."""
        # Of the global batch: processes whose shapes differed would compile twice, and wait for each other.
        width = padded_width(int(self.lengths_R[batch].max()), self.ladder)
        if self.rounded_shapes and not self.config.batch_max_tokens:  # which no batch may exceed
            width = min(rounded_up(width, WIDTH_STEP), self.features.header.max_seq_len)
        return width

    def _paired(
        self, arrays: dict[str, np.ndarray], rows_B: np.ndarray, lengths_B: np.ndarray, causal: bool
    ) -> dict[str, np.ndarray]:
        """The same with some rows made pairs; the [SEP] between is no word to be foretold."""
        ids_BL, unlearned_BL = self.pairing.pair(arrays["original_BL"], lengths_B, rows_B, self.epoch)
        if not causal:
            # Spans keep their places while tokens move: special ones that the text spells out may lie there.
            header = self.features.header
            framing = (header.cls_id, header.sep_id, header.pad_id, header.mask_id)
            unlearned_BL = np.isin(ids_BL, framing)
        learned_S = ~unlearned_BL.reshape(-1)[arrays["slots_S"] + causal]  # from left to right the next is
        return arrays | {"original_BL": ids_BL, "slot_weight_S": arrays["slot_weight_S"] * learned_S}

    def _misspelt(
        self, arrays: dict[str, np.ndarray], rows_B: np.ndarray, lengths_B: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The same with errors in the rows; masks go where their words go."""
        rows, width = arrays["original_BL"].shape
        clean = {"clean_BL": arrays["original_BL"]} if self.crops else {}  # a crop is of the text as it was
        spelt, moved_BL = self.misspeller.misspell(arrays["original_BL"], lengths_B, rows_B, self.epoch)
        arrays = arrays | clean | spelt | moved_slots(arrays, moved_BL)
        # Nobody should learn to write errors: their tokens are not masked, nor is what was cut. The totals
        # still count them, since they must be known before the rows are.
        slots_S, seps_B = arrays["slots_S"], np.arange(rows) * width + lengths_B - 1
        unmasked_S = arrays["misspelt_BL"].reshape(-1)[slots_S] | np.isin(slots_S, seps_B)
        return arrays | {"slot_weight_S": arrays["slot_weight_S"] * ~unmasked_S}

    def _totals_of(self, number: int) -> dict[str, np.float32]:
        """What the losses of a batch are divided by: counts of its optimizer step, of all processes."""
        # A step may hide nothing (rows of one token); dividing its zero sums by 1 keeps them zero.
        counts = {"masked_total": max(self.masked_N[number], 1), "token_total": self.tokens_N[number]}
        counts |= {"row_total": self.row_counts_N[number]} if self.crops else {}
        return {name: np.float32(count) for name, count in counts.items()}

    def _masks(
        self, rows_B: np.ndarray, lengths_B: np.ndarray, width: int, masking: MaskingConfig
    ) -> dict[str, np.ndarray]:
        """The fields of MaskedBatch with one entry a slot."""
        if self.redrawn:
            spans = self.features.sample_spans(rows_B, self.epoch, self.config.seed, masking)
        else:
            spans = self.features.spans(rows_B)
        slots, counts_B = locate_slots(spans, width)
        # The totals were counted on this; a file that breaks its promise would bend the loss silently.
        wrong_B = counts_B != span_budget(lengths_B, masking.mask_ratio)
        if wrong_B.any():
            found = counted(counts_B[wrong_B][0], "token")
            raise InputError(
                f"row {rows_B[wrong_B][0]} of the features hides {found}, not "
                f"the share {masking.mask_ratio} that their header promises; run create_feature_SE.py again"
            )
        # By the row's own number: whichever process builds it, the same replacements are drawn.
        keys_B = row_keys(self.config.seed, self.epoch, rows_B, "sample")
        slots["uniform_S"] = uniforms(keys_B, counts_B)
        slots["slot_weight_S"] = np.ones(len(slots["slots_S"]), np.float32)
        return slots

    def _rows_of(self, width: int) -> int:
        """Rows, or lines, of a process's share of every batch of this width, those that fill up included."""
        tokens = self.config.batch_max_tokens
        return -(-(tokens // width if tokens else self.config.batch_size) // self.world)

    def _slots_of(self, width: int) -> int:
        """Slots for a row of this width, by the largest share that any phase of the run hides."""
        # As many as the longest rows can hide: no batch of this width exceeds it, and so shapes are few. Rows
        # that share a line may hide a few more, as rounding has it: as many as the worst length, all over.
        lengths_L = np.arange(1 if self.packed else width, width + 1)
        budget_L = span_budget(lengths_L, self.schedule.highest_ratio)
        return int((budget_L * width // lengths_L).max())

    def _tensor(self, value: np.ndarray | None) -> torch.Tensor | None:
        if value is None:
            return None
        # Pinned memory is what a copy to a GPU can be made from while the host goes on.
        tensor = torch.from_numpy(np.ascontiguousarray(value)) if np.ndim(value) else torch.tensor(value)
        return tensor.pin_memory() if self.pinned else tensor


def filled(arrays: dict[str, np.ndarray], rows: int, slots: int) -> dict[str, np.ndarray]:
    """A batch's arrays with so many rows and slots; what fills up is 0."""
    most = {"S": slots, "BL": rows, "B": rows}
    return {
        name: np.pad(value, [(0, most[name.rsplit("_", 1)[1]] - len(value)), (0, 0)][: value.ndim])
        for name, value in arrays.items()
    }


def moved_slots(arrays: dict[str, np.ndarray], moved_BL: np.ndarray) -> dict[str, np.ndarray]:
    """The slots, and what bounds their spans, where their tokens went: a span keeps to its words."""
    rows, width = moved_BL.shape
    moved_T = (moved_BL + np.arange(rows)[:, None] * width).reshape(-1)
    return {name: moved_T[arrays[name]] for name in ("slots_S", "left_S", "right_S")}


def rounded_up(number: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-number // step) * step


def locate_slots(spans: Spans, width: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the flat places of all hidden tokens, of their spans' neighbours, and the hidden count a row.

    Example: width 8, row 0 hides [2, 4), row 1 hides [1, 2) -> slots 2 3 9, left 1 1 8, right 4 4 10,
    offset 0 1 0, counts 2 1.
    """
    lengths_P = np.asarray(spans.lengths_S, np.int64)
    row_ends_B = np.asarray(spans.row_ends_R, np.int64)
    # All spans at once, by running sums: a loop over rows would be the slowest part of a batch.
    rows_P = np.repeat(np.arange(len(row_ends_B)), np.diff(row_ends_B, prepend=0))
    first_P = rows_P * width + np.asarray(spans.starts_S, np.int64)
    before_P = np.cumsum(lengths_P) - lengths_P
    offset_S = np.arange(lengths_P.sum()) - np.repeat(before_P, lengths_P)
    first_S = np.repeat(first_P, lengths_P)
    slots = {
        "slots_S": first_S + offset_S,
        "left_S": first_S - 1,
        "right_S": first_S + np.repeat(lengths_P, lengths_P),
        "offset_S": offset_S,
    }
    counts_B = np.bincount(rows_P, weights=lengths_P, minlength=len(row_ends_B)).astype(np.int64)
    return slots, counts_B


# --- order --------------------------------------------------------------------------------------------


def plan_epoch(
    lengths_R: np.ndarray, config: LoaderConfig, epoch: int, ladder: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of the rows and the exclusive end of each global batch in it.

    The rows are shuffled, cut into spans of about `bucket_span` batches, sorted by length inside a span and
    cut into batches; the batches of a span are shuffled. Raises InputError when a row is longer than
    `batch_max_tokens`.
    """
    tokens, rows = config.batch_max_tokens, config.batch_size
    rng, span_rows = _shuffling(lengths_R, config, epoch, padded_width(int(lengths_R.max()), ladder))
    # Shuffled first, so that which rows meet within a span is chance; sorting there only saves padding.
    shuffled_R = rng.permutation(len(lengths_R))
    batches: list[np.ndarray] = []
    for begin in range(0, len(shuffled_R), span_rows):
        span = shuffled_R[begin : begin + span_rows]
        span = span[np.argsort(lengths_R[span], kind="stable")]
        if tokens:
            cut = _cut_by_tokens(span, lengths_R, tokens, ladder)
        else:
            cut = [span[first : first + rows] for first in range(0, len(span), rows)]
        batches.extend(cut[number] for number in rng.permutation(len(cut)))
    return np.concatenate(batches), np.cumsum([len(batch) for batch in batches])


def plan_packed(lengths_R: np.ndarray, config: LoaderConfig, epoch: int, width: int) -> PackedEpoch:
    """The same for rows that share lines of `width` tokens, and where in them each lies."""
    rng, span_rows = _shuffling(lengths_R, config, epoch, width)
    lines = config.batch_max_tokens // width
    return plan_packed_epoch(lengths_R, rng, width=width, lines=lines, span_rows=span_rows)


def _shuffling(
    lengths_R: np.ndarray, config: LoaderConfig, epoch: int, longest: int
) -> tuple[np.random.Generator, int]:
    """The epoch's generator, and how many rows are laid out together."""
    assert len(lengths_R), "an epoch needs rows"
    # The largest batches that rows need in memory, in tokens or in rows.
    tokens = config.batch_max_tokens
    if tokens and longest > tokens:
        raise InputError(
            f"batch_max_tokens: {tokens} is less than the longest row ({longest} tokens, padding included); "
            "raise it or make features with a smaller --max_seq_len"
        )
    batch_rows = tokens / lengths_R.mean() if tokens else config.batch_size
    rng = np.random.Generator(np.random.Philox(key=np.array([config.seed, epoch], np.uint64)))
    return rng, max(1, round(batch_rows * config.bucket_span))


def _cut_by_tokens(
    span: np.ndarray, lengths_R: np.ndarray, tokens: int, ladder: np.ndarray | None
) -> list[np.ndarray]:
    """Cut from the longest row down: the first row of a batch says how many of its width fit."""
    # From the longest: its width is the batch's, so the budget holds whatever shorter rows come with it.
    batches, end = [], len(span)
    while end:
        width = padded_width(int(lengths_R[span[end - 1]]), ladder)
        begin = max(0, end - tokens // width)
        batches.append(span[begin:end])
        end = begin
    return batches


def width_ladder(max_seq_len: int) -> np.ndarray:
    """The widths of static shapes: eighths of the longest row, rounded up to multiples of 8.

    Example: width_ladder(128) -> [16, 32, 48, ..., 128]
    """
    steps = np.arange(1, RUNGS + 1) * max_seq_len
    return np.unique(np.minimum(-(-steps // (8 * RUNGS)) * 8, max_seq_len))


def padded_width(longest: int, ladder: np.ndarray | None) -> int:
    """The width that rows of at most `longest` tokens are padded to."""
    return longest if ladder is None else int(ladder[np.searchsorted(ladder, longest)])
