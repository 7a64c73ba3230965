"""Tables of what the library does. Run: pytest tests/text/test_tokenizer_rules.py"""

import json

from encode_examples import TOKENIZERS
from tokenizers import pre_tokenizers

from span_electra.text.pretokenize import ALONE, LETTER, NUMBER, ODD, OTHER, SPACE, UNKNOWN
from span_electra.text.tokenizer_rules import CharacterTable, why_not
from span_electra.text.word_starts import byte_letters


def table(name: str) -> CharacterTable:
    characters = CharacterTable(TOKENIZERS[name], json.loads(TOKENIZERS[name].to_str()))
    characters.learn(0xE9)
    characters.learn(0xA0)
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
    wordpiece.learn(0x6F22)
    assert wordpiece.kinds_C[0x6F22] == ALONE


def test_marks_that_are_sorted_among_themselves_are_left_to_the_library():
    stripping, keeping = table("wordpiece uncased"), table("wordpiece cased")
    for characters in (stripping, keeping):
        characters.learn(0x302E)  # a tone mark that is not stripped: category Mc, class 224
    assert stripping.kinds_C[0x302E] == ODD
    assert keeping.kinds_C[0x302E] == LETTER, "without decomposition nothing is sorted"


def test_our_tokenizers_are_understood():
    for name, tokenizer in TOKENIZERS.items():
        assert why_not(json.loads(tokenizer.to_str())) is None, name
