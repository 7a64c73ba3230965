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
from span_electra.utf8 import decode_utf8, is_encodable, read_text, refuse_other, token_lines


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))  # of which text has none
def test_every_text_comes_back_with_and_without_its_mark(text):
    assert decode_utf8(text.encode("utf-8-sig"), "a.txt") == text
    if not text.startswith("\ufeff"):
        assert decode_utf8(text.encode(), "a.txt") == text


TEXTS = {
    "Latin": "A text.\nAnother.\n",
    "Russian": "Это русский текст.\n",
    "Gujarati": "ગુજરાતી ભાષા\n",  # its blocks in Unicode begin with the bytes of a line end
    "Thai": "ภาษาไทย ไม่มีวรรค\n",  # in units of 16 bits valid UTF-8
    "Chinese": "春天河水上涨。没有人知道！\n",
    "pictures": "hi 😀 there\n",
}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("text", TEXTS)
def test_other_encodings_of_unicode_are_named_by_their_mark_and_refused_without_it(text, encoding):
    name = encoding.upper()
    for data in (TEXTS[text], TEXTS[text] * 900):
        with pytest.raises(InputError, match=f"a.txt: {name} text; .*iconv -f {name} -t UTF-8"):
            decode_utf8(data.encode(encoding), "a.txt")
    for order in ("le", "be"):
        with pytest.raises(InputError, match="a.txt: full of NUL bytes: .*UTF-16.*; convert.*iconv"):
            decode_utf8((TEXTS[text] * 900).encode(f"{encoding}-{order}"), "a.txt")


def test_japanese_by_escapes_is_named():
    with pytest.raises(InputError, match="a.txt: ISO-2022-JP text; .*iconv -f ISO-2022-JP"):
        decode_utf8(("plain\n" * 999 + "日本語の文です。\n").encode("iso-2022-jp"), "a.txt")
    refuse_other(b"\x1b[1mbold\x1b[0m costs $B\n", "a.txt")  # of a terminal


OLD = {
    "gb18030": "今天天气很好，我们去公园散步。上海的生活设施很方便，前面有一条河，请大家注意安全。\n",
    "big5": "今天天氣很好，我們一起去公園散步。他是一個好人，上海的生活設施很方便。\n",
    "shift_jis": "今日はとても良い天気です。コンピュータのファイルを開いて、文を書く。\n",
    "euc_jp": "今日はとても良い天気です。コンピュータのファイルを開いて、文を書く。\n",
    "euc_kr": "오늘은 날씨가 매우 좋습니다. 우리는 함께 공원에 갔다. 그는 좋은 사람입니다.\n",
    "cp1251": "Сегодня очень хорошая погода, и мы пошли в парк. Он хороший человек из Москвы.\n",
    "cp1252": "Die Katze sitzt über dem Tisch, während wir müde sind. Ich weiß, daß sie groß ist.\n",
}


def read(path, errors: str) -> str:
    blocks = cut_blocks(find_inputs(path), chunk_size=99)
    return b"".join(read_block(block, TextConfig(errors=errors)) for block in blocks).decode()


@pytest.mark.parametrize("errors", ["strict", "replace"])
@pytest.mark.parametrize("encoding", OLD)
def test_text_of_an_old_encoding_is_refused_by_its_name_and_never_replaced(encoding, errors, tmp_path):
    path, name = tmp_path / "a.txt", encoding.upper().replace("EUC_", "EUC-")
    for begin in (b"", "Plain English, and é.\n".encode() * 9):
        path.write_bytes(begin + (OLD[encoding] * 30).encode(encoding))
        likely = "" if begin else f", perhaps {name}; .*iconv -f {name} -t UTF-8"
        with pytest.raises(InputError, match=f"a.txt: not UTF-8 .*% of the characters are wrong.{likely}"):
            read(path, errors=errors)


def test_what_is_utf_8_but_for_a_few_bytes_is_no_other_encoding(tmp_path):
    sound = "".join(TEXTS.values()) * 999
    (tmp_path / "a.txt").write_bytes(b"\xff\xe4".join(f"{part}\n".encode() for part in [sound] * 9))
    with pytest.raises(InputError, match="line [0-9]+ is not UTF-8 .*--errors replace"):
        read(tmp_path / "a.txt", errors="strict")
    assert read(tmp_path / "a.txt", errors="replace").count("\ufffd") == 16
    refuse_other("é".encode()[:1], "a.txt")  # a segment may end inside a character
    refuse_other("漢".encode() * 9999 + "漢".encode()[:2], "a.txt")


@pytest.mark.parametrize("text", ["", "x\na", "Le café est fermé, l'été naît.\n" * 90])
def test_a_stray_nul_makes_no_other_encoding(text):
    for encoding in ("utf-8", "latin-1"):
        for data in (f"\0{text}b\n", f"{text}\0b\n", f"{text}bc\n\0{text}\0"):
            refuse_other(data.encode(encoding), "a.txt")


def test_a_byte_that_is_no_utf8_is_named():
    with pytest.raises(InputError, match=r"a.txt: not UTF-8 \(byte 0xff at 2\)"):
        decode_utf8(b"ab\xffc", "a.txt")


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


@pytest.mark.parametrize(
    "content, lines",
    [
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\nb", ["a", "b"]),
        (b"a\nb\r\n", ["a", "b\r"]),  # a token, as not all lines end so
        ("a\n\u2028\n".encode(), ["a", "\u2028"]),
        (b"", [""]),
    ],
)
def test_lines_of_tokens_lose_windows_ends_where_all_have_them(content, lines, tmp_path):
    (tmp_path / "tokens.txt").write_bytes(content)
    assert token_lines(tmp_path / "tokens.txt") == lines
