"""Exported tokenizers: our ids under every transformers, offsets without blanks.

Run: pytest tests/hub/test_tokenizer.py

The old transformers is looked for where OLD_TRANSFORMERS points: a folder that `pip install --target` made.
"""

import json
import os
import subprocess
import sys

import pytest
from network_examples import vocabulary_of_words
from own_tokenizer_examples import TOKENIZERS, write_folder
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from span_electra.hub.tokenizer import framing_rows, prefix_space, save_tokenizer
from span_electra.text.own_tokenizer import open_tokenizer
from span_electra.text.token_spans import read_lines
from span_electra.text.vocabulary import SPECIAL_TOKENS, Vocabulary, assemble
from span_electra.utf8 import read_text

TEXTS = ["The cat  sat (on it).", "dogs", "naïve über", " mats"]


def bpe():
    """Bytes, and a few merges with and without the blank before a word."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t"), ("a", "t"), ("Ġ", "d")]
    tokens = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)]
    return assemble("BPE", {token: number for number, token in enumerate(tokens)}, merges)


def test_ids_stay_and_offsets_leave_the_blank_out(tmp_path):
    vocabulary = bpe()
    save_tokenizer(vocabulary, tmp_path, 128)
    exported = Vocabulary.from_json(read_text(tmp_path / "tokenizer.json"), "here")
    for text in TEXTS:
        ours, theirs = vocabulary.tokenizer.encode(text), exported.tokenizer.encode(text)
        assert theirs.ids == ours.ids and theirs.type_ids == ours.type_ids
        for start, end in theirs.offsets:
            assert text[start:end] == text[start:end].strip(), (text, start, end)
    pair, plain = (one.tokenizer.encode("a cat", "the dog") for one in (exported, vocabulary))
    assert (pair.ids, pair.type_ids) == (plain.ids, plain.type_ids)


def test_our_own_words_are_the_same_by_either(tmp_path):
    vocabulary = bpe()
    save_tokenizer(vocabulary, tmp_path, 128)
    exported = Vocabulary.from_json(read_text(tmp_path / "tokenizer.json"), "here")
    for ours, theirs in zip(read_lines(vocabulary, TEXTS), read_lines(exported, TEXTS), strict=True):
        assert ours.word_T.tolist() == theirs.word_T.tolist() and ours.word_spans == theirs.word_spans


def test_the_settings_say_what_old_versions_need(tmp_path):
    save_tokenizer(bpe(), tmp_path, 128, token_types=False)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["add_prefix_space"] is True
    assert settings["model_input_names"] == ["input_ids", "attention_mask"]
    save_tokenizer(vocabulary_of_words(), tmp_path, 128)
    assert "add_prefix_space" not in json.loads((tmp_path / "tokenizer_config.json").read_text())


def test_a_text_too_long_is_cut_at_the_side_that_is_said(tmp_path):
    for side, kept in (("right", "the cat"), ("left", "dog barks")):
        save_tokenizer(vocabulary_of_words(), tmp_path, 4, truncation_side=side)
        stock = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
        assert stock.decode(stock("the cat dog barks", truncation=True)["input_ids"][1:-1]) == kept


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_brought_tokenizer_frames_texts_as_rows_are(kind, tmp_path):
    make, config, named = TOKENIZERS[kind]
    own = make()
    vocabulary = open_tokenizer(write_folder(tmp_path / "own", own, config), named)
    framing = framing_rows(vocabulary)
    assert framing.sha256 == vocabulary.sha256 and framing_rows(framing) is framing
    save_tokenizer(framing, tmp_path, 128)
    stock = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for text in TEXTS:
        ids = own.encode(text, add_special_tokens=False).ids
        assert stock(text).input_ids == [vocabulary.cls_id, *ids, vocabulary.sep_id], text
        assert stock(text, add_special_tokens=False).input_ids == ids
    first, second = (own.encode(text, add_special_tokens=False).ids for text in TEXTS[:2])
    pair = stock(*TEXTS[:2]).input_ids
    assert pair[:1] + pair[-1:] == [vocabulary.cls_id, vocabulary.sep_id]
    assert [number for number in pair if number in {*first, *second}] == [*first, *second]


def test_rows_begin_with_their_first_token_wherever_a_brought_tokenizer_fills_them_up(tmp_path):
    make, config, named = TOKENIZERS["gpt2"]
    own, sides = make(), {"padding_side": "left", "truncation_side": "left"}
    own.enable_padding(direction="left")
    vocabulary = framing_rows(open_tokenizer(write_folder(tmp_path / "own", own, config | sides), named))
    save_tokenizer(vocabulary, tmp_path, 128)
    stock = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert all(row[0] == vocabulary.cls_id for row in stock(TEXTS, padding=True).input_ids)
    assert stock.truncation_side == "right"


def test_a_tokenizer_that_frames_rows_already_stays_as_it_was(tmp_path):
    make, config, named = TOKENIZERS["roberta"]
    vocabulary = open_tokenizer(write_folder(tmp_path, make(), config), named)
    assert framing_rows(vocabulary).original == vocabulary.original


def test_a_byte_level_step_is_found_in_a_sequence():
    step = {"type": "ByteLevel", "add_prefix_space": False}
    assert prefix_space(step) is False
    assert prefix_space({"type": "Sequence", "pretokenizers": [{"type": "Digits"}, step]}) is False
    assert prefix_space({"type": "BertPreTokenizer"}) is None and prefix_space(None) is None


ASK = """
import json, sys, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
texts = json.loads(sys.argv[2])
words = tokenizer([text.split() for text in texts], is_split_into_words=True).input_ids
print(json.dumps([transformers.__version__, tokenizer(texts).input_ids, words]))
"""


def answers(folder, path=None):
    environment = os.environ | ({"PYTHONPATH": path} if path else {})
    command = [sys.executable, "-W", "ignore", "-c", ASK, str(folder), json.dumps(TEXTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not os.environ.get("OLD_TRANSFORMERS"), reason="OLD_TRANSFORMERS names no folder")
@pytest.mark.parametrize("kind", ["BPE", "BERT"])
def test_transformers_4_gives_the_same_ids(kind, tmp_path):
    vocabulary = bpe() if kind == "BPE" else vocabulary_of_words()
    save_tokenizer(vocabulary, tmp_path, 128)
    version, ids, words = answers(tmp_path, os.environ["OLD_TRANSFORMERS"])
    assert version.startswith("4."), version
    assert ids == [encoding.ids for encoding in vocabulary.tokenizer.encode_batch(TEXTS)]
    assert words == answers(tmp_path)[2]
