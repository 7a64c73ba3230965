"""Where words begin in a row of tokens, in every script.

Where a script parts its words by blanks, a word begins at a blank, a tab, a no-break space, or a punctuation
mark, as it does in English. Chinese, Japanese, Thai, Lao, Khmer, Burmese and others write no blanks between
words: there every character is a word, a token of several characters one word too, and so is what stands
between two of them in another script. A byte-level vocabulary may cut a character into tokens, so a rule
looks at bytes: none of these tokens but the first begins anything.

V vocabulary    C code points, up to CLASSES
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

# Of a character: a word begins with it; whatever follows it begins a word.
BEGINS, PARTS = np.uint8(1), np.uint8(2)
# Of a token: BEGINS and PARTS of its first and last character, where these are whole, and:
OPEN = np.uint8(4)  # its first character goes on in the next token
OPEN_END = np.uint8(8)  # its last character does
CONTINUES = np.uint8(16)  # it begins inside a character
INSIDE = np.uint8(32)  # no character begins in it at all
SPECIAL = np.uint8(64)  # it leads a row, ends it, pads or hides: spelt out in a text it is never hidden

BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
CLASSES = 0x40000  # code points with a class; planes above hold no scripts

# Scripts without blanks between words, by blocks of Unicode. Hangul is not among them: Korean has blanks.
WITHOUT_BLANKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),  # iteration mark, closing mark, zero: letters among CJK punctuation
    (0x3021, 0x3029),
    (0x3031, 0x3035),
    (0x3038, 0x303C),
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x3190, 0x31FF),  # Kanbun, Bopomofo, strokes, Katakana extensions
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0xA4CF),  # Han, Yi
    (0xA980, 0xA9DF),  # Javanese
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9F),  # halfwidth Katakana
    (0x16FE0, 0x18D8F),  # Tangut, Khitan
    (0x1AFF0, 0x1B2FF),  # Kana, Nushu
    (0x20000, 0x10FFFF),  # Han, and what lies beyond CLASSES
)
# Punctuation and symbols of these scripts end the word before them and part it from what follows.
CJK_MARKS = (
    (0x3000, 0x3004),
    (0x3008, 0x3020),
    (0x302A, 0x3030),
    (0x3036, 0x3037),
    (0x303D, 0x303F),
    (0x3200, 0x33FF),
    (0xFE10, 0xFE1F),
    (0xFE30, 0xFE6F),
    (0xFF01, 0xFF0F),
    (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40),
    (0xFF5B, 0xFF65),
    (0xFFE0, 0xFFEE),
)
# Marks that are younger than the tables used here, or none to them: the zero-width blank, which writers of
# Khmer and Thai put between words; pictures.
LATER_MARKS = ((0x200B, 0x200B), (0x2000, 0x200A), (0x20A0, 0x20CF), (0x2190, 0x2BFF), (0x2E00, 0x2E7F))
LATER_MARKS += ((0x1F000, 0x1F3FA), (0x1F400, 0x1FAFF))  # between them: skin tones, which go with a picture


class TokenWords(NamedTuple):
    """What a vocabulary's tokens say of words; arrays, for compiled loops."""

    starts_V: np.ndarray  # bool; the rule of format 1: a blank, ASCII punctuation, no '##'
    flags_V: np.ndarray  # uint8; BEGINS, PARTS, OPEN ...
    end_V: np.ndarray  # uint32; bits of the code point of a last character that is not whole
    missing_V: np.ndarray  # uint8; how many bytes it lacks
    front_V: np.ndarray  # uint32; bits that a token brings to a character begun before it
    fronts_V: np.ndarray  # uint8; in how many bytes
    classes_C: np.ndarray  # uint8; BEGINS and PARTS of characters


@cache
def character_classes() -> np.ndarray:
    """BEGINS and PARTS of every code point below CLASSES, uint8 [C].

    The categories are those of Unicode 3.2, which every Python carries: later tables would give other masks
    under another Python. What has been added since stands above.
    """
    classes_C = np.zeros(CLASSES, np.uint8)
    category = unicodedata.ucd_3_2_0.category
    for code_point in range(0x80, 0xFFFF):
        if category(chr(code_point))[0] in "PSZ":
            classes_C[code_point] = BEGINS
    for code_point in range(0x80):
        if not chr(code_point).isalnum():
            classes_C[code_point] = BEGINS
    for first, last in LATER_MARKS:
        classes_C[first : last + 1] = BEGINS
    for first, last in WITHOUT_BLANKS + CJK_MARKS:
        classes_C[first : last + 1] = BEGINS | PARTS
    classes_C.flags.writeable = False
    return classes_C


def without_blanks(character: str) -> bool:
    """Whether a character is of a script that writes no blanks between words, or one of its marks."""
    return bool(character_classes()[min(ord(character), CLASSES - 1)] & PARTS)


def byte_letters() -> list[str]:
    """The printable character by which byte-level BPE writes each of the 256 bytes (GPT-2).

    Example: byte_letters()[0x20] is "Ġ". Printable Latin-1 stands for itself, the rest moves up to U+0100.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters, moved = [], 0x100
    for byte in range(256):
        letters.append(chr(byte) if byte in printable else chr(moved))
        moved += byte not in printable
    return letters


BYTE_OF_LETTER = {letter: byte for byte, letter in enumerate(byte_letters())}


def byte_level_bytes(token: str) -> bytes:
    """The bytes that a token of byte-level BPE stands for, which spells them as visible characters."""
    return b"".join(
        bytes([BYTE_OF_LETTER[char]]) if char in BYTE_OF_LETTER else char.encode("utf-8", "replace")
        for char in token
    )


def spelt_tokens(
    tokens_V: Sequence[str], kind: str, added: Mapping[int, str] | None = None
) -> tuple[list[bytes], np.ndarray]:
    """Return each token's UTF-8 bytes, and which tokens go on with a word unless their characters say else.

    kind: how a vocabulary spells them, as `Vocabulary.kind` has it. "BPE": bytes as visible characters; all
        go on, for a blank is written. "BERT": '##' goes on. "SentencePiece": a blank is U+2581, bytes without
        a character are <0x00> to <0xFF>; all go on. Others: every token is a word.
    added: id -> text of tokens that were added to the vocabulary, which are text as it stands.
    """
    added = added or {}
    spelt_V, goes_on_V = [], np.full(len(tokens_V), kind in ("BPE", "SentencePiece"))
    for number, token in enumerate(tokens_V):
        if kind == "SentencePiece":
            spelt = _piece_bytes(token)
        elif number in added:  # byte-level too: "Grüße" could be read as bytes, but those are no UTF-8
            spelt = added[number].encode("utf-8", "replace")
        elif kind == "BPE":
            spelt = byte_level_bytes(token)
        else:
            goes_on_V[number] = kind == "BERT" and token.startswith("##")
            spelt = (token[2:] if goes_on_V[number] else token).encode("utf-8", "replace")
        spelt_V.append(spelt)
    return spelt_V, goes_on_V


def _piece_bytes(piece: str) -> bytes:
    if BYTE_PIECE.fullmatch(piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode("utf-8", "replace")


def token_words(spelt_V: Sequence[bytes], goes_on_V: np.ndarray, starts_V: np.ndarray) -> TokenWords:
    """Return what the tokens say of words.

    spelt_V: each token's UTF-8 bytes, which may begin or end inside a character.
    goes_on_V: bool; tokens that go on with a word unless their characters say else: those with '##' of
        WordPiece, all of a vocabulary that marks words by blanks. The others begin words.
    starts_V: bool; the rule of format 1.
    """
    classes_C, size = character_classes(), len(spelt_V)
    flags_V, end_V, missing_V = np.zeros(size, np.uint8), np.zeros(size, np.uint32), np.zeros(size, np.uint8)
    front_V, fronts_V = np.zeros(size, np.uint32), np.zeros(size, np.uint8)
    for token, spelt in enumerate(spelt_V):
        front = len(spelt) - len(spelt.lstrip(CONTINUATION))
        fronts_V[token] = min(front, 3)  # no character lacks more
        for byte in spelt[: fronts_V[token]]:
            front_V[token] = front_V[token] << 6 | byte & 0x3F
        complete, end_V[token], missing_V[token] = _cut_end(spelt[front:])
        flags = OPEN_END if missing_V[token] else np.uint8(0)
        if front:
            flags |= CONTINUES if len(spelt) > front else CONTINUES | INSIDE
        elif not goes_on_V[token]:
            flags |= BEGINS
        elif complete:
            flags |= classes_C[min(ord(complete[0]), CLASSES - 1)] & BEGINS
        else:
            flags |= OPEN
        if complete and not missing_V[token]:
            flags |= classes_C[min(ord(complete[-1]), CLASSES - 1)] & PARTS
        flags_V[token] = flags
    return TokenWords(
        starts_V=starts_V,
        flags_V=flags_V,
        end_V=end_V,
        missing_V=missing_V,
        front_V=front_V,
        fronts_V=fronts_V,
        classes_C=classes_C,
    )


CONTINUATION = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that no character begins with


def _cut_end(spelt: bytes) -> tuple[str, int, int]:
    """Part bytes that begin with a character into whole ones and the bits of a last one, and what it lacks.

    Example: b"a" + the first two of the three bytes of U+4E00 -> "a", 0x138 (the bits so far), 1
    """
    for lead in range(len(spelt) - 1, max(-1, len(spelt) - 4), -1):
        byte = spelt[lead]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            missing = needed - (len(spelt) - lead)
            if missing <= 0:
                break
            bits = byte & (0x7F >> needed)
            for continued in spelt[lead + 1 :]:
                bits = bits << 6 | continued & 0x3F
            return spelt[:lead].decode("utf-8", "replace"), bits, missing
        if byte < 0x80:
            break
    return spelt.decode("utf-8", "replace"), 0, 0
