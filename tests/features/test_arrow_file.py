"""Laws of the checked file: every damage is seen, nothing is half-written, other programs open it.

Run: pytest tests/features/test_arrow_file.py
"""

import os

import pyarrow as pa
import pytest
from feature_examples import make

from span_electra import storage
from span_electra.errors import InputError
from span_electra.features.arrow_file import checked_file, open_checked, write_checked
from span_electra.features.header import feature_schema, read_header
from span_electra.features.store import open_features


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


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    make(tmp_path / "f.bin")
    before = (tmp_path / "f.bin").read_bytes()
    header = read_header(tmp_path / "f.bin")

    def failing():
        raise OSError(28, "No space left on device")
        yield

    with pytest.raises(OSError, match="No space"):
        write_checked(tmp_path / "f.bin", feature_schema(header), failing())
    assert os.listdir(tmp_path) == ["f.bin"] and (tmp_path / "f.bin").read_bytes() == before


def test_other_programs_open_it(tmp_path):
    written = make(tmp_path / "f.arrow")
    polars = pytest.importorskip("polars")
    assert polars.read_ipc(tmp_path / "f.arrow")["input_ids"].to_list() == [ids.tolist() for ids in written]


def test_a_name_that_is_no_utf8_is_one_as_any_other(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.arrow")
    try:
        make(path, rows=12)
    except OSError:
        pytest.skip("a file system whose names are UTF-8 alone")
    assert open_features(path).rows == 12


def test_metadata_cannot_pass_for_the_checksum(tmp_path):
    schema = pa.schema([pa.field("a", pa.int32())], {b"text": b"\\u0001crc32:00000000"})
    write_checked(tmp_path / "f", schema, [pa.record_batch([pa.array([1], pa.int32())], schema=schema)])
    assert open_checked(tmp_path / "f").get_batch(0).num_rows == 1


@pytest.mark.parametrize("rows", [1, 1000, 70001])
def test_metadata_told_at_the_end_gives_the_bytes_of_metadata_told_first(tmp_path, rows):
    batch = pa.record_batch({"a": pa.array(range(rows), pa.int32())})
    fields, ready, blank = list(batch.schema), {b"rows": b"%d" % rows}, {b"rows": b"?" * len(str(rows))}
    write_checked(tmp_path / "first", pa.schema(fields, ready), [batch])
    with checked_file(tmp_path / "last", pa.schema(fields, blank)) as file:
        file.append(batch)
        file.restate(b"rows", ready[b"rows"])
        assert not (tmp_path / "last").exists()
    assert (tmp_path / "last").read_bytes() == (tmp_path / "first").read_bytes()
    assert open_checked(tmp_path / "last").schema.metadata[b"rows"] == b"%d" % rows


def test_a_disk_that_loses_what_was_written_fails_the_file(tmp_path, monkeypatch):
    batch, failures = pa.record_batch({"a": pa.array(range(5000), pa.int32())}), [OSError(5, "lost")]

    def fsync(descriptor):
        if failures:
            raise failures.pop()

    monkeypatch.setattr(storage.os, "fsync", fsync)
    with pytest.raises(OSError, match="lost"):
        write_checked(tmp_path / "f", batch.schema, [batch, batch])
    assert not failures and os.listdir(tmp_path) == []
    write_checked(tmp_path / "f", batch.schema, [batch, batch])
    assert open_checked(tmp_path / "f").num_record_batches == 2
