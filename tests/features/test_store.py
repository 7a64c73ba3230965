"""Laws of the feature file: what is written is read, every damage is seen, other programs open it.

Run: pytest tests/features/test_store.py
"""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from feature_examples import SPECIAL, VOCABULARY, WORDS, make

from span_electra.data_config import MaskingConfig
from span_electra.errors import InputError
from span_electra.features.arrow_file import write_checked
from span_electra.features.header import (
    feature_schema,
    read_header,
)
from span_electra.features.preview import describe
from span_electra.features.store import of_vocabulary, open_features
from span_electra.text.vocabulary import assemble


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
    spans, drawn = features.spans(rows_B), features.sample_spans(rows_B, epoch=1, seed=9)
    begin = 0
    for row, end in zip(rows_B.tolist(), spans.row_ends_R, strict=True):
        assert spans.starts_S[begin:end].tolist() == table["span_starts"][row].as_py()
        assert spans.lengths_S[begin:end].tolist() == table["span_lengths"][row].as_py()
        begin = end
    alone = features.sample_spans(np.array([3]), epoch=1, seed=9)
    first, second = drawn.row_ends_R[1:]
    assert np.array_equal(drawn.starts_S[first:second], alone.starts_S)
    budgets = [round(0.2 * (int(features.lengths_R[row]) - 2)) for row in rows_B]
    ends = drawn.row_ends_R.tolist()
    sums = [drawn.lengths_S[begin:end].sum() for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert sums == budgets and ends[0] > 0
    elsewhere = features.sample_spans(np.array([3]), epoch=1, seed=10)
    assert not np.array_equal(alone.starts_S, elsewhere.starts_S)


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


def test_rows_masked_otherwise_are_refused_though_the_checksum_holds(tmp_path):
    make(tmp_path / "f.bin", rows=3, batches=1)
    header = read_header(tmp_path / "f.bin")
    table = pa.ipc.open_file(pa.memory_map(str(tmp_path / "f.bin"))).read_all().combine_chunks()
    schema = feature_schema(header)

    def refused(**changed):
        columns = [
            pa.array(changed.get(name, table[name].to_pylist()), schema.field(name).type)
            for name in schema.names
        ]
        write_checked(tmp_path / "bad.bin", schema, [pa.record_batch(columns, schema=schema)])
        with pytest.raises(InputError, match="bad.bin"):
            open_features(tmp_path / "bad.bin")

    ids, starts = table["input_ids"].to_pylist(), table["span_starts"].to_pylist()
    refused(input_ids=[[*ids[0][:-1], header.vocab_size], *ids[1:]])
    refused(input_ids=[[*ids[0], 1], *ids[1:]])
    refused(span_starts=[[0, *starts[0][1:]], *starts[1:]])
    refused(span_starts=[[60000] * len(starts[0]), *starts[1:]])


def test_damage_to_a_file_that_is_not_verified_is_a_line(tmp_path):
    make(tmp_path / "f.bin", rows=12)
    whole = (tmp_path / "f.bin").read_bytes()
    refused = 0
    for place in range(0, len(whole), 19):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "broken.bin").write_bytes(damaged)
        try:
            open_features(tmp_path / "broken.bin", verify=False)
        except InputError as error:
            refused += "broken.bin" in str(error)
    assert refused > 20


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


def test_a_vocabulary_that_is_not_the_features_own_is_refused_with_both_hashes(tmp_path):
    other = assemble("BERT", {token: number for number, token in enumerate([*SPECIAL, *reversed(WORDS)])})
    make(tmp_path / "a.bin")
    features = open_features(tmp_path / "a.bin")
    features.header = replace(features.header, tokenizer_json=other.to_json())
    with pytest.raises(InputError, match=f"{VOCABULARY.sha256[:12]}.*{other.sha256[:12]}"):
        _ = features.vocabulary


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


@pytest.mark.parametrize("opened", [open_features, describe], ids=["train", "inspect"])
def test_features_elsewhere_are_refused_as_such_and_a_file_url_is_a_path(opened, tmp_path):
    make(tmp_path / "f.arrow")
    assert opened(f"file://{tmp_path}/f.arrow")
    for url, shown in (
        ("s3://bucket/train.arrow", "s3://bucket/train.arrow"),
        ("https://me:key@host.org/a.arrow?signature=7", "https://host.org/a.arrow"),
    ):
        with pytest.raises(InputError, match=f"^{shown}: features are mapped from a disk of this machine"):
            opened(url)


def test_features_of_another_vocabulary_are_told(tmp_path):
    make(tmp_path / "f.arrow")
    (tmp_path / "none.arrow").touch()
    assert of_vocabulary(tmp_path / "f.arrow", VOCABULARY.sha256)
    assert not of_vocabulary(tmp_path / "f.arrow", "0" * 64)
    assert not of_vocabulary(tmp_path / "none.arrow", VOCABULARY.sha256)
