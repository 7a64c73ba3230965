"""Settings of pretraining -> opened features, and the rows of them that are used and held out."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from span_electra.config import ModelConfig
from span_electra.counted import counted, few
from span_electra.data_config import ChunkConfig, MaskingConfig, masking_phases
from span_electra.errors import InputError
from span_electra.features.header import FeatureHeader
from span_electra.features.masking import span_budget
from span_electra.features.split import train_valid_split
from span_electra.features.store import Features, find_files, open_features
from span_electra.pretraining.arguments import TrainDataArguments
from span_electra.pretraining.course import final_masking
from span_electra.pretraining.settings import PretrainingSettings

# In which token frequencies are counted: of 128 tokens these rows are 4 million, enough for all but the
# rarest, and read in a second.
FREQUENCY_ROWS = 32768


@dataclass(frozen=True)
class Data:
    """Opened features and the rows of them that are used."""

    train: Features
    train_rows: np.ndarray
    valid: Features
    valid_rows: np.ndarray  # may be empty


def held_out(data: Data) -> str | None:
    """Which training rows are held out, as a hash; None: none, or others have a file of their own."""
    rows = data.valid_rows if data.valid is data.train else data.valid_rows[:0]
    return hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest() if len(rows) else None


def open_data(settings: PretrainingSettings) -> Data:
    """Open the features and choose rows. Raises InputError when they do not fit together or to the model."""
    train = open_features(list(settings.train_features))
    splits = settings.valid_split if not settings.valid_features else (0.0,)
    seed = settings.training.seed
    train_rows, valid_rows = rows_of(settings.train_features, settings.train_rows, splits, seed)
    valid = train
    if settings.valid_features:
        valid = open_features(list(settings.valid_features))
        valid_rows, _ = rows_of(settings.valid_features, settings.valid_rows, (0.0,), seed, "valid_occur")
        ours, theirs = train.header.vocabulary_sha256, valid.header.vocabulary_sha256
        if ours != theirs:
            raise InputError(
                f"{settings.valid_features[0]}: made with vocabulary {theirs[:12]}, the training features "
                f"with {ours[:12]}; run create_feature_SE.py again with one vocabulary for both"
            )
        warn_of_shared(train, valid)
        warn_of_other_rows(settings, train.header, valid.header)
    elif any(settings.valid_rows):  # of the rows held out, valid_split says how many
        warnings.warn(
            "valid_occur: counts the rows of a --valid_file, and none is named; name one or leave it out",
            stacklevel=1,
        )
    validated = final_masking(settings, train.header.masking) or valid.header.masking
    if not train.header.masked and not settings.train_loader.masking_schedule:
        warnings.warn(
            f"{settings.train_features[0]}: hides no token, so there is nothing to learn; make features with "
            "a larger --mask_ratio or --max_seq_len, or give --masking_schedule",
            stacklevel=1,
        )
    elif len(valid_rows) and not span_budget(valid.lengths_R[valid_rows], validated.mask_ratio).any():
        warnings.warn(
            f"{(settings.valid_features or settings.train_features)[0]}: "
            f"{counted(len(valid_rows), 'held-out row')} too short to hide a token: validations tell nothing "
            "of the generator, and keep no best checkpoint by it; hold out longer text",
            stacklevel=1,
        )
    if not len(train_rows):
        raise InputError(f"{settings.train_features[0]}: has no rows; give create_feature_SE.py more text")
    # Now, not at the first batch that holds a row too long, which may come after hours.
    longest = max(train.header.max_seq_len, valid.header.max_seq_len)
    if longest > (most := settings.model.max_position_embeddings):
        # Weights that are gone on with have as many rows for positions as they have.
        raises = "" if settings.init_from or settings.resume_from else "raise it or "
        raise InputError(
            f"max_position_embeddings: {most} is less than the features' max_seq_len {longest}; {raises}make "
            f"shorter features (create_feature_SE.py --max_seq_len {most})"
        )
    return Data(train, train_rows, valid, valid_rows)


def warn_of_shared(train: Features, valid: Features) -> None:
    """Warn where named validation features are also trained on, or made of texts that are."""
    learned = {source.sha256 for source in train.header.sources}
    shared = find_files([*train.files, *valid.files])[1]
    shared = shared or [source.path for source in valid.header.sources if source.sha256 in learned]
    if shared:
        warnings.warn(
            f"{few([str(name) for name in shared])}: in the training features and in those of --valid_file, "
            "so that held-out rows are learned from, and their numbers flatter; leave it out of one of them",
            stacklevel=2,
        )


def warn_of_other_rows(settings: PretrainingSettings, train: FeatureHeader, valid: FeatureHeader) -> None:
    """Warn where named validation features have other rows, or other masks that count, than training's.

    It may be meant; but in rows of another length, or masked otherwise, the same text has other losses.
    """
    ours, theirs = ({"max_seq_len": header.max_seq_len} for header in (train, valid))
    if not settings.train_loader.masking_schedule:  # whose last phase masks held-out rows, whatever is theirs
        ours |= train.masking.chosen()
        theirs |= valid.masking.chosen()
    if other := [name for name in ours if ours[name] != theirs[name]]:
        made = ", ".join(f"{name} {theirs[name]} (training {ours[name]})" for name in other)
        warnings.warn(
            f"{settings.valid_features[0]}: made with {made}: its numbers are of other rows or masks than "
            "those that are learned; unless that is meant, run create_feature_SE.py again as for training",
            stacklevel=2,
        )


def rows_of(
    paths: tuple[str, ...],
    limits: tuple[int, ...],
    splits: tuple[float, ...],
    seed: int,
    limit_name: str = "train_occur",
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to use and rows held out, numbered over all files.

    One limit and one split hold for all files together; where either is given for each, both are a file's.
    Raises InputError for another number of values than files, and for one count beside a list.
    """
    if len(limits) == 1 and len(splits) == 1:
        rows = open_features(list(paths), verify=False).rows
        return train_valid_split(rows, limits[0], splits[0], seed, source=", ".join(paths))
    for name, values in ((limit_name, limits), ("valid_split", splits)):
        # By files, not by what a glob or a folder of shards stands for: so the flags were written.
        if len(values) not in (1, len(paths)):
            given = f"{counted(len(values), 'value')} for {counted(len(paths), 'file')}"
            raise InputError(f"{name}: {given}; give one, or one for each")
        # A share of each file is the same share of all; a number is not.
        if len(values) == 1 and values[0] >= 1:
            other = "valid_split" if name == limit_name else limit_name
            raise InputError(
                f"{name}: one count ({values[0]:,.0f}), but {other} has one value for each file; give one "
                "count for each file"
            )
    if again := find_files(paths)[1]:  # it is read once, and no value could be both
        raise InputError(f"{again[0]}: named twice, where each file has a value; name it once, with one")
    # File by file, so that each gives its share to validation; numbers go on from file to file.
    used, held, before = [], [], 0
    for number, path in enumerate(paths):
        rows = open_features(path, verify=False).rows
        limit, split = limits[number % len(limits)], splits[number % len(splits)]
        chosen, out = train_valid_split(rows, limit, split, seed, source=path)
        used.append(chosen + before)
        held.append(out + before)
        before += rows
    return np.concatenate(used), np.concatenate(held)


def settings_unread(asked: TrainDataArguments, train_files: Sequence[str]) -> list[str]:
    """What is asked of rows and masks that nothing reads; a line for each."""
    if asked.raw_text_dir and not asked.train_file:  # the features were made just now, and as is asked
        return masks_unread(asked)
    return settings_of_text(asked, open_features(list(train_files), verify=False))


def settings_of_text(asked: TrainDataArguments, train: Features) -> list[str]:
    """What is asked of rows and masks that the features were not made with: it changes nothing, and is said.

    Only values that differ from the default are reported.
    """
    header, said = train.header, []
    for kind, made in ((MaskingConfig, header.masking), (ChunkConfig, header.chunking)):
        for entry in fields(kind):
            value, theirs = getattr(asked, entry.name, entry.default), getattr(made, entry.name)
            if value not in (entry.default, theirs):
                other = f", or give --masking_schedule '0: {entry.name}={value}'" * (kind is MaskingConfig)
                said.append(
                    f"{entry.name}: {value} changes nothing, the features were made with {theirs}; make "
                    f"them with create_feature_SE.py --{entry.name} {value}{other}"
                )
    given = [name for name in ("raw_text_dir", "tokenizer", "vocab_file") if getattr(asked, name)]
    if given:
        said.append(f"{', '.join(given)}: not read, as the features are made already")
    return said


def masks_unread(asked: TrainDataArguments) -> list[str]:
    """What is asked of masks that every phase of the masking_schedule says itself: it decides nothing."""
    phases = masking_phases(asked.masking_schedule)
    return [
        f"{entry.name}: {getattr(asked, entry.name)} changes nothing, as every phase of the masking_schedule "
        f"says its own (a preset's, where you gave none); give --masking_schedule '0: {entry.name}=...'"
        for entry in fields(MaskingConfig)
        if phases and getattr(asked, entry.name, entry.default) != entry.default
        if all(entry.name in phase.settings for phase in phases)
    ]


def commonest_share(data: Data) -> float:
    """Share of the commonest token among the content of some rows: what always guessing it would score."""
    counts_V = token_counts(data, 512)
    return float(counts_V.max() / max(1, counts_V.sum()))


def token_counts(data: Data, rows: int) -> np.ndarray:
    """How often each token is content in about so many training rows, evenly taken, int64 [V]."""
    header = data.train.header
    rows_R = data.train_rows[:: max(1, len(data.train_rows) // rows)]
    counts_V = np.zeros(header.vocab_size, np.int64)
    # All at once, long rows would take gigabytes.
    for rows_B in np.array_split(rows_R, -(-len(rows_R) // 1024)):
        ids_BL = data.train.gather(rows_B, int(data.train.lengths_R[rows_B].max()))
        counts_V += np.bincount(ids_BL.ravel(), minlength=header.vocab_size)
    # Never masked, and so never guessed, also where a text spells them out.
    counts_V[[header.cls_id, header.sep_id, header.pad_id, header.mask_id]] = 0
    return counts_V


def sized_model(config: ModelConfig, data: Data) -> ModelConfig:
    """The model's settings with a vocabulary size that holds the features' ids."""
    # More rows than ids are allowed: round sizes are faster, and tokens may be added later.
    needed = data.train.header.vocab_size
    if config.vocab_size is None:
        return replace(config, vocab_size=needed)
    if config.vocab_size < needed:
        raise InputError(
            f"vocab_size: {config.vocab_size} is less than the features' {needed}; set it to null or to "
            "more; with --init_from make the features with its tokenizer (create_feature_SE.py --tokenizer) "
            "or, where tokens were added to it, give --add_tokens here too"
        )
    return config
