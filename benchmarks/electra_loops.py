"""The two loops that train.py compares, and the made-up features that both are fed with.

Shapes are in the names:
  R  rows of the features   B  rows of a batch   L  tokens of a row   S  masked slots   V  vocabulary
`Ours` is the project's own loader, model and step. `Rival` is the loop as one would write it with
transformers: ElectraForMaskedLM and ElectraForPreTraining with tied embeddings, rows padded to one length,
logits of every position, the library's own losses, AdamW, clipping. The rows and hidden tokens are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from span_electra.config import ModelConfig, NetworkConfig, OptimizerConfig
from span_electra.data_config import LoaderConfig, MaskingConfig
from span_electra.features.masking import Spans, row_keys, sample_spans
from span_electra.features.words import TokenRows
from span_electra.model.batch import TALLY, MaskedBatch
from span_electra.pretraining.loader import Batches
from span_electra.text.word_starts import token_words

LENGTH = 128
CLS, SEP, PAD, MASK, FIRST_WORD = 0, 1, 2, 3, 5
# Tokens of a document: the law's median and its spread in logarithms; rows then fill 83% of 128.
DOCUMENT_MEDIAN, DOCUMENT_SPREAD = 200.0, 1.0


def small_model(dropout: float, vocab_size: int = 10_000) -> ModelConfig:
    """ELECTRA-Small's shape: 12 x 256 discriminator, 12 x 64 generator, embeddings of 128."""
    return ModelConfig(
        vocab_size=vocab_size,
        embedding_size=128,
        generator=NetworkConfig(64, 12, 1, 256),
        discriminator=NetworkConfig(256, 12, 4, 1024),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )


def base_model(dropout: float, vocab_size: int = 30_522) -> ModelConfig:
    """ELECTRA-Base's shape."""
    return ModelConfig(
        vocab_size=vocab_size,
        embedding_size=768,
        generator=NetworkConfig(256, 12, 4, 1024),
        discriminator=NetworkConfig(768, 12, 12, 3072),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )


class MadeUpFeatures:
    """Rows in memory with the interface of `features/store.py`: tokens by Zipf's law, half start words."""

    def __init__(self, lengths_R: np.ndarray, vocab_size: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.lengths_R = lengths_R.astype(np.int32)
        self.rows = len(lengths_R)
        self.header = SimpleNamespace(max_seq_len=LENGTH, masking=MaskingConfig())
        starts_word_V = rng.random(vocab_size) < 0.5
        self.tokens = token_words([b"a"] * vocab_size, ~starts_word_V, starts_word_V)
        chances = 1 / np.arange(10, vocab_size - FIRST_WORD + 10)
        self.ends_R = np.cumsum(lengths_R, dtype=np.int64)
        self.ids_T = rng.choice(len(chances), self.ends_R[-1], p=chances / chances.sum()) + FIRST_WORD
        self.ids_T = self.ids_T.astype(np.uint16)
        self.ids_T[self.ends_R - self.lengths_R] = CLS
        self.ids_T[self.ends_R - 1] = SEP

    def gather(self, rows_B: np.ndarray, width: int) -> np.ndarray:
        ids_BL = np.full((len(rows_B), width), PAD, np.int64)
        for place, row in enumerate(rows_B):
            end, length = self.ends_R[row], self.lengths_R[row]
            ids_BL[place, :length] = self.ids_T[end - length : end]
        return ids_BL

    def spans(self, rows_B: np.ndarray) -> Spans:
        return self.sample_spans(rows_B, 0, 0, self.header.masking)

    def sample_spans(self, rows_B: np.ndarray, epoch: int, seed: int, masking: MaskingConfig) -> Spans:
        lengths_B = self.lengths_R[rows_B].astype(np.int64)
        keys_B = row_keys(seed, epoch, rows_B, "spans")
        starts_B = self.ends_R[rows_B] - lengths_B
        rows = TokenRows(self.ids_T, starts_B, lengths_B)
        return sample_spans(rows, self.tokens, keys_B, masking)


def row_lengths(documents: bool, tokens: int, seed: int = 0) -> np.ndarray:
    """Return rows' lengths: all full, or those of documents cut at 128 tokens, the rest in a last row."""
    if not documents:
        return np.full(max(1, tokens // LENGTH), LENGTH)
    rng, content = np.random.default_rng(seed), LENGTH - 2
    sizes = np.exp(rng.normal(np.log(DOCUMENT_MEDIAN), DOCUMENT_SPREAD, tokens // 100)).astype(np.int64) + 1
    sizes = sizes[: np.searchsorted(np.cumsum(sizes), tokens)]
    rest = sizes % content
    return np.concatenate([np.full((sizes // content).sum(), LENGTH), rest[rest > 0] + 2])


def endless(epoch_of: Callable[[int], Batches]) -> Iterator[MaskedBatch]:
    """Batches of epoch 1, 2, ... without end."""
    for epoch in itertools.count(1):
        yield from epoch_of(epoch)


class Ours:
    """The project's loader, model and step."""

    def __init__(
        self,
        config: ModelConfig,
        features: MadeUpFeatures,
        batch_rows: int,
        device: str,
        documents: bool,
    ) -> None:
        from span_electra.model.electra import SpanElectra
        from span_electra.training.devices import Process, keep_freed_memory
        from span_electra.training.optim import Optimizers
        from span_electra.training.step import Counters

        if device == "cpu":
            keep_freed_memory()
        precision = torch.bfloat16 if device == "cuda" else torch.float32
        self.process = Process(torch.device(device), precision=precision)
        self.model = SpanElectra(config, MASK).to(device).train()
        self.optimizers = Optimizers(self.model, OptimizerConfig())
        self.counters = Counters.fresh(self.process, len(TALLY))
        # Short rows go together in batches of as many tokens as the rival's.
        tokens = batch_rows * LENGTH if documents else 0
        static = device == "cuda"
        # On the CPU a thread that prepares batches would take a core from the products.
        loader = LoaderConfig(batch_size=batch_rows, batch_max_tokens=tokens, workers=2 * static)
        self.batches = endless(
            lambda epoch: Batches(features, loader, epoch, static_shapes=static, pinned=static)
        )
        self.steps = 0

    def unused_parameters(self, batch: MaskedBatch) -> tuple[nn.Parameter, ...]:
        """None: both networks learn."""
        return ()

    def step(self) -> int:
        """Make one optimizer step; returns the real tokens in it."""
        from span_electra.training.step import train_step

        masked = next(self.batches)
        train_step(
            self,
            self.model,
            [masked],
            optimizers=self.optimizers,
            counters=self.counters,
            process=self.process,
            key=self.steps,
            lr_multiplier=1.0,
        )
        self.steps += 1
        return int(masked.token_total)


class Rival:
    """The loop as one would write it with transformers."""

    def __init__(
        self, config: ModelConfig, features: MadeUpFeatures, batch_rows: int, device: str, **_: object
    ) -> None:
        from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

        shared = {
            "vocab_size": config.vocab_size,
            "embedding_size": config.embedding_size,
            "hidden_dropout_prob": config.hidden_dropout_prob,
            "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
            "pad_token_id": PAD,
        }
        self.generator = ElectraForMaskedLM(ElectraConfig(**shared, **vars(config.generator)))
        self.discriminator = ElectraForPreTraining(ElectraConfig(**shared, **vars(config.discriminator)))
        self.discriminator.electra.embeddings = self.generator.electra.embeddings
        both = torch.nn.ModuleList([self.generator, self.discriminator]).to(device).train()
        self.parameters = list(both.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=OptimizerConfig().lr)
        loader = LoaderConfig(batch_size=batch_rows, bucket_span=1, workers=0)
        self.batches = endless(lambda epoch: Batches(features, loader, epoch))
        self.device = device
        self.full = bool((features.lengths_R == LENGTH).all())  # no padding anywhere: no mask either

    def step(self) -> int:
        """Make one optimizer step; returns the real tokens in it."""
        masked = next(self.batches)
        ids_BL, hidden_BL, attention_mask_BL = (x.to(self.device) for x in padded_inputs(masked))
        asked = {} if self.full else {"attention_mask": attention_mask_BL.long()}
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            inputs_BL = ids_BL.masked_fill(hidden_BL, MASK)
            labels_BL = ids_BL.masked_fill(~hidden_BL, -100)
            filled = self.generator(inputs_BL, labels=labels_BL, **asked)
            with torch.no_grad():
                logits_SV = filled.logits[hidden_BL].float()
                noise_SV = -torch.log(-torch.log(torch.rand_like(logits_SV).clamp_min(1e-10)))
                corrupted_BL = ids_BL.clone()
                corrupted_BL[hidden_BL] = (logits_SV + noise_SV).argmax(-1)
            detected = self.discriminator(corrupted_BL, labels=(corrupted_BL != ids_BL).long(), **asked)
            loss = filled.loss + 50 * detected.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return int(masked.token_total)


def padded_inputs(masked: MaskedBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, hidden (bool) and real (bool), every row padded to 128 tokens."""
    rows, width = masked.original_BL.shape
    hidden_BL = torch.zeros(rows * width, dtype=torch.bool)
    hidden_BL[masked.slots_S] = True
    attention_mask_BL = (
        torch.ones(rows, width, dtype=torch.bool)
        if masked.attention_mask_BL is None
        else masked.attention_mask_BL
    )
    pad = (0, LENGTH - width)
    ids_BL = torch.nn.functional.pad(masked.original_BL, pad, value=PAD)
    hidden_BL = torch.nn.functional.pad(hidden_BL.view(rows, width), pad, value=False)
    return ids_BL, hidden_BL, torch.nn.functional.pad(attention_mask_BL, pad, value=False)
