"""What a record of an encoder type holds; the records themselves are electra.py and modernbert.py.

Weights of a network go by our names, `encoder.*` and `head.*`, which are those of its modules; each record
has the table from these to the stock class's. A network's head is one of
  generator       masked language model       sequence   one answer a row
  discriminator   was this token replaced?    tokens     one answer a token
  causal          next-token model            none       the encoder alone
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from span_electra.config import ModelConfig, NetworkConfig

StockConfig = dict[str, Any]  # a config.json of transformers, whose keys are its classes' own
Weights = dict[str, Tensor]
Rows = tuple[tuple[str, tuple[str, ...]], ...]  # our name, theirs; several of theirs lie one below the other

ORIGINAL, REPLACED = "original", "replaced"  # labels of a discriminator that is a token classifier
EXPORTED_DROPOUT = 0.1  # in exported settings: what fine-tuning wants, whatever pretraining used


@dataclass(frozen=True)
class Architecture:
    """What of an architecture is not in its layer class."""

    name: str  # ModelConfig.architecture
    tag: str  # what hubs call its models
    model_type: str  # of its config.json
    classes: Mapping[str, str]  # of each head
    prefix: str  # of the encoder's weights in a class that has a head
    embeddings: Rows  # theirs without the prefix, as in `layer`
    projection: Rows  # where words are not as wide as layers
    layer: Rows  # names within a layer
    layers: str  # what theirs stand under, with {} for the number
    sizes: tuple[str, ...]  # ModelConfig's fields that its layers compute with, beside the networks' own
    after: Rows  # of the encoder, behind the layers
    heads: Mapping[str, Rows]  # theirs in full
    write_settings: Callable[[ModelConfig, NetworkConfig, str], StockConfig]  # for a head
    read_settings: Callable[[StockConfig], StockConfig | None]  # fields; None: ours differ
    pack: Callable[[Weights, str], Weights]  # ours, before they are renamed, for a head
    unpack: Callable[[Weights, str], Weights]  # ours again, after they were
    stock_head: Callable[[Any, str, Tensor], Tensor]  # an opened stock model's answer to hidden states
    derived: frozenset[str] = frozenset()  # theirs that hold nothing of their own
    absent: tuple[str, ...] = ()  # ours that the first layer lacks
    token_types: bool = True  # whether its networks read them
    names_special_tokens: bool = False  # config.json tells their ids
    pooling_key: str | None = None  # of config.json: what a head on whole rows reads; None: [CLS] alone
    decoder: Architecture | None = None  # the record for a causal head, where stock has other layers for it

    def table(self, head: str, layers: int, projected: bool) -> list[tuple[str, tuple[str, ...]]]:
        """Our names and theirs of a network with this head."""
        rows = [*self.embeddings, *(self.projection if projected else ())]
        for number in range(layers):
            for ours, theirs in self.layer:
                if number == 0 and ours in self.absent:
                    continue
                names = tuple(f"{self.layers.format(number)}.{name}" for name in theirs)
                rows.append((f"encoder.layers.{number}.{ours}", names))
        rows += self.after
        rows = [(ours, tuple(f"{self.prefix}{name}" for name in theirs)) for ours, theirs in rows]
        return rows + list(self.heads[head])

    def is_token_classifier(self, head: str) -> bool:
        """Whether a head's stock class is that which also holds any labels of tokens."""
        return self.classes[head] == self.classes.get("tokens")

    def head_in(self, settings: StockConfig) -> str:
        """Which head a stock folder with these settings has; `none` where it is another's or missing."""
        names = settings.get("architectures") or ()
        heads = [head for head, name in self.classes.items() if name in names]
        if {"discriminator", "tokens"} <= set(heads):  # one class for both: the labels tell
            labels = {str(label).lower() for label in (settings.get("id2label") or {}).values()}
            return "discriminator" if labels == {ORIGINAL, REPLACED} else "tokens"
        return heads[0] if heads else "none"


def both(ours: str, *theirs: str) -> Rows:
    """Rows of a linear map or norm: weight and bias."""
    return tuple(
        (f"{ours}.{kind}", tuple(f"{name}.{kind}" for name in theirs)) for kind in ("weight", "bias")
    )


def weight(ours: str, *theirs: str) -> Rows:
    """The row of a weight without a bias."""
    return both(ours, *theirs)[:1]


_HEAD_ROWS = ("head.dense.weight", "head.dense.bias", "head.norm.weight")  # one a unit of a head's layer


def filled_up(weights: Weights, head: str) -> Weights:
    """A discriminator's head that is narrower than its network, as wide as that, as stock classes want it.

    Its layer is there in copies, which a norm takes for the one, and the first alone has a part in the score.
    """
    if head != "discriminator":
        return weights
    width, whole = weights["head.dense.weight"].shape
    copies = torch.arange(whole) % width
    filled = {name: weights[name][copies] for name in _HEAD_ROWS if name in weights}
    return weights | filled | {"head.score.weight": F.pad(weights["head.score.weight"], (0, whole - width))}


def cut_back(weights: Weights) -> Weights:
    """A discriminator's head that `filled_up` has made wider, as narrow as it was; any other as it is."""
    score = weights["head.score.weight"]
    # Trained weights are never 0: so many columns have a part in the score.
    width = int(score.count_nonzero())
    if not 0 < width < score.shape[1]:
        return weights
    narrow = {name: weights[name][:width] for name in _HEAD_ROWS if name in weights}
    narrow |= {"head.score.weight": score[:, :width]}
    # Trained on since, its copies differ, and all of it is needed.
    again = filled_up(narrow, "discriminator")
    return weights | narrow if all(torch.equal(again[name], weights[name]) for name in narrow) else weights


SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
