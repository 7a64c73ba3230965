"""The files of one stock folder: config.json, weights, tokenizer, as `transformers` has ever written them.

Nothing here runs what a folder holds: a pickle is read by torch's loader of plain tensors alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from span_electra.data_config import MaskingConfig, masking_phases
from span_electra.errors import InputError
from span_electra.hub.architecture import SIZES, StockConfig, Weights
from span_electra.hub.architectures import architecture_of
from span_electra.storage import CONFIG, OURS, TOKENIZER, TOKENIZER_CONFIG, read_object, sha256_of
from span_electra.text.own_tokenizer import as_transformers_open, open_exported
from span_electra.text.vocabulary import Vocabulary, load_vocabulary
from span_electra.training import checkpoint

WEIGHTS, OLD_WEIGHTS = "model.safetensors", "pytorch_model.bin"
STAMP = "checkpoint"  # the key under OURS of what `stamp_of` gives
FINAL_MASKING = "masking_law"  # there and in meta.json: the settings of masking that pretraining ended with
LONGEST = "max_seq_len"  # there and in meta.json: tokens of the longest row that was trained on
TOKENS = "vocab.txt"  # of folders older than tokenizer.json
COUNTS = ("vocab_size", "max_position_embeddings", "global_attn_every_n_layers", *SIZES)
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def read_config(folder: str | Path) -> StockConfig:
    """The config.json of a stock folder. Raises InputError when it is of no model that we know."""
    path = Path(folder, CONFIG)
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder}: no network there ({CONFIG}: {error.strerror}); name a run, an exported folder, or "
            "that of a stock model"
        ) from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON; name an exported folder or a stock ELECTRA's") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path}: not an object; name an exported folder or a stock ELECTRA's")
    for name in COUNTS:
        if name in settings and (type(settings[name]) is not int or settings[name] < 1):
            raise InputError(f"{path}: {name} is {settings[name]!r}, no number from 1 on; get the file again")
    if not isinstance(settings.get("architectures") or [], list):
        raise InputError(f"{path}: architectures is {settings['architectures']!r}, no list; get it again")
    return settings | {"model_type": architecture_of(settings, str(path)).model_type}


def read_weights(folder: str | Path) -> Weights:
    """The weights of a stock folder under stock names, from safetensors, or else from pytorch_model.bin.

    Of the latter plain tensors alone are read. Raises InputError for files that are missing or broken.
    """
    # Safetensors before the pickle, where a folder holds both: they need no trust.
    path, old = Path(folder, WEIGHTS), Path(folder, OLD_WEIGHTS)
    if path.is_file():
        return open_tensors(path)
    if not old.is_file():
        raise InputError(f"{path}: not there; name a folder with weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of pickle that are refused below
            found = torch.load(old, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
        # torch's own words advise to run whatever the pickle holds; ours do not.
        raise InputError(
            f"{old}: holds something else than tensors, or is broken; fetch it again, or save the model "
            "again with safe_serialization=True"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"{old}: holds something else than tensors by name; save the model again")
    return {_present_name(name): weight for name, weight in found.items()}


def weights_sha256(folder: str | Path) -> str:
    """The hash that tells the weights of a checkpoint or a stock folder from others, in whatever files."""
    folder = Path(folder)
    if (folder / checkpoint.META).is_file():
        return recorded_sha256(checkpoint.read_meta(folder, hashed=False))
    hashes = []
    # Several files are those that stock classes write of a large network.
    names = (WEIGHTS, "model-*.safetensors", OLD_WEIGHTS)
    for path in next(found for name in names if (found := sorted(folder.glob(name)))):
        with path.open("rb") as file:
            hashes.append(sha256_of(file))
    return _one_hash(hashes)


def recorded_sha256(meta: Mapping[str, Any]) -> str:
    """The same of a checkpoint, as its meta.json records it; shares hold the optimizer's state too."""
    files = sorted(meta["files"].items())
    return _one_hash([described["sha256"] for name, described in files if name != checkpoint.OPTIMIZER])


def _one_hash(hashes: list[str]) -> str:
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def stamp_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What an exported network says of the checkpoint that it is of, by its meta.json."""
    return {"step": meta["step"], "weights": recorded_sha256(meta)}


def training_of(meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an exported network says of its training, by its checkpoint's meta.json. Raises InputError."""
    if not meta:
        return {}
    masking, told = final_masking_in(meta, checkpoint.META), {STAMP: stamp_of(meta)}
    told |= {LONGEST: meta[LONGEST]} if LONGEST in meta else {}
    return told | ({FINAL_MASKING: masking.chosen()} if masking else {})


def final_masking_in(told: Mapping[str, Any], source: str) -> MaskingConfig | None:
    """The masking that a pretraining ended with, by a meta.json, or by `ours_in` a folder.

    None: nothing tells. Raises InputError, naming `source`, for what is no masking of ours.
    """
    try:
        if FINAL_MASKING in told:
            return MaskingConfig(**told[FINAL_MASKING])
        # Of older releases: what the run did not set itself, its features did, most likely by default.
        phases = masking_phases((told.get("loader") or {}).get("masking_schedule") or [])
        return MaskingConfig(**phases[-1].settings) if phases else None
    except (TypeError, AttributeError, InputError) as error:
        raise InputError(f"{source}: records no masking of ours ({error})") from None


def stamp_in(folder: Path) -> dict[str, Any] | None:
    """What an exported network says so; None: it is of an older release, or of a stranger.

    Also where it was trained on since: the two networks of an export stay a pair.
    """
    return ours_of(read_object(folder / CONFIG)).get(STAMP)


def ours_in(folder: str | Path) -> dict[str, Any]:
    """What a stock folder's config.json has of ours that holds, whatever stands there otherwise.

    Stock classes keep our key when they save, and add their version. Whether they have trained the network on
    nothing tells: such a folder's longest row is what its tokenizer cuts texts to, and no more is known.
    """
    settings = read_object(Path(folder, CONFIG))
    ours = ours_of(settings)
    if not ours or "transformers_version" not in settings:
        return ours
    return {LONGEST: read_object(Path(folder, TOKENIZER_CONFIG)).get("model_max_length")}


def ours_of(settings: StockConfig) -> dict[str, Any]:
    """What stands under our key in a config.json."""
    ours = settings.get(OURS)
    return ours if isinstance(ours, dict) else {}


def trained_length(told: Mapping[str, Any], positions: int) -> int:
    """Tokens of the longest row that a network was trained on, by a meta.json, or by `ours_in` a folder.

    Those of older releases and of strangers do not tell: all their positions are taken for trained.
    """
    length = told.get(LONGEST)
    return min(length, positions) if type(length) is int and length > 0 else positions


def open_tensors(path: Path) -> Weights:
    """A file of safetensors. Raises InputError when it cannot be read."""
    return {_present_name(name): weight for name, weight in checkpoint.load_weights(path).items()}


def write_tensors(tensors: Weights, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a file of safetensors. Raises OSError where it cannot be written, as other writers do."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # tells the system's number in its text alone
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def _present_name(name: str) -> str:
    """Names as they are today; those of norms came from TensorFlow once."""
    # Checkpoints of the original ELECTRA were converted with these names, and are on hubs as they were.
    for before, now in OLD_NAMES.items():
        name = name.replace(before, now)
    return name


def has_tokenizer(folder: Path) -> bool:
    """Whether a stock folder brings its tokenizer."""
    return any((folder / name).is_file() for name in (TOKENIZER, TOKENS))


def open_vocabulary(folder: str | Path) -> Vocabulary:
    """Open the tokenizer of a stock folder."""
    folder = Path(folder)
    path, old = folder / TOKENIZER, folder / TOKENS
    # The whole tokenizer before its parts: what it does to text stands nowhere else.
    if path.is_file():
        return open_exported(path)
    if not old.is_file():
        raise InputError(f"{folder}: no {TOKENIZER} in it; name a folder that holds network and tokenizer")
    if (folder / TOKENIZER_CONFIG).is_file():
        # Folders older than tokenizer.json: transformers knows how to read their settings.
        return Vocabulary.from_json(as_transformers_open(folder).to_str(), str(old))
    # The oldest have the tokens alone, by which casing and accents are guessed.
    return load_vocabulary("BERT", old)
