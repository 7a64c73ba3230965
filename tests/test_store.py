"""Laws of the feature file: what is written is read, every damage is seen, other programs open it.

Run: pytest tests/test_store.py
"""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from span_electra.config import ChunkConfig, MaskingConfig
from span_electra.data.header import (
    Source,
    describe,
    feature_batch,
    feature_schema,
    is_feature_file,
    read_header,
    write_features,
)
from span_electra.data.masking import draw_spans, row_keys
from span_electra.data.store import open_features
from span_electra.data.vocabulary import assemble
from span_electra.errors import InputError

SPECIAL = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]
WORDS = [f"w{number}" for number in range(60)] + [f"##{number}" for number in range(35)]
VOCABULARY = assemble("BERT", {token: number for number, token in enumerate(SPECIAL + WORDS)})


def make(path, rows=50, seed=0, batches=3, vocabulary=VOCABULARY, masking=None, longest=40):
    """Write a feature file of random rows; return its rows as lists."""
    rng = np.random.default_rng(seed)
    header = describe(vocabulary, masking or MaskingConfig(), ChunkConfig(max_seq_len=longest), seed)
    schema, written, totals = feature_schema(header), [], np.zeros(4, np.int64)
    made = []
    for block in range(batches):
        lengths_R = rng.integers(3, longest + 1, rows // batches)
        ids_T = rng.integers(5, vocabulary.size, lengths_R.sum()).astype(header.id_type)
        ends_R = np.cumsum(lengths_R)
        ids_T[ends_R - lengths_R], ids_T[ends_R - 1] = header.cls_id, header.sep_id
        keys_R = row_keys(seed, block, np.arange(len(lengths_R)), "spans")
        spans = draw_spans(
            ids_T, ends_R - lengths_R, lengths_R, vocabulary.starts_word_V, keys_R, header.masking
        )
        made.append(feature_batch(ids_T, ends_R, spans, schema))
        totals += [len(lengths_R), len(ids_T), spans.lengths_S.sum(), len(spans.starts_S)]
        written.extend(np.split(ids_T, ends_R[:-1]))
    counts = dict(zip(("rows", "tokens", "masked", "spans"), totals.tolist(), strict=True))
    header = replace(header, sources=(Source("text.txt", 10, "0" * 64),), **counts)
    write_features(path, header, made)
    return written


def test_rows_come_back_padded_in_any_order(tmp_path):
    written = make(tmp_path / "f.txt")
    features = open_features(tmp_path / "f.txt")
    rows_B = np.array([7, 0, 47, 7, 20])
    ids_BL = features.gather(rows_B, 41)
    assert ids_BL.dtype == np.int64 and ids_BL.shape == (5, 41)
    for row, ids_L in zip(rows_B, ids_BL, strict=True):
        length = features.lengths_R[row]
        assert ids_L[:length].tolist() == written[row].tolist()
        assert (ids_L[length:] == features.header.pad_id).all()
    assert features.gather(np.empty(0, np.int64), 9).shape == (0, 9)


def test_spans_come_back_and_new_ones_belong_to_the_row(tmp_path):
    make(tmp_path / "f.txt")
    features = open_features(str(tmp_path / "f.txt"))
    table = pa.ipc.open_file(pa.memory_map(str(tmp_path / "f.txt"))).read_all()
    rows_B = np.array([40, 3, 3])
    spans, drawn = features.spans(rows_B), features.draw(rows_B, epoch=1, seed=9)
    begin = 0
    for row, end in zip(rows_B.tolist(), spans.row_ends_R, strict=True):
        assert spans.starts_S[begin:end].tolist() == table["span_starts"][row].as_py()
        assert spans.lengths_S[begin:end].tolist() == table["span_lengths"][row].as_py()
        begin = end
    alone = features.draw(np.array([3]), epoch=1, seed=9)
    first, second = drawn.row_ends_R[1:]
    assert np.array_equal(drawn.starts_S[first:second], alone.starts_S)
    assert drawn.lengths_S[:first].sum() == drawn.lengths_S[first:].sum() * 0 + sum(
        round(0.2 * (int(features.lengths_R[row]) - 2)) for row in rows_B[:2]
    )


def test_several_files_globs_and_shards_read_as_one(tmp_path):
    first, second = make(tmp_path / "a 1.bin", seed=1), make(tmp_path / "a 2.bin", seed=2)
    shards = [{"file": name} for name in ("a1", "a2")]
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, shard in enumerate(shards, start=1):
        os.link(tmp_path / f"a {number}.bin", folder / shard["file"])
    (folder / "manifest.json").write_text(json.dumps({"shards": shards}))
    for paths in ([tmp_path / "a 1.bin", tmp_path / "a 2.bin"], tmp_path / "a *.bin", str(folder)):
        features = open_features(paths)
        assert features.rows == len(first) + len(second) == features.header.rows
        ids_BL = features.gather(np.array([2, len(first) + 2]), 40)
        assert ids_BL[0, : len(first[2])].tolist() == first[2].tolist()
        assert ids_BL[1, : len(second[2])].tolist() == second[2].tolist()


def test_header_says_all_and_the_tokenizer_travels(tmp_path):
    make(tmp_path / "f.txt", masking=MaskingConfig(mask_ratio=0.3))
    header = read_header(tmp_path / "f.txt")
    assert header == open_features(tmp_path / "f.txt").header
    assert header.masking.mask_ratio == 0.3 and header.max_seq_len == 40
    assert header.vocabulary_sha256 == open_features(tmp_path / "f.txt").vocabulary.sha256
    assert header.sources == (Source("text.txt", 10, "0" * 64),)
    assert is_feature_file(tmp_path / "f.txt") and not is_feature_file(__file__)


def test_every_flipped_bit_and_every_cut_is_recognised(tmp_path):
    path, broken = tmp_path / "f.bin", tmp_path / "broken.bin"
    make(path, rows=12)
    whole = path.read_bytes()
    places = sorted({*range(0, len(whole), 97), *range(len(whole) - 80, len(whole)), *range(64)})
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        broken.write_bytes(damaged)
        with pytest.raises(InputError, match="broken.bin: (damaged|not a feature file).*create_feature_SE"):
            open_features(broken)
    for size in (0, 1, 31, *range(32, len(whole), 331), len(whole) - 1):
        broken.write_bytes(whole[:size])
        with pytest.raises(InputError, match="broken.bin"):
            open_features(broken)


def test_rows_that_break_the_law_are_refused_though_the_checksum_holds(tmp_path):
    make(tmp_path / "f.bin", rows=3, batches=1)
    header = read_header(tmp_path / "f.bin")
    table = pa.ipc.open_file(pa.memory_map(str(tmp_path / "f.bin"))).read_all().combine_chunks()
    schema = feature_schema(header)

    def refused(**changed):
        columns = [
            pa.array(changed.get(name, table[name].to_pylist()), schema.field(name).type)
            for name in schema.names
        ]
        write_features(tmp_path / "bad.bin", header, [pa.record_batch(columns, schema=schema)])
        with pytest.raises(InputError, match="bad.bin"):
            open_features(tmp_path / "bad.bin")

    ids, starts = table["input_ids"].to_pylist(), table["span_starts"].to_pylist()
    refused(input_ids=[[*ids[0][:-1], header.vocab_size], *ids[1:]])
    refused(input_ids=[[*ids[0], 1], *ids[1:]])
    refused(span_starts=[[0, *starts[0][1:]], *starts[1:]])
    refused(span_starts=[[60000] * len(starts[0]), *starts[1:]])


def test_files_that_do_not_belong_together_are_refused_with_both_hashes(tmp_path):
    other = assemble("BERT", {token: number for number, token in enumerate([*SPECIAL, *WORDS, "more"])})
    make(tmp_path / "a.bin")
    make(tmp_path / "b.bin", vocabulary=other)
    make(tmp_path / "c.bin", masking=MaskingConfig(mask_ratio=0.1))
    both = f"{other.sha256[:12]}.*{VOCABULARY.sha256[:12]}.*create_feature_SE"
    with pytest.raises(InputError, match=both):
        open_features([tmp_path / "a.bin", tmp_path / "b.bin"])
    with pytest.raises(InputError, match="mask_ratio=0.1"):
        open_features([tmp_path / "a.bin", tmp_path / "c.bin"])


@pytest.mark.parametrize("name", ["../f.bin", "/etc/passwd", "link", ".hidden", "sub/f", 3, None, "absent"])
def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path, name):
    make(tmp_path / "f.bin")
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "f.bin")
    (folder / "manifest.json").write_text(json.dumps({"shards": [{"file": name}]}))
    with pytest.raises(InputError, match="shards"):
        open_features(folder)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"shards": []}', '{"shards": [1]}', "[" * 9999, None])
def test_an_unsound_manifest_is_refused(tmp_path, manifest):
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match="manifest.json"):
        open_features(tmp_path)


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "text.txt").write_text("words " * 100)
    table = pa.table({"a": [1, 2]})
    with pa.ipc.new_file(str(tmp_path / "foreign.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name, words in (
        ("text.txt", "not a feature file"),
        ("foreign.arrow", "damaged|not of features"),
        ("absent", "no such"),
        ("absent*", "no such"),
    ):
        with pytest.raises(InputError, match=f"{name[:6]}.*({words})"):
            open_features(tmp_path / name)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    make(tmp_path / "f.bin")
    before = (tmp_path / "f.bin").read_bytes()
    header = read_header(tmp_path / "f.bin")

    def failing():
        raise OSError(28, "No space left on device")
        yield

    with pytest.raises(OSError, match="No space"):
        write_features(tmp_path / "f.bin", header, failing())
    assert os.listdir(tmp_path) == ["f.bin"] and (tmp_path / "f.bin").read_bytes() == before


def test_rows_too_long_for_the_format_are_refused():
    with pytest.raises(InputError, match="max_seq_len: 70000"):
        describe(VOCABULARY, MaskingConfig(), ChunkConfig(max_seq_len=70000), 0)


def test_other_programs_open_it(tmp_path):
    written = make(tmp_path / "f.arrow")
    polars = pytest.importorskip("polars")
    assert polars.read_ipc(tmp_path / "f.arrow")["input_ids"].to_list() == [ids.tolist() for ids in written]
