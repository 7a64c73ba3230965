"""Tokens as people read them. Run: pytest tests/text/test_pieces.py"""

import json
import unicodedata

import pytest
from own_tokenizer_examples import TOKENIZERS
from tokenizers import normalizers

from span_electra.text.added_tokens import add_tokens
from span_electra.text.pieces import Pieces
from span_electra.text.tokenizer_file import kind_of
from span_electra.text.vocabulary import Vocabulary, assemble
from span_electra.text.word_starts import BEGINS, CONTINUES, OPEN, OPEN_END, PARTS, byte_letters


def test_byte_level_tokens_are_read_as_text():
    letters = byte_letters()
    spelt = ["".join(letters[byte] for byte in text) for text in (b" caf\xc3\xa9", b"\xc3", b"<b>")]
    special = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]
    pieces_V = Pieces(assemble("BPE", {token: number for number, token in enumerate(special + spelt)}))
    assert [pieces_V[number] for number in (5, 6, 7, 3)] == [" café", "\ufffd", "<b>", " [MASK]"]
    assert pieces_V[8] == "\ufffd", "a table may have more rows than the vocabulary"


def test_a_character_that_was_cut_is_whole_again_with_its_neighbours():
    letters = [*("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"), *byte_letters()]
    pieces_V = Pieces(assemble("BPE", {token: number for number, token in enumerate(letters)}))
    assert pieces_V.text(5 + byte for byte in " né 我".encode()) == " né 我"
    assert pieces_V.text([3, 5 + 0xE6, 5 + 0x88]) == " [MASK]\ufffd"


def test_a_word_of_wordpiece_has_a_blank_before_it_where_people_write_one():
    tokens = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "cat", "##s", "我", "。", ",", "(", "на"]
    pieces_V = Pieces(assemble("BERT", {token: number for number, token in enumerate(tokens)}))
    assert [pieces_V[number] for number in range(5, 12)] == [" cat", "s", "我", "。", ",", " (", " на"]
    assert pieces_V.text([5, 6, 9, 5]) == " cats, cat"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_a_tokenizer_reads_is_written_as_people_write_it(name):
    """By those too that drop blanks, or say where a word ends rather than where one begins."""
    tokenizer = TOKENIZERS[name][0]()
    pieces_V = Pieces(Vocabulary(tokenizer, kind_of(json.loads(tokenizer.to_str()))))
    lines = ["understand words, reword wording!", "words", "misunderstanding swords!"]
    if pieces_V.adds_blanks:  # others write one before an added token or behind it as a token of its own
        tokenizer.add_tokens(["zygomorph"])
        pieces_V = Pieces(Vocabulary(tokenizer, pieces_V.vocabulary.kind))
        lines += ["zygomorph words, zygomorph!"]
    for line in lines:
        ids = tokenizer.encode(line, add_special_tokens=False).ids
        assert pieces_V.text(ids).strip() == line
        assert "".join(pieces_V.texts(ids)) == pieces_V.text(ids)


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
def test_added_tokens_are_read_as_they_stand(kind, tmp_path):
    tokens = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]
    tokens += byte_letters() if kind == "BPE" else ["a"]
    (tmp_path / "words.txt").write_text("Grüße\nпривет\n##x\n日本\n", encoding="utf-8")
    plain = assemble(kind, {token: number for number, token in enumerate(tokens)}, lowercase=False)
    vocabulary = add_tokens(plain, tmp_path / "words.txt")
    pieces_V = Pieces(vocabulary)
    added = [pieces_V[number].strip() for number in range(plain.size, vocabulary.size)]
    assert added == ["Grüße", "привет", "##x", "日本"]
    flags_V = vocabulary.token_words.flags_V[plain.size :]
    assert flags_V[3] & BEGINS and flags_V[3] & PARTS and not any(flags_V & (OPEN | OPEN_END | CONTINUES))


@pytest.mark.parametrize(
    ("text", "takes_apart"), [("오늘은 좋습니다", True), ("việt nam", False), ("か\u3099 x", False)]
)
def test_letters_that_a_vocabulary_takes_apart_are_read_as_people_write_them(text, takes_apart):
    """In tokens of one letter each, of which BERT's rules make several of a Korean syllable."""
    for rules in (
        None,
        normalizers.NFD(),
        normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()]),
    ):
        parts = [*dict.fromkeys(unicodedata.normalize("NFD", text.replace(" ", "")))]
        tokens = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", *parts, *(f"##{part}" for part in parts)]
        vocabulary = assemble("BERT", {token: number for number, token in enumerate(tokens)})
        if rules:
            vocabulary.tokenizer.normalizer = rules
        pieces_V = Pieces(vocabulary)
        ids = vocabulary.tokenizer.encode(text, add_special_tokens=False).ids
        if rules or takes_apart:
            assert pieces_V.text(ids).strip() == unicodedata.normalize("NFC", text)
        texts = pieces_V.texts(ids)
        assert len(texts) == len(ids) and "".join(texts) == pieces_V.text(ids)
    syllable = unicodedata.normalize("NFD", "각")
    ids = {token: number for number, token in enumerate([*tokens, syllable])}
    texts = [Pieces(assemble("BERT", ids, strip_accents=strip))[len(tokens)] for strip in (None, False)]
    assert texts == [" 각", f" {syllable}"], "what a vocabulary takes apart alone"


@pytest.mark.parametrize("text", [" né 我", "a\u0e01\u0e48 \u0e02", "漢字。", " cat"])
def test_a_character_in_several_tokens_is_its_first_ones(text):
    letters = [*("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"), *byte_letters()]
    pieces_V = Pieces(assemble("BPE", {token: number for number, token in enumerate(letters)}))
    ids = [5 + byte for byte in text.encode()]
    texts = pieces_V.texts(ids)
    assert len(texts) == len(ids) and "".join(texts) == pieces_V.text(ids) == text
    assert [one for one in texts if one] == [*text]
    assert pieces_V.texts(ids[1:])[1:] == texts[2:] or text[0].isascii(), "what began before stays broken"
    assert pieces_V.texts([]) == []


def test_marks_of_every_script_stand_at_the_word_before_them():
    tokens = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", *"،؟؛।”»…%’(“„«"]
    pieces_V = Pieces(assemble("BERT", {token: number for number, token in enumerate(tokens)}))
    assert [pieces_V[number] for number in range(5, 14)] == [*"،؟؛।”»…%’"]
    assert [pieces_V[number] for number in range(14, 18)] == [" (", " “", " „", " «"]
