"""Our weights <-> the names and shapes of stock ELECTRA: one table, read both ways.

A row of the table is (our name, their names); where there are several of theirs, ours is their concatenation
along the first dimension. Names are those of one network: `encoder.*`, `head.*` here, `electra.*` there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from span_electra.errors import InputError
from span_electra.model.encoder import DisentangledEmbeddings

TABLES = ("word", "position", "token_type")
PARTS = ("generator", "discriminator")

_EMBEDDINGS = [
    ("encoder.embeddings.word.weight", ("electra.embeddings.word_embeddings.weight",)),
    ("encoder.embeddings.position.weight", ("electra.embeddings.position_embeddings.weight",)),
    ("encoder.embeddings.token_type.weight", ("electra.embeddings.token_type_embeddings.weight",)),
]
_LAYER = [  # module in a layer -> modules in theirs
    ("qkv", ("attention.self.query", "attention.self.key", "attention.self.value")),
    ("mix", ("attention.output.dense",)),
    ("mix_norm", ("attention.output.LayerNorm",)),
    ("up", ("intermediate.dense",)),
    ("down", ("output.dense",)),
    ("down_norm", ("output.LayerNorm",)),
]
_HEADS = {
    "none": [],
    "generator": [
        ("head.dense", ("generator_predictions.dense",)),
        ("head.norm", ("generator_predictions.LayerNorm",)),
    ],
    "discriminator": [
        ("head.dense", ("discriminator_predictions.dense",)),
        ("head.score", ("discriminator_predictions.dense_prediction",)),
    ],
}
# Theirs that hold nothing of their own: the decoder is the word table, positions are counted.
_DERIVED = {"generator_lm_head.weight", "electra.embeddings.position_ids"}


def name_table(part: str, layers: int, projected: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Return the table of one network; `part` is generator, discriminator, or none: the encoder alone."""
    modules = [("encoder.embeddings.norm", ("electra.embeddings.LayerNorm",))]
    if projected:
        modules.append(("encoder.project", ("electra.embeddings_project",)))
    for number in range(layers):
        modules += [
            (
                f"encoder.layers.{number}.{ours}",
                tuple(f"electra.encoder.layer.{number}.{name}" for name in theirs),
            )
            for ours, theirs in _LAYER
        ]
    modules += _HEADS[part]
    rows = list(_EMBEDDINGS)
    for ours, theirs in modules:
        for kind in ("weight", "bias"):
            rows.append((f"{ours}.{kind}", tuple(f"{name}.{kind}" for name in theirs)))
    if part == "generator":
        rows.append(("head.bias", ("generator_lm_head.bias",)))
    return rows


def rows_of(network: nn.Module, part: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the table that fits a Generator or Discriminator."""
    return name_table(part, len(network.encoder.layers), network.encoder.project is not None)


@torch.no_grad()
def stock_weights(network: nn.Module, part: str) -> dict[str, Tensor]:
    """Return a network's weights under stock names, copied to the CPU in float32; GDES is folded in."""
    ours = {name: weight.detach() for name, weight in network.state_dict().items()}
    embeddings = network.encoder.embeddings
    if isinstance(embeddings, DisentangledEmbeddings):
        for name, table in zip(TABLES, embeddings.tables(), strict=True):
            ours[f"encoder.embeddings.{name}.weight"] = table.detach()
        for kind in ("weight", "bias"):
            ours[f"encoder.embeddings.norm.{kind}"] = ours[f"encoder.embeddings.delta.norm.{kind}"]
    stock = {}
    for name, theirs in rows_of(network, part):
        parts = ours[name].to("cpu", torch.float32).chunk(len(theirs), dim=0)
        # Copies: pieces of one tensor, or a table that two networks share, cannot be saved as they are.
        stock.update((their, part.clone().contiguous()) for their, part in zip(theirs, parts, strict=True))
    return stock


@torch.no_grad()
def take_stock_weights(network: nn.Module, part: str, stock: dict[str, Tensor], source: str) -> None:
    """Copy weights under stock names into a network, in place, so that what is shared stays shared.

    Under GDES the change becomes what the given tables have beyond the generator's present ones.
    Raises InputError, naming `source`, for a weight that is missing, unknown or of another shape; nothing has
    been copied then.
    """
    rows = rows_of(network, part)
    _check_names(rows, stock, source, part)
    targets = _targets(network)
    joined = {name: torch.cat([stock[their] for their in theirs]) for name, theirs in rows}
    for name, weight in joined.items():
        if weight.shape != targets[name].shape:
            raise InputError(
                f"{source}: {name} is {tuple(weight.shape)}, the model's is {tuple(targets[name].shape)}; "
                "give the model the sizes of that folder's config.json"
            )
    for name, weight in joined.items():
        targets[name].copy_(weight)
    if isinstance(network.encoder.embeddings, DisentangledEmbeddings):
        embeddings = network.encoder.embeddings
        for name in TABLES:
            getattr(embeddings.delta, name).weight.sub_(getattr(embeddings.base, name).weight)


def _targets(network: nn.Module) -> dict[str, Tensor]:
    """Our parameters by the table's names; under GDES those of the change stand for the embeddings."""
    weights = dict(network.named_parameters(remove_duplicate=False))
    delta = "encoder.embeddings.delta."
    named = {name.replace(delta, "encoder.embeddings."): weights[name] for name in weights if delta in name}
    return weights | named


def _check_names(rows: list[tuple[str, tuple[str, ...]]], stock: dict, source: str, part: str) -> None:
    known = {their for _, theirs in rows for their in theirs}
    missing = sorted(known - set(stock))
    if missing:
        raise InputError(f"{source}: lacks {missing[0]}; is it the {part} of a pretrained ELECTRA this deep?")
    unknown = sorted(set(stock) - known - _DERIVED)
    if unknown:
        raise InputError(f"{source}: {unknown[0]} has no place in the model; check layers and sizes")
    decoder, table = stock.get("generator_lm_head.weight"), stock[rows[0][1][0]]
    if decoder is not None and not torch.equal(decoder, table):
        raise InputError(f"{source}: its decoder is not tied to its embeddings, as ours is; choose another")
