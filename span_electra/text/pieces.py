"""Token ids -> readable text, as a page or a terminal shows tokens one by one."""

from __future__ import annotations

from span_electra.text.vocabulary import Vocabulary


class Pieces(dict[int, str]):
    """Token id -> its text, with the blank before it where a word starts; made when first asked for.

    Example: WordPiece "cat" -> " cat", "##s" -> "s"; byte-level BPE "\u0120cat" -> " cat"
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.byte_of = bytes_of_letters() if vocabulary.kind == "BPE" else {}

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
            text = bytes(self.byte_of.get(letter, 63) for letter in token).decode("utf-8", "replace")
        self[number] = text
        return text


def bytes_of_letters() -> dict[str, int]:
    """How byte-level BPE spells bytes (GPT-2): visible ones as they are, the rest as letters from U+0100."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + at): byte for at, byte in enumerate(hidden)}
