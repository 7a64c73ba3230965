"""Rows for added tokens: each starts as the mean of the pieces that its word was cut into before."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from span_electra.hub.architecture import Weights
from span_electra.hub.opening import Pretrained
from span_electra.text.added_tokens import pieces_of
from span_electra.text.vocabulary import Vocabulary

# Tables with a row a token, where a network has them; `bias` is the span-boundary head's, which stands apart.
BY_TOKEN = ("encoder.embeddings.word.weight", "head.bias", "bias")


def with_added_rows(pretrained: Pretrained, vocabulary: Vocabulary) -> Pretrained:
    """Return a network for `vocabulary`, which is the network's own with tokens added (`extends`).

    Rows beyond the tokens, to which tables are padded, are used up first.
    """
    size = max(pretrained.config.vocab_size, vocabulary.size)
    lengthen = partial(_longer_tables, before=pretrained.vocabulary, after=vocabulary, size=size)
    head = pretrained.span_head
    return replace(
        pretrained,
        config=replace(pretrained.config, vocab_size=size),
        weights=lengthen(pretrained.weights),
        vocabulary=vocabulary,
        span_head=head and (lambda: lengthen(head())),
    )


def _longer_tables(weights: Weights, before: Vocabulary, after: Vocabulary, size: int) -> Weights:
    """The weights of a network for `after`, its tables of tokens with `size` rows."""
    # A brought tokenizer's token may be no text to the one before, and the mean of no rows is not finite.
    pieces = [pieces_of(before, token) or [before.unk_id] for token in after.tokens_V[before.size :]]
    weights = dict(weights)
    for name in set(BY_TOKEN) & set(weights):
        table = weights[name]
        longer = table.new_zeros(size, *table.shape[1:])
        longer[: len(table)] = table
        for row, ids in enumerate(pieces, start=before.size):
            longer[row] = table[ids].mean(0)
        weights[name] = longer
    return weights
