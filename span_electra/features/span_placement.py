"""Law 2 of spans: every token of a row is equally likely to be hidden, in every script.

The row is taken as a ring: a span that would reach over its end goes on at its beginning, so it is clipped
there and lies at both edges. No place of a ring is special, hence none of the row. (Spans that had to fit the
row whole left its edges hidden a quarter as often as its middle. Windows on endless masked text, with spans
cut at their edges, are as even in long rows, but not in short ones, whose budget is exact.)

The last span meets the budget. Where what would be left is a word or two, less than half a span, it goes to
the span before, for else every row had a very short one; otherwise the last is cut, at its end or at its
beginning by chance, for else the ends of long words would be hidden less often; and never inside a character,
as long as there is another way. Positions, and the marks of hidden tokens, are those of `words.Row`.
"""

from __future__ import annotations

import numpy as np

from span_electra.features.keyed_random import random_below, random_bits
from span_electra.features.span_law_1 import PLACE_TRIES, sample_length
from span_electra.text.compiled import compiled

# Where a row's last tokens fit no character, it is drawn anew so often before one is cut: with characters of
# two tokens and of three a few draws find a sum that fits, with characters of three alone none does.
ATTEMPTS = 4
BACKWARD = np.uint64(1)  # the bit by which the last span is cut at its beginning, if it can be


@compiled
def place_row_2(row, words, budget, key, law):
    """Mark spans until the budget is full; return 0, or if they cannot be laid out the numbers drawn.

    Lengths are drawn one after another. A length keeps its value while its place is redrawn, else long spans,
    which fit less often, would be too few.
    """
    content, counter, left = row.word_at_W[words], 0, budget
    # Rows of long words have few spans as it is; there what is left makes one of its own.
    most_joined = law.joined if 2 * content < 3 * words else 0
    # What was drawn before counts on: an attempt that began at number 1 again would end as the last did.
    for attempt in range(ATTEMPTS):
        left = budget
        while left > 0:
            counter += 1
            bits = random_bits(key, counter)
            span_words, length, start = sample_length(bits, law.thresholds_L), 0, 0
            joined = min(most_joined, len(law.thresholds_L) - span_words)
            for _ in range(PLACE_TRIES):
                start, length = _fit(
                    row,
                    words,
                    word=random_below(bits, words),  # by the upper half of the bits; the length had the lower
                    span_words=span_words,
                    left=left,
                    bits=bits,
                    joined=joined,
                )
                if length > 0:
                    break
                counter += 1
                bits = random_bits(key, counter)
            if length == 0:
                counter += 1
                start, length = _search_words(row, words, span_words, left, random_bits(key, counter))
            if length == 0:
                counter += 1
                start, length = _search_run(row, content, left, random_bits(key, counter), True)
            if length == 0:
                break
            _mark(row.taken, content, start, length)
            left -= length
        if left == 0:
            return 0
        if attempt < ATTEMPTS - 1:
            row.taken[: content + 1] = 0
    while left > 0:  # only inside a character
        counter += 1
        start, length = _search_run(row, content, left, random_bits(key, counter), False)
        if length == 0:
            row.taken[: content + 1] = 0
            return counter
        _mark(row.taken, content, start, length)
        left -= length
    return 0


@compiled
def _fit(row, words, word, span_words, left, bits, joined):
    """Return the place and the tokens of a span of so many words from `word` on; 0 tokens: it does not fit.

    What is longer than `left` is cut to it. Where the next words, at most `joined`, are just what would be
    left, they are the span's too.
    """
    start, content, size = row.word_at_W[word], row.word_at_W[words], 0
    size = _distance(row.word_at_W, words, word, span_words)
    if size > left:
        later = (start + size - left) % content  # where the span begins when its beginning is cut off
        end_fits, begin_fits = row.begins_T[(start + left) % content], row.begins_T[later]
        if not end_fits and not begin_fits:
            return start, 0
        if begin_fits and (bits & BACKWARD or not end_fits):
            start = later
        size = left
    elif size < left:
        for more in range(1, joined + 1):
            if _distance(row.word_at_W, words, word, span_words + more) == left:
                size = left
    return start, size if _free(row.taken, content, start, size) else 0


@compiled
def _distance(word_at_W, words, word, span_words):
    """Tokens of so many words on the ring; at most all."""
    content, other = word_at_W[words], word + span_words
    if span_words >= words:
        return content
    if other <= words:
        return word_at_W[other] - word_at_W[word]
    return content - word_at_W[word] + word_at_W[other - words]


@compiled
def _free(taken, content, start, length):
    """Whether neither the tokens nor those before and after them on the ring are hidden."""
    place = start if start > 0 else content  # of the token before, in `taken`
    for _ in range(length + 2):
        if taken[place]:
            return False
        place = place + 1 if place < content else 1
    return True


@compiled
def _mark(taken, content, start, length):
    place = start + 1
    for _ in range(length):
        taken[place] = 1
        place = place + 1 if place < content else 1


@compiled
def _search_words(row, words, span_words, left, bits):
    """Choose evenly among all words where the span fits, as endless retries would; else with fewer words."""
    for fewer in range(span_words, 0, -1):
        fitting = 0
        for word in range(words):
            fitting += _fit(row, words, word=word, span_words=fewer, left=left, bits=bits, joined=0)[1] > 0
        if fitting == 0:
            continue
        chosen = random_below(bits, fitting)
        for word in range(words):
            start, length = _fit(row, words, word=word, span_words=fewer, left=left, bits=bits, joined=0)
            if length > 0:
                if chosen == 0:
                    return start, length
                chosen -= 1
    return 0, 0


@compiled
def _search_run(row, content, left, bits, characters):
    """Choose evenly among the longest runs of at most `left` tokens that fit, of any part of a word.

    characters: a run begins and ends where characters do; else it may end inside one, and where not even
    that fits, begin there too.
    """
    # What is longer than the room between spans fits nowhere; to try each size of it took most of the time.
    for size in range(min(left, _most_room(row.taken, content)), 0, -1):
        for ends in range(2, 1, -1) if characters else range(1, -1, -1):
            fitting = 0
            for start in range(content):
                fitting += _run_fits(row, content, start, size, ends)
            if fitting == 0:
                continue
            chosen = random_below(bits, fitting)
            for start in range(content):
                if _run_fits(row, content, start, size, ends):
                    if chosen == 0:
                        return start, size
                    chosen -= 1
    return 0, 0


@compiled
def _most_room(taken, content):
    """The most tokens that a span between others may have, with one before and one after it to spare."""
    free = longest = 0
    for place in range(2 * content):  # twice around: the longest stretch may lie over the row's end
        free = 0 if taken[place % content + 1] else free + 1
        longest = max(longest, free)
    return content if free == 2 * content else longest - 2  # of a ring without spans all


@compiled
def _run_fits(row, content, start, size, ends):
    """ends: at how many of its ends a character must begin: both, its beginning alone, none."""
    if ends > 0 and not row.begins_T[start]:
        return False
    if ends > 1 and not row.begins_T[(start + size) % content]:
        return False
    return _free(row.taken, content, start, size)
