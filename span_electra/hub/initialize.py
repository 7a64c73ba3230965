"""The first weights of a model that is to be trained: of tensors, a checkpoint, a run, or stock folders.

All is read and compared before anything is taken: a model must not be left half another's.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import torch

from span_electra.config import ModelConfig
from span_electra.errors import InputError
from span_electra.hub.added_rows import with_added_rows
from span_electra.hub.architecture import SIZES, Weights
from span_electra.hub.architectures import record_of
from span_electra.hub.folders import trained_length
from span_electra.hub.opening import Pretrained, config_of, open_model
from span_electra.hub.weights import PARTS, take_weights
from span_electra.model.electra import SpanElectra
from span_electra.storage import read_object
from span_electra.text.added_tokens import extends
from span_electra.text.vocabulary import Vocabulary
from span_electra.training import checkpoint


def initialize(
    model: SpanElectra, source: str | Path, vocabulary: Vocabulary | None = None, only: str | None = None
) -> tuple[list[str], int]:
    """Start `model` from tensors by our names, or from anything that `open_model` opens.

    `only`: take this part alone. Returns a line for each thing to say, and how many tokens the longest row
    had that the source was trained on: the model's positions where nothing tells. Raises InputError for what
    does not fit, and the model is as it was then.
    """
    path = Path(source)
    if path.is_file() or path.suffix == ".safetensors":
        # Of a checkpoint's file its folder tells what network it is of; any other file tells nothing.
        described = read_object(path.parent / checkpoint.META) if path.name == checkpoint.MODEL else {}
        weights = checkpoint.load_weights(path)
    elif (path / checkpoint.META).is_file():
        saved = checkpoint.load(path)
        weights, described = saved.weights, saved.meta
    else:
        return load_exported(path, model, vocabulary, only)
    theirs = described.get("vocabulary_sha256")
    if vocabulary is not None and theirs not in (None, vocabulary.sha256):
        refuse_vocabulary(path, theirs, vocabulary)
    # Some of the tensors are enough: a span-boundary head that was not trained keeps its start.
    weights = {name: weight for name, weight in weights.items() if name.startswith(only or "")}
    refuse_unshared(model, weights, str(path))
    own = model.state_dict()
    unknown = sorted(weights.keys() - own.keys())
    if unknown or not weights:
        raise InputError(f"{path}: tensor {(unknown or ['?'])[0]!r} is none of the model's")
    if described.get("model"):
        for part in [only] if only else PARTS:
            check_sizes(config_of(described["model"], str(path)), part, model.config, str(path))
    checkpoint.restore_weights(model, own | weights, str(path))
    return [], trained_length(described, model.config.max_position_embeddings)


def refuse_unshared(model: SpanElectra, weights: Weights, source: str) -> None:
    """Raise InputError where what `model` shares between its networks are two tensors in `weights`.

    One of them would be lost, and its network with it.
    """
    first: dict[int, str] = {}  # by the identity of the model's tensors, the first name that has weights
    for name, tensor in model.state_dict(keep_vars=True).items():
        other = first.setdefault(id(tensor), name) if name in weights else name
        if other != name and not torch.equal(weights[other], weights[name]):
            raise InputError(
                f"{source}: {other} and {name} differ, which the model shares; give --embedding_sharing "
                "embeddings, gdes or none, as it was trained"
            )


def refuse_vocabulary(source: str | Path, theirs: str, features: Vocabulary) -> NoReturn:
    """Raise InputError: the rows of the table of words are another vocabulary's (`theirs`: its sha256)."""
    raise InputError(
        f"{source}: made with vocabulary {theirs[:12]}, the features with {features.sha256[:12]}; make the "
        "features with that folder's vocabulary"
    )


def load_exported(
    folder: str | Path, model: SpanElectra, vocabulary: Vocabulary | None = None, only: str | None = None
) -> tuple[list[str], int]:
    """Start `model` from a run, exported or not, from a pair of stock folders or from that of one network.

    `vocabulary`: compared with the folder's own. `only` and what is returned: as of `initialize`. Raises
    InputError for a folder that is none of ours nor stock, or has other sizes; the model is as it was then.
    """
    opened = open_model(folder, vocabulary)
    found = opened.pretrained()
    if only:
        if only not in found:
            raise InputError(f"{folder}: holds no {only}; name the folder of one")
        found = [only]
    before, added = opened.vocabulary, vocabulary is not None and extends(vocabulary, opened.vocabulary)
    # One token hides and another ends a row, of the same tokens: rows would be read otherwise than learned.
    same = vocabulary is None or before.special == vocabulary.special
    if not same or (vocabulary is not None and not added and before.tokens_V != vocabulary.tokens_V):
        refuse_vocabulary(folder, before.sha256, vocabulary)
    read = {part: opened.need(part) for part in found}  # all is read and checked before anything is taken
    notes = []
    if added:
        read = {part: with_added_rows(pretrained, vocabulary) for part, pretrained in read.items()}
        count = vocabulary.size - before.size
        notes.append(f"added tokens: {count:,}, whose rows start from the mean of their pieces'")
    for part, pretrained in read.items():
        check_sizes(pretrained.config, part, model.config, pretrained.source)
    named = {f"{part}.{name}": w for part in found for name, w in read[part].weights.items()}
    refuse_unshared(model, named, str(folder))
    heads = {part: _span_head(model, part, pretrained) for part, pretrained in read.items()}
    for part in found:  # the generator first: under gdes the discriminator's change is counted from it
        take_weights(getattr(model, part), read[part].weights, read[part].source)
        weights, said = heads[part]
        if weights is not None:
            getattr(model, part).span_head.load_state_dict(weights)
        notes += [f"{part}: weights from {read[part].folder or read[part].source}", *said]
    return notes, opened.trained_length(model.config.max_position_embeddings)


def check_sizes(theirs: ModelConfig, part: str, config: ModelConfig, source: str) -> None:
    """Raise InputError where the network `part` of `theirs` computes otherwise than that of `config`.

    Not all of it shows in the shapes of weights: heads, activations and wavelengths do not.
    """
    names = ["architecture", "vocab_size", *record_of(theirs, part).sizes]
    network, own = getattr(config, part), getattr(theirs, part)
    pairs = [(name, getattr(theirs, name), getattr(config, name)) for name in names]
    if part == "discriminator":
        # Its head is as wide as the network by 0, and by that number.
        widths = (one.dim_final_feedforward % one.discriminator.hidden_size for one in (theirs, config))
        pairs.append(("dim_final_feedforward", *widths))
    pairs += [(f"{part}.{name}", getattr(own, name), getattr(network, name)) for name in SIZES]
    for key, value, ours in pairs:
        if value != ours:
            name = key.rpartition(".")[2]
            raise InputError(f"{source}: {name} is {value}, the model's is {ours}; set {key}={value}")


def _span_head(model: SpanElectra, part: str, pretrained: Pretrained) -> tuple[Weights | None, list[str]]:
    """The span-boundary head that `part` of `model` is to take, if any, and what to say of it."""
    head, place = getattr(model, part).span_head, pretrained.folder or pretrained.source
    if head is None:
        return None, [f"{part}: its span-boundary head is left out"] if pretrained.span_head else []
    if pretrained.span_head is None:
        return None, [f"{part}: no span-boundary head there; it starts afresh"]
    weights, own = pretrained.span_head(), head.state_dict()
    if {name: weight.shape for name, weight in weights.items()} != {n: w.shape for n, w in own.items()}:
        flag = "use_SBGO" if part == "generator" else "use_SBPO"
        raise InputError(
            f"{place}: the names or sizes of its span-boundary head are not the model's; set "
            f"max_position_embeddings as there, or {flag}=false"
        )
    return weights, [f"{part}: span-boundary head from {place}"]
