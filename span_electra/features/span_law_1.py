"""Law 1 of spans, that of feature files of format 1: every span lies in the row whole.

The first and last tokens of a row are hidden less often than the middle, for fewer spans reach them. Kept as
it was, so that files made by it are read and masked for ever as they were; new files are made by law 2.
Positions, and the marks of hidden tokens, are those of `words.Row`.
"""

from __future__ import annotations

from span_electra.features.keyed_random import HALF_MASK, random_below, random_bits
from span_electra.text.compiled import compiled

PLACE_TRIES = 16  # random places tried for a span before the free places are counted


@compiled
def place_row_1(row, words, budget, key, thresholds_L):
    """Mark spans one after another; 0, or the numbers drawn until no place was left, and nothing marked."""
    word_at_W, taken, counter, left = row.word_at_W, row.taken, 0, budget
    while left > 0:
        counter += 1
        bits = random_bits(key, counter)
        span_words = sample_length(bits, thresholds_L)  # kept while places are tried, else short ones win
        length = 0
        for _ in range(PLACE_TRIES):
            word = random_below(bits, words)
            length = _fitting_length(row, words, word, span_words, left)
            if length > 0:
                break
            counter += 1
            bits = random_bits(key, counter)
        if length == 0:
            counter += 1
            word, length = _search_place(row, words, span_words, left, random_bits(key, counter))
        if length == 0:
            taken[: word_at_W[words] + 1] = 0
            return counter
        start = word_at_W[word]
        taken[start + 1 : start + 1 + length] = 1
        left -= length
    return 0


@compiled
def _fitting_length(row, words, word, span_words, left):
    """Return the tokens of a span of `span_words` words at `word`, cut to `left`; 0: it does not fit."""
    word_at_W, taken = row.word_at_W, row.taken
    start, content = word_at_W[word], word_at_W[words]
    if word + span_words <= words:
        length = min(word_at_W[word + span_words] - start, left)
    elif content - start >= left:
        length = left  # longer than the row, but the budget cuts it before the row's end
    else:
        return 0
    for place in range(start, start + length + 2):  # from the token before to the token after
        if taken[place]:
            return 0
    return length


@compiled
def _search_place(row, words, span_words, left, bits):
    """Choose evenly among all places that fit, as endless retries would; fewer words where there is none."""
    for fewer in range(span_words, 0, -1):
        fitting = 0
        for word in range(words):
            fitting += _fitting_length(row, words, word, fewer, left) > 0
        if fitting == 0:
            continue
        chosen = random_below(bits, fitting)
        for word in range(words):
            length = _fitting_length(row, words, word, fewer, left)
            if length > 0:
                if chosen == 0:
                    return word, length
                chosen -= 1
    return 0, 0


@compiled
def place_tokens(row, content, budget, key, counter, thresholds_L):
    """Draw the row anew in tokens, not words, and lay the spans out evenly over every way not to touch.

    Stars and bars: count spans need count - 1 tokens between them; the other free tokens and the spans come
    in any order. There is always room, for at most half the content (rounded up) is hidden. The words
    of the row are gone then: the spans' lengths take their room.
    """
    lengths, taken = row.word_at_W, row.taken
    count, left = 0, budget
    while left > 0:
        counter += 1
        lengths[count] = min(sample_length(random_bits(key, counter), thresholds_L), left)
        left -= lengths[count]
        count += 1
    free = content - budget - (count - 1)
    start, placed = 0, 0
    while placed < count:
        counter += 1
        if random_below(random_bits(key, counter), free + count - placed) < count - placed:
            taken[start + 1 : start + 1 + lengths[placed]] = 1
            start += lengths[placed] + 1
            placed += 1
        else:
            start += 1
            free -= 1


@compiled
def sample_length(bits, thresholds_L):
    """Turn the lower half of 64 random bits into a length of the law."""
    length = 1
    while (bits & HALF_MASK) >= thresholds_L[length - 1]:
        length += 1
    return length
