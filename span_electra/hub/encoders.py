"""A pretrained encoder, from one of our runs or from any ELECTRA folder of `transformers`, for a TaskNetwork.

Heads are taken along where a task's head is the pretrained one: the discriminator's for words that are wrong,
the generator's for the next token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.errors import InputError
from span_electra.hub.export import read_config, read_weights
from span_electra.hub.networks import open_vocabulary, our_config
from span_electra.hub.weights import PARTS, name_table, stock_weights
from span_electra.model.multi_task import TaskNetwork
from span_electra.pretraining.experiment import load_model
from span_electra.text.vocabulary import Vocabulary, read_text
from span_electra.training import checkpoint

HEAD_OF = {"replaced": "discriminator", "language": "generator"}


@dataclass(frozen=True)
class Pretrained:
    """An encoder as it was pretrained: weights by our names, `encoder.*` and maybe `head.*`."""

    config: ModelConfig  # its network is `discriminator`
    weights: dict[str, Tensor]
    part: str  # the network it was; what its head is good for
    vocabulary: Vocabulary
    source: str

    @property
    def name(self) -> str:
        """The folder's name; that of a run for its networks."""
        folder = Path(self.source).resolve()
        return folder.parent.name if folder.name in PARTS else folder.name


def open_encoder(folder: str | Path, part: str = "discriminator") -> Pretrained:
    """Open a run's folder, one of its checkpoints, an exported folder, or a stock ELECTRA's.

    part: which of a run's two networks. Of a fine-tuned run the best checkpoint is taken, else the newest.
    Raises InputError for what is no ELECTRA or cannot be read.
    """
    folder = Path(folder)
    if (folder / part / "config.json").is_file():
        folder = folder / part
    elif (folder / checkpoint.META).is_file():
        return _from_checkpoint(folder, part, folder.parent.parent)
    elif (folder / "checkpoints").is_dir():
        return _from_run(folder, part)
    config = our_config(read_config(folder))
    if config is None:
        raise InputError(f"{folder}/config.json: an ELECTRA whose layers ours cannot compute; choose another")
    vocabulary = open_vocabulary(folder)
    if config.vocab_size < vocabulary.size:
        raise InputError(
            f"{folder}: its tokenizer has {vocabulary.size} tokens, its network {config.vocab_size}; "
            "they do not belong together, export it again"
        )
    stock = _with_prefix(read_weights(folder))
    found = part_in(stock)
    return Pretrained(config, _ours(stock, config, found, str(folder)), found, vocabulary, str(folder))


def _from_run(folder: Path, part: str) -> Pretrained:
    newest = checkpoint.latest(folder)
    if newest is None:
        raise InputError(f"{folder}: this run has kept no checkpoint yet; wait for its first")
    # Of a fine-tuned model its best, of which its heads are taken too.
    place = best_checkpoint(folder) if "heads" in checkpoint.read_meta(newest) else newest
    return _from_checkpoint(place, part, folder)


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint with the best score, the newest where none was tried; `folder` may be one itself."""
    if (folder / checkpoint.META).is_file():
        return folder
    scores = {}
    for place in checkpoint.in_run(folder):
        try:
            scores[place] = checkpoint.read_meta(place).get("metric")
        except InputError:
            continue  # broken: passed over as in resuming
    if not scores:
        raise InputError(f"{folder}: holds no whole checkpoint; name a folder that finetune_SE.py made")
    tried = [place for place, score in scores.items() if isinstance(score, float)]
    return max(tried, key=lambda place: scores[place]) if tried else next(iter(scores))


def _from_checkpoint(place: Path, part: str, run: Path) -> Pretrained:
    path = run / "tokenizer.json"
    vocabulary = Vocabulary.from_json(read_text(path), str(path))
    meta = checkpoint.read_meta(place)
    if "heads" in meta:  # a fine-tuned model: its encoder alone
        config = config_of(meta.get("model"), f"{place}/{checkpoint.META}")
        saved = checkpoint.load(place).weights
        weights = {name: weight for name, weight in saved.items() if name.startswith("encoder.")}
        # Its source is the encoder that was there first, whose prepared data fit this one too.
        return Pretrained(config, weights, "none", vocabulary, meta.get("encoder", str(run)))
    model = load_model(place)
    if part == "discriminator" and model.config.objective == "generator":
        raise InputError(f"{run}: trained its generator alone; use --network generator")
    network = getattr(model.config, part)
    config = replace(model.config, generator=network, discriminator=network)
    stock = stock_weights(getattr(model, part), part)
    return Pretrained(config, _ours(stock, config, part, str(place)), part, vocabulary, str(run))


def config_of(described: dict, source: str = checkpoint.META) -> ModelConfig:
    """The settings that a checkpoint records. Raises InputError when they are none of ours."""
    try:
        networks = {name: NetworkConfig(**described[name]) for name in PARTS}
        return ModelConfig(**described | networks)
    except (KeyError, TypeError) as error:
        raise InputError(f"{source}: describes no model of ours ({error})") from error


def _with_prefix(stock: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as in a model with a head; a bare ElectraModel was saved without `electra.`."""
    bare = not any(name.startswith("electra.") for name in stock)
    return {f"electra.{name}": weight for name, weight in stock.items()} if bare else stock


def part_in(stock: dict[str, Tensor]) -> str:
    """Which network's head is there; `none` where it is another's or missing."""
    found = [part for part in PARTS if any(name.startswith(f"{part}_predictions.") for name in stock)]
    return found[0] if found else "none"


def _ours(stock: dict[str, Tensor], config: ModelConfig, part: str, source: str) -> dict[str, Tensor]:
    """The weights by our names: all of the encoder, and nothing of it left out."""
    network = config.discriminator
    projected = config.embedding_size != network.hidden_size
    table = name_table(part, network.num_hidden_layers, projected)
    known = {their for _, theirs in table for their in theirs}
    missing = sorted(known - set(stock))
    if missing:
        raise InputError(f"{source}: lacks {missing[0]}; is it a whole ELECTRA of these sizes?")
    known.add("electra.embeddings.position_ids")  # of old folders: counts from 0, nothing learned
    unknown = sorted(name for name in stock if name.startswith("electra.") and name not in known)
    if unknown:
        raise InputError(f"{source}: {unknown[0]} has no place in an ELECTRA of the sizes of its config.json")
    weights = {}
    for name, theirs in table:
        if len({stock[their].shape for their in theirs}) > 1:
            raise InputError(f"{source}: {theirs[0]} has another shape than its sisters; export it again")
        weights[name] = torch.cat([stock[their] for their in theirs]).float()
    return weights


@torch.no_grad()
def take_pretrained(network: TaskNetwork, pretrained: Pretrained) -> None:
    """Copy the encoder, and each head that was pretrained for its task, bit for bit.

    Raises InputError when something is missing or of another size; nothing has been copied then.
    """
    own = dict(network.named_parameters())
    taken = {name: weight for name, weight in pretrained.weights.items() if name.startswith("encoder.")}
    for number, task in enumerate(network.tasks):
        if HEAD_OF.get(task.kind) == pretrained.part:
            heads = {name: weight for name, weight in pretrained.weights.items() if name.startswith("head.")}
            taken |= {name.replace("head.", f"heads.{number}.", 1): heads[name] for name in heads}
    missing = [name for name in own if name.startswith("encoder.") and name not in taken]
    if missing:
        raise InputError(f"{pretrained.source}: lacks {missing[0]}; is it a whole encoder of these sizes?")
    for name, weight in taken.items():
        if name not in own or own[name].shape != weight.shape:
            raise InputError(
                f"{pretrained.source}: {name} is {tuple(weight.shape)}, which does not fit the sizes told "
                "beside it; fetch or export it again"
            )
    for name, weight in taken.items():
        own[name].copy_(weight)
