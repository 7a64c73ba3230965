"""Counted arithmetic against what torch counts. Run: pytest tests/model/test_flops.py"""

import pytest
from model_examples import batch_of, small_config
from torch.utils.flop_counter import FlopCounterMode

from span_electra.config import OBJECTIVES
from span_electra.model.electra import SpanElectra
from span_electra.model.flops import training_flops


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_count_is_what_a_step_does(objective):
    config, masked = small_config(objective=objective), batch_of(fill=0)
    with FlopCounterMode(display=False) as counter:
        SpanElectra(config, mask_id=3)(masked).loss.backward()
    tokens = masked.original_BL.numel()
    counted = counter.get_total_flops() / tokens
    # torch does not count its fused attention on the CPU: rows of length 0 have none either.
    assert training_flops(config, 0, len(masked.slots_S) / tokens) == pytest.approx(counted, rel=0.02)


def test_attention_costs_two_products_of_the_row_length():
    config = small_config()
    per_layer = {part: 3 * 4 * getattr(config, part).hidden_size for part in ("generator", "discriminator")}
    assert training_flops(config, 17) - training_flops(config, 16) == 2 * sum(per_layer.values())
