"""Small networks for tests of what trained ones are used for: with random weights, or made by hand."""

from __future__ import annotations

import torch
from model_examples import small_config
from torch import nn

from span_electra.hub.export import export_run
from span_electra.hub.networks import Network, Networks
from span_electra.model.electra import SpanElectra
from span_electra.text.vocabulary import SPECIAL_TOKENS, Vocabulary, assemble

# Nothing here is worth a second thread; on a busy machine two would wait for each other most of the time.
torch.set_num_threads(1)

WORDS = ["the", "cat", "cats", "sleep", "sleeps", "dog", "dogs", "bark", "barks", "on", "mat", "un", "##do"]
LETTERS = [
    *"abcdefghijklmnopqrstuvwxyz.,!<>&;/()'\"",
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
]


def vocabulary_of_words() -> Vocabulary:
    """WordPiece: some words, and letters for the rest."""
    tokens = [*SPECIAL_TOKENS, *WORDS, *LETTERS]
    return assemble("BERT", {token: number for number, token in enumerate(tokens)})


def id_of(token: str) -> int:
    """The id of one token."""
    return vocabulary_of_words().tokenizer.token_to_id(token)


def random_model(seed: int = 0, **changes) -> SpanElectra:
    """A model whose every weight is away from its start, as after training."""
    vocabulary = vocabulary_of_words()
    config = small_config(vocab_size=vocabulary.size, **changes)
    return away_from_start(SpanElectra(config, vocabulary.mask_id, seed).eval(), seed)


@torch.no_grad()
def away_from_start(model: nn.Module, seed: int = 0) -> nn.Module:
    """Change every weight, as training does; returns the model."""
    dice = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.add_(torch.randn(weight.shape, generator=dice) * 0.3)
    return model


def exported(folder, seed: int = 0, **changes) -> SpanElectra:
    """Export a random model into `folder` and return it."""
    model = random_model(seed, **changes)
    export_run(model, vocabulary_of_words(), folder)
    return model


def seeing_ids(ids_BL: torch.Tensor, attention_mask_BL: torch.Tensor | None) -> torch.Tensor:
    """An encoder by hand: a token's hidden state is its id, [B, L, 1]."""
    return ids_BL[..., None].float()


def spotter(wrong: dict[str, float], usual: float = -4.0) -> Network:
    """A discriminator by hand: some tokens' logit of `was replaced`, whatever stands round them."""
    logits_V = torch.full((vocabulary_of_words().size,), usual)
    for token, logit in wrong.items():
        logits_V[id_of(token)] = logit
    return Network(seeing_ids, lambda states: logits_V[states[..., 0].long()], 32, "by hand")


def frequencies(logits: dict[str, float], usual: float = -9.0) -> Network:
    """A generator by hand: the same logits at every place."""
    logits_V = torch.full((vocabulary_of_words().size,), usual)
    for token, logit in logits.items():
        logits_V[id_of(token)] = logit
    return Network(seeing_ids, lambda states: logits_V.expand(*states.shape[:-1], -1), 32, "by hand")


def by_hand(generator: Network | None = None, discriminator: Network | None = None) -> Networks:
    """Networks made by hand over `vocabulary_of_words`."""
    return Networks(vocabulary_of_words(), "cpu", generator, discriminator)
