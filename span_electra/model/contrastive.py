"""The sequence contrastive objective: a [CLS] that knows its row (COCO-LM, Meng et al. 2021, section 3.2).

The [CLS] of a corrupted row and that of a cropped original of the same row shall be more alike than either is
to the other's of any other row.

Shapes are in the names:
  B  rows   L  tokens of a row   W  tokens of the longest crop, [CLS] and [SEP] included   D  width
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from span_electra.model.batch import MaskedBatch


def crop(masked: MaskedBatch, share: float) -> tuple[Tensor, Tensor | None]:
    """Cut a stretch with `share` of its content out of each row; where it lies, `masked.crop_B` decides.

    Of rows with misspelt words it is cut from the text as it was, which has as many tokens.

    Returns ids [B, W], [CLS] content [SEP], and which of them are real, or None where all are. At least one
    token of content is kept.

    Example: share .5 of [CLS] a b c d [SEP] at crop_B .7 -> [CLS] c d [SEP]  (of starts 0, 1, 2 the last)
    """
    source_BL = masked.original_BL if masked.clean_BL is None else masked.clean_BL
    rows, length = source_BL.shape
    most = length - 2  # content of a row without padding
    width = min(max(1, round(share * most)), most) + 2
    if masked.attention_mask_BL is None:
        content_B = masked.crop_B.new_full((rows,), most)
        kept_B = torch.full_like(content_B, width - 2)
    else:
        content_B = (masked.attention_mask_BL.sum(1) - 2).clamp(min=0)  # of rows that fill up 0
        kept_B = (content_B * share).round().clamp(min=1, max=width - 2).minimum(content_B)
    # Keyed by the row, so that the same crop is cut on any number of processes.
    start_B1 = (masked.crop_B * (content_B - kept_B + 1)).floor().long()[:, None]
    place_1W = torch.arange(width, device=source_BL.device)[None]
    last_B1 = kept_B.long()[:, None] + 1  # the place of [SEP]
    place_BW = torch.where(place_1W == 0, 0, place_1W + start_B1)
    # What lies behind the crop reads [SEP] again: any valid place will do there, and the mask hides it.
    place_BW = torch.where(place_1W >= last_B1, content_B.long()[:, None] + 1, place_BW)
    ids_BW = source_BL.gather(1, place_BW)
    return ids_BW, None if masked.attention_mask_BL is None else place_1W <= last_B1


def contrastive_losses(
    one_BD: Tensor, other_BD: Tensor, temperature: float, mask_B: Tensor | None = None
) -> Tensor:
    """Return each row's loss, float32 [B]: cross-entropy of finding its partner, the mean of both directions.

    Logits are cosines / temperature. The others are those of this process's share of the batch, so more
    processes mean fewer of them. Rows that fill up (`mask_B` False) are nobody's others; their loss is 0.
    """
    # Float32 whatever the run computes in: in bf16 cosines have steps of 1/256, and rows would be equal.
    with torch.autocast(one_BD.device.type, enabled=False):
        one_BD, other_BD = (F.normalize(states_BD.float(), dim=-1) for states_BD in (one_BD, other_BD))
        logits_BB = one_BD @ other_BD.T / temperature
    if mask_B is not None:
        logits_BB = logits_BB.masked_fill(~(mask_B[:, None] & mask_B), -1e4)  # not -inf: a row of it is NaN
    # Rows of one table: row b's partner has the same number, all others are what it must be told from.
    partner_B = logits_BB.diagonal()
    loss_B = (logits_BB.logsumexp(0) + logits_BB.logsumexp(1)) / 2 - partner_B
    return loss_B if mask_B is None else loss_B * mask_B
