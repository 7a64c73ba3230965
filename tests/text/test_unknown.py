"""Unknown text is told with its characters and the way out. Run: pytest tests/text/test_unknown.py"""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from span_electra.text.encode import TextEncoder
from span_electra.text.unknown import (
    characters_of,
    leaves_out,
    lost_of_block,
    unknown_characters,
    unknown_note,
)
from span_electra.text.vocabulary import SPECIAL_TOKENS, Vocabulary, assemble

IDS = {token: n for n, token in enumerate([*SPECIAL_TOKENS, "a", "##a", "b"])}
VOCABULARY = assemble("BERT", IDS)
SHORT = assemble("BERT", IDS, max_input_chars_per_word=100)


def bpe(letters: str, by_bytes: bool) -> Vocabulary:
    """A BPE that knows these letters alone, as trainers make it that are given no alphabet."""
    ids = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *letters])}
    tokenizer = Tokenizer(models.BPE(ids, []))
    tokenizer.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False) if by_bytes else pre_tokenizers.Whitespace()
    )
    return Vocabulary(tokenizer, "BPE" if by_bytes else "other")


BARE = {"bytes": bpe("abĠ", True), "characters": bpe("ab", False)}


def lost(vocabulary: Vocabulary, text: str) -> tuple[int, int]:
    data = text.encode()
    lines = TextEncoder(vocabulary.tokenizer).encode(data)
    return lost_of_block(vocabulary, data, lines), characters_of(data)


def test_the_commonest_unknown_characters_are_named():
    text = "a b aa 漢 漢 漢 字 ab"
    assert unknown_characters(VOCABULARY, text) == {"漢": 3, "字": 1}
    note = unknown_note(VOCABULARY, 43, 100, text.encode())
    assert note.startswith("43.0% of the characters are [UNK]") and "most often 漢 字;" in note
    assert "create_vocab_SE.py" in note


def test_words_that_are_too_long_are_told_as_such():
    assert "too long" in unknown_note(VOCABULARY, 5, 100, b"a" * 200)


def test_little_is_not_worth_a_note():
    assert unknown_note(VOCABULARY, 1, 100, "漢".encode()) is None


@pytest.mark.parametrize("name", ["unknown word", "word too long", "bytes", "characters"])
@pytest.mark.parametrize("length", [1, 150, 400])
@pytest.mark.parametrize("lines", [1, 40])
def test_what_is_lost_is_its_characters_however_few_tokens_stand_for_it(name, length, lines):
    vocabulary = BARE.get(name) or (SHORT if name == "word too long" else VOCABULARY)
    word = "a" * length if name == "word too long" else "漢x" * length if name in BARE else "x" * length
    gone = 0 if name == "word too long" and length < 100 else len(word)
    text = f"a b a {word} b\n" * lines + "a b\n" * (lines % 7)
    assert leaves_out(vocabulary) == (name in BARE)
    found, characters = lost(vocabulary, text)
    assert characters == sum(not character.isspace() for character in text)
    # From a sample, where much of it is alike: what is lost is scaled to all lines.
    assert found == pytest.approx(gone * lines, rel=0.2)
    assert bool(unknown_note(vocabulary, found, characters, text.encode())) == (found > 0.01 * characters)


def test_known_text_and_a_token_that_it_spells_out_are_not_lost():
    assert lost(VOCABULARY, "a b aa\n[UNK] a\n" * 9)[0] == 0 and lost(VOCABULARY, "")[1] == 0


def test_characters_that_get_no_token_are_told_as_left_out():
    for vocabulary in BARE.values():
        note = unknown_note(vocabulary, 5, 100, "a Zé b".encode())
        assert "have no token and are left out" in note and "Z é" in note
