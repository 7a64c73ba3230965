"""Token ids -> readable text, as a page or a terminal shows tokens one by one."""

from __future__ import annotations

from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import BYTE_OF_LETTER


class Pieces(dict[int, str]):
    """Token id -> its text, with the blank before it where a word starts; made when first asked for.

    Example: WordPiece "cat" -> " cat", "##s" -> "s"; byte-level BPE "\u0120cat" -> " cat"
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def __missing__(self, number: int) -> str:
        if number >= self.vocabulary.size:
            return "\ufffd"  # a row that only pads a published model's table to a multiple of 8 or 64
        token = self.vocabulary.tokens_V[number]
        if self.vocabulary.kind == "BERT" or token in self.vocabulary.special.all:
            text = token[2:] if token.startswith("##") else " " + token
        elif self.vocabulary.kind != "BPE":
            text = token.replace("\u2581", " ")
        else:
            # A token may be part of a character: what is not text by itself is shown as U+FFFD.
            text = bytes(BYTE_OF_LETTER.get(letter, 63) for letter in token).decode("utf-8", "replace")
        self[number] = text
        return text
