"""The one way to trained weights: `open_model` of a run, a checkpoint, an exported folder or a stock model.

What comes back knows which networks are there and reads each when it is asked for; every other opener of the
program (networks to predict with, an encoder to fine-tune, a model to go on training) begins here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.errors import InputError
from span_electra.hub.architecture import Weights, cut_back
from span_electra.hub.architectures import architecture_of, model_config
from span_electra.hub.folders import (
    has_tokenizer,
    open_tensors,
    open_vocabulary,
    ours_in,
    read_config,
    read_weights,
    stamp_in,
    stamp_of,
    trained_length,
)
from span_electra.hub.runs import best_checkpoint, is_finetuned, refuse_seeds, vocabulary_of_run
from span_electra.hub.weights import PARTS, our_weights, weights_from_stock
from span_electra.model.electra import SpanElectra
from span_electra.storage import CHECKPOINTS, CONFIG, OURS, RUN_MARK, TOKENIZER, TOKENIZER_CONFIG, read_object
from span_electra.text.own_tokenizer import check_folder
from span_electra.text.vocabulary import Vocabulary
from span_electra.training import checkpoint
from span_electra.utf8 import read_text

SPAN_HEADS = "span_heads.safetensors"  # beside a stock network, which has no place for them
FACTORS = "word_factors.safetensors"  # beside a folded table of words: `word` [V, E], `project` [D, E]


@dataclass(frozen=True)
class Pretrained:
    """One network as it was trained: weights by our names, `encoder.*` and maybe `head.*`."""

    config: ModelConfig  # both of its networks are this one
    weights: Weights
    part: str  # generator, discriminator, or none: what its head is good for
    vocabulary: Vocabulary
    # What it is called by: its folder, that of its run, or the encoder that a fine-tuned one came from.
    source: str
    longest: int  # tokens of the longest row it was trained on; its positions, where nothing tells
    folder: str = ""  # the folder that holds the very weights, where it is another
    # Reads its span-boundary head, which only training that goes on needs; None: it has none.
    span_head: Callable[[], Weights] | None = None

    @property
    def name(self) -> str:
        """The folder's name; that of a run for its networks."""
        folder = Path(self.source).resolve()
        return folder.parent.name if folder.name in PARTS else folder.name


@dataclass(frozen=True)
class Opened:
    """A place with trained networks."""

    source: Path
    vocabulary: Vocabulary
    readers: Mapping[str, Callable[[], Pretrained]]  # of the parts that are there; `none`: an encoder alone
    folders: Mapping[str, Path]  # of parts that stand in stock folders
    checkpoint: Path | None = None  # the one that it was opened at; none: stock folders
    fine_tuned: bool = False  # its checkpoint holds an encoder with the heads of tasks

    def need(self, part: str) -> Pretrained:
        """The network `part`, read now; or whatever single network there is.

        Raises InputError when the other one alone was trained, and for files that are broken.
        """
        if part in self.readers:
            return self.readers[part]()
        if "none" in self.readers or self.source in self.folders.values():  # there is but one
            return next(iter(self.readers.values()))()
        there = next(iter(self.readers))
        raise InputError(f"{self.source}: trained its {there} alone; use --network {there}")

    def check_part(self, part: str) -> None:
        """Refuse the folder of one network where another was asked for by name. Raises InputError."""
        there = next(iter(self.readers))
        if len(self.readers) > 1 or there == part:
            return
        if there == "none":
            raise InputError(f"--network {part}: {self.source} holds an encoder alone; leave it out")
        beside = self.source.parent / part
        other = beside if (beside / CONFIG).is_file() else f"a run, or the folder of a {part}"
        raise InputError(f"--network {part}: {self.source} holds a {there} alone; name {other}")

    def check_tokenizer(self) -> None:
        """Refuse strangers' folders whose tokenizer `transformers` reads otherwise than we; takes seconds.

        For who is about to train with it. Raises InputError.
        """
        for folder in self.folders.values():
            path = folder / TOKENIZER
            told = path.is_file() and (folder / TOKENIZER_CONFIG).is_file()
            if told and OURS not in read_config(folder):
                check_folder(folder, read_text(path), f"mend its {TOKENIZER_CONFIG}, or remove it")

    def trained_length(self, positions: int) -> int:
        """Tokens of the longest row that any of the networks was trained on; `positions` where none tells."""
        if self.checkpoint is not None:
            return trained_length(read_object(self.checkpoint / checkpoint.META), positions)
        told = [ours_in(folder) for folder in self.folders.values()]
        return max(trained_length(ours, positions) for ours in told)

    def pretrained(self) -> list[str]:
        """The generator, the discriminator or both. Raises InputError for an encoder alone, or of a task."""
        found = [part for part in PARTS if part in self.readers]
        if not found:
            settings = read_config(self.source)
            names = ", ".join(settings.get("architectures") or ["unnamed"])
            classes = architecture_of(settings, str(self.source)).classes
            wanted = " or ".join(classes[part] for part in PARTS if part in classes)
            raise InputError(f"{self.source}: its class is {names}; wanted is {wanted}")
        return found


def open_model(folder: str | Path, vocabulary: Vocabulary | None = None) -> Opened:
    """Open a run's folder, one of its checkpoints, an exported folder, or a stock one of `transformers`.

    `vocabulary`: that of a stock folder which brings no tokenizer; none: such a folder is refused.
    A run that has exported nothing yet, or was trained on since, is opened at its newest checkpoint, a
    fine-tuned one at its best.
    Raises InputError for what is none of these, and for networks of two exports side by side.
    """
    folder = Path(folder)
    # Exports before checkpoints: they are what a finished run stands for, and open without its optimizer.
    found = {part: folder / part for part in PARTS if (folder / part / CONFIG).is_file()}
    if found and are_current(folder, found.values()):
        return _open_folders(folder, found, vocabulary)
    if (folder / checkpoint.META).is_file():
        return _open_checkpoint(folder, folder.parent.parent)
    if (folder / CHECKPOINTS).is_dir() or (folder / RUN_MARK).is_file():
        # Of a fine-tuned run its best, which its heads are taken of too.
        step_folder = best_checkpoint(folder) if is_finetuned(folder) else checkpoint.latest(folder)
        if step_folder is None:
            raise InputError(
                f"{folder}: this run has kept no checkpoint yet; wait for its first, or name another"
            )
        return _open_checkpoint(step_folder, folder)
    refuse_seeds(folder)
    return _open_folders(folder, {part_of(head_of(folder)): folder}, vocabulary)


def are_current(run: Path, exports: Collection[Path]) -> bool:
    """Whether exports are of the newest checkpoint beside them, and so of each other; true without any.

    They are not where the run was trained on since, or where a later export failed. Raises InputError where
    no checkpoint tells and they are not of each other.
    """
    stamps = [stamp_in(folder) for folder in exports]
    with suppress(StopIteration, KeyError, TypeError, AttributeError):  # there is none, or a damaged one
        newest = stamp_of(read_object(next(checkpoint.in_run(run)) / checkpoint.META))
        return all(stamp == newest for stamp in stamps)
    if any(stamp != stamps[0] for stamp in stamps):
        raise InputError(
            f"{run}: generator/ and discriminator/ were exported from different checkpoints; export again, "
            "or name one of them"
        )
    return True


def head_of(folder: Path) -> str:
    """Which head the class of a stock folder has; see `Architecture.head_in`."""
    settings = read_config(folder)
    return architecture_of(settings, str(folder / CONFIG)).head_in(settings)


def part_of(head: str) -> str:
    """The network to train on with a head: the generator for a causal one too; `none` for tasks' heads."""
    return {"causal": "generator"}.get(head, head if head in PARTS else "none")


# --- stock folders --------------------------------------------------------------------------------------


def _open_folders(source: Path, found: dict[str, Path], given: Vocabulary | None) -> Opened:
    vocabularies = {
        part: open_vocabulary(folder) if given is None or has_tokenizer(folder) else given
        for part, folder in found.items()
    }
    if len({vocabulary.sha256 for vocabulary in vocabularies.values()}) > 1:
        raise InputError(f"{source}: its two networks have different vocabularies; pair those of one run")
    vocabulary = next(iter(vocabularies.values()))
    for folder in found.values():
        # More rows than tokens are padding; fewer would be an index beyond the table, far from here.
        size = read_config(folder).get("vocab_size", vocabulary.size)
        if size < vocabulary.size:
            raise InputError(
                f"{folder}: its tokenizer has {vocabulary.size} tokens, its network {size}; "
                "they do not belong together, export it again"
            )
    # Read when asked for: a discriminator to fine-tune does not wait for the generator's gigabyte.
    readers = {
        part: (lambda folder=folder: read_folder(folder, vocabulary)) for part, folder in found.items()
    }
    return Opened(source, vocabulary, readers, found)


def read_folder(folder: Path, vocabulary: Vocabulary) -> Pretrained:
    """The network of a stock folder. Raises InputError where ours can compute none such."""
    settings = read_config(folder)
    config = model_config(settings, str(folder / CONFIG))
    if config is None:
        raise InputError(f"{folder}/{CONFIG}: a network whose layers ours cannot compute; choose another")
    record = architecture_of(settings, str(folder / CONFIG))
    head = record.head_in(settings)
    # By the head that its class has: another head's weights have no place in ours, and would be refused.
    weights = weights_from_stock(
        read_weights(folder),
        record,
        head=head if part_of(head) != "none" else "none",
        layers=config.discriminator.num_hidden_layers,
        projected=bool(record.projection) and config.embedding_size != config.discriminator.hidden_size,
        source=str(folder),
    )
    if head == "discriminator":
        weights = cut_back(weights)
        width, whole = weights["head.dense.weight"].shape
        config = replace(config, dim_final_feedforward=width % whole)
    if (folder / FACTORS).is_file():
        config, weights = _with_factors(config, weights, open_tensors(folder / FACTORS))
    longest, aside = trained_length(ours_in(folder), config.max_position_embeddings), folder / SPAN_HEADS
    told = {"longest": longest, "span_head": partial(open_tensors, aside) if aside.is_file() else None}
    return Pretrained(config, weights, part_of(head), vocabulary, str(folder), **told)


def _with_factors(config: ModelConfig, weights: Weights, factors: Weights) -> tuple[ModelConfig, Weights]:
    """The table of words as the two factors it was folded from; as it is where it was trained on since."""
    # Somebody may have fine-tuned the folder since: then the factors beside it are of an older table.
    table = weights["encoder.embeddings.word.weight"]
    word, project = factors.get("word"), factors.get("project")
    if word is None or project is None or word.dim() != 2 or project.dim() != 2:
        return config, weights
    # Nor need they be of its size any more, where tokens were added to it in place.
    fit = word.shape[1] == project.shape[1] and (len(word), len(project)) == table.shape
    if not fit or not torch.allclose(word @ project.T, table, atol=1e-6, rtol=1e-4):
        return config, weights
    unfolded = {"encoder.embeddings.word.weight": word, "encoder.project.weight": project}
    return replace(config, embedding_size=word.shape[1]), weights | unfolded


# --- runs and checkpoints -------------------------------------------------------------------------------


def _open_checkpoint(folder: Path, run: Path) -> Opened:
    vocabulary = vocabulary_of_run(run)
    meta = checkpoint.read_meta(folder, hashed=False)  # whoever reads the tensors hashes them
    if "heads" in meta:
        readers = {"none": lambda: _read_fine_tuned(folder, run, vocabulary)}
        return Opened(run, vocabulary, readers, {}, folder, fine_tuned=True)
    # A generator that was trained alone stands beside a discriminator that is still random.
    alone = (meta.get("model") or {}).get("objective") == "generator"
    model = cache(lambda: load_model(folder))  # both parts are in one file
    readers = {
        part: (lambda part=part: _read_part(model(), part, vocabulary, run=run, folder=folder, meta=meta))
        for part in (PARTS[:1] if alone else PARTS)
    }
    return Opened(run, vocabulary, readers, {}, folder)


def _read_part(
    model: SpanElectra, part: str, vocabulary: Vocabulary, *, run: Path, folder: Path, meta: dict[str, Any]
) -> Pretrained:
    network, longest = getattr(model.config, part), trained_length(meta, model.config.max_position_embeddings)
    width = model.config.dim_final_feedforward if part == "discriminator" else 0
    config = replace(model.config, generator=network, discriminator=network, dim_final_feedforward=width)
    weights, head = our_weights(getattr(model, part)), getattr(model, part).span_head
    told = {"longest": longest, "folder": str(folder), "span_head": head and head.state_dict}
    return Pretrained(config, weights, part, vocabulary, str(run), **told)


def _read_fine_tuned(folder: Path, run: Path, vocabulary: Vocabulary) -> Pretrained:
    """A fine-tuned model's encoder alone."""
    saved = checkpoint.load(folder)
    config = config_of(saved.meta.get("model"), f"{folder}/{checkpoint.META}")
    weights = {name: weight for name, weight in saved.weights.items() if name.startswith("encoder.")}
    longest = trained_length(saved.meta, config.max_position_embeddings)
    # The encoder that was there first, whose prepared data fit this one too.
    source = saved.meta.get("encoder", str(run))
    return Pretrained(config, weights, "none", vocabulary, source, longest=longest)


def load_model(folder: str | Path) -> SpanElectra:
    """Rebuild both networks of a checkpoint of pretraining. Raises InputError for what is none."""
    saved = checkpoint.load(folder)
    config = config_of(saved.meta.get("model"), f"{folder}/{checkpoint.META}")
    try:
        # The mask's id is the vocabulary's, not a setting, so the checkpoint has it by itself.
        model = SpanElectra(config, int(saved.meta["mask_id"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: its meta.json describes no model of ours ({error})") from error
    checkpoint.restore_weights(model, saved.weights, str(folder))
    return model


def config_of(described: dict[str, Any] | None, source: str = checkpoint.META) -> ModelConfig:
    """The settings that a checkpoint records. Raises InputError when they are none of ours."""
    try:
        # Settings that a release has not known take its defaults; one that is unknown here is an error.
        networks = {name: NetworkConfig(**described[name]) for name in PARTS}
        return ModelConfig(**described | networks)
    except (KeyError, TypeError) as error:
        raise InputError(f"{source}: describes no model of ours ({error})") from error
