"""Heads: against the formulas written out. Run: pytest tests/model/test_heads.py"""

import pytest
import torch
import torch.nn.functional as F
from model_examples import VOCAB, batch_of, slot_logits, small_config

from span_electra.errors import InputError
from span_electra.model.electra import SpanElectra, boundary
from span_electra.model.encoder import Encoder
from span_electra.model.heads import ReplacedHead, SpanReplacedHead, SpanTokenHead, TokenHead


def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    return norm.weight * centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() + norm.bias


def test_token_head_is_dense_gelu_norm_and_the_table():
    config = small_config(hidden_act="relu")  # the generator's head keeps GELU whatever the layers use
    head, encoder = TokenHead(config.generator, config), Encoder(config.generator, config)
    table_VE = encoder.embeddings.word.weight
    torch.nn.init.normal_(head.bias)
    hidden_SD = torch.randn(7, config.generator.hidden_size)
    features = layer_norm(F.gelu(hidden_SD @ head.dense.weight.T + head.dense.bias), head.norm)
    assert torch.allclose(head(hidden_SD, encoder), features @ table_VE.T + head.bias, atol=1e-5)


def test_replaced_head_is_dense_activation_and_one_logit():
    config = small_config(hidden_act="relu")
    head = ReplacedHead(config.discriminator, config)
    hidden_BLD = torch.randn(2, 5, config.discriminator.hidden_size)
    wide = torch.relu(hidden_BLD @ head.dense.weight.T + head.dense.bias)
    assert torch.allclose(head(hidden_BLD), wide @ head.score.weight[0] + head.score.bias, atol=1e-6)


def test_the_replaced_heads_layer_is_as_wide_as_asked_and_no_wider_than_can_be_exported():
    config = small_config(dim_final_feedforward=6)
    assert ReplacedHead(config.discriminator, config).dense.out_features == 6
    small_config(dim_final_feedforward=8, architecture="modern")
    with pytest.raises(
        InputError, match="dim_final_feedforward: 17 is more than discriminator.hidden_size 16"
    ):
        small_config(dim_final_feedforward=17)
    with pytest.raises(InputError, match="dim_final_feedforward: 6 does not divide .* choose a divisor"):
        small_config(dim_final_feedforward=6, architecture="modern")


def boundary_features(features, states_TD, masked, slot):
    before = states_TD[masked.left_S[slot]]
    after = states_TD[masked.right_S[slot]]
    x = torch.cat([before, after, features.offset.weight[masked.offset_S[slot]]])
    x = layer_norm(F.gelu(features.first(x)), features.first_norm)
    return layer_norm(F.gelu(features.second(x)), features.second_norm)


def test_span_heads_see_the_boundary_and_the_offset_alone():
    config, masked = small_config(), batch_of(fill=0)
    tokens = SpanTokenHead(config.generator, config).features
    replaced = SpanReplacedHead(config.discriminator, config)
    for network, says, features, score in [
        (config.generator, tokens, tokens, lambda x: x),
        (config.discriminator, replaced, replaced.features, lambda x: replaced.score(x)[0]),
    ]:
        states_TD = torch.randn(masked.original_BL.numel(), network.hidden_size)
        said = says(*boundary(states_TD, masked))
        for slot in (0, 1, 5):
            expected = score(boundary_features(features, states_TD, masked, slot))
            assert torch.allclose(said[slot], expected, atol=1e-5)
        states_TD[masked.slots_S] = 0.0  # what the slots themselves hold must not matter
        assert torch.equal(says(*boundary(states_TD, masked)), said)


def test_the_generator_decodes_with_the_very_embedding_table():
    model = SpanElectra(small_config(use_SBGO=True), mask_id=3).eval()
    masked = batch_of()
    before, span_before = slot_logits(model.generator, masked.original_BL, masked)
    with torch.no_grad():
        model.generator.encoder.embeddings.word.weight[VOCAB - 1] = 0.0  # a token the batch may not hold
    after, span_after = slot_logits(model.generator, masked.original_BL.clamp(max=VOCAB - 2), masked)
    assert (after[:, VOCAB - 1] == 0).all() and (span_after[:, VOCAB - 1] == 0).all()
    assert (before[:, VOCAB - 1] != 0).any() and (span_before[:, VOCAB - 1] != 0).any()
