"""Alphabets of scripts, and what is a word of letters. Run: pytest tests/text/test_letters.py"""

import unicodedata

import pytest

from span_electra.text.letters import alphabets, drops_accents, is_spelt, letters_for
from span_electra.text.vocabulary import SPECIAL_TOKENS, Vocabulary, assemble

IDS = {token: number for number, token in enumerate([*SPECIAL_TOKENS, "a"])}


def test_letters_are_of_the_words_script():
    known = alphabets(["Да", "no", "7", "İ"])
    assert known["CYRILLIC"] == ["а", "д"] and known["LATIN"] == ["i", "n", "o"]
    assert letters_for("(Нет", known) == ["а", "д"] and letters_for("Ω", known) == ["ω"], "none are known"
    assert letters_for("क", {"DEVANAGARI": []}) == ["क"], "nor of a script of which marks alone were"


@pytest.mark.parametrize(
    ("word", "marks"),
    [("हिन्दी", "\u093f\u094d\u0940"), ("น้ำที่", "\u0e49\u0e35\u0e48"), ("كَتَّ", "\u064e\u0651")],
)
def test_marks_are_letters_of_their_script(word, marks):
    letters = letters_for(word, alphabets([word, "no"]))
    assert set(marks) <= set(letters) and not set("no") & set(letters)


@pytest.mark.parametrize("word", ["việt", "пойдём", "が", "ᾧ", "שָׁ"])
def test_accents_that_many_scripts_have_are_letters_of_those_they_occur_with(word):
    parted = unicodedata.normalize("NFD", word)
    known = alphabets(["no", parted])
    assert {*parted} <= {*letters_for(word, known)} and "COMBINING" not in known


def test_a_word_with_a_digit_in_any_script_is_no_spelling():
    assert all(map(is_spelt, ["don't", "Ünder", "三", "हिन्दी", "x"]))
    assert not any(map(is_spelt, ["1987", "3rd", "x²", "٤٨", "½", "--", "_", "", "Ⅷ"]))


def test_a_vocabulary_that_reads_no_accents_is_known():
    made = [assemble("BERT", IDS, lowercase=low, strip_accents=strip) for low, strip in
            ((True, None), (True, False), (False, None), (False, True))]  # fmt: skip
    assert [drops_accents(vocabulary) for vocabulary in made] == [True, False, False, True]
    assert not drops_accents(Vocabulary(made[1].folded.tokenizer, "BERT"))
