"""The encoder: masks, positions and sharing. Parity with `transformers` is in test_export.py.

Run: pytest tests/model/test_encoder.py
"""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from gradient_examples import Allocations
from model_examples import batch_of, small_config

from span_electra.config import NetworkConfig
from span_electra.errors import InputError
from span_electra.model.encoder import DisentangledEmbeddings, Embeddings, Encoder
from span_electra.model.init import init_normal

pytestmark = pytest.mark.usefixtures("architecture")


def encoder_of(config, seed=0, **kwargs):
    encoder = Encoder(config.discriminator, config, **kwargs)
    init_normal(encoder, 0.2, seed)  # wide enough that differences show
    return encoder


def test_padding_changes_nothing_on_real_tokens():
    config, masked = small_config(), batch_of(rows=3, padded=True)
    encoder = encoder_of(config)
    states_BLD = encoder(masked.original_BL, masked.attention_mask_BL)
    for row, mask_L in enumerate(masked.attention_mask_BL):
        alone_1LD = encoder(masked.original_BL[row : row + 1, mask_L], None)
        assert torch.allclose(states_BLD[row, mask_L], alone_1LD[0], atol=1e-5)


def test_recomputed_activations_give_the_same_gradients_with_dropout():
    config, masked = small_config(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1), batch_of()
    encoder, direction = encoder_of(config), torch.randn(4, 16, config.discriminator.hidden_size)
    gradients = []
    for encoder.checkpointing in (False, True):
        encoder.zero_grad()
        (encoder(masked.original_BL, None, key=5) * direction).sum().backward()
        gradients.append([weight.grad.clone() for weight in encoder.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


@pytest.mark.parametrize("gdes", [False, True])
def test_embeddings_are_summed_into_one_tensor(architecture, gdes):
    config, masked = small_config(), batch_of()
    base = Embeddings(config)
    embeddings = DisentangledEmbeddings(base, config) if gdes else base
    with Allocations() as made:
        embeddings(masked.original_BL)
    sums = [operator for elements, operator in made.float32 if elements >= masked.original_BL.numel() * 12]
    assert sums == ["embedding"] * (1 + gdes) + ["native_layer_norm"] * (architecture == "electra")


def test_gdes_is_the_base_without_gradient_plus_a_delta_that_starts_at_zero():
    config, masked = small_config(), batch_of()
    base = Embeddings(config)
    gdes = DisentangledEmbeddings(base, config)
    init_normal(gdes, 0.2, seed=1)
    tables = gdes.delta.names
    assert all((getattr(gdes.delta, name).weight == 0).all() for name in tables)
    assert torch.equal(gdes(masked.original_BL), base(masked.original_BL)), "at the start it is the base"

    for name in tables:
        torch.nn.init.normal_(getattr(gdes.delta, name).weight)
    weights = [getattr(base, name).weight.detach() + getattr(gdes.delta, name).weight for name in tables]
    weights = [weight.detach().requires_grad_() for weight in weights]
    ids_BL = masked.original_BL
    expected = F.embedding(ids_BL, weights[0])
    if len(tables) > 1:
        expected = expected + weights[1][: ids_BL.shape[1]] + weights[2][0]
        expected = F.layer_norm(expected, (config.embedding_size,), eps=1e-12)
    given = gdes(ids_BL)
    assert torch.allclose(given, expected, atol=1e-5)
    direction = torch.randn_like(given)
    (given * direction).sum().backward()
    (expected * direction).sum().backward()
    for name, weight in zip(tables, weights, strict=True):
        assert torch.allclose(getattr(gdes.delta, name).weight.grad, weight.grad, atol=1e-4)
        assert getattr(base, name).weight.grad is None, "no gradient may reach the generator's table"
        assert torch.equal(gdes.tables()[name], weight)


def test_a_causal_pass_looks_at_itself_and_what_is_before():
    config, masked = small_config(), batch_of(rows=3, padded=True)
    encoder = encoder_of(config).eval()
    states_BLD = encoder(masked.original_BL, masked.attention_mask_BL, causal=True)
    for length in (1, 5, 12):
        cut_BLD = encoder(masked.original_BL[:, :length], None, causal=True)
        assert torch.allclose(states_BLD[:, :length], cut_BLD, atol=1e-5), "a later token changed an earlier"
        whole_BLD = encoder(masked.original_BL[:, :length], None)
        assert torch.allclose(whole_BLD[:, -1], cut_BLD[:, -1], atol=1e-5) == (length == 1)


def test_token_types_choose_rows_of_their_table():
    config, masked = small_config(architecture="electra"), batch_of()
    encoder, ids_BL = encoder_of(config), masked.original_BL
    zeros_BL = torch.zeros_like(ids_BL)
    assert torch.equal(encoder(ids_BL, None, types_BL=zeros_BL), encoder(ids_BL, None))
    assert not torch.allclose(encoder(ids_BL, None, types_BL=zeros_BL + 1), encoder(ids_BL, None))
    gdes = DisentangledEmbeddings(encoder.embeddings, config)
    init_normal(gdes.delta, 0.2, seed=1)
    torch.nn.init.normal_(gdes.delta.token_type.weight)
    types_BL = torch.arange(ids_BL.shape[1]).expand_as(ids_BL) % 2
    word, position, token_type = gdes.tables().values()
    expected = F.embedding(ids_BL, word) + position[: ids_BL.shape[1]] + F.embedding(types_BL, token_type)
    expected = F.layer_norm(expected, (config.embedding_size,), eps=1e-12)
    assert torch.allclose(gdes(ids_BL, types_BL), expected, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_attention_with_dropout_by_key_takes_causal_masks(padded):
    """Each row may see other tokens: the pieces of attention must take their own part of the mask."""
    masked = batch_of(rows=3, padded=padded)
    encoder = encoder_of(small_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=1e-9))
    direction, passes = torch.randn(3, 16, 16), []
    for key in (None, 5):  # torch's own operators, and the loops whose dropout is all but off
        encoder.zero_grad()
        states_BLD = encoder.train(key is not None)(
            masked.original_BL, masked.attention_mask_BL, key, causal=True
        )
        (states_BLD * direction).sum().backward()
        passes.append((states_BLD, [weight.grad.clone() for weight in encoder.parameters()]))
    (plain, plain_gradients), (fused, fused_gradients) = passes
    assert torch.allclose(plain, fused, atol=1e-5)
    for one, other in zip(plain_gradients, fused_gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-3, rtol=1e-3)


def test_dropout_lets_no_later_token_through():
    masked = batch_of()
    encoder = encoder_of(small_config(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1))
    changed_BL = masked.original_BL.clone()
    changed_BL[:, 9] = 5
    one, same, other = (
        encoder(ids_BL, None, key=5, causal=True)
        for ids_BL in (masked.original_BL, masked.original_BL, changed_BL)
    )
    assert torch.equal(one, same) and torch.equal(one[:, :9], other[:, :9])
    assert not torch.equal(one[:, 9:], other[:, 9:])
    assert not torch.equal(one, encoder(masked.original_BL, None, key=6, causal=True))


def test_token_types_change_nothing_where_there_is_no_table_of_them():
    encoder, ids_BL = encoder_of(small_config(architecture="modern")), batch_of().original_BL
    assert torch.equal(encoder(ids_BL, None, types_BL=torch.ones_like(ids_BL)), encoder(ids_BL, None))


def test_local_layers_see_their_window_and_global_ones_all():
    config = small_config(architecture="modern", local_attention=4, global_attention_every=2)
    config = dataclasses.replace(config, discriminator=NetworkConfig(16, 3, 4, 24))
    encoder, ids_BL = encoder_of(config), batch_of(rows=1).original_BL
    assert [layer.window for layer in encoder.layers] == [None, 2, None]
    reached = encoder_of(dataclasses.replace(config, discriminator=NetworkConfig(16, 2, 4, 24)))
    reached.layers = reached.layers[1:]  # the local layer alone
    changed_BL = ids_BL.clone()
    changed_BL[0, 8] = 5
    moved_L = (reached(changed_BL, None) - reached(ids_BL, None)).abs().sum(-1)[0] > 1e-6
    assert moved_L.nonzero().flatten().tolist() == [6, 7, 8, 9, 10]
    assert ((encoder(changed_BL, None) - encoder(ids_BL, None)).abs().sum(-1) > 1e-6).all()


def test_pre_norm_words_are_decoded_by_words_times_projection():
    config = small_config(architecture="modern")
    encoder, features_SD = encoder_of(config), torch.randn(5, 16)
    table_VD = encoder.embeddings.word.weight @ encoder.project.weight.T
    bias_V = torch.randn(config.vocab_size)
    assert torch.allclose(encoder.decode(features_SD, bias_V), features_SD @ table_VD.T + bias_V, atol=1e-5)


def test_odd_heads_are_refused_where_positions_turn():
    with pytest.raises(InputError, match="generator.num_attention_heads: heads would be 3 wide"):
        small_config(architecture="modern", generator=NetworkConfig(6, 2, 2, 16))
    small_config(architecture="electra", generator=NetworkConfig(6, 2, 2, 16))


@pytest.mark.parametrize("narrow", [False, True])  # spelled out, as in bf16, a softmax of nothing is NaN
@pytest.mark.parametrize("causal", [False, True])
def test_padding_beyond_every_window_leaves_numbers_finite(causal, narrow):
    """Far from all real tokens there is nothing to see, and NaN there would spread through global layers."""
    config = small_config(architecture="modern", local_attention=4, global_attention_every=2)
    encoder = encoder_of(dataclasses.replace(config, discriminator=NetworkConfig(16, 4, 4, 24)))
    ids_BL = batch_of(rows=2).original_BL
    attention_mask_BL = torch.arange(16) < torch.tensor([[16], [5]])
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        states_BLD = encoder(ids_BL, attention_mask_BL, causal=causal)
        alone_1LD = encoder(ids_BL[1:, :5], None, causal=causal)
    assert torch.isfinite(states_BLD).all()
    assert torch.allclose(states_BLD[1, :5], alone_1LD[0], atol=0.05 if narrow else 1e-5)
