"""Cutting is the library's own pre-tokenizing, word for word. Run: pytest tests/text/test_pretokenize.py"""

import json

import pytest
from encode_examples import NASTY, SETTINGS, TOKENIZERS

from span_electra.text.tokenizer_rules import CharacterTable
from span_electra.text.windows import WordCutter
from span_electra.text.word_starts import byte_letters

PLAIN = ["it's  ok", "a\tb \u00a0c", "we'll rock'n'roll, don''t!", "ab12 3,4", "漢字kanji — x", ""]


def words_by_line(name: str, lines: list[str]) -> list[list[bytes]]:
    tokenizer = TOKENIZERS[name]
    cutter = WordCutter(CharacterTable(tokenizer, json.loads(tokenizer.to_str())), [])
    (window,) = cutter.windows("".join(line + "\n" for line in lines).encode())
    ends = window.line_words_N.tolist()
    return [[window.word(i) for i in range(a, b)] for a, b in zip([0, *ends], ends, strict=False)]


def test_the_example_of_the_docstring():
    assert words_by_line("bpe", ["it's  ok"]) == [[b"it", b"'s", b" ", b" ok"]]
    assert words_by_line("wordpiece cased", ["it's  ok"]) == [[b"it", b"'", b"s", b"ok"]]


@pytest.mark.parametrize("name", [name for name in SETTINGS if name.startswith("bpe")])
def test_bpe_words(name):
    letters = byte_letters()
    lines = PLAIN + NASTY
    for line, words in zip(lines, words_by_line(name, lines), strict=True):
        theirs = [word for word, _ in TOKENIZERS[name].pre_tokenizer.pre_tokenize_str(line)]
        assert ["".join(letters[byte] for byte in word) for word in words] == theirs, repr(line)


@pytest.mark.parametrize("name", ["wordpiece cased", "wordpiece as it comes"])
def test_wordpiece_words(name):
    tokenizer = TOKENIZERS[name]
    for line, words in zip(PLAIN, words_by_line(name, PLAIN), strict=True):
        theirs = [
            w for w, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(line))
        ]
        assert [word.decode() for word in words] == theirs, repr(line)
