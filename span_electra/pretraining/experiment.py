"""Plain settings of pretraining -> opened features, chosen rows, a model, and the run of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from span_electra.config import LoaderConfig, ModelConfig, NetworkConfig, OptimizerConfig, TrainingConfig
from span_electra.errors import InputError
from span_electra.features.store import Features, open_features
from span_electra.model.electra import SpanElectra
from span_electra.model.flops import training_flops
from span_electra.pretraining.loader import Batches, choose_rows
from span_electra.training import checkpoint
from span_electra.training.clock import matrix_peak, seldom
from span_electra.training.devices import Agreement, Place
from span_electra.training.log import METRIC_NAMES
from span_electra.training.loop import Run
from span_electra.training.optim import Optimizers, freeze
from span_electra.training.parallel import spread
from span_electra.training.signals import Signals

REPORT_EVERY = 60  # seconds at least between two drawings of the report, which take one or two


@dataclass(frozen=True)
class TrainingRun:
    """All that a run needs; plain values and a function of a module, to be sent to other processes."""

    model: ModelConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    train_loader: LoaderConfig
    valid_loader: LoaderConfig
    train_features: tuple[str, ...]  # files, folders of shards or globs
    out_dir: str
    valid_features: tuple[str, ...] = ()  # none: a split of the training rows, if valid_split asks for one
    train_rows: tuple[int, ...] = (0,)  # use only so many rows, of all or of each file in turn; 0: all
    valid_rows: tuple[int, ...] = (0,)
    valid_split: tuple[float, ...] = (0.0,)  # rows (or, below 1, share) held out, of all or of each file
    resume_from: str | None = None  # a checkpoint folder, or a run folder whose latest is meant
    init_from: str | None = None  # a checkpoint folder or .safetensors file with some weights in our names
    config_json: str = ""  # the settings in the user's terms, stored with the run as config.json
    picture: Callable[[TrainingRun, Data, SpanElectra | None], None] | None = None  # makes the run's report


# --- data ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Opened features and the rows of them that are used."""

    train: Features
    train_rows: np.ndarray
    valid: Features
    valid_rows: np.ndarray  # may be empty


def open_data(settings: TrainingRun) -> Data:
    """Open the features and choose rows. Raises InputError when they do not fit together or to the model."""
    train = open_features(list(settings.train_features))
    splits = settings.valid_split if not settings.valid_features else (0.0,)
    train_rows, valid_rows = rows_of(settings.train_features, settings.train_rows, splits, settings)
    valid = train
    if settings.valid_features:
        valid = open_features(list(settings.valid_features))
        valid_rows, _ = rows_of(settings.valid_features, settings.valid_rows, (0.0,), settings)
        ours, theirs = train.header.vocabulary_sha256, valid.header.vocabulary_sha256
        if ours != theirs:
            raise InputError(
                f"{settings.valid_features[0]}: made with vocabulary {theirs[:12]}, the training features "
                f"with {ours[:12]}; run create_feature_SE.py again with one vocabulary for both"
            )
    if not len(train_rows):
        raise InputError(f"{settings.train_features[0]}: has no rows; give create_feature_SE.py more text")
    longest = max(train.header.max_seq_len, valid.header.max_seq_len)
    if longest > settings.model.max_position_embeddings:
        raise InputError(
            f"max_position_embeddings: {settings.model.max_position_embeddings} is less than the features' "
            f"max_seq_len {longest}; raise it or make shorter features"
        )
    return Data(train, train_rows, valid, valid_rows)


def rows_of(
    paths: tuple[str, ...], limits: tuple[int, ...], splits: tuple[float, ...], settings: TrainingRun
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to use and rows held out, numbered over all files; one limit or split holds for all together."""
    seed = settings.training.seed
    if len(limits) == 1 and len(splits) == 1:
        rows = open_features(list(paths), verify=False).rows
        return choose_rows(rows, limits[0], splits[0], seed)
    for name, values in (("train_occur", limits), ("valid_split", splits)):
        if len(values) not in (1, len(paths)):
            raise InputError(
                f"{name}: {len(values)} values for {len(paths)} files; give one, or one for each"
            )
    used, held, before = [], [], 0
    for number, path in enumerate(paths):
        rows = open_features(path, verify=False).rows
        limit, split = limits[number % len(limits)], splits[number % len(splits)]
        chosen, out = choose_rows(rows, limit, split, seed)
        used.append(chosen + before)
        held.append(out + before)
        before += rows
    return np.concatenate(used), np.concatenate(held)


def commonest_share(data: Data) -> float:
    """Share of the commonest token among the content of some rows: what always guessing it would score."""
    header = data.train.header
    rows_B = data.train_rows[:: max(1, len(data.train_rows) // 512)]
    ids = data.train.gather(rows_B, int(data.train.lengths_R[rows_B].max())).ravel()
    counts_V = np.bincount(ids, minlength=header.vocab_size)
    counts_V[[header.cls_id, header.sep_id, header.pad_id]] = 0
    return float(counts_V.max() / max(1, counts_V.sum()))


def utilisation(settings: TrainingRun, data: Data, place: Place) -> Callable[[float], float] | None:
    """Return what turns tokens a second into model FLOPs utilisation: a share of the devices' matrix peak.

    None unless both networks are trained: the arithmetic of one alone is not counted.
    """
    if settings.model.objective != "joint":
        return None
    length = float(data.train.lengths_R[data.train_rows].mean())
    flops = training_flops(
        sized_model(settings.model, data), round(length), data.train.header.masking.mask_ratio
    )
    peak = matrix_peak(place) * max(place.world, len(place.ids))
    return lambda tokens_per_second: tokens_per_second * flops / peak


def check_same_data(settings: TrainingRun, data: Data, saved: checkpoint.Checkpoint, source: str) -> None:
    """Refuse to go on with another vocabulary, or, inside an epoch, with another order of rows."""
    ours, theirs = facts_of(settings, data), saved.meta
    if theirs.get("vocabulary_sha256") != ours["vocabulary_sha256"]:
        raise InputError(
            f"{source}: trained with vocabulary {str(theirs.get('vocabulary_sha256'))[:12]}, the features "
            f"have {ours['vocabulary_sha256'][:12]}; go on with the features it was trained on"
        )
    if not saved.meta.get("loop", {}).get("batch"):
        return
    for key, value in ours["order"].items():
        before = theirs.get("order", {}).get(key)
        if before != value:
            raise InputError(
                f"{source}: stopped inside an epoch with {key} {before}, now it is {value}; keep it as it was"
            )


def facts_of(settings: TrainingRun, data: Data) -> dict:
    """What every checkpoint of the run records of its settings and data."""
    loader = settings.train_loader
    order = {
        name: getattr(loader, name) for name in ("batch_size", "batch_max_tokens", "bucket_span", "seed")
    }
    order |= {"rows": len(data.train_rows), "static_shapes": compiles(settings.training)}
    order["gradient_accumulation_steps"] = settings.training.gradient_accumulation_steps
    return {
        "vocabulary_sha256": data.train.header.vocabulary_sha256,
        "mask_id": data.train.header.mask_id,
        "model": asdict(sized_model(settings.model, data)),
        "optimizer": asdict(settings.optimizer),
        "training": asdict(settings.training),
        "loader": asdict(loader),
        "order": order,
    }


# --- the model ----------------------------------------------------------------------------------------


def sized_model(config: ModelConfig, data: Data) -> ModelConfig:
    """The model's settings with a vocabulary size that holds the features' ids."""
    needed = data.train.header.vocab_size
    if config.vocab_size is None:
        return replace(config, vocab_size=needed)
    if config.vocab_size < needed:
        raise InputError(
            f"vocab_size: {config.vocab_size} is less than the features' {needed}; set it to null or to more"
        )
    return config


def build_model(settings: TrainingRun, data: Data) -> SpanElectra:
    """The model as it starts, on the CPU, from the seed alone."""
    config = sized_model(settings.model, data)
    return SpanElectra(config, data.train.header.mask_id, settings.training.seed)


def load_model(folder: str | Path) -> SpanElectra:
    """Rebuild the model of a checkpoint, with its weights; raises InputError for what is no checkpoint."""
    saved = checkpoint.load(folder)
    try:
        described = dict(saved.meta["model"])
        for name in ("generator", "discriminator"):
            described[name] = NetworkConfig(**described[name])
        model = SpanElectra(ModelConfig(**described), int(saved.meta["mask_id"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: its meta.json describes no model of ours ({error})") from error
    checkpoint.restore_weights(model, saved.weights, str(folder))
    return model


def initialize_from(model: SpanElectra, path: str) -> None:
    """Start from the weights of a checkpoint folder or a .safetensors file; names it lacks keep their start.

    Raises InputError for a tensor that the model does not have in that shape.
    """
    if Path(path).is_dir():
        weights = checkpoint.load(path).weights
    else:
        weights = checkpoint.load_weights(path)
    own = model.state_dict()
    unknown = sorted(weights.keys() - own.keys())
    if unknown or not weights:
        raise InputError(f"{path}: tensor {(unknown or ['?'])[0]!r} is none of the model's")
    checkpoint.restore_weights(model, own | weights, path)


def compiles(config: TrainingConfig) -> bool:
    """Whether the model is compiled, and so needs static shapes."""
    if config.compile == "auto":
        return config.device != "cpu" and torch.cuda.is_available()
    return config.compile == "on"


# --- the run --------------------------------------------------------------------------------------------


def assemble(
    settings: TrainingRun,
    place: Place,
    signals: Signals,
    agreement: Agreement,
    saved: checkpoint.Checkpoint | None,
    source: str,
) -> Run:
    """Put the run together on this process's device, with the weights of `saved`; its log comes later."""
    check_monitor(settings.training)
    data = open_data(settings)
    model = build_model(settings, data)
    if saved:
        check_same_data(settings, data, saved, source)
        checkpoint.restore_weights(model, saved.weights, source)
    elif settings.init_from:
        initialize_from(model, settings.init_from)
    config = settings.training
    if config.freeze:
        freeze(model, config.freeze)
    model.checkpoint_activations(config.activation_checkpointing)
    model.to(place.device)
    if compiles(config):
        model.compile(dynamic=False)
    network = spread(model, place, config)
    shared = {"rank": place.rank, "world": place.world, "static_shapes": compiles(config)}
    shared["pinned"] = place.device.type == "cuda"
    together = config.gradient_accumulation_steps

    def train_batches(epoch: int, start: int) -> Batches:
        loader, rows = settings.train_loader, data.train_rows
        return Batches(data.train, loader, epoch, start, rows=rows, together=together, **shared)

    def valid_batches() -> Batches:
        return Batches(data.valid, settings.valid_loader, 0, rows=data.valid_rows, **shared)

    def draw() -> None:
        try:  # shares of a model cannot read sentences on one process alone
            settings.picture(settings, data, None if config.parallel == "fsdp" else model)
        except Exception as error:  # whatever a picture lacks, the run goes on
            warnings.warn(f"report.html is not written: {error!r}", stacklevel=2)

    return Run(
        model=model,
        network=network,
        optimizers=Optimizers(model, settings.optimizer),
        place=place,
        config=config,
        optimizer_config=settings.optimizer,
        train_batches=train_batches,
        valid_batches=valid_batches if len(data.valid_rows) else None,
        folder=Path(settings.out_dir),
        facts=facts_of(settings, data),
        signals=signals,
        agreement=agreement,
        tokenizer_json=data.train.header.tokenizer_json,
        commonest_share=commonest_share(data),
        mfu_of=utilisation(settings, data, place),
        after_validation=seldom(draw, REPORT_EVERY) if settings.picture else None,
    )


def check_monitor(config: TrainingConfig) -> None:
    """Refuse a metric that no validation has."""
    if config.monitor not in METRIC_NAMES:
        raise InputError(f"monitor: {config.monitor!r} is no metric; choose from {', '.join(METRIC_NAMES)}")
