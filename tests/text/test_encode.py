"""Identity: text to ids is what the tokenizer library says, for every line.

Run: pytest tests/text/test_encode.py

The corpus test needs the folder ../shared/data/text beside the repository and is skipped without it.
"""

import random
from pathlib import Path

import numpy as np
import pytest
from encode_examples import NASTY, SETTINGS, TOKENIZERS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from span_electra.errors import InputError
from span_electra.text import encode, lookup
from span_electra.text.encode import TextEncoder

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
ENCODERS = {name: TextEncoder(tokenizer) for name, tokenizer in TOKENIZERS.items()}


def ids_by_line(encoder: TextEncoder, text: bytes) -> list[list[int]]:
    encoded = encoder.encode(text)
    assert encoded.line_ends_N.dtype == np.int64
    assert (encoded.line_ends_N[-1] if len(encoded.line_ends_N) else 0) == len(encoded.ids_T)
    starts = [0, *encoded.line_ends_N.tolist()][:-1]
    return [encoded.ids_T[a:b].tolist() for a, b in zip(starts, encoded.line_ends_N.tolist(), strict=True)]


def assert_identical(tokenizer: Tokenizer, encoder: TextEncoder, lines: list[str]) -> None:
    ours = ids_by_line(encoder, "".join(line + "\n" for line in lines).encode())
    assert len(ours) == len(lines)
    for line, ids in zip(lines, ours, strict=True):
        assert ids == tokenizer.encode(line, add_special_tokens=False).ids, repr(line)


@pytest.mark.parametrize("name", SETTINGS)
def test_nasty_lines(name):
    assert ENCODERS[name].fallback_reason is None
    assert_identical(TOKENIZERS[name], ENCODERS[name], NASTY)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_code_point_between_letters_and_between_blanks(name):
    points = [chr(c) for c in range(0x110000) if c != 0x0A and not 0xD800 <= c < 0xE000]
    rng = random.Random(3)
    lines = ["".join(f"a{c}b {c} 1{c}" for c in rng.sample(points, 50)) for _ in range(8)]
    lines += [
        "".join(f"a{c}b {c} 1{c}!{c}" for c in points[start : start + 64]) for start in range(0, 0x3100, 64)
    ]
    assert_identical(TOKENIZERS[name], ENCODERS[name], lines)


def test_lines_that_the_library_has_no_memory_for_are_refused(monkeypatch):
    monkeypatch.setattr(encode, "LONGEST_BY_LIBRARY", 99)
    by_loops, by_library = ENCODERS["bpe"], TextEncoder(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    assert by_library.fallback_reason is not None
    for encoder, line in ((by_loops, "[MASK]" + "x" * 99), (by_library, "x" * 100)):
        with pytest.raises(InputError, match="a line of 1[0-9]+ characters.*break it into lines"):
            encoder.encode(f"short\n{line}\n".encode())
    assert len(by_loops.encode(b"x" * 1000).line_ends_N) == 1


@pytest.mark.parametrize("name", ["bpe", "wordpiece uncased"])
def test_words_that_the_library_has_no_memory_for_are_refused(name, monkeypatch):
    # As lines are, though the loops cut the line: what has no blank is one word.
    monkeypatch.setattr(encode, "LONGEST_BY_LIBRARY", 70_000)
    for line in ("x" * 70_001, "กข" * 35_000 + "ค"):
        with pytest.raises(InputError, match="a word of 70,00. characters.*break it into lines"):
            ENCODERS[name].encode(f"short {line} short\n".encode())
    assert len(ENCODERS[name].encode(b"x " * 70_001).line_ends_N) == 1


# Characters where the rules meet: apostrophes, blanks of all sorts, marks, capitals, Chinese, controls.
PEPPER = "aBst're l1٣!.[]— \t\r\u00a0\u2003\u3000"
PEPPER += "\u0301\u0323\u302e\u200d\u00ad\x00\x0b\x85éİΣßﬁ漢한😀\ue000\u0378\ufffd"
ANY_LINE = st.lists(
    st.one_of(
        st.text(st.sampled_from(PEPPER), max_size=12),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=6),
        st.sampled_from(["don't", "we'll", "[MASK]", "[UNK]", "understanding", "漢字", " ", "  ", "x" * 120]),
    ),
    max_size=6,
).map("".join)


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(lines=st.lists(ANY_LINE, max_size=4))
def test_any_text(name, lines):
    assert_identical(TOKENIZERS[name], ENCODERS[name], lines)


def words_kept(encoder: TextEncoder) -> int:
    """Words in the encoder's table now."""
    return int(encoder._words.table.fill[0])


def test_line_ends():
    encoder = ENCODERS["bpe"]
    assert ids_by_line(encoder, b"") == []
    assert ids_by_line(encoder, b"\n") == [[]]
    assert ids_by_line(encoder, b"a\n\n") == [ids_by_line(encoder, b"a")[0], []]
    assert ids_by_line(encoder, b"a\nb") == ids_by_line(encoder, b"a\nb\n")


@pytest.mark.parametrize("name", SETTINGS)
def test_the_first_line_ever(name):
    assert_identical(TOKENIZERS[name], TextEncoder(TOKENIZERS[name]), ["1Under 2STOOD"])


def random_lines(seed: int, lines: int, words: int) -> list[str]:
    rng = random.Random(seed)
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    known = ["".join(rng.choices(alphabet, k=rng.randint(1, 40))) for _ in range(words)]
    return [" ".join(rng.choices(known, k=rng.randint(0, 60))) for _ in range(lines)]


@pytest.mark.parametrize("name", ["bpe with prefix space", "wordpiece uncased"])
def test_windows_do_not_show(name):
    assert_identical(TOKENIZERS[name], ENCODERS[name], random_lines(1, 400, 3000))


@pytest.mark.parametrize("name", ["bpe", "wordpiece cased"])
@pytest.mark.parametrize("max_words", [2, 64])
def test_a_full_table_forgets_words_not_ids(name, max_words, monkeypatch):
    monkeypatch.setattr("span_electra.text.encode.MAX_WORDS", max_words)
    monkeypatch.setattr(lookup, "FIRST_SLOTS", 4)
    encoder = TextEncoder(TOKENIZERS[name])
    assert_identical(TOKENIZERS[name], encoder, [*random_lines(2, 40, 300), *NASTY])
    assert words_kept(encoder) <= max_words


def test_long_words_alike_in_their_beginning_are_told_apart():
    tail = "abcdefghijklmnopqrstuvwxyz"
    lines = [f"understandingword{a}{b}" for a in tail for b in tail]
    assert_identical(TOKENIZERS["bpe"], TextEncoder(TOKENIZERS["bpe"]), lines)
    assert_identical(TOKENIZERS["wordpiece cased"], TextEncoder(TOKENIZERS["wordpiece cased"]), lines)


def test_large_vocabularies_get_four_bytes():
    vocab = {"[UNK]": 0} | {f"w{i}": i for i in range(1, 70_000)} | {"##x": 70_000}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = (
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    encoder = TextEncoder(tokenizer)
    assert encoder.encode(b"w1").ids_T.dtype == np.uint32
    assert ENCODERS["bpe"].encode(b"w1").ids_T.dtype == np.uint16
    assert_identical(
        tokenizer, encoder, ["w1 w69999 w69999xxx w5xxxxxxxxxxxxxxxxxxxxx q", "w69999" + "x" * 90]
    )


def without_byte(byte: str) -> Tokenizer:
    alphabet = [c for c in pre_tokenizers.ByteLevel.alphabet() if c != byte]
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(alphabet))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def test_a_byte_the_vocabulary_lacks_is_dropped_as_the_library_drops_it():
    tokenizer = without_byte("q")
    assert_identical(tokenizer, TextEncoder(tokenizer), ["quite q quick", "q", "qq q"])


def changed(kind: str, **parts) -> Tokenizer:
    tokenizer = Tokenizer.from_str(TOKENIZERS[kind].to_str())
    for name, value in parts.items():
        setattr(tokenizer, name, value)
    return tokenizer


def with_model(**settings) -> Tokenizer:
    tokenizer = changed("bpe")
    for name, value in settings.items():
        setattr(tokenizer.model, name, value)
    return tokenizer


def truncating() -> Tokenizer:
    tokenizer = changed("bpe")
    tokenizer.enable_truncation(3)
    return tokenizer


def with_normalized_tokens(kind: str, tokens: list[str]) -> Tokenizer:
    tokenizer = changed(kind)
    tokenizer.add_tokens([AddedToken(token, normalized=True, single_word=token < "T") for token in tokens])
    return tokenizer


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: changed("bpe", pre_tokenizer=pre_tokenizers.Whitespace()), "pre-tokenizer"),
        (lambda: changed("bpe", pre_tokenizer=pre_tokenizers.ByteLevel(use_regex=False)), "pre-tokenizer"),
        (lambda: changed("bpe", normalizer=normalizers.StripAccents()), "StripAccents"),
        (lambda: changed("wordpiece uncased", normalizer=normalizers.Lowercase()), "BertNormalizer"),
        (lambda: changed("wordpiece uncased", pre_tokenizer=pre_tokenizers.Whitespace()), "BertPreTokenizer"),
        (lambda: with_model(ignore_merges=True), "ignore_merges"),
        (lambda: with_model(continuing_subword_prefix="@@"), "continuing_subword_prefix"),
        (truncating, "truncates"),
        (lambda: with_normalized_tokens("wordpiece uncased", ["\u0301"]), "added token"),
    ],
)
def test_unknown_settings_go_to_the_library(make, reason):
    tokenizer = make()
    encoder = TextEncoder(tokenizer)
    assert reason in encoder.fallback_reason
    assert_identical(tokenizer, encoder, ["understanding Stand stand", "", "naïve [MASK] x"])


@pytest.mark.parametrize("kind", [name for name in SETTINGS if name.startswith("wordpiece")])
def test_added_tokens_are_found_in_normalized_text(kind):
    tokenizer = with_normalized_tokens(kind, ["Stand", "Naïve", "word Play", "漢字", "toys"])
    encoder = TextEncoder(tokenizer)
    assert encoder.fallback_reason is None
    lines = [
        "under stand STAND understand",
        "naive NAI\u0308VE",
        "word\u00a0play  WORD PLAY wordplay",
        "x漢 字漢字",
    ]
    lines += ["st\u302eand", "sta\x00nd toy\u00ads", *NASTY, *random_lines(4, 30, 200)]
    assert_identical(tokenizer, encoder, lines)


def test_dropout_is_not_guessed():
    assert "dropout" in TextEncoder(with_model(dropout=0.5)).fallback_reason


def test_padding_is_ignored():
    tokenizer = changed("wordpiece uncased")
    tokenizer.enable_padding(length=50)
    text = b"toys\ntoys [MASK]\n"  # by the loops, by the library
    assert ids_by_line(TextEncoder(tokenizer), text) == ids_by_line(ENCODERS["wordpiece uncased"], text)
    assert tokenizer.padding is not None, "the caller's tokenizer is left as it was"


def test_added_tokens_of_any_sort_are_honoured():
    tokenizer = changed("bpe")
    tokenizer.add_tokens([AddedToken("stand", single_word=True), AddedToken("é\u0301", rstrip=True), "toys"])
    assert_identical(
        tokenizer, TextEncoder(tokenizer), ["understand a stand", "é\u0301  x", "toystoys", "no", "[MASK]"]
    )


@pytest.mark.skipif(not CORPUS.exists(), reason=f"no corpus at {CORPUS}")
@pytest.mark.parametrize("name", ["bpe", "wordpiece uncased"])
def test_corpus_slice(name):
    lines = (CORPUS / "sample_10mb" / "000.txt").read_bytes()[:2_000_000].decode(errors="ignore").split("\n")
    ours = TextEncoder(TOKENIZERS[name]).encode("\n".join(lines).encode())
    theirs = TOKENIZERS[name].encode_batch_fast(lines, add_special_tokens=False)
    assert ours.line_ends_N.tolist() == np.cumsum([len(encoding) for encoding in theirs]).tolist()
    assert ours.ids_T.tolist() == [i for encoding in theirs for i in encoding.ids]


def test_new_slots_are_made_as_words_come_in():
    encoder = TextEncoder(TOKENIZERS["bpe"])
    lines = [" ".join(f"{i:x}q{i}" for i in range(start, start + 1000)) for start in range(0, 20_000, 1000)]
    assert_identical(TOKENIZERS["bpe"], encoder, lines)
    assert words_kept(encoder) > lookup.FIRST_SLOTS // 2
