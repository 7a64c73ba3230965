"""Text as the normalizer of a byte-level BPE leaves it, by Python's own tables where they are the library's.

The library takes longer to normalize than to do all the rest. Python is quick, but the two know different
versions of Unicode. So each character is compared when it is first met, and lines go to the library that hold
one on which they differ, or one that may compose with its neighbours in one version alone.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from tokenizers import Tokenizer

from span_electra.text.tokenizer_file import parts_of

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
LOWERCASE = "Lowercase"
_NOT_MET, _ALIKE, _ODD = range(3)


def is_understood(normalizer: dict | None) -> bool:
    """Whether NormalForm does what a normalizer of a tokenizer.json does."""
    return all(part.get("type") in (*FORMS, LOWERCASE) for part in parts_of(normalizer))


class NormalForm:
    """Normalizes blocks of lines as the tokenizer's normalizer does each line."""

    def __init__(self, tokenizer: Tokenizer, settings: dict):
        self._steps = [part["type"] for part in parts_of(settings["normalizer"])]
        self._library = tokenizer.normalizer
        self._met_C = np.zeros(0x110000, np.uint8)

    def of(self, block: bytes) -> bytes:
        """The normal form of UTF-8 text; as many lines as before."""
        if block.isascii():
            return block.lower() if LOWERCASE in self._steps else block
        text = block.decode()
        code_points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        met = self._met_C[code_points]
        for new in np.unique(code_points[met == _NOT_MET]).tolist():
            self._met_C[new] = _ALIKE if self._alike(chr(new)) else _ODD
        odd = {chr(code_point) for code_point in np.unique(code_points[self._met_C[code_points] == _ODD])}
        if not odd:
            return self._by_python(text).encode()
        lines = text.split("\n")
        return "\n".join(
            self._by_python(line) if odd.isdisjoint(line) else self._library.normalize_str(line)
            for line in lines
        ).encode()

    def _by_python(self, text: str) -> str:
        for step in self._steps:
            if step == LOWERCASE:  # the library does not ask whether a sigma ends its word
                text = text.replace("\u03a3", "\u03c3").lower()
            else:
                text = unicodedata.normalize(step, text)
        return text

    def _alike(self, character: str) -> bool:
        """Whether Python normalizes it as the library does, alone and beside others.

        Normal forms of what a version of Unicode has never change, and that of 3.2 is in every library. Of
        what came later, one of the two may not know letters and marks, nor what they compose with.
        """
        old = unicodedata.ucd_3_2_0.category(character) != "Cn"
        if not old and unicodedata.category(character)[0] in "LMC":
            return False
        return self._by_python(character) == self._library.normalize_str(character)
