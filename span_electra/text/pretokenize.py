r"""Compiled loops that cut lines of UTF-8 text into words, as the pre-tokenizers of BPE and WordPiece do.

    b"it's  ok\n"  ->  BPE: "it", "'s", " ", " ok"        WordPiece: "it", "'", "s", "ok"

Every character has a kind, learned from the tokenizer library (tokenizer_rules.py); nothing here knows
Unicode. A word is one int64, `start << 30 | length << 1 | odd`; odd words are left to the library.

Shapes: B bytes of text, C code points, W words, N lines.
"""

import numpy as np

from span_electra.text.compiled import compiled, inlined
from span_electra.text.eight_bytes import ONES, first_byte, load8

# Kinds. BPE words are runs of LETTER, of NUMBER or of OTHER; in WordPiece all inside a word is a LETTER.
# ALONE: a word by itself (punctuation, Chinese). ODD: its word's normal form is left to the library.
UNKNOWN, LETTER, NUMBER, OTHER, SPACE, ALONE, ODD, LINE_END = range(8)

MAX_TEXT_BYTES = 1 << 28  # of one call, so that a length fits its bits
PADDING = 24  # bytes of line ends that must follow the text, because eight are read at a time
# Places of the progress vector: cutting stops at a character of unknown kind, and goes on once it is learned.
POS, LINE, WORDS, NEXT_SKIPPED, AT_LINE_START = range(5)

_HIGH_BITS = np.uint64(0x8080808080808080)
_CASE_BITS = np.uint64(0x2020202020202020)
_APOSTROPHE, _BLANK, _NEWLINE = 0x27, 0x20, 0x0A


@inlined
def character_at(text_B, p):
    """(code point, bytes) of the UTF-8 character at p."""
    first = np.int64(text_B[p])
    if first < 0x80:
        return first, 1
    tail = np.int64(text_B[p + 1]) & 63
    if first < 0xE0:
        return (first & 31) << 6 | tail, 2
    tail = tail << 6 | np.int64(text_B[p + 2]) & 63
    if first < 0xF0:
        return (first & 15) << 12 | tail, 3
    return ((first & 7) << 18 | tail << 6 | np.int64(text_B[p + 3]) & 63) % 0x110000, 4


@inlined
def _character(text_B, p, kinds_C):
    """(code point, bytes, kind) of the character at p."""
    code_point, size = character_at(text_B, p)
    return code_point, size, kinds_C[code_point]


@inlined
def _between(bytes_8, low, high):
    """High bit of each of eight 7-bit values that is at least `low` and below `high`."""
    return (bytes_8 + np.uint64(128 - low) * ONES) & ~(bytes_8 + np.uint64(128 - high) * ONES)


@inlined
def _skip_ascii_word(text_B, p, digits_too):
    """First place from p on that holds no ASCII letter (nor digit), eight bytes at a time."""
    while True:
        eight = load8(text_B, p)
        wordlike = _between((eight | _CASE_BITS) & ~_HIGH_BITS, 0x61, 0x7B)  # a-z
        if digits_too:
            wordlike |= _between(eight & ~_HIGH_BITS, 0x30, 0x3A)
        rest = ~wordlike & _HIGH_BITS | eight & _HIGH_BITS
        if rest != 0:
            return p + first_byte(rest >> np.uint64(7))
        p += 8


@inlined
def _run_from(text_B, p, kind, kinds_C):
    """(end, start of its last character, code point behind it, kind of that) of the run of `kind` from p."""
    last = p
    while True:
        if kind == LETTER:
            p = _skip_ascii_word(text_B, p, False)
        code_point, size, found = _character(text_B, p, kinds_C)
        if found != kind or kind == UNKNOWN or kind == LINE_END:
            break
        last = p
        p += size
    return p, last, code_point, found


@inlined
def _bpe_word_end(text_B, p, kinds_C):
    r"""End of the match at p of 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

    or -1 - the code point whose kind is unknown yet. A match depends on nothing before p.
    """
    contraction = _contraction(text_B[p], text_B[p + 1], text_B[p + 2])
    start = p + (text_B[p] == _BLANK)
    code_point, size, kind = _character(text_B, start, kinds_C)
    end, last, code_point, found = _run_from(text_B, start, kind, kinds_C)
    if contraction > 0:
        return p + contraction
    if found == UNKNOWN:
        return -1 - code_point
    # White space at the line's end is a word, elsewhere all but its last character, which may lead a word.
    return last if kind == SPACE and found != LINE_END and last > p else end


@inlined
def _contraction(first, second, third):
    """Bytes of the 's 't 'm 'd 're 've 'll that three bytes begin with, or 0."""
    if first != _APOSTROPHE:
        return 0
    if second == 0x73 or second == 0x74 or second == 0x6D or second == 0x64:  # s t m d
        return 2
    rest = second << 8 | third
    return 3 if rest == 0x7265 or rest == 0x7665 or rest == 0x6C6C else 0  # re ve ll


@compiled
def cut_bpe(text_B, lines, skipped_N, prefix_space, kinds_C, progress, words_W, line_words_N):
    """Cut `lines` lines from progress on; -1 when done, else a code point whose kind has to be learned first.

    Every line ends with a newline; text_B[0] lies before the first. Lines in skipped_N (sorted) get no words.
    With `prefix_space` a line that does not start with a blank gets one, written over the newline before it.
    """
    p, line, count = progress[POS], progress[LINE], progress[WORDS]
    skip, fresh = progress[NEXT_SKIPPED], progress[AT_LINE_START]
    stopped = -1
    while line < lines:
        if fresh:
            if skip < len(skipped_N) and skipped_N[skip] == line:
                skip += 1
                while text_B[p] != _NEWLINE:
                    p += 1
            elif prefix_space and text_B[p] != _BLANK and text_B[p] != _NEWLINE:
                p -= 1
                text_B[p] = _BLANK
            fresh = 0
        while text_B[p] != _NEWLINE:
            end = _bpe_word_end(text_B, p, kinds_C)
            if end < 0:
                stopped = -1 - end
                break
            words_W[count] = p << 30 | (end - p) << 1
            count += 1
            p = end
        if stopped >= 0:
            break
        line_words_N[line] = count
        p, line, fresh = p + 1, line + 1, 1
    progress[POS], progress[LINE], progress[WORDS] = p, line, count
    progress[NEXT_SKIPPED], progress[AT_LINE_START] = skip, fresh
    return stopped


@inlined
def _wordpiece_end(text_B, p, kinds_C):
    """(end, odd) of the run of word characters from p; an end below 0 as in _bpe_word_end."""
    odd = 0
    while True:
        p = _skip_ascii_word(text_B, p, True)
        code_point, size, kind = _character(text_B, p, kinds_C)
        if kind != LETTER and kind != ODD:
            return -1 - code_point if kind == UNKNOWN else p, odd
        odd |= kind == ODD
        p += size


@compiled
def cut_wordpiece(text_B, lines, skipped_N, kinds_C, progress, words_W, line_words_N):
    """As cut_bpe; white space belongs to no word."""
    p, line, count = progress[POS], progress[LINE], progress[WORDS]
    skip, fresh = progress[NEXT_SKIPPED], progress[AT_LINE_START]
    stopped = -1
    while line < lines and stopped < 0:
        if fresh and skip < len(skipped_N) and skipped_N[skip] == line:
            skip += 1
            while text_B[p] != _NEWLINE:
                p += 1
        fresh = 0
        code_point, size, kind = _character(text_B, p, kinds_C)
        if kind == LETTER or kind == ODD:
            end, odd = _wordpiece_end(text_B, p, kinds_C)
            if end < 0:
                stopped = -1 - end
                break
            words_W[count] = p << 30 | (end - p) << 1 | odd
            count += 1
            p = end
        elif kind == ALONE:
            words_W[count] = p << 30 | size << 1
            count += 1
            p += size
        elif kind == SPACE:
            p += size
        elif kind == LINE_END:
            line_words_N[line] = count
            p, line, fresh = p + 1, line + 1, 1
        else:
            stopped = code_point
    progress[POS], progress[LINE], progress[WORDS] = p, line, count
    progress[NEXT_SKIPPED], progress[AT_LINE_START] = skip, fresh
    return stopped


@compiled
def cut_rare(text_B, words_W, uses_W, rare, most, parts_C):
    """Cut words used at most `rare` times before characters of scripts without blanks; (pieces, their uses).

    Pieces have up to `most` bytes (0: half of the word's), but two characters stay together. parts_C: bool,
    characters of these scripts. Other words are copied.
    """
    # The most pieces there can be: characters of these scripts take three bytes at least.
    room = len(words_W) + (words_W >> 1 & 0x1FFFFFFF).sum() // 3
    pieces_W, piece_uses_W = np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    for word in range(len(words_W)):
        p, length = words_W[word] >> 30, words_W[word] >> 1 & 0x1FFFFFFF
        limit = max(6, most if most else (length + 1) // 2)
        start, end = p, p + length
        while p < end and length > limit and uses_W[word] <= rare:
            code_point, size = character_at(text_B, p)
            if p > start and p + size - start > limit and code_point < len(parts_C) and parts_C[code_point]:
                pieces_W[count], piece_uses_W[count] = start << 30 | (p - start) << 1, uses_W[word]
                count, start = count + 1, p
            p += size
        pieces_W[count] = start << 30 | (end - start) << 1 | words_W[word] & 1
        piece_uses_W[count] = uses_W[word]
        count += 1
    return pieces_W[:count], piece_uses_W[:count]
