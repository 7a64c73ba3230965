"""Laws of parts: a pure function of block and settings; a part of another key, or damaged, is not kept.

Run: pytest tests/features/test_parts.py
"""

import json
from dataclasses import asdict, replace

import pytest
from feature_examples import VOCABULARY, text

from span_electra.data_config import ChunkConfig, MaskingConfig
from span_electra.errors import InputError
from span_electra.features.arrow_file import write_checked
from span_electra.features.header import TOKENIZER_KEY, feature_schema, wanted_features
from span_electra.features.parts import (
    PART_KEY,
    block_key,
    kept_counts,
    part_maker,
    part_path,
    read_part,
    settings_key,
    write_part,
)
from span_electra.storage import is_feature_file
from span_electra.text.corpus import cut_blocks
from span_electra.text.inputs import find_inputs


@pytest.fixture
def blocks(tmp_path):
    (tmp_path / "a.txt").write_text(text(200))
    return list(cut_blocks(find_inputs(tmp_path / "a.txt"), 50))


HEADER = wanted_features(VOCABULARY, ChunkConfig(max_seq_len=32), MaskingConfig())


def test_a_part_depends_on_its_block_alone(blocks):
    forwards, backwards = part_maker(HEADER, VOCABULARY), part_maker(HEADER, VOCABULARY)
    parts = [forwards(block) for block in blocks]
    for block, part in reversed(list(zip(blocks, parts, strict=True))):
        again = backwards(block)
        assert again.batch.equals(part.batch) and again.counts == part.counts
    assert not part_maker(replace(HEADER, seed=1), VOCABULARY)(blocks[0]).batch.equals(parts[0].batch)


def test_blocks_of_the_same_text_are_masked_differently(blocks):
    make = part_maker(HEADER, VOCABULARY)
    twin = replace(blocks[0], number=7)
    assert not make(twin).batch["span_starts"].equals(make(blocks[0]).batch["span_starts"])


def test_kept_only_with_its_own_key_and_whole(tmp_path, blocks):
    path, part = part_path(tmp_path, 0), part_maker(HEADER, VOCABULARY)(blocks[0])
    assert kept_counts(path, "key") is None
    write_part(path, part, "key", HEADER)
    assert kept_counts(path, "key") == part.counts and kept_counts(path, "other") is None
    assert read_part(path, "key").num_rows == part.counts.rows
    with pytest.raises(InputError, match="replaced by another command"):
        read_part(path, "other")
    path.write_bytes(path.read_bytes()[:-1])
    assert kept_counts(path, "key") is None


def test_a_part_holds_no_tokenizer(tmp_path, blocks):
    """It may be larger than the rows, and would stand in each of thousands of parts, twice."""
    header = replace(HEADER, tokenizer_json=" " * (1 << 20) + HEADER.tokenizer_json)
    path, part = part_path(tmp_path, 0), part_maker(header, VOCABULARY)(blocks[0])
    write_part(path, part, "key", header)
    assert path.stat().st_size < 1 << 20 and is_feature_file(path)
    assert TOKENIZER_KEY not in part.batch.schema.metadata


def test_a_part_that_counts_other_things_is_made_again(tmp_path, blocks):
    path, part = part_path(tmp_path, 0), part_maker(HEADER, VOCABULARY)(blocks[0])
    described = {"key": "key", "counts": asdict(part.counts) | {"unknown": 7}}
    schema = feature_schema(HEADER).with_metadata({PART_KEY: json.dumps(described)})
    write_checked(path, schema, [part.batch])
    assert kept_counts(path, "key") is None


def test_keys_tell_settings_blocks_and_files_apart(blocks):
    key = settings_key(HEADER)
    others = [
        replace(HEADER, seed=1),
        replace(HEADER, errors="replace"),
        replace(HEADER, text_field="body"),
        replace(HEADER, chunk_size=1),
        replace(HEADER, masking=MaskingConfig(mask_ratio=0.1)),
        replace(HEADER, tokenizer_json="{}"),
    ]
    assert len({key, *map(settings_key, others)}) == 1 + len(others)
    assert settings_key(replace(HEADER, rows=5, tokens=9)) == key
    path = blocks[0].pieces[0].path
    keys = {block_key(key, block, {path: identity}) for block in blocks for identity in "ab"}
    assert len(keys) == 2 * len(blocks)
    piece = replace(blocks[0].pieces[0], text=b"x")
    assert block_key(key, replace(blocks[0], pieces=(piece,)), {path: "a"}) not in keys
