"""What characters and tokens say of words. Run: pytest tests/text/test_word_starts.py"""

import unicodedata

import numpy as np
from tokenizers import pre_tokenizers

from span_electra.text.word_starts import (
    BEGINS,
    CONTINUES,
    INSIDE,
    OPEN,
    OPEN_END,
    PARTS,
    byte_level_bytes,
    character_classes,
    spelt_tokens,
    token_words,
)


def flags(*spelt: bytes) -> list[int]:
    table = token_words(list(spelt), np.ones(len(spelt), bool), np.zeros(len(spelt), bool))
    return table.flags_V.tolist()


def test_blanks_and_marks_begin_words_and_letters_do_not():
    classes_C = character_classes()
    for char in " \t\u00a0\u3000\u2009.,!?-_/(«“…،؟।¿–€":
        assert classes_C[ord(char)] & BEGINS, f"U+{ord(char):04X}"
    for char in "azAZ09éßяλאبहक्한가éÅ\u0301\u200d\u200c":
        assert not classes_C[ord(char)], f"U+{ord(char):04X}"


def test_in_scripts_without_blanks_every_character_begins_a_word_and_parts_the_next():
    classes_C = character_classes()
    for char in "我漢龍のカーรไทยລາວខ្មែរမြန်မာ々〇𠀀ﾊ":
        assert classes_C[ord(char)] == BEGINS | PARTS, f"U+{ord(char):04X}"
    for char in "、。「」！？：～":
        assert classes_C[ord(char)] == BEGINS | PARTS, f"U+{ord(char):04X}"


def test_all_characters_of_these_scripts_are_of_their_class():
    """By the names that Unicode gives, so that no block is forgotten."""
    scripts = ("CJK UNIFIED", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "BOPOMOFO")
    classes_C = character_classes()
    for code_point in range(0x80, len(classes_C)):
        name = unicodedata.name(chr(code_point), "")
        if name.startswith(scripts):
            assert classes_C[code_point] == BEGINS | PARTS, name


def test_tokens_are_read_by_their_bytes_wherever_they_are_cut():
    han = "我".encode()
    assert flags(*(han, han[:1], han[:2], han[1:], han[1:2], b"a" + han[:1])) == [
        BEGINS | PARTS,
        OPEN | OPEN_END,
        OPEN | OPEN_END,
        CONTINUES | INSIDE,
        CONTINUES | INSIDE,
        OPEN_END,
    ]
    assert flags(han[1:] + b"a", han[2:] + han, b" a") == [CONTINUES, CONTINUES | PARTS, BEGINS]
    table = token_words([han[:2], han[1:]], np.ones(2, bool), np.zeros(2, bool))
    assert table.missing_V.tolist() == [1, 0] and table.fronts_V.tolist() == [0, 2]
    assert int(table.end_V[0]) << 6 | int(table.front_V[1]) & 0x3F == ord("我")


def test_byte_level_tokens_are_spelt_back():
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in ("a b", "naïve\t我\u00a0x", "🙂é", "".join(map(chr, range(1, 0x180)))):
        pieces = [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)]
        assert b"".join(byte_level_bytes(piece) for piece in pieces) == text.encode()


def test_every_kind_of_vocabulary_is_spelt_back():
    spelt, goes_on = spelt_tokens(["Ġa", "b", "æĪĳ"], "BPE")
    assert spelt == [b" a", b"b", "我".encode()] and goes_on.all()
    spelt, goes_on = spelt_tokens(["\u2581a", "b", "<0xE6>", "<0xZZ>"], "SentencePiece")
    assert spelt == [b" a", b"b", b"\xe6", b"<0xZZ>"] and goes_on.all()
    spelt, goes_on = spelt_tokens(["a", "##b"], "BERT")
    assert spelt == [b"a", b"b"] and goes_on.tolist() == [False, True]
    assert not spelt_tokens(["a", "##b"], "other")[1].any()


def test_a_token_that_was_added_is_no_spelling_of_bytes():
    assert spelt_tokens(["é", "é"], "BPE", added={1: "é"})[0] == [b"\xe9", "é".encode()]
    spelt, goes_on = spelt_tokens(["##b", "##b"], "BERT", added={1: "##b"})
    assert spelt == [b"b", b"##b"] and goes_on.tolist() == [True, False]
