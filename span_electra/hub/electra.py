"""ELECTRA's record: our post-norm networks are stock ones under other names."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.hub.architecture import (
    EXPORTED_DROPOUT,
    SIZES,
    Architecture,
    StockConfig,
    both,
    filled_up,
    weight,
)
from span_electra.model.layers import ACTIVATION


def _write_electra(config: ModelConfig, network: NetworkConfig, head: str) -> StockConfig:
    return {
        "vocab_size": config.vocab_size,
        "embedding_size": config.embedding_size,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        **{name: getattr(network, name) for name in SIZES},
        "hidden_act": config.hidden_act,
        "hidden_dropout_prob": EXPORTED_DROPOUT,
        "attention_probs_dropout_prob": EXPORTED_DROPOUT,
        "layer_norm_eps": config.layer_norm_eps,
    }


def _read_electra(settings: StockConfig) -> StockConfig | None:
    usual = {"hidden_act": "gelu", "position_embedding_type": "absolute", "tie_word_embeddings": True}
    settings = usual | settings
    # Anything else has parameters or formulas that our layers lack; None lets the stock class compute it.
    if (
        settings["hidden_act"] not in ACTIVATION
        or settings["position_embedding_type"] != "absolute"
        or not settings["tie_word_embeddings"]
    ):
        return None
    return {
        "embedding_size": settings["embedding_size"],
        "max_position_embeddings": settings.get("max_position_embeddings", 512),
        "type_vocab_size": settings.get("type_vocab_size", 2),
        "hidden_act": settings["hidden_act"],
        "layer_norm_eps": settings.get("layer_norm_eps", 1e-12),
    }


def _electra_head(model: Any, head: str, states: Tensor) -> Tensor:
    if head == "generator":
        return model.generator_lm_head(model.generator_predictions(states))
    return model.discriminator_predictions(states)


_ELECTRA_GENERATOR = (
    *both("head.dense", "generator_predictions.dense"),
    *both("head.norm", "generator_predictions.LayerNorm"),
    ("head.bias", ("generator_lm_head.bias",)),
)
ELECTRA = Architecture(
    name="electra",
    tag="electra",
    model_type="electra",
    classes={
        "none": "ElectraModel",
        "generator": "ElectraForMaskedLM",
        "discriminator": "ElectraForPreTraining",
        "sequence": "ElectraForSequenceClassification",
        "tokens": "ElectraForTokenClassification",
        "causal": "ElectraForCausalLM",
    },
    prefix="electra.",
    embeddings=(
        *weight("encoder.embeddings.word", "embeddings.word_embeddings"),
        *weight("encoder.embeddings.position", "embeddings.position_embeddings"),
        *weight("encoder.embeddings.token_type", "embeddings.token_type_embeddings"),
        *both("encoder.embeddings.norm", "embeddings.LayerNorm"),
    ),
    projection=both("encoder.project", "embeddings_project"),
    layer=(
        *both("qkv", "attention.self.query", "attention.self.key", "attention.self.value"),
        *both("mix", "attention.output.dense"),
        *both("mix_norm", "attention.output.LayerNorm"),
        *both("up", "intermediate.dense"),
        *both("down", "output.dense"),
        *both("down_norm", "output.LayerNorm"),
    ),
    layers="encoder.layer.{}",
    sizes=("embedding_size", "max_position_embeddings", "type_vocab_size", "hidden_act", "layer_norm_eps"),
    after=(),
    heads={
        "none": (),
        "generator": _ELECTRA_GENERATOR,
        "causal": _ELECTRA_GENERATOR,
        "discriminator": (
            *both("head.dense", "discriminator_predictions.dense"),
            *both("head.score", "discriminator_predictions.dense_prediction"),
        ),
        "sequence": (*both("head.dense", "classifier.dense"), *both("head.score", "classifier.out_proj")),
        "tokens": both("head.score", "classifier"),
    },
    write_settings=_write_electra,
    read_settings=_read_electra,
    pack=filled_up,
    unpack=lambda weights, head: weights,  # they need nothing but other names
    stock_head=_electra_head,
    # The decoder is the table of words; positions are counted.
    derived=frozenset({"generator_lm_head.weight", "electra.embeddings.position_ids"}),
)
