"""A trained model -> `generator/` and `discriminator/` that stock `transformers` opens.

Each folder holds config.json, model.safetensors, the tokenizer's files and a model card (README.md). What
the stock classes have no place for stands aside, in files of its own: a span-boundary head, and the two
factors of a table of words that was folded into one. initialize.py starts a model from such folders.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from span_electra.config import ModelConfig
from span_electra.errors import InputError
from span_electra.hub.architecture import ORIGINAL, REPLACED, StockConfig
from span_electra.hub.architectures import record_of
from span_electra.hub.folders import WEIGHTS, ours_of, trained_length, training_of, write_tensors
from span_electra.hub.model_card import CardFacts, render_card
from span_electra.hub.opening import FACTORS, SPAN_HEADS
from span_electra.hub.tokenizer import framing_rows, save_tokenizer
from span_electra.hub.weights import PARTS, our_weights, stock_weights
from span_electra.model.electra import SpanElectra
from span_electra.storage import CONFIG, OURS, TOKENIZER, TOKENIZER_CONFIG, atomic_folder, read_object
from span_electra.text.vocabulary import Vocabulary

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
    meta: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the trained networks into `folder`; returns the folders made.

    `facts`: what the model cards tell beside sizes and use; `meta`: the meta.json of the checkpoint they are
    of. Under the objective `generator` the discriminator knows nothing and is left out. An earlier export of
    ours is replaced; raises InputError for any other folder in the way.
    """
    # All places before any is written: half an export would pair with an older half.
    targets = check_places(folder, model.config.objective)
    with ExitStack() as stack:  # both are written before the first takes its place
        for target in targets:
            beside = stack.enter_context(atomic_folder(target))
            _write_part(model, target.name, vocabulary, beside, facts=facts or CardFacts(), meta=meta)
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
    meta: Mapping[str, Any] | None,
) -> None:
    network, config, record = getattr(model, part), model.config, record_of(model.config, part)
    settings = stock_config(config, part, vocabulary)
    settings[OURS] |= training_of(meta)
    longest, types = trained_length(meta or {}, config.max_position_embeddings), record.token_types
    span_head, mask = network.span_head is not None, vocabulary.special.mask
    card = render_card(part, record, facts, config=config, span_head=span_head, mask=mask)
    write_network(network, config, settings, folder, head=part, card=card)
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
        # How replacements were drawn, for who measures the discriminator as its training did.
        "sampling": config.sampling,
        "temperature": config.temperature,
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
    written = ours_of(settings).get(CARD_SHA256)
    card = target / CARD
    if written and card.is_file() and hashlib.sha256(card.read_bytes()).hexdigest() != written:
        raise InputError(
            f"{card}: was changed since it was exported, and a new one would take its place; move it or "
            "choose another folder"
        )
