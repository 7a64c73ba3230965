"""A tokenizer.json is looked at before the library is.

Run: pytest tests/text/test_tokenizer_file.py
"""

import base64
import json

import pytest
from own_tokenizer_examples import bpe, metaspace_bpe, unigram, wordpiece

from span_electra.text.tokenizer_file import check_described, kind_of, parts_of


@pytest.mark.parametrize(
    ("make", "kind"),
    [(bpe, "BPE"), (wordpiece, "BERT"), (unigram, "SentencePiece"), (metaspace_bpe, "SentencePiece")],
)
def test_kinds(make, kind):
    described = json.loads(make().to_str())
    check_described(described)
    assert kind_of(described) == kind


def test_sequences_are_taken_apart():
    inner = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}
    assert [
        part["type"] for part in parts_of({"type": "Sequence", "normalizers": [inner, {"type": "NFD"}]})
    ] == [
        "NFC",
        "Strip",
        "NFD",
    ]
    assert parts_of(None) == []


@pytest.mark.parametrize(
    "table", ["AAAA", "", "no base64!", base64.b64encode(b"\xff\xff\xff\x7f" + b"x" * 8).decode()]
)
def test_a_broken_table_of_characters_is_refused_wherever_it_stands(table):
    described = json.loads(unigram().to_str())
    broken = {"type": "Precompiled", "precompiled_charsmap": table}
    described["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, broken]}
    with pytest.raises(ValueError, match="broken table"):
        check_described(described)
