"""Token ids -> readable text, as a page or a terminal shows tokens one by one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise

from tokenizers import Tokenizer

from span_electra.text.punctuation import stands_at_word
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import CONTINUATION, without_blanks

PARTS_OF_A_SYLLABLE = unicodedata.normalize("NFD", "각")


class Pieces(dict[int, str]):
    """Token id -> its text, with the blank before it where a word starts; made when first asked for.

    Letters that the vocabulary takes apart, as BERT's rules do Korean, are whole as people write them (NFC).

    Example: WordPiece "cat" -> " cat", "##s" -> "s"; byte-level BPE "\u0120cat" -> " cat"
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary, rules = vocabulary, vocabulary.tokenizer.normalizer
        # WordPiece and others drop blanks when they cut, and so do not say where people write one.
        self.adds_blanks = vocabulary.kind == "BERT" or _drops_blanks(vocabulary.tokenizer)
        # What the last token of a word ends with, as the first GPT has it; b"": tokens do not say which is.
        self.end_of_word = (getattr(vocabulary.tokenizer.model, "end_of_word_suffix", None) or "").encode()
        self._added = vocabulary.tokenizer.get_added_tokens_decoder()
        self.takes_apart = rules is not None and PARTS_OF_A_SYLLABLE in rules.normalize_str("각")

    def __missing__(self, number: int) -> str:
        # A token may be part of a character: what is not text by itself is shown as U+FFFD.
        text = self.written(self._bytes(number).decode("utf-8", "replace"))
        self[number] = text
        return text

    def text(self, ids: Iterable[int]) -> str:
        """Neighbouring tokens as one text, in which characters that were cut are whole again."""
        return self.written(b"".join(self._spelt(ids)).decode("utf-8", "replace"))

    def texts(self, ids: Iterable[int]) -> list[str]:
        """Each of neighbouring tokens as text; a character that was cut is its first token's.

        Example: of byte-level BPE "né", "é" in two tokens -> " n", "é", ""
        """
        parts: list[bytes] = []
        begun = 0  # the token in which the last character began
        for spelt in self._spelt(ids):
            rest = spelt.lstrip(CONTINUATION) if parts else spelt
            if len(rest) < len(spelt):
                parts[begun] += spelt[: len(spelt) - len(rest)]
            parts.append(rest)
            begun = len(parts) - 1 if rest else begun
        texts = [part.decode("utf-8", "replace") for part in parts]
        if not self.takes_apart:
            return texts
        ends = [len(self.written("".join(texts[:count]))) for count in range(len(texts) + 1)]
        text = self.written("".join(texts))
        return [text[begin:end] for begin, end in pairwise(ends)]

    def written(self, text: str) -> str:
        """A text of tokens as people write it, NFC where the vocabulary takes letters apart."""
        return unicodedata.normalize("NFC", text) if self.takes_apart else text

    def parted(self, text: str) -> str:
        """The same by the vocabulary's letters, of which a Korean syllable has several."""
        return unicodedata.normalize("NFD", text) if self.takes_apart else text

    def _spelt(self, ids: Iterable[int]) -> Iterator[bytes]:
        """The bytes of each of neighbouring tokens, of which some may say where a word ends."""
        inside = False
        for number in ids:
            yield self._bytes(number, inside)
            if self.end_of_word:
                spelt = self.vocabulary.spelt[0][number] if number < self.vocabulary.size else b""
                inside = number not in self._added and not spelt.endswith(self.end_of_word)

    def _bytes(self, number: int, inside: bool = False) -> bytes:
        # Rows may only pad a published model's table to a multiple of 8 or 64.
        if number >= self.vocabulary.size:
            return "\ufffd".encode()
        token, (spelt_V, goes_on_V) = self.vocabulary.tokens_V[number], self.vocabulary.spelt
        if token in self.vocabulary.special.all:
            return f" {token}".encode()
        spelt = spelt_V[number].removesuffix(self.end_of_word)
        if not self.adds_blanks or (inside if self.end_of_word else goes_on_V[number]):
            return spelt
        first = spelt.decode("utf-8", "replace")[:1] or " "
        return spelt if stands_at_word(first) or without_blanks(first) else b" " + spelt


def _drops_blanks(tokenizer: Tokenizer) -> bool:
    """Whether words are cut at blanks, of which no token tells afterwards."""
    rules, cutter = tokenizer.normalizer, tokenizer.pre_tokenizer
    text = rules.normalize_str("a b") if rules else "a b"
    return cutter is not None and [part for part, _ in cutter.pre_tokenize_str(text)] == ["a", "b"]
