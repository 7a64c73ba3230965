"""Vocabularies: files, ids, refusals. Run: pytest tests/text/test_vocabulary.py"""

import json

import pytest

from span_electra.errors import InputError
from span_electra.hub.tokenizer import save_tokenizer
from span_electra.text.vocabulary import (
    SPECIAL_TOKENS,
    Vocabulary,
    assemble,
    file_contents,
    load_vocabulary,
    rules_file,
    vocabulary_files,
)

PIECES = ["a", "b", "##a", "##b", "ab", "##ab", "!", "é", "##é"]
BYTES = ["a", "b", "Ġ", "!", "ab", "Ġab", "'", "1", "Ã", "©"]


def bert(lowercase: bool = True) -> Vocabulary:
    return assemble(
        "BERT", {token: n for n, token in enumerate([*SPECIAL_TOKENS, *PIECES])}, lowercase=lowercase
    )


def bpe() -> Vocabulary:
    ids = {token: n for n, token in enumerate([*SPECIAL_TOKENS, *BYTES])}
    return assemble("BPE", ids, [("a", "b"), ("Ġ", "ab")])


VOCABULARIES = {"BPE": bpe, "BERT": bert, "cased BERT": lambda: bert(lowercase=False)}


def write(vocabulary: Vocabulary, folder, name="a name") -> list:
    files = vocabulary_files(folder, name, vocabulary.kind)
    for path, text in zip(files, file_contents(vocabulary), strict=True):
        path.write_text(text, encoding="utf-8")
    return files


@pytest.mark.parametrize("name", VOCABULARIES)
def test_files_give_the_same_vocabulary_back(name, tmp_path):
    made = VOCABULARIES[name]()
    files = write(made, tmp_path)
    save_tokenizer(made, tmp_path, 128)
    again = load_vocabulary(made.kind, *files)
    assert again.sha256 == made.sha256 and again.tokens_V == made.tokens_V
    assert Vocabulary.from_json(made.to_json()).sha256 == made.sha256


@pytest.mark.parametrize("name", VOCABULARIES)
def test_line_ends_of_windows_are_none_of_the_tokens(name, tmp_path):
    files = write(VOCABULARIES[name](), tmp_path)
    made = load_vocabulary(VOCABULARIES[name]().kind, *files)
    for path in files:
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    again = load_vocabulary(made.kind, *files)
    assert again.sha256 == made.sha256 and again.tokens_V == made.tokens_V


def test_casing_belongs_to_the_hash():
    assert bert(lowercase=True).sha256 != bert(lowercase=False).sha256


def test_special_tokens_lead():
    made = bpe()
    assert [made.cls_id, made.sep_id, made.pad_id, made.mask_id, made.unk_id] == [0, 1, 2, 3, 4]


def test_a_span_may_start_where_a_word_does():
    bert_starts = {
        token for token, starts in zip(bert().tokens_V, bert().starts_word_V, strict=True) if starts
    }
    assert bert_starts == {*SPECIAL_TOKENS, "a", "b", "ab", "!", "é"}
    bpe_starts = {token for token, starts in zip(bpe().tokens_V, bpe().starts_word_V, strict=True) if starts}
    assert bpe_starts == {*SPECIAL_TOKENS, "Ġ", "Ġab", "!", "'"}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_transformers_opens_the_folder_and_gives_the_same_ids(name, tmp_path):
    from transformers import AutoTokenizer

    made = VOCABULARIES[name]()
    save_tokenizer(made, tmp_path, 128)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    for text in ["ab AB é", "a[MASK]b ! '1", "", "  ab"]:
        assert opened(text)["input_ids"] == made.tokenizer.encode(text).ids
    assert opened.mask_token_id == made.mask_id and opened.model_max_length == 128


REFUSED = {
    "missing": ("BERT", None, "no.txt", "No such file"),
    "BPE opened as BERT": ("BERT", json.dumps({"a": 0}), "v.txt", "--tokenizer_type BPE"),
    "BERT opened as BPE": ("BPE", "[CLS]\n[SEP]\n", "v.json", "--tokenizer_type BERT"),
    "no special tokens": ("BERT", "a\nb\n", "v.txt", "[CLS]"),
    "a token twice": ("BERT", "\n".join([*SPECIAL_TOKENS, "a", "a"]), "v.txt", "'a' stands twice"),
    "gaps": (
        "BPE",
        json.dumps({t: 2 * n for n, t in enumerate(SPECIAL_TOKENS)}),
        "v.json",
        "do not run from 0",
    ),
    "not text": ("BERT", b"\xff\xfe\x00", "v.txt", "UTF-16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_refused_in_one_line(case, tmp_path):
    kind, content, name, words = REFUSED[case]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        load_vocabulary(kind, path, tmp_path / "merges.txt" if kind == "BPE" else None)
    message = str(caught.value)
    assert str(path) in message and words in message and "\n" not in message


def test_merges_of_another_vocabulary_are_refused(tmp_path):
    vocab, merges = write(bpe(), tmp_path)
    merges.write_text("#version: 0.2\na b\nx y\n")
    with pytest.raises(InputError, match="line 3"):
        load_vocabulary("BPE", vocab, merges)
    with pytest.raises(InputError, match="--merges_file"):
        load_vocabulary("BPE", vocab)


def test_a_cased_vocabulary_without_its_tokenizer_json_stays_cased(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("\n".join([*SPECIAL_TOKENS, "A", "a"]))
    assert not load_vocabulary("BERT", path).lowercase
    path.write_text("\n".join([*SPECIAL_TOKENS, "a"]))
    assert load_vocabulary("BERT", path).lowercase


def test_a_list_of_tokens_keeps_the_accents_that_stand_in_it(tmp_path):
    path, plain = tmp_path / "v.txt", [*SPECIAL_TOKENS, "a", "か", "漢", "[unused1]"]
    for more, kept in (([], None), (["é"], False), (["##が"], False), (["й"], False)):
        path.write_text("\n".join([*plain, *more]))
        rules = load_vocabulary("BERT", path).tokenizer.normalizer
        assert (rules.lowercase, rules.strip_accents) == (True, kept)
    ids = {token: number for number, token in enumerate(plain)}
    path.write_text("\n".join(plain))
    assert load_vocabulary("BERT", path).sha256 == assemble("BERT", ids).sha256  # as published ones have it
    path.write_text("\n".join([*plain, "A", "é"]))  # cased, which keeps accents as it is
    assert load_vocabulary("BERT", path).tokenizer.normalizer.strip_accents is None


def test_rules_beside_a_vocabulary_are_its_own_or_refused(tmp_path):
    path, made = tmp_path / "v BERT-vocab.txt", bert(lowercase=False)
    path.write_text(file_contents(made)[0])
    (tmp_path / "tokenizer.json").write_text(bpe().to_json())
    assert load_vocabulary("BERT", path).lowercase  # guessed: no file says its rules
    rules_file(path).write_text(made.to_json())
    assert load_vocabulary("BERT", path).sha256 == made.sha256
    rules_file(path).write_text(bpe().to_json())
    with pytest.raises(InputError, match="v BERT tokenizer.json: has other tokens than v BERT-vocab.txt"):
        load_vocabulary("BERT", path)


def test_truncation_and_padding_of_the_file_beside_a_vocabulary_cut_nothing(tmp_path):
    path, made = tmp_path / "vocab.txt", bert()
    path.write_text(file_contents(made)[0])
    made.tokenizer.enable_truncation(3)
    made.tokenizer.enable_padding(length=9)
    (tmp_path / "tokenizer.json").write_text(made.to_json())
    opened = load_vocabulary("BERT", path)
    assert opened.tokenizer.encode("a b a b", add_special_tokens=False).ids == [5, 6, 5, 6]


def a_huge_id(described):
    described["model"]["vocab"]["a"] = 1 << 40


def a_negative_id(described):
    described["added_tokens"][0]["id"] = -1


def no_unknown_token(described):
    described["model"]["unk_token"] = "[NONE]"


def a_broken_table(described):
    described["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}


def dropout(described):
    described["model"] |= {"type": "BPE", "merges": [], "dropout": 0.5}


@pytest.mark.parametrize(
    "change", [a_huge_id, a_negative_id, no_unknown_token, a_broken_table, dropout], ids=lambda f: f.__name__
)
def test_a_tokenizer_that_would_end_the_process_or_fail_later_is_refused_in_one_line(change):
    described = json.loads(bert().to_json())
    change(described)
    with pytest.raises(InputError) as refusal:
        Vocabulary.from_json(json.dumps(described), "evil.json")
    assert str(refusal.value).startswith("evil.json") and "\n" not in str(refusal.value)
