"""Bytes as text, and other encodings by their names. Run: pytest tests/test_utf8.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from span_electra.compose import config_file
from span_electra.data_config import TextConfig
from span_electra.errors import InputError
from span_electra.evaluation.minimal_pairs import read_pairs
from span_electra.evaluation.spelling import read_set
from span_electra.inference.lines import blocks_of
from span_electra.text.clean import read_block
from span_electra.text.corpus import cut_blocks
from span_electra.text.inputs import find_inputs
from span_electra.text.noise import load_misspellings
from span_electra.utf8 import CONTROLS, decode_utf8, is_encodable, other_encoding, read_text


# Text of control characters is none, and without a mark may be that of an encoding of 16 bits.
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=CONTROLS.decode())))
def test_every_text_comes_back_with_and_without_its_mark(text):
    assert decode_utf8(text.encode("utf-8-sig"), "a.txt") == text
    if not text.startswith("\ufeff"):
        assert decode_utf8(text.encode(), "a.txt") == text


TEXTS = {
    "Latin": "A text.\nAnother.\n",
    "Russian": "Это русский текст.\n",
    "Hindi": "यह हिन्दी है।\n",
    "Gujarati": "ગુજરાતી ભાષા\n",  # its blocks in Unicode begin with the bytes of a line end
    "Thai": "ภาษาไทย ไม่มีวรรค\n",
    "one word": "ภาษาไทย",  # without a zero in it
    "Japanese": "日本語の文です。\n",
    "Chinese": "春天河水上涨。没有人知道！\n",
    "Korean": "한국어 문장입니다.\n",
    "pictures": "hi 😀 there\n",
}
BY_ICONV = {"utf-16": "UTF-16", "utf-32": "UTF-32", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE"}
BY_ICONV |= {"utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE"}


@pytest.mark.parametrize("encoding", BY_ICONV)
@pytest.mark.parametrize("text", TEXTS)
def test_other_encodings_of_unicode_are_named_with_a_mark_or_without(text, encoding):
    name = BY_ICONV[encoding]
    for times in (1, 900):
        data = (TEXTS[text] * times).encode(encoding)
        with pytest.raises(InputError, match=f"a.txt: {name} text; .*iconv -f {name} -t UTF-8"):
            decode_utf8(data, "a.txt")
        assert other_encoding((TEXTS[text] * times).encode()) is None


def test_japanese_by_escapes_is_named():
    with pytest.raises(InputError, match="a.txt: ISO-2022-JP text; .*iconv -f ISO-2022-JP"):
        decode_utf8(("plain\n" * 999 + TEXTS["Japanese"]).encode("iso-2022-jp"), "a.txt")
    assert other_encoding(b"\x1b[1mbold\x1b[0m costs $B\n") is None  # of a terminal


@pytest.mark.parametrize("stray", ["\0", "\x1a", "\x0b"])
def test_a_stray_control_character_makes_no_other_encoding(stray):
    for text in ("x\na", "5\na", "Le café est fermé, l'été naît.\n" * 90):
        for encoding in ("utf-8", "latin-1"):
            for data in (stray + text + "b\n", text + stray + "b\n", text + "bc\n" + stray + text):
                assert other_encoding(data.encode(encoding)) is None


def test_a_byte_that_is_no_utf8_is_named():
    with pytest.raises(InputError, match=r"a.txt: not UTF-8 \(byte 0xff at 2\)"):
        decode_utf8(b"ab\xffc", "a.txt")
    assert not any(map(other_encoding, (b"", b"a\0", b"\0\0\0\0", b"\x7fELF\2\1\1\0\0\0\0\0\xb0\xff")))


@given(st.text(st.sampled_from("a\0é漢😀\ud7ff\ud800\udc00\udfff\ue000")))
def test_half_a_surrogate_pair_alone_has_no_place_in_utf8(text):
    assert is_encodable(text) != any("\ud800" <= letter <= "\udfff" for letter in text)


def read_corpus(path):
    inputs = find_inputs(str(path))
    return b"".join(read_block(block, TextConfig()) for block in cut_blocks(inputs, chunk_size=10)).decode()


def read_folder_of_spelling(path):
    (path.parent / "correct.txt").write_text("0\n")
    return read_set(path.parent).lines


# Whoever reads a person's text: (what stands in the file, who reads it, what comes out).
READERS = {
    "a.yaml": ("seed: 1\n", lambda path: config_file(path).values, {"seed": 1}),
    "misspellings.json": ('{"their": ["thier"]}\n', load_misspellings, {"their": ["thier"]}),
    "pairs.jsonl": (
        '{"sentence_good": "a", "sentence_bad": "b"}\n',
        lambda path: [pair.good for pair in read_pairs([str(path)])],
        ["a"],
    ),
    "corrupt.txt": ("word\n", read_folder_of_spelling, ["word"]),
    "corpus.txt": ("A text.\n", read_corpus, "A text.\n"),
    "lines.txt": ("A text.\n", lambda path: list(blocks_of(str(path))), [["A text."]]),
    "vocab.txt": ("[PAD]\n", read_text, "[PAD]\n"),
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_of_text_takes_a_mark_and_names_other_encodings(tmp_path, name):
    text, read, wanted = READERS[name]
    path = tmp_path / name
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_bytes(text.encode(encoding))
        assert read(path) == wanted
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match=rf"{name}.*UTF-16 text; .*iconv -f UTF-16 -t UTF-8"):
        read(path)
