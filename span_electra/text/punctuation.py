"""Punctuation marks of every script: which end sentences, and which stand at the word before them."""

from __future__ import annotations

import unicodedata

ENDS_BEFORE_BLANK = ".!?"
# Unicode's Sentence_Terminal of scripts in wide use: what has no other use needs no blank behind it.
ENDS_ALWAYS = "\u2026\u203c\u203d\u2047\u2048\u2049"  # ellipsis, double marks
ENDS_ALWAYS += "\u3002\uff01\uff0e\uff1f\uff61"  # Chinese, Japanese
ENDS_ALWAYS += "\u0589\u061d\u061e\u061f\u06d4\u0700\u0701\u0702"  # Armenian, Arabic, Urdu, Syriac
ENDS_ALWAYS += (
    "\u0964\u0965\u104b\u17d4\u17d5\u1362\u1367\u1368\u0df4"  # Indic, Burmese, Khmer, Ethiopic, Sinhala
)
# Commas, colons and semicolons: ASCII; Armenian, Arabic, Ethiopic, Burmese. Per cent, Arabic too, per mille.
PAUSES = ",;:" + "\u055d\u060c\u061b\u1361\u1363\u1364\u1365\u1366\u104a"
PER_CENT = "%\u066a\u2030\u0609"


def stands_at_word(mark: str) -> bool:
    """Whether people write no blank between a word and this mark behind it.

    Of quotation marks those that close in English (” ’) and French (»). Example: ")", ",", "؟", "”" -> True;
    "(", "“", "-" -> False
    """
    return mark in ENDS_BEFORE_BLANK + ENDS_ALWAYS + PAUSES + PER_CENT or (
        unicodedata.category(mark) in ("Pe", "Pf")
    )
