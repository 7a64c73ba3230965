"""Tokens added behind a vocabulary's last, for every kind of tokenizer.

Run: pytest tests/text/test_added_tokens.py
"""

import pytest
from encode_examples import TEXT
from own_tokenizer_examples import TOKENIZERS, write_folder
from transformers import AutoTokenizer

from span_electra.errors import InputError
from span_electra.hub.tokenizer import save_tokenizer
from span_electra.text.added_tokens import add_tokens, extends, is_token
from span_electra.text.encode import TextEncoder
from span_electra.text.own_tokenizer import open_tokenizer
from span_electra.text.vocabulary import Vocabulary

NEW = ["zygomorph", "spike protein", "кремний"]
UNSPACED = ["量子コンピュータ", "บล็อกเชน", "机器学习", "ភាសាខ្មែរ"]


@pytest.fixture(params=TOKENIZERS)
def vocabulary(request, tmp_path):
    make, config, named = TOKENIZERS[request.param]
    return open_tokenizer(write_folder(tmp_path / "own", make(), config) / "tokenizer.json", named)


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join([*NEW, "", f"  {NEW[0]} "]) + "\n", encoding="utf-8")
    return path


def ids_of(vocabulary, line):
    return vocabulary.tokenizer.encode(line, add_special_tokens=False).ids


def test_a_word_becomes_one_id_and_all_else_keeps_its_own(vocabulary, words, tmp_path):
    extended = add_tokens(vocabulary, words)
    assert extended.size == vocabulary.size + len(NEW) and extends(extended, vocabulary)
    for line in TEXT:
        assert ids_of(extended, line) == ids_of(vocabulary, line)
    for number, word in enumerate(NEW, start=vocabulary.size):
        assert number in ids_of(extended, f"a {word} of it") and number in ids_of(extended, word)
        assert number not in ids_of(extended, f"a{word}s"), "part of another word"
        assert not is_token(vocabulary, word)
    assert extended.sha256 != vocabulary.sha256 and extended.special == vocabulary.special
    again = Vocabulary.from_json(extended.to_json())
    assert again.tokens_V == extended.tokens_V and again.sha256 == extended.sha256


def test_words_of_scripts_without_blanks_are_met_in_running_text(vocabulary, tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(UNSPACED) + "\n", encoding="utf-8")
    extended = add_tokens(vocabulary, tmp_path / "words.txt")
    assert extended.size == vocabulary.size + len(UNSPACED)
    for number, word in enumerate(UNSPACED, start=vocabulary.size):
        for line in (word, f"その{word}は、{word}。", f"ใน{word}ที่ {word}", f"the {word}, a {word} it"):
            assert ids_of(extended, line).count(number) == line.count(word)


def test_exports_and_features_give_the_same_ids(vocabulary, words, tmp_path):
    words.write_text("\n".join(NEW + UNSPACED), encoding="utf-8")
    extended = add_tokens(vocabulary, words)
    lines = [*TEXT, f"the {NEW[0]}, a {NEW[1]}.", f"{NEW[2]} {NEW[0]}{NEW[0]}", "は".join(UNSPACED)]
    save_tokenizer(extended, tmp_path, 64)
    stock = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    encoded, begin = TextEncoder(extended.tokenizer).encode("\n".join(lines).encode()), 0
    for line, end in zip(lines, encoded.line_ends_N, strict=True):
        assert encoded.ids_T[begin:end].tolist() == ids_of(extended, line)
        assert stock(line, add_special_tokens=False).input_ids == ids_of(extended, line)
        begin = end


def test_what_the_tokenizer_takes_for_no_text_is_not_added(tmp_path):
    make, config, named = TOKENIZERS["bert"]
    vocabulary = open_tokenizer(write_folder(tmp_path, make(), config) / "tokenizer.json", named)
    (tmp_path / "words.txt").write_text(f"\u00ad\n{NEW[0]}\n\u200b\n", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"words.txt: not added, .*: '\\xad', '\\u200b'$"):
        extended = add_tokens(vocabulary, tmp_path / "words.txt")
    assert extended.tokens_V[vocabulary.size :] == [NEW[0]]


def test_words_that_are_one_to_the_vocabulary_are_one_token(tmp_path):
    make, config, named = TOKENIZERS["bert"]  # uncased
    vocabulary = open_tokenizer(write_folder(tmp_path, make(), config) / "tokenizer.json", named)
    (tmp_path / "words.txt").write_text("Zygomorph\nzygomorph\nother zygomorph\n")
    extended = add_tokens(vocabulary, tmp_path / "words.txt")
    assert extended.size == vocabulary.size + 2
    assert ids_of(extended, "ZYGOMORPH zygomorph") == [vocabulary.size] * 2


@pytest.mark.parametrize("content", ["", "\n\n", "the\n"])
def test_a_file_that_adds_nothing_is_refused(content, tmp_path):
    make, config, named = TOKENIZERS["bert"]
    vocabulary = open_tokenizer(write_folder(tmp_path, make(), config) / "tokenizer.json", named)
    (tmp_path / "words.txt").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="words.txt: holds no word that is not one token already"):
        add_tokens(vocabulary, tmp_path / "words.txt")
