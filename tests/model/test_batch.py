"""Rows dealt to devices keep everything (processes: tests/training/test_devices.py).

Run: pytest tests/model/test_batch.py
"""

import pytest
import torch
from model_examples import batch_of, small_config

from span_electra.model.electra import SpanElectra
from span_electra.training.parallel import add_outputs


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_every_row_and_slot_is_dealt_once(parts):
    whole = batch_of(rows=5, fill=0)
    dealt = [part for part in whole.split_rows(parts) if len(part.rows_B)]
    assert sorted(row for part in dealt for row in part.rows_B.tolist()) == whole.rows_B.tolist()
    hidden = torch.cat([part.original_BL.flatten()[part.slots_S[part.slot_weight_S > 0]] for part in dealt])
    assert sorted(hidden.tolist()) == sorted(whole.original_BL.flatten()[whole.slots_S].tolist())


@pytest.mark.parametrize("padded", [False, True])
def test_the_parts_together_give_the_loss_of_the_whole(padded):
    whole, model = batch_of(rows=4, fill=0, padded=padded), SpanElectra(small_config(), mask_id=3)
    together = add_outputs([model(part) for part in whole.split_rows(2)])
    torch.testing.assert_close(together.loss, model(whole).loss)
    torch.testing.assert_close(together.tally, model(whole).tally)
