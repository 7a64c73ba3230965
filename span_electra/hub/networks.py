"""Trained networks, opened for use: a run of ours, a pair of exported folders, or any single stock ELECTRA.

Shapes are in the names:
  R  rows   L  tokens of a row, [CLS] and [SEP] included   B  rows of a batch   V  vocabulary
  D  width  S  asked places
Rows are arrays of ids of different lengths. They are sorted by length, so that a batch pads little, and what
comes back stands in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from span_electra.accelerators import find_device
from span_electra.errors import InputError, reason_of
from span_electra.hub.architectures import architecture_of, model_config
from span_electra.hub.folders import ours_in, ours_of, read_config, trained_length
from span_electra.hub.opening import Pretrained, head_of, open_model
from span_electra.hub.runs import heads_of
from span_electra.hub.weights import PARTS, take_weights
from span_electra.model.electra import Discriminator, Generator
from span_electra.model.encoder import Encoder
from span_electra.text.vocabulary import Vocabulary

# Padded tokens of a batch at most, whatever its rows: the feed-forward part of a large model then needs
# 16384 * 4096 * 4 bytes = 256 MiB.
BATCH_TOKENS = 16384
# Places whose log-probabilities over the vocabulary are held together: 1024 * 30522 * 4 bytes = 125 MB.
ASKED_PLACES = 1024


@dataclass(frozen=True)
class Network:
    """One network in two steps, so that logits are computed only where they are asked for."""

    encode: Callable[[Tensor, Tensor | None], Tensor]  # ids_BL, attention_mask_BL or None -> states_BLD
    answer: Callable[[Tensor], Tensor]  # states [..., D] -> a generator's logits [..., V], else [...]
    # Tokens of the longest row it was trained on: beyond, ELECTRA's positions are still random, and others
    # new to it. Where nothing tells, as many as it has positions for.
    longest: int
    source: str  # the folder it came from


@dataclass(frozen=True)
class Networks:
    """A generator, a discriminator or both, with the vocabulary they read."""

    vocabulary: Vocabulary
    device: str
    generator: Network | None = None
    discriminator: Network | None = None
    batch_size: int = 32  # rows computed together, at most
    checkpoint: Path | None = None  # the one that they were opened at; none: stock folders

    @property
    def longest(self) -> int:
        """Tokens of the longest row that all have learned to read, [CLS] and [SEP] included."""
        return min(network.longest for network in (self.generator, self.discriminator) if network)

    def need(self, part: str) -> Network:
        """The generator or the discriminator. Raises InputError when it was not opened."""
        network = getattr(self, part)
        if network is None:
            other = (self.generator or self.discriminator).source
            raise InputError(f"{other}: this needs a {part}; name a model with both networks")
        return network


# --- opening ------------------------------------------------------------------------------------------


def open_networks(folder: str | Path, device: str = "auto", batch_size: int = 32) -> Networks:
    """Open a run's folder, a folder with generator/ and discriminator/, or that of one network.

    Raises InputError for a folder that holds no network or one from left to right, weights that do not fit
    their config, and a device that is not there.
    """
    # The stock class where ours compute something else; ours otherwise, which need no transformers to run.
    chosen = str(find_device(device))
    opened = open_model(folder)
    networks = {}
    for part in [part for part in PARTS if part in opened.readers]:
        place = opened.folders.get(part)
        # Its weights would fit the generator, which looks both ways and was never asked for what comes next.
        if place is not None and head_of(place) == "causal":
            raise InputError(
                f"{place}: foretells next tokens and fills no [MASK]; name a run of pretraining or its "
                "exports, or talk with the run that it is of (predict_SE.py RUN --talk)"
            )
        if place is not None and model_config(read_config(place), str(place)) is None:
            networks[part] = _stock(place, part, chosen)
        else:
            networks[part] = _ours(opened.need(part), chosen)
    if not networks:
        task = ours_of(read_config(folder)).get("task") if opened.folders else None
        # `finetune_SE.py` writes exports to exported/ in the run.
        run = Path(folder).parent.parent
        said = "holds no generator and no discriminator; name a run of pretraining or its exports"
        if task:
            named = f"its run, {run}," if heads_of(run) else "its run,"
            said = f"holds task {task!r} as exported; name {named} or open it with transformers"
        raise InputError(f"{folder}: {said}")
    return Networks(
        opened.vocabulary, chosen, **networks, batch_size=batch_size, checkpoint=opened.checkpoint
    )


def _ours(pretrained: Pretrained, device: str) -> Network:
    # Heads at the spans' boundaries are for training: they ask where spans are, and a text has none.
    config = replace(pretrained.config, use_SBGO=False, use_SBPO=False, average_span_predictions=False)
    if pretrained.part == "generator":
        module = Generator(config)
    else:
        module = Discriminator(config, Encoder(config.discriminator, config))
    take_weights(module, pretrained.weights, pretrained.source)
    module.to(device).eval()

    def answer(states: Tensor) -> Tensor:
        return module.head(states, module.encoder) if pretrained.part == "generator" else module.head(states)

    source = pretrained.folder or pretrained.source
    return Network(module.encoder, answer, pretrained.longest, source)


def _stock(folder: Path, part: str, device: str) -> Network:
    # 4 s of import, so not at the top.
    import transformers

    record = architecture_of(read_config(folder), str(folder))
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # what it would warn of is refused below
    try:
        # Safetensors alone: a pickle would run whatever somebody put into it.
        model, found = getattr(transformers, record.classes[part]).from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            use_safetensors=True,
            dtype=torch.float32,  # as ours, whatever was stored, which it would compute in
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: its network cannot be opened ({reason_of(error)})") from None
    finally:
        transformers.logging.set_verbosity(verbosity)
    if found["missing_keys"]:
        raise InputError(f"{folder}: its weights lack {sorted(found['missing_keys'])[0]}; export it again")
    model = model.to(device).eval()

    def encode(ids_BL: Tensor, attention_mask_BL: Tensor | None) -> Tensor:
        asked = None if attention_mask_BL is None else attention_mask_BL.long()
        return model.base_model(ids_BL, attention_mask=asked).last_hidden_state

    def answer(states: Tensor) -> Tensor:
        return record.stock_head(model, part, states)

    longest = trained_length(ours_in(folder), model.config.max_position_embeddings)
    return Network(encode, answer, longest, str(folder))


# --- running ------------------------------------------------------------------------------------------


def check_numbers(sound: bool, source: str) -> None:
    """Raise InputError where the answers of the network of `source` are not numbers."""
    if not sound:
        raise InputError(
            f"{source}: its answers are not numbers; its weights are broken, take another checkpoint"
        )


def batch_rows(length: int, batch_size: int) -> int:
    """Rows of a batch of this length: at most BATCH_TOKENS padded tokens, but at least one row."""
    return min(batch_size, max(1, BATCH_TOKENS // length))


def length_batches(lengths_R: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the numbers of rows of similar length, longest first, so that memory runs out at once or never.

    A batch is as large as `batch_rows` says of its longest row.
    """
    # Stable: rows of one length keep their order, so that answers do not depend on the sort.
    order_R = np.argsort(-lengths_R, kind="stable")
    start = 0
    while start < len(order_R):
        rows = batch_rows(int(lengths_R[order_R[start]]), batch_size)
        yield order_R[start : start + rows]
        start += rows


def padded(networks: Networks, rows: list[np.ndarray]) -> tuple[Tensor, Tensor | None]:
    """Return ids [B, L] and, where rows are padded, which tokens are real, on the device."""
    lengths_B = np.array([len(row) for row in rows])
    ids_BL = np.full((len(rows), lengths_B.max()), networks.vocabulary.pad_id, np.int64)
    mask_BL = np.arange(ids_BL.shape[1]) < lengths_B[:, None]
    ids_BL[mask_BL] = np.concatenate(rows)
    # Rows of one length need no mask, and attention without one has the faster kernel.
    attention_mask_BL = None if mask_BL.all() else torch.from_numpy(mask_BL).to(networks.device)
    return torch.from_numpy(ids_BL).to(networks.device), attention_mask_BL


@torch.inference_mode()
def for_each_token(
    networks: Networks, part: str, rows: list[np.ndarray], what: Callable[[Tensor], Tensor]
) -> list[np.ndarray]:
    """Return `what` of the network's hidden states of every token of every row, float32 [L, ...] a row."""
    network, found = networks.need(part), [None] * len(rows)
    lengths_R = np.array([len(row) for row in rows], dtype=np.int64)
    for numbers_B in length_batches(lengths_R, networks.batch_size):
        states_BLD = network.encode(*padded(networks, [rows[number] for number in numbers_B]))
        answers = what(states_BLD).float().cpu().numpy()
        for place, number in enumerate(numbers_B):
            # Copied: a slice would keep the whole batch's array alive for one short row.
            found[number] = answers[place, : lengths_R[number]].copy()
            check_numbers(not np.isnan(found[number]).any(), network.source)
    return found


def replaced_probability(networks: Networks, rows: list[np.ndarray]) -> list[np.ndarray]:
    """Return the discriminator's probability of `was replaced` for every token, float32 [L] a row."""
    answer = networks.need("discriminator").answer
    return for_each_token(networks, "discriminator", rows, lambda states: answer(states).sigmoid())


@torch.inference_mode()
def filling_log_probability(
    networks: Networks, rows: list[np.ndarray], places: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield (numbers_S, log probabilities [S, V]) by batches: the generator's at the asked places alone.

    `places[r]` are positions in row r. The places are numbered over all rows, in order; `numbers_S` says
    which ones a batch answers. The probabilities are float32 on the device.
    """
    network = networks.need("generator")
    lengths_R = np.array([len(row) for row in rows], dtype=np.int64)
    counts_R = np.array([len(asked) for asked in places], dtype=np.int64)
    first_R = np.cumsum(counts_R) - counts_R
    for numbers_B in length_batches(lengths_R, networks.batch_size):
        ids_BL, attention_mask_BL = padded(networks, [rows[number] for number in numbers_B])
        width = ids_BL.shape[1]
        flat_S = np.concatenate([place * width + places[row] for place, row in enumerate(numbers_B)])
        if not len(flat_S):  # nothing is asked of these rows
            continue
        numbers_S = np.concatenate([np.arange(counts_R[row]) + first_R[row] for row in numbers_B])
        asked_S = torch.from_numpy(flat_S.astype(np.int64)).to(networks.device)
        states_SD = network.encode(ids_BL, attention_mask_BL).flatten(0, 1).index_select(0, asked_S)
        # The encoder for the whole batch, the vocabulary for some places at a time: memory goes there.
        for first in range(0, len(numbers_S), ASKED_PLACES):
            some = slice(first, first + ASKED_PLACES)
            log_SV = F.log_softmax(network.answer(states_SD[some]).float(), dim=-1)
            # One logit that is none spoils its row.
            check_numbers(not log_SV[:, 0].isnan().any(), network.source)
            yield numbers_S[some], log_SV
