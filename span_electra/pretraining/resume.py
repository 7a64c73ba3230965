"""What a checkpoint of pretraining records of its data, and whether a run may go on from it.

With these data, and as these networks.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from span_electra.config import ModelConfig
from span_electra.errors import InputError
from span_electra.features.store import Features
from span_electra.hub.folders import LONGEST, trained_length
from span_electra.hub.initialize import check_sizes
from span_electra.hub.opening import config_of
from span_electra.hub.weights import PARTS
from span_electra.pretraining.course import final_masking
from span_electra.pretraining.data import Data, held_out
from span_electra.pretraining.settings import PretrainingSettings
from span_electra.training.compilation import compiles


def data_facts(data: Data, settings: PretrainingSettings) -> dict[str, Any]:
    """Vocabulary, rows, and what decides their order, as a checkpoint's meta.json has them."""
    loader, training = settings.train_loader, settings.training
    # What decides the order, and nothing else: only a change of these matters inside an epoch. Beside tokens
    # rows of a batch decide nothing.
    names = ("batch_max_tokens", "bucket_span", "seed", *(() if loader.batch_max_tokens else ("batch_size",)))
    order: dict[str, Any] = {name: getattr(loader, name) for name in names}
    order["rows"] = len(data.train_rows)
    order["content"] = fingerprint(data.train, data.train_rows)
    if loader.batch_max_tokens:  # else rows are padded for compiled layers, and come as they would
        order["static_shapes"] = compiles(training)
        order["pack_rows"] = loader.pack_rows
    order["gradient_accumulation_steps"] = training.gradient_accumulation_steps
    header = data.train.header
    validated = final_masking(settings, header.masking) or data.valid.header.masking
    measured = {"rows": fingerprint(data.valid, data.valid_rows), "masking": validated.chosen()}
    return {
        "vocabulary_sha256": header.vocabulary_sha256,
        "mask_id": header.mask_id,
        "order": order,
        "masks": {**header.masking.chosen(), "seed": header.seed},
        "held_out": held_out(data),
        "measured": measured if len(data.valid_rows) else None,
    }


def fingerprint(features: Features, rows: np.ndarray) -> str | None:
    """A hash that tells rows from others: of their numbers and lengths, and of the text they were cut from.

    None where there are none. Wherever the text lies, and whatever is masked, it is the same.
    """
    if not len(rows):
        return None
    # Not of all tokens, which are gigabytes: as many rows as long, of the same text, are the same rows.
    digest = hashlib.sha256(np.asarray(rows, np.int64).tobytes())
    digest.update(np.asarray(features.lengths_R[rows], np.int32).tobytes())
    for source in features.header.sources:
        digest.update(source.sha256.encode())
    return digest.hexdigest()


def longest_row(
    data: Data, settings: PretrainingSettings, *, meta: Mapping[str, Any] | None = None, begun: int = 0
) -> int:
    """Tokens of the longest row that the model has learned by the end of the run, for its checkpoints.

    That of its rows, or of what the model is gone on from where that had longer ones. `meta`: of the
    checkpoint that a run is resumed from. `begun`: the longest row of the weights that a new run starts from.
    """
    here = int(data.train.lengths_R[data.train_rows].max())  # not the limit, which no row need reach
    starts = settings.init_from and not settings.init_only  # of one network alone the other begins here
    if meta is None:
        return max(here, begun if starts else 0)
    # Of a release that did not tell: its rows were most likely these, but for what it began with.
    positions = settings.model.max_position_embeddings
    return max(here, trained_length({LONGEST: positions if starts else here, **meta}, positions))


def check_model(config: ModelConfig, meta: Mapping[str, Any], source: str) -> None:
    """Raise InputError, naming `source`, where a checkpoint's weights are of networks that compute otherwise.

    What only trains them, such as dropout, weights of losses or the temperature, may be another.
    """
    ours, told = asdict(config), meta.get("model", {})
    # What a release did not record is taken for the same.
    networks = {part: ours[part] | told.get(part, {}) for part in PARTS}
    theirs = config_of({**ours, **told, **networks}, source)
    for part in PARTS:
        check_sizes(theirs, part, config, source)
    # Two tables that were learned apart would be one from now on, and one of them lost.
    if theirs.embedding_sharing != config.embedding_sharing:
        raise InputError(
            f"{source}: embedding_sharing is {theirs.embedding_sharing}, the model's is "
            f"{config.embedding_sharing}; set embedding_sharing={theirs.embedding_sharing}"
        )


def check_data(ours: Mapping[str, Any], meta: Mapping[str, Any], source: str, *, warn: bool) -> bool:
    """Refuse another vocabulary and, inside an epoch, other rows; whether its batches are others now.

    ours: what this run's own checkpoints would record. warn: say it where rows or masks are others now.
    Raises InputError naming `source`.
    """
    if meta.get("vocabulary_sha256") != ours["vocabulary_sha256"]:
        raise InputError(
            f"{source}: trained with vocabulary {str(meta.get('vocabulary_sha256'))[:12]}, the features "
            f"have {ours['vocabulary_sha256'][:12]}; go on with the features it was trained on"
        )
    now = ours["order"]
    # Releases that could not pack rows do not say that they did not; nor did all say which rows they were.
    before = {"pack_rows": False, "content": now["content"]} | meta.get("order", {})
    inside = bool(meta.get("loop", {}).get("batch"))
    if inside:  # at the end of an epoch any order may follow; here rows would come twice and others never
        refuse_other_rows(before, now, source)
    if warn and (said := what_differs(ours, {**ours, **meta, "order": before})):
        warnings.warn(f"{source}: {said}", stacklevel=2)
    return inside and any(before.get(key) != value for key, value in now.items())


def refuse_other_rows(before: Mapping[str, Any], now: Mapping[str, Any], source: str) -> None:
    """Raise InputError where a checkpoint's `order` is not of the rows that this run has `now`."""
    flags = {"seed": "--seed", "rows": "--train_file, --train_occur, --valid_file and --valid_split decide"}
    for key, deciding in flags.items():
        if before.get(key) != now[key]:
            raise InputError(
                f"{source}: stopped inside an epoch with {key} {before.get(key)}, now it is {now[key]}; "
                f"keep it as it was ({deciding})"
            )
    if before["content"] != now["content"]:
        raise InputError(
            f"{source}: stopped inside an epoch of {now['rows']:,} other rows; go on with the features it "
            "was trained on, or start a new run from its weights with --init_from"
        )


def what_differs(now: Mapping[str, Any], before: Mapping[str, Any]) -> str | None:
    """What a run goes on with that is not what a checkpoint records, in words: the first of it."""
    if now["held_out"] and before["held_out"] != now["held_out"]:
        return (
            "the rows held out are others now (--seed, --valid_split, other features), and it may have been "
            "trained on some of them; their numbers may flatter"
        )
    if before["order"]["content"] != now["order"]["content"]:
        return f"goes on with {now['order']['rows']:,} rows, which are not those it was trained on until now"
    if before["masks"] != now["masks"]:
        then, here = (
            " ".join(f"{name}={value}" for name, value in facts["masks"].items()) for facts in (before, now)
        )
        return f"its features were masked with {then}, these with {here}"
    return None
