"""Each role's token is found where tokenizers say it. Run: pytest tests/text/test_special_tokens.py"""

import json

import pytest
from own_tokenizer_examples import bpe, roberta, unigram, wordpiece

from span_electra.errors import InputError
from span_electra.text.special_tokens import SpecialTokens, find_special_tokens, json_object, vocabulary_of


def found(tokenizer, config=None, **named):
    return find_special_tokens(json.loads(tokenizer.to_str()), config or {}, named, "t.json")


def test_by_what_the_tokenizer_itself_says():
    assert found(roberta()) == SpecialTokens("<s>", "</s>", "<pad>", "<mask>", "<unk>")
    assert found(wordpiece()) == SpecialTokens()
    assert found(unigram()).unk == "<unk>"


def test_the_user_s_word_counts_most_then_the_config_s():
    tokenizer = bpe(("<a>", "<b>", "<s>", "</s>", "<pad>", "<mask>", "<unk>"))
    config = {"bos_token": "<a>", "eos_token": {"content": "<b>", "lstrip": False}, "pad_token": "<none>"}
    special = found(tokenizer, config)
    assert (special.cls, special.sep, special.pad) == (
        "<a>",
        "<b>",
        "<pad>",
    )  # a token it lacks is passed over
    assert found(tokenizer, config, cls="<s>").cls == "<s>"


def test_a_byte_level_vocabulary_needs_no_unknown_token():
    assert found(bpe(("<s>", "</s>", "<pad>", "<mask>"))).unk == "<pad>"


def test_ids_of_every_kind_of_model():
    for tokenizer in (roberta(), unigram(), wordpiece()):
        assert vocabulary_of(json.loads(tokenizer.to_str())) == tokenizer.get_vocab()


def test_what_stands_beside_a_tokenizer_is_an_object():
    assert json_object('{"a": 1}', "c.json") == {"a": 1}
    for text in ("[1]", "{", '"a"'):
        with pytest.raises(InputError, match="c.json: not a JSON object; get the file again"):
            json_object(text, "c.json")
