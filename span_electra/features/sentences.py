"""Where sentences end in a stream of tokens, so that rows can begin and end with them.

A sentence ends behind a token whose last character ends sentences, and behind the quotation marks and
brackets that close right after it. The full stop of Latin scripts does much else (3.5, example.org), so what
follows it must begin with a blank, or a line; "Mr. Smith" is taken for an end all the same, which costs no
token. Text that marks no sentences (Thai, lists of words) has none.

V vocabulary    T tokens    S sentences    N lines
"""

from __future__ import annotations

import unicodedata

import numpy as np

from span_electra.text.compiled import compiled
from span_electra.text.vocabulary import Vocabulary

ENDS_BEFORE_BLANK = ".!?"
# Unicode's Sentence_Terminal of scripts in wide use: what has no other use needs no blank behind it.
ENDS_ALWAYS = "\u2026\u203c\u203d\u2047\u2048\u2049"  # ellipsis, double marks
ENDS_ALWAYS += "\u3002\uff01\uff0e\uff1f\uff61"  # Chinese, Japanese
ENDS_ALWAYS += "\u0589\u061d\u061e\u061f\u06d4\u0700\u0701\u0702"  # Armenian, Arabic, Urdu, Syriac
ENDS_ALWAYS += (
    "\u0964\u0965\u104b\u17d4\u17d5\u1362\u1367\u1368\u0df4"  # Indic, Burmese, Khmer, Ethiopic, Sinhala
)

# Of a token: a sentence ends with it; only if a blank follows; it closes quotations or brackets and no more;
# it follows a blank.
ENDS, IF_BLANK, CLOSES, AFTER_BLANK = np.uint8(1), np.uint8(2), np.uint8(4), np.uint8(8)

NO_LINES = np.empty(0, np.int64)


def sentence_marks(vocabulary: Vocabulary) -> np.ndarray:
    """What each token says of sentences, uint8 [V]: ENDS, IF_BLANK, CLOSES, AFTER_BLANK."""
    spelt_V, goes_on_V = vocabulary.spelt
    marks_V = np.zeros(vocabulary.size, np.uint8)
    special = {vocabulary.tokenizer.token_to_id(token) for token in vocabulary.special.all}
    for token, spelt in enumerate(spelt_V):
        text = spelt.decode("utf-8", "replace")
        if token in special or not text:
            continue
        # Vocabularies that write no blanks say only where a word begins; a number may be what a point parts.
        blank = text[0].isspace() if goes_on_V[token] else not text[0].isdigit()
        bare = text.strip()
        body = bare.rstrip("".join(filter(_closes, set(bare))))
        marks_V[token] |= AFTER_BLANK * np.uint8(blank)
        if not body:
            marks_V[token] |= CLOSES * np.uint8(bool(bare) and not text[0].isspace())
        elif body[-1] in ENDS_BEFORE_BLANK:
            marks_V[token] |= ENDS | IF_BLANK
        elif body[-1] in ENDS_ALWAYS:
            marks_V[token] |= ENDS
    return marks_V


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


def _closes(character: str) -> bool:
    return character in "\"'" or unicodedata.category(character) in ("Pe", "Pf")


@compiled
def _mark_ends(ids_T, marks_V, begins_T, ends_at_T):
    """Mark the tokens that sentences end before."""
    ended, size = np.uint8(0), len(marks_V)
    for token in range(len(ids_T)):
        number = np.int64(ids_T[token])
        marks = marks_V[number] if number < size else np.uint8(0)
        if ended and not marks & (CLOSES | ENDS):
            ends_at_T[token] = marks & AFTER_BLANK != 0 or ended & IF_BLANK == 0 or begins_T[token]
        if marks & ENDS:
            ended = marks
        elif not marks & CLOSES:
            ended = np.uint8(0)
