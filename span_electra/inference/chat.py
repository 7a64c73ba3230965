"""A model with a Conversation task answers turns: one reply, or a talk with a person or a pipe.

The rows are those of training: open-ended rows of the newest turns, and whatever follows speaks with
OWN_VOICE. Room for the reply is left from the start, so that no turn is forgotten while it is written.

Shapes are in the names:
  B  rows: one, or one a beam   L  tokens of a row   D  width   V  vocabulary
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor

from span_electra.finetuning.encoding import TaskSpec, encode_examples
from span_electra.finetuning.readers import Example
from span_electra.finetuning.turns import OWN_VOICE, TurnRow, join_turns, never_said, newest_whole, row_length
from span_electra.inference.arguments import GenerationArguments
from span_electra.inference.generate import generate
from span_electra.inference.lines import blocks_of, typed
from span_electra.inference.records import one_line
from span_electra.model.multi_task import TaskNetwork
from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import Vocabulary


def reply(
    network: TaskNetwork,
    turns: Sequence[str],
    *,
    task: int,
    spec: TaskSpec,
    vocabulary: Vocabulary,
    speech: GenerationArguments,
) -> tuple[str, bool]:
    """Return what the network says after these turns, the newest last, and whether it has not read them all.

    It must be in eval mode.
    """
    assert spec.type.is_conversation, spec.type.name
    config = speech.fitted(spec.max_seq_len, len(turns))
    ids = encode_examples(vocabulary, spec, [Example("", tuple(turns))])[0]["turns"]
    # What is too much is left out by whole turns, before the reply begins: training cuts between turns.
    room = spec.max_seq_len - config.max_new_tokens
    row = join_turns(newest_whole(ids, room), vocabulary.sep_id, room, open_ended=True)
    banned = never_said(vocabulary, network.config.vocab_size)
    follows = next_token(network, task, row)
    answer = generate(follows, row.ids, end_id=vocabulary.sep_id, config=config, banned=banned)
    return text_of(vocabulary, answer), row_length(ids) > room


def text_of(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    """A reply as people write it, without special tokens that it may hold."""
    added = vocabulary.tokenizer.get_added_tokens_decoder()
    special = {number for number, token in added.items() if token.special}
    pieces_V = Pieces(vocabulary)
    said = pieces_V.text(number for number in ids if number not in special)
    # WordPiece parts "don't" at its apostrophe.
    return (said.replace(" ' ", "'") if pieces_V.adds_blanks else said).strip()


def next_token(network: TaskNetwork, task: int, row: TurnRow) -> Callable[[Tensor], Tensor]:
    """What gives the logits of the token after rows that begin as `row`: ids_BL -> logits_BV."""
    prompt_types_P = torch.tensor(row.types)
    device = next(network.parameters()).device

    def next_logits(ids_BL: Tensor) -> Tensor:
        # Whatever is written after the prompt is the network's own turn.
        types_BL = torch.full_like(ids_BL, OWN_VOICE)
        types_BL[:, : len(prompt_types_P)] = prompt_types_P
        states_BLD = network.encoder(ids_BL.to(device), None, None, types_BL=types_BL.to(device), causal=True)
        return network.answer(task, states_BLD[:, -1]).float()

    return next_logits


def talk(answer: Callable[[list[str]], str]) -> None:
    """Answer a person until an empty line, or each line of a pipe that says anything, until its end.

    `answer` gets all turns so far, its own among them.
    """
    if sys.stdin.isatty():
        lines = typed("say something, then Enter; an empty line ends")
    else:
        # A blank line there parts what was written, and would cost all that stands behind it.
        lines = filter(str.strip, chain.from_iterable(blocks_of(None)))
    turns: list[str] = []
    # All turns go in each time: what no longer fits is left out where rows are made.
    for line in lines:
        turns.append(line)
        turns.append(answer(turns))
        print(one_line(turns[-1]), flush=True)  # a line for a line; the network goes on from its own words
