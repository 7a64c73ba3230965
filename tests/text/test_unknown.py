"""Unknown text is told with its characters and the way out. Run: pytest tests/text/test_unknown.py"""

from span_electra.text.unknown import unknown_characters, unknown_note
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble

VOCABULARY = assemble("BERT", {token: n for n, token in enumerate([*SPECIAL_TOKENS, "a", "##a", "b"])})


def test_the_commonest_unknown_characters_are_named():
    text = "a b aa 漢 漢 漢 字 ab"
    assert unknown_characters(VOCABULARY, text) == {"漢": 3, "字": 1}
    note = unknown_note(VOCABULARY, 43, 100, text.encode())
    assert note.startswith("43.0% of the tokens are [UNK]") and "most often 漢 字;" in note
    assert "create_vocab_SE.py" in note


def test_words_that_are_too_long_are_told_as_such():
    assert "too long" in unknown_note(VOCABULARY, 5, 100, b"a" * 200)


def test_little_is_not_worth_a_note():
    assert unknown_note(VOCABULARY, 1, 100, "漢".encode()) is None
