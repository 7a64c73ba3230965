"""Where sentences end in a stream of tokens, so that rows can begin and end with them.

A sentence ends behind a token whose last character ends sentences, and behind the quotation marks and
brackets that close right after it. “ ‘ « open quotations in English and French; in German, Czech, Danish and
others they close what „ ‚ » has opened, and do so while one of these is open. The full stop of Latin scripts
does much else (3.5, example.org), so what follows it must begin with a blank, or a line; "Mr. Smith" is taken
for an end all the same, which costs no token. So must what follows ! and ?, or with a character of a script
without blanks: normalizers (NFKC) and keyboards make them of ！ and ？. Text that marks no sentences (Thai,
lists of words) has none.

V vocabulary    T tokens    S sentences    N lines
"""

from __future__ import annotations

import unicodedata

import numpy as np

from span_electra.text.compiled import compiled
from span_electra.text.punctuation import ENDS_ALWAYS, ENDS_BEFORE_BLANK
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import CONTINUATION, without_blanks

# Of a token: a sentence ends with it; only if a blank follows; it closes quotations or brackets and no more;
# it follows a blank.
ENDS, IF_BLANK, CLOSES, AFTER_BLANK = np.uint16(1), np.uint16(2), np.uint16(4), np.uint16(8)
# The first three, shifted by so many bits, where “ ‘ « close.
IN_QUOTATION = np.uint16(4)
# Of its last quotation mark: it opens („ ‚); it closes one of these, else it opens (“ ‘ «); it closes (”); it
# closes one of the second kind, else it opens (»).
LOW, LEFT, RIGHT, POINTS_RIGHT = np.uint16(256), np.uint16(512), np.uint16(1024), np.uint16(2048)
# It begins with a character of a script without blanks; with it, ! or ?, a sentence ends before these too.
UNSPACED, OR_UNSPACED = np.uint16(4096), np.uint16(8192)
QUOTATION_MARKS = dict.fromkeys("„‚", LOW) | dict.fromkeys("“‘«‹", LEFT)
QUOTATION_MARKS |= {"”": RIGHT, "»": POINTS_RIGHT, "›": POINTS_RIGHT}  # ’ is an apostrophe, and says nothing
DEEPEST = 2  # quotations one in another; one that is never closed must not add up with others

NO_LINES = np.empty(0, np.int64)


def sentence_marks(vocabulary: Vocabulary) -> np.ndarray:
    """What each token says of sentences, uint16 [V]: ENDS, IF_BLANK, CLOSES, AFTER_BLANK, UNSPACED ..."""
    spelt_V, goes_on_V = vocabulary.spelt
    marks_V = np.zeros(vocabulary.size, np.uint16)
    special = {vocabulary.tokenizer.token_to_id(token) for token in vocabulary.special.all}
    for token, spelt in enumerate(spelt_V):
        text = spelt.decode("utf-8", "replace")
        if token in special or not text:
            continue
        # Vocabularies that write no blanks say only where a word begins; a number may be what a point parts.
        blank = text[0].isspace() if goes_on_V[token] else not text[0].isdigit()
        marks_V[token] = AFTER_BLANK * np.uint16(blank) | _end_marks(text, ("Pe", "Pf"))
        marks_V[token] |= _end_marks(text, ("Pe", "Pf", "Pi")) << IN_QUOTATION
        # Of byte-level vocabularies it may be a character's first bytes alone, which tell the script.
        first = (spelt + CONTINUATION[:1] * 3).decode("utf-8", "replace")[0]
        ends = [each for each in text if each in ENDS_BEFORE_BLANK]
        marks_V[token] |= UNSPACED * np.uint16(without_blanks(first))
        marks_V[token] |= OR_UNSPACED * np.uint16(ends[-1:] not in ([], ["."]))
        quotations = [QUOTATION_MARKS[each] for each in text if each in QUOTATION_MARKS]
        marks_V[token] |= quotations[-1] if quotations else np.uint16(0)
    return marks_V


def _end_marks(text: str, closing: tuple[str, ...]) -> np.uint16:
    """ENDS, IF_BLANK and CLOSES of a token, where characters of these categories close."""
    bare = text.strip()
    closers = {each for each in bare if each in "\"'" or unicodedata.category(each) in closing}
    body = bare.rstrip("".join(closers))
    if not body:
        return CLOSES if bare and not text[0].isspace() else np.uint16(0)
    if body[-1] in ENDS_BEFORE_BLANK:
        return ENDS | IF_BLANK
    return ENDS if body[-1] in ENDS_ALWAYS else np.uint16(0)


def begins_lines_bare(vocabulary: Vocabulary) -> bool:
    """Whether a vocabulary that writes blanks writes none before a line's first word: RoBERTa's, GPT-2's."""
    ids = vocabulary.tokenizer.encode("a", add_special_tokens=False).ids
    spelt_V, goes_on_V = vocabulary.spelt
    return bool(ids) and bool(goes_on_V[ids[0]]) and not spelt_V[ids[0]][:1].isspace()


def sentence_ends(ids_T: np.ndarray, marks_V: np.ndarray, bare_starts_N: np.ndarray = NO_LINES) -> np.ndarray:
    """Return where sentences end in the stream, exclusive and ascending, int64 [S]; its own end is not one.

    bare_starts_N: where lines begin whose first word has no blank of its own; see `begins_lines_bare`.

    Example: "It rains ." " “" "Why" "?" "”" " He" -> ends behind "." and behind "”"
    """
    ends_at_T, begins_T = np.zeros((2, len(ids_T)), np.bool_)
    begins_T[bare_starts_N[bare_starts_N < len(ids_T)]] = True
    _mark_ends(ids_T, marks_V, begins_T, ends_at_T)
    return np.flatnonzero(ends_at_T)


@compiled
def _mark_ends(ids_T, marks_V, begins_T, ends_at_T):
    """Mark the tokens that sentences end before."""
    # Quotations that are open, those in “ ‘ « apart: behind these the same marks are openers again.
    ended, size, low, left = np.uint16(0), len(marks_V), 0, False
    for token in range(len(ids_T)):
        number = np.int64(ids_T[token])
        marks = marks_V[number] if number < size else np.uint16(0)
        says = marks
        if low > 0:
            kept = says & (AFTER_BLANK | UNSPACED | OR_UNSPACED)
            marks = says >> IN_QUOTATION & (ENDS | IF_BLANK | CLOSES) | kept
        if says & LOW:
            low = min(low + 1, DEEPEST)
        elif says & LEFT:
            left = low == 0
            low = max(low - 1, 0)
        elif says & (RIGHT | POINTS_RIGHT):
            if not left:
                low = max(low - 1, 0) if says & RIGHT else min(low + 1, DEEPEST)
            left = False
        if ended and not marks & (CLOSES | ENDS):
            begins = marks & AFTER_BLANK or marks & UNSPACED and ended & OR_UNSPACED
            ends_at_T[token] = begins != 0 or ended & IF_BLANK == 0 or begins_T[token]
        if marks & ENDS:
            ended = marks
        elif not marks & CLOSES:
            ended = np.uint16(0)
