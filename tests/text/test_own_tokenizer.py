"""A tokenizer that is brought along gives its own ids, everywhere.

Run: pytest tests/text/test_own_tokenizer.py
"""

import json

import pytest
from encode_examples import NASTY, TEXT
from own_tokenizer_examples import PLAIN, TOKENIZERS, bpe, roberta, unigram, wordpiece, write_folder
from tokenizers import Tokenizer, models, normalizers

from span_electra.errors import InputError
from span_electra.hub.tokenizer import framing_rows, save_tokenizer
from span_electra.text.added_tokens import add_tokens
from span_electra.text.encode import TextEncoder
from span_electra.text.own_tokenizer import bring_tokenizer, open_exported, open_tokenizer
from span_electra.text.special_tokens import SpecialTokens, vocabulary_of
from span_electra.text.vocabulary import (
    Vocabulary,
    load_vocabulary,
    tokenizer_contents,
)


def ids_by_line(tokenizer: Tokenizer, lines: list[str]) -> list[list[int]]:
    encoded = TextEncoder(tokenizer).encode("".join(line + "\n" for line in lines).encode())
    ends = encoded.line_ends_N.tolist()
    return [encoded.ids_T[a:b].tolist() for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_its_own_through_every_stage(name, tmp_path):
    make, config, named = TOKENIZERS[name]
    original = make()
    folder = write_folder(tmp_path / "theirs", original, config)
    vocabulary = open_tokenizer(folder / "tokenizer.json", named)
    lines = TEXT + [line for line in NASTY if not set(line) & {"\x00"}]
    expected = [original.encode(line, add_special_tokens=False).ids for line in lines]
    assert ids_by_line(vocabulary.tokenizer, lines) == expected
    travelled = Vocabulary.from_json(
        vocabulary.to_json()
    )  # through a feature file's header and a run's folder
    assert travelled == vocabulary or travelled.sha256 == vocabulary.sha256
    assert (travelled.special, travelled.config) == (vocabulary.special, vocabulary.config)
    exported = tmp_path / "exported"
    exported.mkdir()
    save_tokenizer(travelled, exported, 128)
    back = open_exported(exported / "tokenizer.json")
    assert ids_by_line(back.tokenizer, lines) == expected
    roles = ("cls_id", "sep_id", "pad_id", "mask_id", "unk_id")
    assert [getattr(back, role) for role in roles] == [getattr(vocabulary, role) for role in roles]
    if not named:
        assert json.loads((exported / "tokenizer.json").read_text()) == json.loads(original.to_str())


@pytest.mark.parametrize("role", ["cls", "sep", "pad", "mask", "unk"])
def test_an_exported_tokenizers_roles_are_those_that_stand_beside_it(role, tmp_path):
    """Also where it has tokens that are spelt as ours, which play no role in it."""
    folder = write_folder(tmp_path / "theirs", wordpiece(), {})
    vocabulary = open_tokenizer(folder / "tokenizer.json", {role: "[unused1]"})
    assert "[unused1]" in vocabulary.special.all
    save_tokenizer(vocabulary, tmp_path, 128)
    back = open_exported(tmp_path / "tokenizer.json")
    assert (back.special, back.sha256) == (vocabulary.special, vocabulary.sha256)
    (tmp_path / "tokenizer_config.json").unlink()
    assert open_exported(tmp_path / "tokenizer.json").special == SpecialTokens()  # nothing tells any more


@pytest.mark.parametrize("name", TOKENIZERS)
def test_transformers_opens_the_exported_one_with_the_same_ids_and_roles(name, tmp_path):
    from transformers import AutoTokenizer

    make, config, named = TOKENIZERS[name]
    original = make()
    vocabulary = open_tokenizer(write_folder(tmp_path / "theirs", original, config), named)
    exported = tmp_path / "exported"
    exported.mkdir()
    save_tokenizer(vocabulary, exported, 128)
    opened = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    for line in TEXT:
        ids = original.encode(line, add_special_tokens=False).ids
        assert opened.encode(line, add_special_tokens=False) == ids
    assert opened.mask_token_id == vocabulary.mask_id and opened.pad_token_id == vocabulary.pad_id
    assert opened.cls_token_id == vocabulary.cls_id and opened.sep_token_id == vocabulary.sep_id


@pytest.mark.parametrize("name", [name for name, (*_, named) in TOKENIZERS.items() if not named])
def test_a_role_s_token_that_the_model_alone_has_is_special_as_it_is_to_transformers(name, tmp_path):
    """As in vocabularies made by hand, of which no text could be hidden, or filled."""
    from transformers import AutoTokenizer

    described = json.loads(TOKENIZERS[name][0]().to_str())
    special = [token["content"] for token in described["added_tokens"]]
    described["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    vocabulary = open_tokenizer(tmp_path / "tokenizer.json")
    assert {*vocabulary.special.all} <= {*special}
    ids = vocabulary_of(described)
    assert all(vocabulary.tokenizer.token_to_id(token) == ids[token] for token in vocabulary.special.all)
    exported = tmp_path / "exported"
    exported.mkdir()
    save_tokenizer(vocabulary, exported, 128)
    stock = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    for token in vocabulary.special.all:
        for line in (f"words {token} swords", f"{token}words{token}"):
            found = vocabulary.tokenizer.encode(line, add_special_tokens=False).ids
            assert stock.encode(line, add_special_tokens=False) == found
            assert found.count(ids[token]) == line.count(token)


def test_a_role_without_a_token_is_asked_for_by_its_flag(tmp_path):
    make, config, named = TOKENIZERS["gpt2"]
    folder = write_folder(tmp_path, make(), config)
    with pytest.raises(InputError, match="which token is pad, mask.*--pad_token TOKEN --mask_token TOKEN"):
        open_tokenizer(folder / "tokenizer.json")
    vocabulary = open_tokenizer(folder / "tokenizer.json", named)
    assert vocabulary.tokens_V[-2:] == ["<pad>", "<mask>"] and vocabulary.cls_id == vocabulary.sep_id == 0


def test_roles_that_rows_would_mix_up_are_refused(tmp_path):
    make, config, _ = TOKENIZERS["gpt2"]
    path = write_folder(tmp_path, make(), config) / "tokenizer.json"
    with pytest.raises(
        InputError, match="'<|endoftext|>' would be both pad and cls; give another --pad_token"
    ):
        open_tokenizer(path, {"pad": "<|endoftext|>", "mask": "<mask>"})


def test_what_is_said_of_truncation_and_padding_cuts_nothing(tmp_path):
    tokenizer = roberta()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9, pad_id=1, pad_token="<pad>")
    vocabulary = open_tokenizer(write_folder(tmp_path, tokenizer, None) / "tokenizer.json")
    line = "understanding words"
    assert (
        ids_by_line(vocabulary.tokenizer, [line])[0] == roberta().encode(line, add_special_tokens=False).ids
    )


@pytest.mark.parametrize("form", ["file", "folder"])
@pytest.mark.parametrize("model", ["unigram", "wordpiece"])
def test_one_that_fails_on_unknown_text_is_refused_before_any(model, form, tmp_path):
    theirs = (
        models.Unigram([("a", -1.0), ("b", -2.0)])
        if model == "unigram"
        else models.WordPiece({"a": 0, "b": 1}, unk_token="[UNK]")
    )
    tokenizer = Tokenizer(theirs)
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"])
    roles = {
        role: f"[{role[:-6].upper()}]"
        for role in ("cls_token", "sep_token", "pad_token", "mask_token", "unk_token")
    }
    folder = write_folder(
        tmp_path / "theirs", tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast"} | roles
    )
    with pytest.raises(InputError, match="tokenizer.json: cannot read text that it does not know"):
        open_tokenizer(folder if form == "folder" else folder / "tokenizer.json")


def test_a_folder_whose_files_contradict_each_other_is_refused(tmp_path):
    folder = write_folder(tmp_path / "a", roberta(), {"tokenizer_class": "RobertaTokenizer"})
    (folder / "vocab.json").write_text(json.dumps({"a": 3}))
    with pytest.raises(InputError, match="vocab.json: 'a' has another id"):
        open_tokenizer(folder)
    cased = wordpiece()
    cased.normalizer = normalizers.BertNormalizer(lowercase=False)
    folder = write_folder(tmp_path / "b", cased, {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    with pytest.raises(InputError, match="AutoTokenizer gives other ids.*--tokenizer"):
        open_tokenizer(folder)
    assert open_tokenizer(folder / "tokenizer.json").kind == "BERT"  # the file by itself is taken as it is


def test_a_token_that_the_user_names_is_told_to_transformers_too(tmp_path):
    folder = write_folder(tmp_path, roberta(), PLAIN | {"mask_token": "<mask>", "pad_token": "<pad>"})
    vocabulary = open_tokenizer(folder, {"mask": "<gap>"})
    told = json.loads(tokenizer_contents(vocabulary, 128)["tokenizer_config.json"])
    assert (told["mask_token"], told["pad_token"]) == (vocabulary.special.mask, "<pad>") == ("<gap>", "<pad>")


def test_a_folder_with_vocab_txt_alone_is_opened_as_transformers_opens_it(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "##s", "é"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    vocabulary = open_tokenizer(tmp_path)
    assert ids_by_line(vocabulary.tokenizer, ["HELLOS hello"]) == [[5, 6, 5]]
    assert vocabulary.cls_id == 2


def test_a_tokenizer_json_beside_a_bpe_vocabulary_is_never_ignored(tmp_path):
    """The tokens are the same, the normalizer is not: the ids would be others than the user's."""
    made = bpe(("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"))
    described = json.loads(made.to_str())
    vocab, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    vocab.write_text(json.dumps(described["model"]["vocab"]))
    merges.write_text("".join(f"{a} {b}\n" for a, b in described["model"]["merges"]))
    plain = load_vocabulary("BPE", vocab, merges)
    (tmp_path / "tokenizer.json").write_text(plain.to_json())
    assert load_vocabulary("BPE", vocab, merges).sha256 == plain.sha256
    made.normalizer = normalizers.Lowercase()
    (tmp_path / "tokenizer.json").write_text(made.to_str())
    with pytest.raises(InputError, match="treats text in another way; give --tokenizer"):
        load_vocabulary("BPE", vocab, merges)


def test_a_vocabulary_named_beside_a_tokenizer_must_be_its_own(tmp_path, capsys):
    folder = write_folder(tmp_path, roberta(), PLAIN)
    own = tmp_path / "own.json"
    own.write_text(json.dumps(roberta().get_vocab()))
    bring_tokenizer(folder / "tokenizer.json", {}, str(own))
    assert "words are cut and looked up" in capsys.readouterr().out
    own.write_text(json.dumps({"a": 0}))
    with pytest.raises(InputError, match="own.json: 'a' has another id.*give one of the two"):
        bring_tokenizer(folder / "tokenizer.json", {}, str(own))


def test_a_vocabulary_named_beside_a_tokenizer_may_have_the_line_ends_of_windows(tmp_path):
    folder = write_folder(tmp_path, wordpiece(), PLAIN)
    ids, own = vocabulary_of(json.loads((folder / "tokenizer.json").read_text())), tmp_path / "own.txt"
    own.write_bytes("".join(f"{token}\r\n" for token in sorted(ids, key=ids.get)).encode())
    assert bring_tokenizer(folder / "tokenizer.json", {}, str(own)).size == len(ids)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": {"vocab": 3}}', "no json"])
def test_what_is_no_tokenizer_is_refused_in_one_line(text, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(InputError) as refusal:
        open_tokenizer(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_sentencepiece_model_is_told_how_it_is_opened(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02\xff")
    with pytest.raises(InputError, match="spiece.model: a SentencePiece model; name its folder"):
        open_tokenizer(tmp_path / "spiece.model")
    with pytest.raises(InputError, match="absent.model: No such file"):
        open_tokenizer(tmp_path / "absent.model")


def test_scores_stay_to_the_last_digit(tmp_path):
    described = json.loads(unigram().to_str())
    described["model"]["vocab"][-1][1] = -3.7245930992080525  # which the library reads as ...053
    described["added_tokens"] = described["added_tokens"][:-1]
    described["model"]["vocab"][4][0] = "other"  # <mask> was there
    own, words = tmp_path / "tokenizer.json", tmp_path / "words.txt"
    own.write_text(json.dumps(described), encoding="utf-8")
    words.write_text("zygomorph\n", encoding="utf-8")
    vocabulary = open_tokenizer(own, {"mask": "<mask>"})
    for changed in (vocabulary, add_tokens(vocabulary, words), framing_rows(vocabulary)):
        assert json.loads(changed.original)["model"] == described["model"]
        assert Vocabulary.from_json(changed.to_json()).sha256 == changed.sha256


def test_a_new_token_never_shares_the_id_of_another(tmp_path):
    ids = {"<a>": 0, "<b>": 1, "<c>": 2, "<d>": 3, "x": 5}  # five tokens, so that a sixth gets the id 5
    path = write_folder(tmp_path, Tokenizer(models.WordLevel(ids, "<d>")), None) / "tokenizer.json"
    named = {"cls": "<a>", "sep": "<b>", "pad": "<c>", "mask": "<new>", "unk": "<d>"}
    with pytest.raises(InputError, match="gaps, so that the new token '<new>' would share the id 5"):
        open_tokenizer(path, named)


def test_a_token_named_that_exists_keeps_its_id(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"<a>": 0, "<b>": 1, "<c>": 2, "<d>": 3, "x": 4}, "<d>"))
    path = write_folder(tmp_path, tokenizer, None) / "tokenizer.json"
    named = {"cls": "<a>", "sep": "<b>", "pad": "<c>", "mask": "x", "unk": "<d>"}
    vocabulary = open_tokenizer(path, named)
    assert (vocabulary.mask_id, vocabulary.size, vocabulary.kind) == (4, 5, "other")
