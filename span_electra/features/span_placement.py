"""Where a row's spans lie: every token is equally likely to be hidden, in every script.

The row is taken as a ring: a span that would reach over its end goes on at its beginning, so it is clipped
there and lies at both edges. No place of a ring is special, hence none of the row. (Spans that had to fit the
row whole left its edges hidden a quarter as often as its middle. Windows on endless masked text, with spans
cut at their edges, are as even in long rows, but not in short ones, whose budget is exact.)

The last span meets the budget. Where what would be left is a word or two, less than half a span, it goes to
the span before, for else every row had a very short one; otherwise the last is cut, at its end or at its
beginning by chance, for else the ends of long words would be hidden less often; and never inside a character,
as long as there is another way. Positions, and the marks of hidden tokens, are those of `words.Row`.

Features of format 1 were made otherwise; they are masked as they ever were by the last part of this file.
"""

from __future__ import annotations

import numpy as np

from span_electra.features.keyed_random import HALF_MASK, random_below, random_bits
from span_electra.text.compiled import compiled

PLACE_TRIES = 16  # random places tried for a span before the free places are counted
# Where a row's last tokens fit no character, it is drawn anew so often before one is cut: with characters of
# two tokens and of three a few draws find a sum that fits, with characters of three alone none does.
ATTEMPTS = 4
BACKWARD = np.uint64(1)  # the bit by which the last span is cut at its beginning, if it can be


@compiled
def sample_length(bits, thresholds_L):
    """Turn the lower half of 64 random bits into the length of a span."""
    length = 1
    while (bits & HALF_MASK) >= thresholds_L[length - 1]:
        length += 1
    return length


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
def place_spans(row, words, budget, key, settings):
    """Mark spans until the budget is full; return 0, or if they cannot be laid out the numbers drawn.

    Lengths are drawn one after another. A length keeps its value while its place is redrawn, else long spans,
    which fit less often, would be too few.
    """
    content, counter, left = row.word_at_W[words], 0, budget
    # Rows of long words have few spans as it is; there what is left makes one of its own.
    most_joined = settings.joined if 2 * content < 3 * words else 0
    # What was drawn before counts on: an attempt that began at number 1 again would end as the last did.
    for attempt in range(ATTEMPTS):
        left = budget
        while left > 0:
            counter += 1
            bits = random_bits(key, counter)
            span_words, length, start = sample_length(bits, settings.thresholds_L), 0, 0
            joined = min(most_joined, len(settings.thresholds_L) - span_words)
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


# --- format 1 -----------------------------------------------------------------------------------------
# Every span lies in the row whole: its first and last tokens are hidden less often than the middle, for fewer
# spans reach them. Kept as it was, so that files made so are masked for ever as they were.


@compiled
def place_spans_format_1(row, words, budget, key, thresholds_L):
    """Mark spans one after another; 0, or the numbers drawn until no place was left, and nothing marked."""
    word_at_W, taken, counter, left = row.word_at_W, row.taken, 0, budget
    while left > 0:
        counter += 1
        bits = random_bits(key, counter)
        span_words = sample_length(bits, thresholds_L)  # kept while places are tried, else short ones win
        length = 0
        for _ in range(PLACE_TRIES):
            word = random_below(bits, words)
            length = _fit_format_1(row, words, word, span_words, left)
            if length > 0:
                break
            counter += 1
            bits = random_bits(key, counter)
        if length == 0:
            counter += 1
            word, length = _search_words_format_1(row, words, span_words, left, random_bits(key, counter))
        if length == 0:
            taken[: word_at_W[words] + 1] = 0
            return counter
        start = word_at_W[word]
        taken[start + 1 : start + 1 + length] = 1
        left -= length
    return 0


@compiled
def _fit_format_1(row, words, word, span_words, left):
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
def _search_words_format_1(row, words, span_words, left, bits):
    """Choose evenly among all places that fit, as endless retries would; fewer words where there is none."""
    for fewer in range(span_words, 0, -1):
        fitting = 0
        for word in range(words):
            fitting += _fit_format_1(row, words, word, fewer, left) > 0
        if fitting == 0:
            continue
        chosen = random_below(bits, fitting)
        for word in range(words):
            length = _fit_format_1(row, words, word, fewer, left)
            if length > 0:
                if chosen == 0:
                    return word, length
                chosen -= 1
    return 0, 0
