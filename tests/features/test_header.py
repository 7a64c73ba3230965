"""Laws of the header: it says all, comes back the same, and is data even when hostile.

Run: pytest tests/features/test_header.py
"""

import json
from dataclasses import replace

import pytest
from feature_examples import VOCABULARY, make

from span_electra.data_config import ChunkConfig, MaskingConfig
from span_electra.errors import InputError
from span_electra.features.header import (
    feature_schema,
    parse_header,
    read_header,
    wanted_features,
)
from span_electra.features.store import open_features
from span_electra.storage import FEATURES_KEY, is_feature_file
from span_electra.text.inputs import Source


def test_header_says_all_and_the_tokenizer_travels(tmp_path):
    make(tmp_path / "f.txt", masking=MaskingConfig(mask_ratio=0.3))
    header = read_header(tmp_path / "f.txt")
    assert header == open_features(tmp_path / "f.txt").header
    assert header.masking.mask_ratio == 0.3 and header.max_seq_len == 40
    assert header.vocabulary_sha256 == open_features(tmp_path / "f.txt").vocabulary.sha256
    assert header.sources == (Source("text.txt", 10, "0" * 64),)
    assert is_feature_file(tmp_path / "f.txt") and not is_feature_file(__file__)


def test_rows_too_long_for_the_format_are_refused():
    with pytest.raises(InputError, match="max_seq_len: 70000"):
        wanted_features(VOCABULARY, ChunkConfig(max_seq_len=70000), MaskingConfig())


HOSTILE = {
    "not JSON": b"{",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "pickle": b"\x80\x04\x95\x0b\x00",
    "no field": {"seed": None},
    "negative": {"rows": -1},
    "huge ratio": {"masking": {"mask_ratio": 7.0}},
    "unknown key": {"masking": {"mask_raito": 0.2}},
    "code": {"vocab_size": "__import__('os').abort()"},
    "other format": {"format": 3},
    "masks of another format": {"format": 1},
    "sources": {"sources": [{"path": "x"}]},
    "text for a number": {"chunking": {"max_seq_len": "128"}},
    "a number for text": {"errors": 3},
    "truth for a number": {"rows": True},
    "beyond 64 bits": {"tokens": 1 << 70},
    "an id beyond the vocabulary": {"mask_id": 99_999},
    "sizes of a source": {"sources": [{"path": "x", "size": "huge", "sha256": "0"}]},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_refused_in_one_line(case):
    schema = feature_schema(wanted_features(VOCABULARY, ChunkConfig(), MaskingConfig()))
    content = HOSTILE[case]
    if isinstance(content, dict):
        content = json.dumps({**json.loads(schema.metadata[FEATURES_KEY]), **content}).encode()
    with pytest.raises(InputError, match="^[^\n]*$"):
        parse_header(schema.with_metadata({**schema.metadata, FEATURES_KEY: content}), "f.arrow")


def test_ids_take_two_bytes_while_they_fit():
    header = wanted_features(VOCABULARY, ChunkConfig(), MaskingConfig())
    assert replace(header, vocab_size=1 << 16).id_type == "uint16"
    assert replace(header, vocab_size=(1 << 16) + 1).id_type == "uint32"
