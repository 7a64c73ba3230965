"""Weights between our names and those of a stock class of `transformers`, by the table of an architecture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from span_electra.errors import InputError
from span_electra.hub.architecture import Architecture, Weights
from span_electra.model.encoder import DisentangledEmbeddings

PARTS = ("generator", "discriminator")
DELTA, EMBEDDINGS = "encoder.embeddings.delta.", "encoder.embeddings."


class Joined(nn.Module):
    """An encoder, and one of its heads or none, as the network that the functions below take."""

    def __init__(self, encoder: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head


@torch.no_grad()
def our_weights(network: nn.Module) -> Weights:
    """A network's weights by our names, on the CPU in float32; gdes is folded in."""
    ours = {name: weight.detach().to("cpu", torch.float32) for name, weight in _targets(network).items()}
    embeddings = network.encoder.embeddings
    if isinstance(embeddings, DisentangledEmbeddings):
        for name, table in embeddings.tables().items():
            ours[f"{EMBEDDINGS}{name}.weight"] = table.detach().to("cpu", torch.float32)
    return ours


@torch.no_grad()
def stock_weights(network: nn.Module, record: Architecture, head: str) -> Weights:
    """The weights of a network with an `encoder` and, but for head `none`, a `head` under stock names.

    They are copied to the CPU in float32; gdes is folded in.
    """
    ours, encoder = record.pack(our_weights(network), head), network.encoder
    stock = {}
    for name, theirs in record.table(head, len(encoder.layers), projected=encoder.project is not None):
        parts = ours[name].chunk(len(theirs), dim=0)
        # Copies: pieces of one tensor, or a table that two networks share, cannot be saved as they are.
        stock.update((their, part.clone().contiguous()) for their, part in zip(theirs, parts, strict=True))
    return stock


def weights_from_stock(
    stock: Weights, record: Architecture, *, head: str, layers: int, projected: bool, source: str
) -> Weights:
    """Weights by our names of those under stock names: all of the encoder and of the head, nothing left out.

    A head that is not `head` is passed over. Raises InputError, naming `source`, for a weight that is missing
    or has no place.
    """
    if not any(name.startswith(record.prefix) for name in stock):  # a bare encoder was saved without it
        stock = {f"{record.prefix}{name}": weight for name, weight in stock.items()}
    table = record.table(head, layers, projected)
    known = {their for _, theirs in table for their in theirs}
    # Both ways: with a weight passed over in silence the network computes something else than what was saved.
    missing = sorted(known - set(stock))
    if missing:
        raise InputError(f"{source}: lacks {missing[0]}; is it a whole {record.name} network of these sizes?")
    unknown = sorted(
        name
        for name in stock
        if name not in known | record.derived and (head != "none" or name.startswith(record.prefix))
    )
    if unknown:
        raise InputError(f"{source}: {unknown[0]} has no place in a network of its config.json; check sizes")
    words = stock[table[0][1][0]]
    for name in record.derived & set(stock):
        if name.endswith(".weight") and not torch.equal(stock[name], words):
            raise InputError(
                f"{source}: its decoder is not tied to its embeddings, as ours is; choose another"
            )
    weights = {}
    for name, theirs in table:
        # One below the other: query, key and value are one product of ours.
        if len({stock[their].shape for their in theirs}) > 1:
            raise InputError(f"{source}: {theirs[0]} has another shape than its sisters; export it again")
        # Float32 whatever was stored: networks are trained and compared in it.
        weights[name] = torch.cat([stock[their] for their in theirs]).float()
    return record.unpack(weights, head)


@torch.no_grad()
def take_weights(network: nn.Module, weights: Weights, source: str) -> None:
    """Copy weights by our names into a network, in place, so that what is shared stays shared.

    Under gdes the change becomes what the given tables have beyond the generator's present ones.
    Raises InputError, naming `source`, for one that is missing, unknown or of another shape; nothing has been
    copied then.
    """
    # All is checked before the first is copied: a model must not be left half another's.
    targets = _targets(network)
    for name in sorted(set(targets) ^ set(weights)):
        what = "lacks" if name in targets else "has no place for"
        raise InputError(f"{source}: {what} {name}; its config.json tells other sizes, export it again")
    for name, weight in weights.items():
        if weight.shape != targets[name].shape:
            raise InputError(
                f"{source}: {name} is {tuple(weight.shape)}, the model's is {tuple(targets[name].shape)}; "
                "its config.json tells other sizes, export it again"
            )
    for name, weight in weights.items():
        targets[name].copy_(weight)
    embeddings = network.encoder.embeddings
    if isinstance(embeddings, DisentangledEmbeddings):
        # What was copied is base + delta; the base is the generator's, loaded before.
        for name in embeddings.delta.names:
            getattr(embeddings.delta, name).weight.sub_(getattr(embeddings.base, name).weight)


def _targets(network: nn.Module) -> dict[str, Tensor]:
    """Our parameters by the table's names; under gdes those of the change stand for the embeddings."""
    return {
        name.replace(DELTA, EMBEDDINGS): weight
        for name, weight in network.named_parameters(remove_duplicate=False)
        if name.startswith(("encoder.", "head.")) and not name.startswith(f"{EMBEDDINGS}base.")
    }
