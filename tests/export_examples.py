"""Small models with what they are exported to, and a case for each thing that exports differ in."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from model_examples import MASK, VOCAB, small_config

from span_electra.hub.architectures import record_of
from span_electra.hub.export import export_run
from span_electra.hub.model_card import CardFacts
from span_electra.model.electra import SpanElectra
from span_electra.text.vocabulary import SPECIAL_TOKENS, Vocabulary, assemble


def vocabulary_of(last: str = "zebra") -> Vocabulary:
    """WordPiece of as many words as the small model has rows; `last` tells one from another."""
    words = [f"word{number}" for number in range(VOCAB - len(SPECIAL_TOKENS) - 1)]
    tokens = [*SPECIAL_TOKENS, *words, last]
    return assemble("BERT", {token: number for number, token in enumerate(tokens)})


def model_of(seed: int = 0, **changes) -> SpanElectra:
    """A model whose every weight is away from its start, as after training."""
    model = SpanElectra(small_config(**changes), MASK, seed).eval()
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=dice) * 0.1)
    return model


def export(model: SpanElectra, folder: Path) -> Path:
    """Export a model into `folder` and return that."""
    export_run(model, vocabulary_of(), folder, CardFacts(metrics={"f1": 0.5}))
    return folder


MODERN = {"architecture": "modern", "layer_norm_eps": 1e-5}
EQUAL = {"generator": small_config().discriminator, "embedding_size": 16}
CASES = [
    {"embedding_sharing": "auto"},
    {"embedding_sharing": "gdes", "hidden_act": "gelu_new"},
    {"embedding_sharing": "none", "hidden_act": "silu", "use_SBGO": True, "use_SBPO": True},
    {"embedding_sharing": "none", "hidden_act": "gelu_new", "dim_final_feedforward": 6},
    {"embedding_sharing": "auto", **EQUAL},
    {"embedding_sharing": "gdes", "hidden_act": "relu", **EQUAL},
    {**MODERN, "embedding_sharing": "auto"},
    {**MODERN, "embedding_sharing": "gdes", "hidden_act": "gelu_new", "local_attention": 6},
    {**MODERN, "embedding_sharing": "none", "hidden_act": "silu", "use_SBGO": True, "use_SBPO": True},
    {**MODERN, "embedding_sharing": "auto", "rope_theta": 500.0, **EQUAL},
    {**MODERN, "embedding_sharing": "none", "hidden_act": "relu", "dim_final_feedforward": 4},
    {**MODERN, "embedding_sharing": "gdes", "local_attention": 4, "global_attention_every": 2, **EQUAL},
]


def name_of(changes: dict) -> str:
    """A case's name among a test's."""
    return "-".join(str(value) for value in changes.values() if isinstance(value, str))[:40]


def spoil_config(folder: Path, **changes) -> None:
    """Write other values into an exported config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def written_settings(config, head="discriminator"):
    """The config.json of an export of a network with this head."""
    record = record_of(config, head)
    settings = record.write_settings(config, config.discriminator, head)
    return settings | {"model_type": record.model_type, "architectures": [record.classes[head]]}
