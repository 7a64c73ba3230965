"""ModernBERT's record: our pre-norm networks, with tables of words folded and a logit made two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.hub.architecture import (
    EXPORTED_DROPOUT,
    SIZES,
    Architecture,
    StockConfig,
    Weights,
    both,
    filled_up,
    weight,
)
from span_electra.model.layers import ACTIVATION

BIASES = {  # which of our maps and norms have one
    "norm_bias": False,
    "attention_bias": True,
    "mlp_bias": False,
    "classifier_bias": False,
    "decoder_bias": True,
}


def _kinds(every: int, layers: int) -> list[str]:
    """Each layer's kind of attention: the first sees all, and every one of that number."""
    return ["sliding_attention" if number % every else "full_attention" for number in range(layers)]


def _windows(config: ModelConfig, network: NetworkConfig) -> tuple[int, int]:
    """The period of layers that see all, and the tokens that the others see.

    Where all layers see all, all but the first are written as ones whose window holds the longest row: the
    same sums, and transformers 5.10 to 5.16 refuse a network without a local layer.
    """
    if config.local_attention:
        return config.global_attention_every, config.local_attention
    return network.num_hidden_layers, 2 * config.max_position_embeddings


def _write_modern(config: ModelConfig, network: NetworkConfig, head: str) -> StockConfig:
    every, local_attention = _windows(config, network)
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        **{name: getattr(network, name) for name in SIZES},
        "hidden_activation": config.hidden_act,
        # Of our heads the discriminator's alone follows the layers' activation.
        "classifier_activation": config.hidden_act if head == "discriminator" else "gelu",
        "norm_eps": config.layer_norm_eps,
        **BIASES,
        "embedding_dropout": EXPORTED_DROPOUT,
        "attention_dropout": EXPORTED_DROPOUT,
        "mlp_dropout": EXPORTED_DROPOUT,
        "local_attention": local_attention,
        # Both as transformers 5 reads them, and as 4 does.
        "layer_types": _kinds(every, network.num_hidden_layers),
        "rope_parameters": {"full_attention": rope, "sliding_attention": dict(rope)},
        "global_attn_every_n_layers": every,
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": config.rope_theta,
    }


def _read_modern(settings: StockConfig) -> StockConfig | None:
    """Of ModernBERTs, those that ours computes: biases at attention alone, one theta, windows by a period."""
    every, kinds = settings.get("global_attn_every_n_layers", 3), settings.get("layer_types")
    if kinds is not None:
        count = len(kinds)
        periods = [period for period in (every, *range(1, count + 1)) if kinds == _kinds(period, count)]
        if not periods:
            return None
        every = periods[0]
    rope = settings.get("rope_parameters") or {}
    full, sliding = rope.get("full_attention") or {}, rope.get("sliding_attention") or {}
    thetas = {full.get("rope_theta", settings.get("global_rope_theta", 160_000.0))}
    if every > 1:
        thetas.add(sliding.get("rope_theta", settings.get("local_rope_theta", 10_000.0)))
    activation = settings.get("hidden_activation", "gelu")
    plain = all((part.get("rope_type") or "default") == "default" for part in (full, sliding))
    if len(thetas) > 1 or activation not in ACTIVATION or not plain:
        return None
    # A folder of another head's is of use for its encoder, whatever its classifier was activated by.
    head = MODERN.head_in(settings)
    wanted = {"generator": "gelu", "discriminator": activation}.get(head)
    if wanted and settings.get("classifier_activation", "gelu") != wanted:
        return None
    # What is left out has the stock class's default, which is ours but for attention.
    ours = BIASES | {"tie_word_embeddings": True}
    theirs = ours | {"attention_bias": False} | settings
    if any(bool(theirs[name]) != value for name, value in ours.items()):
        return None
    longest, window = settings.get("max_position_embeddings", 8192), settings.get("local_attention", 128)
    windowed = every > 1 and window < 2 * longest  # each side sees half of the window
    return {
        "embedding_size": settings["hidden_size"],
        "max_position_embeddings": longest,
        "hidden_act": activation,
        "layer_norm_eps": settings.get("norm_eps", 1e-5),
        "rope_theta": float(thetas.pop()),
        "local_attention": window if windowed else 0,
        "global_attention_every": every if windowed else 3,
    }


def _pack_modern(weights: Weights, head: str) -> Weights:
    """One table of words as wide as the layers; of a discriminator's logit l, the two logits [0, l]."""
    weights = dict(filled_up(weights, head))
    project = weights.pop("encoder.project.weight", None)
    # The stock class has no projection: words @ projection is one table, and the norm follows either way.
    if project is not None:
        weights["encoder.embeddings.word.weight"] = weights["encoder.embeddings.word.weight"] @ project.T
    if head == "discriminator":
        for name in ("head.score.weight", "head.score.bias"):
            weights[name] = torch.cat([torch.zeros_like(weights[name]), weights[name]])
    return weights


def _unpack_modern(weights: Weights, head: str) -> Weights:
    """The difference of two logits is the one."""
    if head != "discriminator":
        return weights
    weights = dict(weights)
    for name in ("head.score.weight", "head.score.bias"):
        if name in weights and len(weights[name]) == 2:
            weights[name] = weights[name][1:] - weights[name][:1]
    return weights


def _modern_head(model: Any, head: str, states: Tensor) -> Tensor:
    if head == "generator":
        return model.decoder(model.head(states))
    logits = model.classifier(model.head(states))
    return logits[..., 1] - logits[..., 0]


def _write_modern_decoder(config: ModelConfig, network: NetworkConfig, head: str) -> StockConfig:
    settings = _write_modern(config, network, head)
    # Its windows count the token itself, half of `local_attention` in all; ours count those before it.
    if config.local_attention:
        settings["local_attention"] = 2 * (config.local_attention // 2 + 1)
    return settings


def _read_modern_decoder(settings: StockConfig) -> StockConfig | None:
    fields = _read_modern(settings)
    if fields and fields["local_attention"]:
        fields["local_attention"] = 2 * (fields["local_attention"] // 2 - 1)
    return fields


_MODERN_HEAD = (*weight("head.dense", "head.dense"), *weight("head.norm", "head.norm"))
MODERN = Architecture(
    name="modern",
    tag="modernbert",
    model_type="modernbert",
    classes={
        "none": "ModernBertModel",
        "generator": "ModernBertForMaskedLM",
        "discriminator": "ModernBertForTokenClassification",
        "sequence": "ModernBertForSequenceClassification",
        "tokens": "ModernBertForTokenClassification",
    },
    prefix="model.",
    embeddings=(
        *weight("encoder.embeddings.word", "embeddings.tok_embeddings"),
        *weight("encoder.embedding_norm", "embeddings.norm"),
    ),
    projection=(),  # folded into the table
    layer=(
        *weight("attn_norm", "attn_norm"),
        *both("qkv", "attn.Wqkv"),
        *both("out_proj", "attn.Wo"),
        *weight("mlp_norm", "mlp_norm"),
        *weight("up", "mlp.Wi"),
        *weight("down", "mlp.Wo"),
    ),
    layers="layers.{}",
    # No max_position_embeddings: nothing in it has that many rows.
    sizes=(
        *("embedding_size", "hidden_act", "layer_norm_eps", "rope_theta"),
        *("local_attention", "global_attention_every"),
    ),
    after=weight("encoder.final_norm", "final_norm"),
    heads={
        "none": (),
        "generator": (*_MODERN_HEAD, ("head.bias", ("decoder.bias",))),
        "discriminator": (*_MODERN_HEAD, *both("head.score", "classifier")),
        "sequence": (*_MODERN_HEAD, *both("head.score", "classifier")),
        "tokens": (*_MODERN_HEAD, *both("head.score", "classifier")),
    },
    write_settings=_write_modern,
    read_settings=_read_modern,
    pack=_pack_modern,
    unpack=_unpack_modern,
    stock_head=_modern_head,
    derived=frozenset({"decoder.weight"}),
    absent=("attn_norm.weight",),
    names_special_tokens=True,
    token_types=False,
    pooling_key="classifier_pooling",
)

MODERN = replace(
    MODERN,
    decoder=replace(
        MODERN,
        model_type="modernbert-decoder",
        classes={"causal": "ModernBertDecoderForCausalLM"},
        layer=(
            *MODERN.layer[:1],
            *both("qkv", "attn.q_proj", "attn.k_proj", "attn.v_proj"),
            *MODERN.layer[3:],
        ),
        heads={
            "none": (),
            "causal": (
                *weight("head.dense", "lm_head.dense"),
                *weight("head.norm", "lm_head.norm"),
                ("head.bias", ("decoder.bias",)),
            ),
        },
        write_settings=_write_modern_decoder,
        read_settings=_read_modern_decoder,
    ),
)
