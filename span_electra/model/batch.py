"""The batch of joint training, and what a step counts.

Shapes are in the names:
  B  rows of a batch            L  tokens of the longest row, [CLS] and [SEP] included
  S  masked slots of the batch  K  candidates
A slot is one hidden token. Slots are numbered over the whole batch, not by row, so that rows may hide
different numbers of tokens without padding; where shapes must be static, slots of weight 0 fill up.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from span_electra.batch import Movable


@dataclass(frozen=True)
class MaskedBatch(Movable):
    """Rows of the corpus with the spans that the generator must fill.

    Both totals count the whole global batch, all processes together, so that each process can divide its
    sums by them: then adding the processes' losses gives the mean over the batch, however it is cut.
    """

    original_BL: Tensor  # int64; [CLS] content [SEP], then [PAD]
    attention_mask_BL: Tensor | None  # bool, True on tokens that are not padding; None: no row is padded
    slots_S: Tensor  # int64; flat positions b * L + l of the hidden tokens, rows in order
    slot_weight_S: Tensor  # float32; 0 on what is not learned, and on slots that fill up (at 0), else 1
    left_S: Tensor  # int64; flat position of the token before the slot's span
    right_S: Tensor  # int64; flat position of the token after the slot's span
    offset_S: Tensor  # int64; the slot's place in its span, from 0
    uniform_S: Tensor  # float32 in [0, 1); what the slot's replacement is sampled with, keyed by row
    masked_total: Tensor  # float32 scalar; hidden tokens of the global batch
    token_total: Tensor  # float32 scalar; real tokens of the global batch, [CLS] and [SEP] included
    rows_B: Tensor  # int64; the rows' numbers in the feature files, for reports and error messages
    misspelt_BL: Tensor | None = None  # bool; True on tokens of words misspelt on purpose; None: no word is
    crop_B: Tensor | None = None  # float32 in [0, 1); where a row's crop lies, keyed by row; None: none is
    clean_BL: Tensor | None = None  # int64; rows to crop, before words were misspelt; None: none were
    row_total: Tensor | None = None  # float32 scalar; rows of the global batch, where rows are cropped
    # int64; each token's place in its row, where several rows share a line [L]: a row begins at each 0, and
    # tokens that only fill up are 0 too; None: a row has a line of its own
    position_BL: Tensor | None = None
    # int32; where rows that share lines begin in the batch's tokens end to end, what fills up a line counting
    # as one more, then the number of tokens, repeated to fill up; None: a mask keeps rows apart
    cu_seqlens_P: Tensor | None = None
    generator_alone: bool = False  # whether the step leaves the discriminator out
    # Whether nothing is hidden, tokens see those before alone, and each slot predicts the token after it.
    causal: bool = False
    candidate_K: Tensor | None = None  # int64; tokens that a causal batch predicts among; None: all
    log_count_K: Tensor | None = None  # float32; logarithms of how many tokens each of them stands for

    @property
    def packing(self) -> dict[str, Tensor | None]:
        """What an encoder must know of rows that share lines, by its arguments' names."""
        return {"position_BL": self.position_BL, "cu_seqlens_P": self.cu_seqlens_P}


# What a step counts, in the order of the vector `StepOutput.tally`; all are sums over the process's rows.
TALLY = (
    "tokens",  # real tokens judged by the discriminator
    "masked",  # hidden tokens the generator filled
    "generator_loss",  # nats, summed over hidden tokens
    "generator_correct",  # hidden tokens whose most likely filling is the original
    "discriminator_loss",  # nats, summed over real tokens
    "replaced",  # tokens that differ from the original
    "flagged",  # tokens the discriminator calls replaced (probability above one half)
    "hits",  # replaced tokens it calls replaced
    "SBGO_loss",  # nats, summed over hidden tokens; 0 without the head
    "SBPO_loss",  # nats, summed over hidden tokens; 0 without the head
    "seen",  # real tokens of the batch, whether the discriminator judged them or the generator learned alone
    "rows",  # rows whose [CLS] was compared; 0 without a sequence objective
    "contrastive_loss",  # nats, summed over these rows
    "next_tokens",  # tokens that the generator predicted from those before
    "next_token_loss",  # nats, summed over next tokens
    "next_token_correct",  # next tokens that it thought likeliest
)
