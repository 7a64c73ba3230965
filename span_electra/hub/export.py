"""A trained model -> `generator/` and `discriminator/` that stock `transformers` opens, and back.

Each folder holds config.json, model.safetensors, the tokenizer's files and a model card (README.md). What
the stock classes have no place for stands aside, in files of its own: a span-boundary head, and the two
factors of a table of words that was folded into one. `load_exported` starts a model from such folders, or
stock ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from span_electra.config import ModelConfig
from span_electra.errors import InputError
from span_electra.hub.added_rows import with_added_rows
from span_electra.hub.architecture import ORIGINAL, REPLACED, SIZES, StockConfig
from span_electra.hub.architectures import record_of
from span_electra.hub.folders import CONFIG, STAMP, WEIGHTS, open_tensors, write_tensors
from span_electra.hub.model_card import CardFacts, render_card
from span_electra.hub.opening import FACTORS, config_of, open_model
from span_electra.hub.tokenizer import framing_rows, save_tokenizer
from span_electra.hub.weights import PARTS, Weights, our_weights, stock_weights, take_weights
from span_electra.model.electra import SpanElectra
from span_electra.storage import OURS, TOKENIZER, TOKENIZER_CONFIG, atomic_folder, read_object
from span_electra.text.added_tokens import extends
from span_electra.text.vocabulary import Vocabulary
from span_electra.training import checkpoint

SPAN_HEADS = "span_heads.safetensors"
# The model card, and the key of config.json under which stands what it was when it was written.
CARD, CARD_SHA256 = "README.md", "card_sha256"
# All that an export may hold, those of tasks too: what else lies there is a person's.
FILES = {CONFIG, WEIGHTS, CARD, TOKENIZER, TOKENIZER_CONFIG, SPAN_HEADS, FACTORS, "generation_config.json"}
FILES |= {"modules.json", "sentence_bert_config.json", "1_Pooling", "1_Pooling/config.json", "2_Normalize"}
LEAVINGS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # of file managers that looked in: nobody's work


def export_run(
    model: SpanElectra,
    vocabulary: Vocabulary,
    folder: str | Path,
    facts: CardFacts | None = None,
    stamp: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the trained networks into `folder`; returns the folders made.

    `facts`: what the model cards tell beside sizes and use; `stamp`: which checkpoint they are of, see
    `stamp_of`. Under the objective `generator` the discriminator knows nothing and is left out. An earlier
    export of ours is replaced; raises InputError for any other folder in the way.
    """
    # All places before any is written: half an export would pair with an older half.
    targets = check_places(folder, model.config.objective)
    with ExitStack() as stack:  # both are written before the first takes its place
        for target in targets:
            beside = stack.enter_context(atomic_folder(target))
            _write_part(model, target.name, vocabulary, beside, facts=facts or CardFacts(), stamp=stamp)
    return targets


def check_places(folder: str | Path, objective: str) -> list[Path]:
    """The folders in `folder` that the networks of an objective go to. Raises InputError for one in the way.

    To be asked before a training too, which is hours too late to tell a person.
    """
    parts = PARTS[:1] if objective == "generator" else PARTS
    targets = [Path(folder, part) for part in parts]
    for target in targets:
        check_free(target)
    for other in (Path(folder, part) for part in PARTS if part not in parts):
        if other.exists():
            raise InputError(
                f"{other}: stands there, and would be opened as the pair of this {parts[0]}; move it or "
                "choose another folder"
            )
    return targets


def _write_part(
    model: SpanElectra,
    part: str,
    vocabulary: Vocabulary,
    folder: Path,
    *,
    facts: CardFacts,
    stamp: Mapping[str, Any] | None,
) -> None:
    network, config, record = getattr(model, part), model.config, record_of(model.config, part)
    settings = stock_config(config, part, vocabulary)
    settings[OURS] |= {STAMP: stamp} if stamp else {}
    span_head, mask = network.span_head is not None, vocabulary.special.mask
    card = render_card(part, record, facts, config=config, span_head=span_head, mask=mask)
    write_network(network, config, settings, folder, head=part, card=card)
    longest, types = config.max_position_embeddings, record.token_types
    save_tokenizer(framing_rows(vocabulary), folder, longest, token_types=types)
    # Aside, since no stock class has it; a folder without it opens all the same.
    if network.span_head is not None:
        heads = {
            name: weight.detach().to("cpu", torch.float32).contiguous()
            for name, weight in network.span_head.state_dict().items()
        }
        write_tensors(heads, folder / SPAN_HEADS)


def write_network(
    network: nn.Module, config: ModelConfig, settings: StockConfig, folder: Path, *, head: str, card: str
) -> None:
    """Write the card of an encoder with a head, and config.json and weights as the stock class wants them."""
    record = record_of(config, head)
    (folder / CARD).write_bytes(card.encode())
    settings = settings | {OURS: settings[OURS] | {CARD_SHA256: hashlib.sha256(card.encode()).hexdigest()}}
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    # transformers refuses a file that does not say which framework's tensors it holds.
    write_tensors(stock_weights(network, record, head), folder / WEIGHTS, metadata={"format": "pt"})
    # A product of two factors says nothing of them: training that goes on from here needs both back.
    ours = our_weights(network)
    if "encoder.project.weight" in ours and not record.projection:
        names = {"word": "encoder.embeddings.word.weight", "project": "encoder.project.weight"}
        factors = {short: ours[name].clone().contiguous() for short, name in names.items()}
        write_tensors(factors, folder / FACTORS)


def stock_config(
    config: ModelConfig, part: str, vocabulary: Vocabulary, head: str | None = None
) -> StockConfig:
    """Return the config.json of the network `part`, as the stock class of `head` wants it (none: its own)."""
    head = head or part
    record, network = record_of(config, head), getattr(config, part)
    settings = {
        "architectures": [record.classes[head]],
        "model_type": record.model_type,
        **record.write_settings(config, network, head),
        "initializer_range": config.initializer_range,
        "pad_token_id": vocabulary.pad_id,
        "tie_word_embeddings": True,  # else the stock class would start a decoder of its own at random
    }
    if record.names_special_tokens:  # whose defaults are another vocabulary's ids
        settings |= {"cls_token_id": vocabulary.cls_id, "bos_token_id": vocabulary.cls_id}
        settings |= {"sep_token_id": vocabulary.sep_id, "eos_token_id": vocabulary.sep_id}
    if head == "discriminator" and record.is_token_classifier(head):
        settings["id2label"] = {"0": ORIGINAL, "1": REPLACED}
        settings["label2id"] = {ORIGINAL: 0, REPLACED: 1}
    settings[OURS] = {
        "part": part,
        "embedding_sharing": config.embedding_sharing,
        "initialization": config.initialization,  # for who compares with a start from random weights
    }
    return settings


def check_free(target: Path) -> None:
    """Refuse a place that holds anything else than an export of ours. Raises InputError naming it."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    settings = read_object(target / CONFIG)
    # What save_pretrained writes over an export keeps our key and adds its version: it is somebody's work.
    if OURS not in settings or "transformers_version" in settings:
        raise InputError(f"{target}: is in the way and no export of ours; move it or choose another folder")
    # It would go with the folder: a repository's .git, another format of the weights, notes.
    for folder, folders, names in os.walk(target):
        for name in sorted((*folders, *names)):
            if name not in LEAVINGS and Path(folder, name).relative_to(target).as_posix() not in FILES:
                raise InputError(
                    f"{Path(folder, name)}: no export of ours has it, and a new one would take its folder's "
                    "place; move it or choose another folder"
                )
    # Earlier releases do not say what theirs was.
    written = settings[OURS].get(CARD_SHA256) if isinstance(settings[OURS], dict) else None
    card = target / CARD
    if written and card.is_file() and hashlib.sha256(card.read_bytes()).hexdigest() != written:
        raise InputError(
            f"{card}: was changed since it was exported, and a new one would take its place; move it or "
            "choose another folder"
        )


# --- back ---------------------------------------------------------------------------------------------


def initialize(
    model: SpanElectra, source: str | Path, vocabulary: Vocabulary | None = None, only: str | None = None
) -> list[str]:
    """Start `model` from tensors by our names, or from anything that `open_model` opens.

    `only`: take this part alone. Returns a line for each thing to say; raises InputError for what does not
    fit, and the model is as it was then.
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
            _check_sizes(config_of(described["model"], str(path)), part, model.config, str(path))
    checkpoint.restore_weights(model, own | weights, str(path))
    return []


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
) -> list[str]:
    """Start `model` from a run, exported or not, from a pair of stock folders or from that of one network.

    `vocabulary`: compared with the folder's own. `only`: take this part alone. Returns one line for each
    thing taken or left as it was. Raises InputError for a folder that is none of ours nor stock, or has other
    sizes; the model is as it was then.
    """
    opened = open_model(folder, vocabulary)
    found = opened.pretrained()
    if only:
        if only not in found:
            raise InputError(f"{folder}: holds no {only}; name the folder of one")
        found = [only]
    added = vocabulary is not None and extends(vocabulary, opened.vocabulary)
    if vocabulary is not None and not added and opened.vocabulary.tokens_V != vocabulary.tokens_V:
        refuse_vocabulary(folder, opened.vocabulary.sha256, vocabulary)
    read = {part: opened.need(part) for part in found}  # all is read and checked before anything is taken
    notes = []
    if added:
        read = {part: with_added_rows(pretrained, vocabulary) for part, pretrained in read.items()}
        count = vocabulary.size - opened.vocabulary.size
        notes.append(f"added tokens: {count:,}, whose rows start from the mean of their pieces'")
    for part, pretrained in read.items():
        _check_sizes(pretrained.config, part, model.config, pretrained.source)
    named = {f"{part}.{name}": w for part in found for name, w in read[part].weights.items()}
    refuse_unshared(model, named, str(folder))
    for part in found:  # the generator first: under gdes the discriminator's change is counted from it
        take_weights(getattr(model, part), read[part].weights, read[part].source)
        origin = opened.folders.get(part, Path(read[part].folder))
        notes += [f"{part}: weights from {origin}", *_take_span_head(model, part, origin)]
    return notes


def _check_sizes(theirs: ModelConfig, part: str, config: ModelConfig, source: str) -> None:
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


def _take_span_head(model: SpanElectra, part: str, folder: Path) -> list[str]:
    head, path = getattr(model, part).span_head, Path(folder, SPAN_HEADS)
    if head is None:
        return [f"{part}: its span-boundary head is left out"] if path.is_file() else []
    if not path.is_file():
        return [f"{part}: no span-boundary head there; it starts afresh"]
    weights, own = open_tensors(path), head.state_dict()
    if {name: weight.shape for name, weight in weights.items()} != {n: w.shape for n, w in own.items()}:
        raise InputError(f"{path}: its names or sizes are not the model's; move it away to start afresh")
    head.load_state_dict(weights)
    return [f"{part}: span-boundary head from {path}"]
