"""Trained networks, opened for use: a run of ours, a pair of exported folders, or any single stock ELECTRA.

Shapes are in the names:
  R  rows   L  tokens of a row, [CLS] and [SEP] included   B  rows of a batch   V  vocabulary
  D  width  S  asked places
Rows are arrays of ids of different lengths. They are sorted by length, so that a batch pads little, and what
comes back stands in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from span_electra.accelerators import find_device
from span_electra.config import ModelConfig, NetworkConfig
from span_electra.errors import InputError
from span_electra.hub.export import ARCHITECTURE, OURS, SIZES, read_config, read_part, read_weights
from span_electra.hub.weights import PARTS, take_stock_weights
from span_electra.model.electra import Discriminator, Generator
from span_electra.model.encoder import Encoder
from span_electra.model.layers import ACTIVATION
from span_electra.pretraining.experiment import load_model
from span_electra.text.vocabulary import Vocabulary, read_text
from span_electra.training import checkpoint

# Padded tokens of a batch at most, whatever its rows: the feed-forward part of a large model then needs
# 16384 * 4096 * 4 bytes = 256 MiB.
BATCH_TOKENS = 16384
# Places whose log-probabilities over the vocabulary are held together: 1024 * 30522 * 4 bytes = 125 MB.
ASKED_PLACES = 1024


@dataclass(frozen=True)
class Network:
    """One network in two steps, so that logits are computed only where they are asked for."""

    encode: Callable[[Tensor, Tensor | None], Tensor]  # ids_BL, real_BL or None -> states_BLD
    answer: Callable[[Tensor], Tensor]  # states [..., D] -> a generator's logits [..., V], else [...]
    longest: int  # tokens of the longest row it can read
    vocab_size: int
    source: str  # the folder it came from


@dataclass(frozen=True)
class Networks:
    """A generator, a discriminator or both, with the vocabulary they read."""

    vocabulary: Vocabulary
    device: str
    generator: Network | None = None
    discriminator: Network | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest row that all can read, [CLS] and [SEP] included."""
        return min(network.longest for network in (self.generator, self.discriminator) if network)

    def need(self, part: str) -> Network:
        """The generator or the discriminator. Raises InputError when it was not opened."""
        network = getattr(self, part)
        if network is None:
            other = (self.generator or self.discriminator).source
            raise InputError(
                f"{other}: this needs a {part}; name a run, or a folder that holds both networks"
            )
        return network


# --- opening ------------------------------------------------------------------------------------------


def open_networks(folder: str | Path, device: str = "auto") -> Networks:
    """Open a run's folder, a folder with generator/ and discriminator/, or that of one network.

    A run that has exported nothing yet is opened at its newest checkpoint. Raises InputError for a folder
    that holds no network, weights that do not fit their config, and a device that is not there.
    """
    folder, device = Path(folder), str(find_device(device))
    found = {part: folder / part for part in PARTS if (folder / part / "config.json").is_file()}
    newest = None if found or not (folder / "checkpoints").is_dir() else checkpoint.latest(folder)
    if newest is not None:
        return _from_checkpoint(newest, folder / "tokenizer.json", device)
    if not found and (folder / "run.json").is_file():
        raise InputError(
            f"{folder}: this run has kept no checkpoint yet; wait for its first, or name another"
        )
    if not found:
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: no network there (no config.json); name a run or an exported folder")
        found = {read_part(folder): folder}
    vocabularies = {part: open_vocabulary(place) for part, place in found.items()}
    if len({vocabulary.sha256 for vocabulary in vocabularies.values()}) > 1:
        raise InputError(f"{folder}: its two networks have different vocabularies; pair those of one run")
    networks = {part: _open_network(place, part, device) for part, place in found.items()}
    vocabulary = next(iter(vocabularies.values()))
    for part, network in networks.items():
        if network.vocab_size < vocabulary.size:
            raise InputError(
                f"{found[part]}: its tokenizer has {vocabulary.size} tokens, its network "
                f"{network.vocab_size}; they do not belong together, export the run again"
            )
    return Networks(vocabulary, device, **networks)


def newest_run(prefix: str | Path = "runs") -> Path:
    """The run under `prefix` that was exported last. Raises InputError when there is none."""
    runs = [path.parent for part in PARTS for path in Path(prefix).glob(f"*/{part}")]
    if not runs:
        raise InputError(f"no model named and none in {prefix}/; name a run or an exported folder")
    return max(runs, key=lambda run: run.stat().st_mtime)


def open_vocabulary(folder: Path) -> Vocabulary:
    """Open the tokenizer of an exported folder."""
    path = folder / "tokenizer.json"
    if path.is_file():
        vocabulary = Vocabulary.from_json(read_text(path), str(path))
    elif (folder / "vocab.txt").is_file():
        # Folders older than tokenizer.json: transformers knows how to read their settings.
        from transformers import AutoTokenizer

        opened = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        vocabulary = Vocabulary.from_json(opened.backend_tokenizer.to_str(), str(folder / "vocab.txt"))
    else:
        raise InputError(f"{folder}: no tokenizer.json in it; name a folder that holds network and tokenizer")
    # What a saved tokenizer may bring along and what would cut or fill rows behind our back.
    vocabulary.tokenizer.no_padding()
    vocabulary.tokenizer.no_truncation()
    return vocabulary


def _from_checkpoint(folder: Path, tokenizer: Path, device: str) -> Networks:
    model = load_model(folder).to(device).eval()
    vocabulary = Vocabulary.from_json(read_text(tokenizer), str(tokenizer))
    parts = PARTS[:1] if model.config.objective == "generator" else PARTS
    networks = {part: _ours(getattr(model, part), model.config, str(folder)) for part in parts}
    return Networks(vocabulary, device, **networks)


def _open_network(folder: Path, part: str, device: str) -> Network:
    """Our own encoder where the folder's network is one, else the stock class."""
    config = our_config(read_config(folder))
    weights = read_weights(folder)
    if config is None:
        return _stock(folder, part, device)
    if part == "generator":
        module = Generator(config)
    else:
        module = Discriminator(config, Encoder(config.discriminator, config))
    take_stock_weights(module, part, weights, str(folder))
    return _ours(module.to(device).eval(), config, str(folder))


def our_config(settings: dict[str, Any]) -> ModelConfig | None:
    """The settings of our encoder that computes what a stock config.json describes; None: there is none."""
    usual = {"hidden_act": "gelu", "position_embedding_type": "absolute", "tie_word_embeddings": True}
    settings = usual | settings
    if (
        settings["hidden_act"] not in ACTIVATION
        or settings["position_embedding_type"] != "absolute"
        or not settings["tie_word_embeddings"]
    ):
        return None
    try:
        network = NetworkConfig(**{name: settings[name] for name in SIZES})
        return ModelConfig(
            vocab_size=settings["vocab_size"],
            embedding_size=settings["embedding_size"],
            max_position_embeddings=settings.get("max_position_embeddings", 512),
            type_vocab_size=settings.get("type_vocab_size", 2),
            generator=network,
            discriminator=network,
            hidden_act=settings["hidden_act"],
            layer_norm_eps=settings.get("layer_norm_eps", 1e-12),
            initializer_range=settings.get("initializer_range", 0.02),
            initialization=settings.get(OURS, {}).get("initialization", "normal"),
        )
    except (KeyError, TypeError, AttributeError):
        return None  # sizes left out have defaults that the stock class knows


def _ours(module: Generator | Discriminator, config: ModelConfig, source: str) -> Network:
    def answer(states: Tensor) -> Tensor:
        if isinstance(module, Generator):
            return module.head(states, module.encoder)
        return module.head(states)

    longest = config.max_position_embeddings
    return Network(module.encoder, answer, longest, config.vocab_size, source)


def _stock(folder: Path, part: str, device: str) -> Network:
    # 4 s of import, so not at the top.
    import transformers

    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # what it would warn of is refused below
    try:
        model, found = getattr(transformers, ARCHITECTURE[part]).from_pretrained(
            folder, local_files_only=True, output_loading_info=True, use_safetensors=True
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{folder}: its network cannot be opened ({reason})") from None
    finally:
        transformers.logging.set_verbosity(verbosity)
    if found["missing_keys"]:
        raise InputError(f"{folder}: its weights lack {sorted(found['missing_keys'])[0]}; export it again")
    model = model.to(device).eval()

    def encode(ids_BL: Tensor, real_BL: Tensor | None) -> Tensor:
        asked = None if real_BL is None else real_BL.long()
        return model.electra(ids_BL, attention_mask=asked).last_hidden_state

    def answer(states: Tensor) -> Tensor:
        if part == "generator":
            return model.generator_lm_head(model.generator_predictions(states))
        return model.discriminator_predictions(states)

    config = model.config
    return Network(encode, answer, config.max_position_embeddings, config.vocab_size, str(folder))


# --- running ------------------------------------------------------------------------------------------


def length_batches(lengths_R: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the numbers of rows of similar length, longest first, so that memory runs out at once or never.

    A batch has at most `batch_size` rows and BATCH_TOKENS padded tokens, but at least one row.
    """
    order_R = np.argsort(-lengths_R, kind="stable")
    start = 0
    while start < len(order_R):
        rows = min(batch_size, max(1, BATCH_TOKENS // int(lengths_R[order_R[start]])))
        yield order_R[start : start + rows]
        start += rows


def padded(networks: Networks, rows: list[np.ndarray]) -> tuple[Tensor, Tensor | None]:
    """Return ids [B, L] and, where rows are padded, which tokens are real, on the device."""
    lengths_B = np.array([len(row) for row in rows])
    ids_BL = np.full((len(rows), lengths_B.max()), networks.vocabulary.pad_id, np.int64)
    real_BL = np.arange(ids_BL.shape[1]) < lengths_B[:, None]
    ids_BL[real_BL] = np.concatenate(rows)
    marked_BL = None if real_BL.all() else torch.from_numpy(real_BL).to(networks.device)
    return torch.from_numpy(ids_BL).to(networks.device), marked_BL


@torch.inference_mode()
def for_each_token(
    networks: Networks,
    part: str,
    rows: list[np.ndarray],
    batch_size: int,
    what: Callable[[Tensor], Tensor] | None = None,
) -> list[np.ndarray]:
    """Return what the network says of every token of every row, float32 [L, ...] a row.

    That is `what` of its hidden states; none: its head's answer.
    """
    network, found = networks.need(part), [None] * len(rows)
    lengths_R = np.array([len(row) for row in rows], dtype=np.int64)
    for numbers_B in length_batches(lengths_R, batch_size):
        states_BLD = network.encode(*padded(networks, [rows[number] for number in numbers_B]))
        said = (what or network.answer)(states_BLD).float().cpu().numpy()
        for place, number in enumerate(numbers_B):
            found[number] = said[place, : lengths_R[number]].copy()
    return found


def replaced_probability(networks: Networks, rows: list[np.ndarray], batch_size: int) -> list[np.ndarray]:
    """Return the discriminator's probability of `was replaced` for every token, float32 [L] a row."""
    answer = networks.need("discriminator").answer
    return for_each_token(
        networks, "discriminator", rows, batch_size, lambda states: answer(states).sigmoid()
    )


@torch.inference_mode()
def filling_log_probability(
    networks: Networks, rows: list[np.ndarray], places: list[np.ndarray], batch_size: int
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield (numbers_S, log probabilities [S, V]) by batches: the generator's at the asked places alone.

    `places[r]` are positions in row r. The places are numbered over all rows, in order; `numbers_S` says
    which ones a batch answers. The probabilities are float32 on the device.
    """
    network = networks.need("generator")
    lengths_R = np.array([len(row) for row in rows], dtype=np.int64)
    counts_R = np.array([len(asked) for asked in places], dtype=np.int64)
    first_R = np.cumsum(counts_R) - counts_R
    for numbers_B in length_batches(lengths_R, batch_size):
        ids_BL, real_BL = padded(networks, [rows[number] for number in numbers_B])
        width = ids_BL.shape[1]
        flat_S = np.concatenate([place * width + places[row] for place, row in enumerate(numbers_B)])
        if not len(flat_S):
            continue
        numbers_S = np.concatenate([np.arange(counts_R[row]) + first_R[row] for row in numbers_B])
        asked_S = torch.from_numpy(flat_S.astype(np.int64)).to(networks.device)
        states_SD = network.encode(ids_BL, real_BL).flatten(0, 1).index_select(0, asked_S)
        for first in range(0, len(numbers_S), ASKED_PLACES):
            some = slice(first, first + ASKED_PLACES)
            yield numbers_S[some], F.log_softmax(network.answer(states_SD[some]).float(), dim=-1)
