"""A prompt -> the tokens that follow it: greedy, sampled, or by beam search.

Knows no file, no vocabulary and no network: `next_logits` says what may follow a row of ids.

Shapes are in the names:
  B  rows: one, or one a beam          L  tokens of a row: the prompt and what follows it so far
  V  vocabulary                        W  windows of n tokens in a row        N  tokens of a window
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from span_electra.errors import InputError
from span_electra.inference.arguments import GenerationArguments

FORBIDDEN = float("-inf")  # the logit of a token that must not come


@torch.no_grad()
def generate(
    next_logits: Callable[[Tensor], Tensor],
    prompt: Sequence[int],
    end_id: int,
    config: GenerationArguments,
    banned: Sequence[int] = (),
) -> list[int]:
    """Return the ids that follow the prompt, without the `end_id` that closes them.

    next_logits(ids_BL) -> logits_BV of the token after each row, all rows equally long. Ids are int64 on the
    CPU; the logits may be on any device, and are drawn from on the CPU, so that every device draws alike.
    The answer ends before `end_id`, at max_new_tokens, or where every token is forbidden. `banned` ids never
    come. config: fitted to the rows.

    n-grams count over prompt and answer together; but the end may always come, else a conversation whose
    turns end alike could not be answered alike.

    With beams the answer is that of `transformers`' generate with the same num_beams, and its defaults of
    length_penalty (1) and early_stopping (False): see `_search`.

    Raises InputError where the network gives no numbers.
    """
    assert prompt, "nothing to continue"
    banned = list(banned)

    # The whole row each time: A tokens of an answer after P of a prompt cost A (P + A / 2) tokens of
    # arithmetic, with a key/value cache P + A. Rows are short here, and the network stays a plain function.
    def log_probs(ids_BL: Tensor) -> Tensor:
        """Log probabilities [B, V] of the next token, float64; -inf where forbidden, others as they were."""
        log_probs_BV = next_logits(ids_BL).cpu().double().log_softmax(1)
        if log_probs_BV.isnan().any():
            raise InputError(
                "the network's logits are not numbers; its weights are broken, take another checkpoint"
            )
        # After the softmax: what is forbidden takes no probability along, and beams compare what was meant.
        allowed_BV = block_ngrams(log_probs_BV, ids_BL, config.no_repeat_ngram)
        allowed_BV[:, end_id] = log_probs_BV[:, end_id]
        allowed_BV[:, banned] = FORBIDDEN
        return allowed_BV

    follow = _search if config.beams > 1 else _sample
    return follow(log_probs, torch.tensor([list(prompt)], dtype=torch.int64), end_id, config)


def filter_top_k(logits_BV: Tensor, k: int | None) -> Tensor:
    """Forbid all but the k largest of each row; equals of the k-th stay. None: all stay.

    Example: k 2, logits [1 3 2 0] -> [-inf 3 2 -inf]
    """
    if k is None or k >= logits_BV.shape[1]:
        return logits_BV
    # By value, not by rank: which of two equals a sort puts first differs from device to device.
    least_B1 = logits_BV.topk(k).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < least_B1, FORBIDDEN)


def filter_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """Forbid all but the fewest likeliest of each row whose probabilities add up to p or more (nucleus
    sampling, Holtzman et al. 2020, section 3.1). 1: all stay.

    Example: p .7, probabilities [.1 .5 .3 .1] -> [-inf log(.5) log(.3) -inf]; .5 alone is too little
    """
    if p == 1.0:
        return logits_BV  # running sums reach 1 too early by rounding, and would cost the last tokens
    sorted_BV, order_BV = logits_BV.double().sort(descending=True, stable=True)
    share_BV = sorted_BV.softmax(1)
    before_BV = share_BV.cumsum(1) - share_BV  # what likelier tokens have together; 0 for the first
    dropped_BV = torch.zeros_like(before_BV, dtype=torch.bool).scatter(1, order_BV, before_BV >= p)
    return logits_BV.masked_fill(dropped_BV, FORBIDDEN)


def block_ngrams(logits_BV: Tensor, ids_BL: Tensor, size: int) -> Tensor:
    """Forbid every token that would end an n-gram of this size which the row already has. 0: none.

    Example: size 2, ids 5 6 5 -> 6 is forbidden, for 5 6 has been
    """
    length = ids_BL.shape[1]
    if size == 0 or length < size:
        return logits_BV
    windows_BWN = ids_BL.unfold(1, size, 1)
    opening_B1N = ids_BL[:, None, length - size + 1 :]  # empty at size 1, where every token has been before
    again_BW = (windows_BWN[..., :-1] == opening_B1N).all(-1)
    hits_BV = torch.zeros(logits_BV.shape, dtype=torch.int64, device=logits_BV.device)
    hits_BV.scatter_add_(1, windows_BWN[..., -1], again_BW.long())  # adding: one window cannot undo another
    return logits_BV.masked_fill(hits_BV > 0, FORBIDDEN)


def _sample(
    log_probs: Callable[[Tensor], Tensor], ids_BL: Tensor, end_id: int, config: GenerationArguments
) -> list[int]:
    """One token after another, each drawn (temperature 0: the likeliest, the lowest id among equals)."""
    rng = torch.Generator().manual_seed(config.seed)  # of its own: the process's draws go on as they were
    answer: list[int] = []
    while len(answer) < config.max_new_tokens:
        logits_BV = log_probs(ids_BL)
        best_B1 = logits_BV.max(1, keepdim=True).values
        if best_B1.item() == FORBIDDEN:
            break
        if config.temperature == 0:
            token_B1 = logits_BV.argmax(1, keepdim=True)
        else:
            # The best is moved to 0 first: however small the temperature, 0 / temperature is a number.
            logits_BV = (logits_BV - best_B1) / config.temperature
            logits_BV = filter_top_p(filter_top_k(logits_BV, config.top_k), config.top_p)
            token_B1 = torch.multinomial(logits_BV.softmax(1), 1, generator=rng)
        if token_B1.item() == end_id:
            break
        answer.append(int(token_B1.item()))
        ids_BL = torch.cat([ids_BL, token_B1], 1)
    return answer


def _search(
    log_probs: Callable[[Tensor], Tensor], ids_BL: Tensor, end_id: int, config: GenerationArguments
) -> list[int]:
    """Follow the `beams` likeliest rows side by side; return the finished answer of the best score.

    The law is `transformers`' with early_stopping=False. An answer is finished by the end, or by the length,
    while it ranks among the `beams` best continuations of its step. The search ends when `beams` answers are
    finished and the best open row, scored at its length of now, is no better than the worst of them: a guess,
    for a longer row may yet have the better mean. Forbidden tokens leave the probabilities of the others as
    they are.
    """
    start, totals_B = ids_BL.shape[1], torch.zeros(1, dtype=torch.float64)
    finished: list[tuple[float, list[int]]] = []  # mean log probability, the end's included, and the answer
    for length in range(1, config.max_new_tokens + 1):
        totals_BV = totals_B[:, None] + log_probs(ids_BL)
        # Each row has one end at most, so twice as many candidates leave enough that stay open.
        best = totals_BV.flatten().topk(min(2 * config.beams, totals_BV.numel()))
        open_rows, open_totals = [], []
        for rank, (total, place) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            if total == FORBIDDEN:
                break
            beam, token = divmod(place, totals_BV.shape[1])
            if token != end_id and length < config.max_new_tokens:
                open_rows.append([*ids_BL[beam].tolist(), token])
                open_totals.append(total)
            # An end that ranks lower is worse than what goes on, and may not crowd it out.
            elif rank < config.beams:
                answer = ids_BL[beam, start:].tolist() + ([] if token == end_id else [token])
                finished.append((total / length, answer))
        finished = sorted(finished, key=lambda scored: -scored[0])[: config.beams]
        if not open_rows:
            break
        ids_BL, totals_B = torch.tensor(open_rows[: config.beams]), torch.tensor(open_totals[: config.beams])
        if len(finished) == config.beams and open_totals[0] / length <= finished[-1][0]:
            break
    # Nothing finished: every continuation was forbidden on the way, so the best row stands as it is.
    return finished[0][1] if finished else ids_BL[0, start:].tolist()
