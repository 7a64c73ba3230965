"""A conversation's turns -> one row for the encoder: `sep t0 sep t1 ... sep`, newest tokens first to stay.

A separator belongs to the turn that follows it: there a causal network foretells that turn's first token, and
must know by the token type whose turn it is. So the last separator belongs to the turn to come.

Token types alternate by turn and are counted from the end, so that the last turn, which is the one the
network gives or judges, has type OWN_VOICE in every row: a network that speaks must know its own voice
however long the talk has been. In an open-ended row the last turn is the answer to come. Hence training and
talk agree: an open-ended row, then the answer (all OWN_VOICE), is the closed row of all these turns but for
its last separator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from span_electra.errors import InputError
from span_electra.text.vocabulary import Vocabulary

USUAL_TOKENS = 40  # of a reply at most: three sentences
OWN_VOICE = 1  # the second of ELECTRA's two token types, as of the second text of a pair


def never_said(vocabulary: Vocabulary, vocab_size: int) -> list[int]:
    """Ids that no reply may hold: no turn did, so their logits mean nothing. `vocab_size`: the network's."""
    special = {vocabulary.cls_id, vocabulary.pad_id, vocabulary.mask_id, vocabulary.unk_id}
    never = special | set(range(vocabulary.size, vocab_size))  # rows of the table that no token has
    # A tokenizer from elsewhere may have one token for several roles, and a reply must be able to end.
    return sorted(never - {vocabulary.sep_id})


def usual_reply(longest: int) -> int:
    """The most tokens of a reply in rows of `longest`, where nobody says otherwise."""
    return min(USUAL_TOKENS, longest // 2)


@dataclass(frozen=True)
class TurnRow:
    """One conversation as a row."""

    ids: list[int]
    types: list[int]  # 0 or 1, one a token


def join_turns(
    turns: Sequence[Sequence[int]], sep_id: int, longest: int, open_ended: bool = False
) -> TurnRow:
    """Join turns, of which the newest tokens stay where `longest` holds not all, separators included.

    Without turns the row is one separator. open_ended: an answer is to follow, for which the caller leaves
    room in `longest`.

    Example: turns [4] [5 6] [7] [8], sep 1, longest 7
        closed      1 6 1 7 1 8 1   types 1 1 0 0 1 1 0   the 8 is OWN_VOICE
        open-ended  1 6 1 7 1 8 1   types 0 0 1 1 0 0 1   so is what follows the last 1

    Raises InputError where not one token of a turn fits.
    """
    if longest < 3:
        raise InputError(f"longest: {longest} tokens hold no turn between two separators; give 3 or more")
    kept = _newest_tokens(turns, longest)
    last = len(kept) if open_ended else len(kept) - 1  # the turn that has OWN_VOICE, maybe one to come
    ids: list[int] = []
    types: list[int] = []
    for number, turn in enumerate([*kept, ()]):  # the turn to come has a separator only
        ids += [sep_id, *turn]
        types += [OWN_VOICE ^ ((last - number) & 1)] * (1 + len(turn))
    return TurnRow(ids, types)


def row_length(turns: Sequence[Sequence[int]]) -> int:
    """Tokens of a row of all these turns: each has a separator, and one closes the row."""
    return 1 + sum(len(turn) + 1 for turn in turns)


def newest_whole(turns: Sequence[Sequence[int]], longest: int) -> Sequence[Sequence[int]]:
    """The newest turns that fit a row of `longest` as a whole; at least the last."""
    begin = max(0, len(turns) - 1)
    while begin and row_length(turns[begin - 1 :]) <= longest:
        begin -= 1
    return turns[begin:]


def _newest_tokens(turns: Sequence[Sequence[int]], longest: int) -> list[Sequence[int]]:
    """The turns that a row holds, of the oldest its end, maybe none of it.

    So the row is the end of the longer one behind a separator, as of stock tokenizers that cut from the left.
    """
    kept: list[Sequence[int]] = []
    # Newest first: what was said last decides what is said next.
    room = longest - 1  # the separator at the end
    for turn in reversed(turns):
        room -= 1 + len(turn)
        kept.append(turn[max(0, -room) :])
        if room <= 0:
            break
    return kept[::-1]
