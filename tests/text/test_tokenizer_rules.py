"""Tables of what the library does. Run: pytest tests/text/test_tokenizer_rules.py"""

import json

import pytest
from encode_examples import TOKENIZERS
from tokenizers import pre_tokenizers

from span_electra.text.pretokenize import ALONE, LETTER, NUMBER, ODD, OTHER, SPACE, UNKNOWN
from span_electra.text.tokenizer_rules import CharacterTable, why_not
from span_electra.text.word_starts import byte_letters


def table(name: str) -> CharacterTable:
    characters = CharacterTable(TOKENIZERS[name], json.loads(TOKENIZERS[name].to_str()))
    characters.learn("\u00e9\u00a0")
    return characters


def test_byte_letters_are_the_librarys():
    assert sorted(byte_letters()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str("\x00 é\x7f")
    assert spelled[0][0] == "".join(byte_letters()[byte] for byte in "\x00 é\x7f".encode())


def test_kinds_of_characters():
    bpe = table("bpe")
    kinds = [bpe.kinds_C[ord(c)] for c in "a1'\x00\u00e9\u00a0"]
    assert kinds == [*(LETTER, NUMBER, OTHER, OTHER, LETTER, SPACE)]
    wordpiece = table("wordpiece uncased")
    kinds = [wordpiece.kinds_C[ord(c)] for c in "a1'\x00\u00e9\u00a0"]
    assert kinds == [*(LETTER, LETTER, ALONE, LETTER, LETTER, SPACE)]


def test_characters_are_learned_when_they_are_met():
    wordpiece = table("wordpiece uncased")
    assert wordpiece.kinds_C[0x6F22] == UNKNOWN
    wordpiece.learn("\u6f22")
    assert wordpiece.kinds_C[0x6F22] == ALONE
    assert wordpiece.kinds_C[0x6F23] == UNKNOWN


def test_marks_that_are_sorted_among_themselves_are_left_to_the_library():
    stripping, keeping = table("wordpiece uncased"), table("wordpiece cased")
    for characters in (stripping, keeping):
        characters.learn("\u302e")  # a tone mark that is not stripped: category Mc, class 224
    assert stripping.kinds_C[0x302E] == ODD
    assert keeping.kinds_C[0x302E] == LETTER, "without decomposition nothing is sorted"


def test_our_tokenizers_are_understood():
    for name, tokenizer in TOKENIZERS.items():
        assert why_not(json.loads(tokenizer.to_str())) is None, name


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_is_learned_together_is_what_is_learned_one_by_one(name):
    blocks = (
        (0, 0x600),
        (0x900, 0x980),
        (0x2E80, 0x3400),
        (0x4E00, 0x4E40),
        (0xAC00, 0xAC40),
        (0xF900, 0xFB00),
    )
    text = "".join(chr(c) for first, end in blocks for c in range(first, end))
    together, one_by_one = table(name), table(name)
    together.learn(text)
    for character in text:
        one_by_one.learn(character)
    assert together.kinds_C.tolist() == one_by_one.kinds_C.tolist()
    for character in map(ord, text):
        forms = [
            learned.form_bytes_B[form >> 4 :][: form & 15].tobytes()
            for learned in (together, one_by_one)
            for form in learned.forms_C[character : character + 1].tolist()
        ]
        assert forms[0] == forms[1], hex(character)


def test_the_library_is_not_asked_for_each_character():
    characters = table("bpe")
    asked = 0

    class Counting:
        def pre_tokenize_str(self, text):
            nonlocal asked
            asked += 1
            return cutter.pre_tokenize_str(text)

    cutter, characters._cutter = characters._cutter, Counting()
    characters.learn("".join(map(chr, range(0x4E00, 0x9FA0))))
    assert asked < 10
