"""What weights start from: the table, the seed, and heads that look at the neighbours.

Run: pytest tests/model/test_init.py
"""

from dataclasses import fields

import pytest
import torch
from model_examples import MASK, VOCAB, batch_of, small_config

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.errors import InputError
from span_electra.model.electra import SpanElectra
from span_electra.model.encoder import Encoder
from span_electra.model.init import init_normal, offsets
from span_electra.model.rotary import rotate, rotation_of


def encoder_of(config, seed):
    encoder = Encoder(config.discriminator, config)
    init_normal(encoder, 0.2, seed)
    return encoder


def test_weights_start_from_the_table_and_the_seed_alone():
    config = small_config()
    one, same, other = encoder_of(config, 1), encoder_of(config, 1), encoder_of(config, 2)
    for (name, weight), again, else_ in zip(
        one.named_parameters(), same.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(weight, again)
        if name.endswith("norm.weight"):
            assert (weight == 1).all()
        elif name.endswith("bias"):
            assert (weight == 0).all()
        else:
            assert not torch.equal(weight, else_)
            assert weight.abs().max() <= 0.4, "cut at two deviations"
    word = one.embeddings.word.weight
    assert word.std().item() == pytest.approx(
        0.88 * 0.2, rel=0.05
    )  # deviation of a normal cut at two deviations
    assert word.shape == (VOCAB, config.embedding_size)


LEAST = {entry.name: entry.metadata.get("least") for entry in fields(ModelConfig)}
LEAST = {name: least for name, least in LEAST.items() if isinstance(getattr(small_config(), name), float)}


@pytest.mark.parametrize("name", [name for name, least in LEAST.items() if least is not None])
def test_the_least_that_a_setting_may_be_makes_a_model_whose_loss_is_a_number(name, architecture):
    loss = SpanElectra(small_config(**{name: float(LEAST[name])}), MASK)(batch_of(padded=True)).loss
    loss.backward()
    assert torch.isfinite(loss)


def local_model(seed=0, **changes):
    sizes = {
        "embedding_size": 64,
        "generator": NetworkConfig(32, 2, 2, 64),
        "discriminator": NetworkConfig(64, 2, 4, 128),
        "initialization": "local",
    }
    return SpanElectra(small_config(**(sizes | changes)), MASK, seed)


def first_attention(encoder, ids_BL):
    """Probabilities [B, H, L, L] of the first layer."""
    x_BLD = encoder.embeddings(ids_BL)
    x_BLD = x_BLD if encoder.project is None else encoder.project(x_BLD)
    first = encoder.layers[0]
    query, key, _ = (
        part.unflatten(-1, (first.heads, -1)).transpose(1, 2) for part in first.qkv(x_BLD).chunk(3, dim=-1)
    )
    return (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1)


@pytest.mark.parametrize("sharing", ["embeddings", "gdes", "none"])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_each_head_looks_at_its_neighbour_whatever_is_shared(sharing, heads):
    sizes = {"generator": NetworkConfig(32, 2, heads, 64), "embedding_sharing": sharing}
    model = local_model(**sizes)
    ids_BL = torch.randint(5, VOCAB, (4, 30), generator=torch.Generator().manual_seed(1))
    for network in (model.generator, model.discriminator):
        attention_BHLL = first_attention(network.encoder, ids_BL)
        for head in range(attention_BHLL.shape[1]):
            looked_at = sum(
                attention_BHLL[:, head].diagonal(offset, 1, 2)[:, 2:-2].mean()
                for offset in offsets(head, attention_BHLL.shape[1])
            )
            assert looked_at > 0.4, (head, looked_at)  # evenly spread it would be 1/30


def test_a_gap_hears_of_its_neighbour_at_the_start_and_at_electras_start_does_not():
    heard = {}
    for start in ("local", "normal"):
        encoder = local_model(initialization=start).generator.encoder
        ids_BL = torch.full((2, 9), MASK)
        ids_BL[0, 3], ids_BL[1, 3] = 7, 8
        states_BLD = encoder(ids_BL, None)
        heard[start] = (states_BLD[0, 4] - states_BLD[1, 4]).abs().mean().item()
    assert heard["local"] > 0.1 > 10 * heard["normal"]


def test_the_local_start_follows_from_the_seed_alone():
    one, same, other = (local_model(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(weight, same[name]) for name, weight in one.items())
    assert not torch.equal(
        one["generator.encoder.layers.1.up.weight"], other["generator.encoder.layers.1.up.weight"]
    )


def test_heads_too_narrow_for_a_wave_are_refused():
    with pytest.raises(InputError, match="initialization: local needs"):
        local_model(generator=NetworkConfig(4, 2, 4, 8))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_with_rotary_positions_each_heads_bias_peaks_at_its_neighbour(heads):
    config = small_config(
        architecture="modern", initialization="local", discriminator=NetworkConfig(64, 2, heads, 128)
    )
    encoder = SpanElectra(config, MASK).discriminator.encoder
    first = encoder.layers[0]
    rotation = rotation_of(24, encoder.head_size, config.rope_theta, torch.device("cpu"))
    qkv = rotate(first.qkv.bias.expand(1, 24, -1), heads, rotation)  # contents of 0: the biases alone
    query, key, _ = (part.unflatten(-1, (heads, -1)).transpose(1, 2)[0] for part in qkv.chunk(3, dim=-1))
    scores_HLL = query @ key.transpose(1, 2) / encoder.head_size**0.5
    for head in range(heads):
        peaks = offsets(head, heads)
        at = {step: scores_HLL[head].diagonal(step).mean().item() for step in range(-20, 21)}
        assert max(at, key=at.get) in (*peaks, 0) if heads == 1 else max(at, key=at.get) == peaks[0]
        if heads > 1:
            assert at[peaks[0]] == pytest.approx(8.0, rel=1e-4)
            assert all(at[peaks[0]] - at[step] > 0.8 for step in (-20, -10, 10, 20))


def test_the_rotary_start_is_one_for_an_encoder_that_both_networks_share():
    sizes = NetworkConfig(32, 2, 4, 64)
    model = SpanElectra(
        small_config(architecture="modern", initialization="local", generator=sizes, discriminator=sizes),
        MASK,
    )
    first = model.generator.encoder.layers[0]
    assert model.discriminator.encoder is model.generator.encoder
    # Added once: twice would double a query's bias.
    assert first.qkv.bias[:32].norm().item() == pytest.approx(first.qkv.bias[32:64].norm().item(), rel=1e-5)
