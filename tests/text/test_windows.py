"""Windows hold whole lines, in order, and leave out lines with literals.

Run: pytest tests/text/test_windows.py
"""

import json

from encode_examples import TOKENIZERS

from span_electra.text import windows
from span_electra.text.tokenizer_rules import CharacterTable
from span_electra.text.windows import WordCutter, lines_with

TOKENIZER = TOKENIZERS["bpe"]


def cutter(*literals: bytes) -> WordCutter:
    return WordCutter(CharacterTable(TOKENIZER, json.loads(TOKENIZER.to_str())), list(literals))


def test_all_lines_come_once(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW", 50)
    lines = [b"line %d of some length" % i * (i % 5) for i in range(60)]
    seen = []
    for window in cutter().windows(b"\n".join(lines)):
        start = 0
        for end in window.line_words_N.tolist():
            seen.append(b"".join(window.word(i) for i in range(start, end)))
            start = end
    assert seen == lines


def test_lines_with_literals_are_left_whole():
    text = b"a [MASK] b\nplain\n[MAS\n[[MASK]]\nx<s>\n\n[MASK]"
    (window,) = cutter(b"[MASK]", b"<s>", b"[MASK]s").windows(text)
    assert window.skipped == {0: "a [MASK] b", 3: "[[MASK]]", 4: "x<s>", 6: "[MASK]"}
    assert window.line_words_N.tolist() == [0, 1, 3, 3, 3, 3, 3]


def test_a_literal_at_the_very_end_cut_short_is_none():
    (window,) = cutter(b"[MASK]").windows(b"x [MASK")
    assert not window.skipped


def test_thousands_of_literals_are_found_together():
    words = [f"{a}{b}{c}".encode() for a in "abcde" for b in "xyz" for c in range(600)]
    text = b"\n".join(b" ".join(words[i::97]) + b" ax bx0 e" for i in range(40)) * 40
    lines = text.split(b"\n")
    for few in (words[:3], words[5::400], [b"e", b"ax0", b"ax00000", b"bx0 e"]):
        expected = [number for number, line in enumerate(lines) if any(word in line for word in few)]
        assert lines_with(few, text).tolist() == expected
    assert len(lines_with(words, text)) == len(lines)
