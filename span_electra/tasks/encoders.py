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
from span_electra.data.vocabulary import Vocabulary, read_text
from span_electra.errors import InputError
from span_electra.model.task_network import TaskNetwork
from span_electra.training import checkpoint
from span_electra.training.prepare import load_model
from span_electra.transfer.export import read_config, read_weights
from span_electra.transfer.networks import open_vocabulary, our_config
from span_electra.transfer.weights import PARTS, name_table, stock_weights

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
    """Open a run's folder, an exported folder, or a stock ELECTRA's.

    part: which of a run's two networks. Raises InputError for what is no ELECTRA or cannot be read.
    """
    folder = Path(folder)
    if (folder / part / "config.json").is_file():
        folder = folder / part
    elif (folder / "checkpoints").is_dir():
        return _from_run(folder, part)
    settings = read_config(folder)
    config = our_config(settings)
    if config is None:
        raise InputError(f"{folder}/config.json: an ELECTRA whose layers ours cannot compute; choose another")
    stock = _with_prefix(read_weights(folder))
    found = part_in(stock)
    return Pretrained(
        config, _ours(stock, config, found, str(folder)), found, open_vocabulary(folder), str(folder)
    )


def _from_run(folder: Path, part: str) -> Pretrained:
    newest = checkpoint.latest(folder)
    if newest is None:
        raise InputError(f"{folder}: this run has kept no checkpoint yet; wait for its first")
    path = folder / "tokenizer.json"
    vocabulary = Vocabulary.from_json(read_text(path), str(path))
    meta = checkpoint.read_meta(newest)
    if "heads" in meta:  # a fine-tuned model: its encoder alone
        weights = {
            name: weight
            for name, weight in checkpoint.load(newest).weights.items()
            if name.startswith("encoder.")
        }
        return Pretrained(config_of(meta["model"]), weights, "none", vocabulary, str(folder))
    model = load_model(newest)
    config = replace(
        model.config, generator=getattr(model.config, part), discriminator=getattr(model.config, part)
    )
    stock = stock_weights(getattr(model, part), part)
    return Pretrained(config, _ours(stock, config, part, str(newest)), part, vocabulary, str(folder))


def config_of(described: dict) -> ModelConfig:
    """The settings that a checkpoint records. Raises InputError when they are none of ours."""
    try:
        networks = {name: NetworkConfig(**described[name]) for name in ("generator", "discriminator")}
        return ModelConfig(**described | networks)
    except (KeyError, TypeError) as error:
        raise InputError(f"meta.json: describes no model of ours ({error})") from error


def _with_prefix(stock: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as in a model with a head; a bare ElectraModel was saved without `electra.`."""
    bare = not any(name.startswith("electra.") for name in stock)
    return {f"electra.{name}": weight for name, weight in stock.items()} if bare else stock


def part_in(stock: dict[str, Tensor]) -> str:
    """Which network's head is there; `none` where it is another's or missing."""
    for part, name in (
        ("discriminator", "discriminator_predictions"),
        ("generator", "generator_predictions"),
    ):
        if any(key.startswith(name) for key in stock):
            return part
    return "none"


def _ours(stock: dict[str, Tensor], config: ModelConfig, part: str, source: str) -> dict[str, Tensor]:
    """The weights by our names, each checked to be there."""
    network = config.discriminator
    projected = config.embedding_size != network.hidden_size
    weights = {}
    for name, theirs in name_table(part, network.num_hidden_layers, projected):
        missing = [their for their in theirs if their not in stock]
        if missing:
            raise InputError(f"{source}: lacks {missing[0]}; is it a whole ELECTRA of these sizes?")
        weights[name] = torch.cat([stock[their] for their in theirs]).float()
    return weights


@torch.no_grad()
def take_pretrained(network: TaskNetwork, pretrained: Pretrained) -> None:
    """Copy the encoder, and each head that was pretrained for its task, bit for bit.

    Raises InputError when sizes differ.
    """
    own = dict(network.named_parameters())
    taken = {name: weight for name, weight in pretrained.weights.items() if name.startswith("encoder.")}
    for number, task in enumerate(network.tasks):
        if HEAD_OF.get(task.kind) == pretrained.part:
            heads = {name: weight for name, weight in pretrained.weights.items() if name.startswith("head.")}
            taken |= {f"heads.{number}.{name.removeprefix('head.')}": heads[name] for name in heads}
    for name, weight in taken.items():
        if name not in own or own[name].shape != weight.shape:
            raise InputError(f"{pretrained.source}: {name} has no place in the network; check the sizes")
        own[name].copy_(weight)
