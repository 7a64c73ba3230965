"""Laws of reading: every line once, in a fixed order, whatever it is packed in; what is no text is refused.

Run: pytest tests/text/test_corpus.py
"""

import bz2
import errno
import gzip
import hashlib
import io
import json
import lzma
import os
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from span_electra.data_config import TextConfig
from span_electra.errors import InputError
from span_electra.text import corpus
from span_electra.text.clean import read_block
from span_electra.text.corpus import cut_blocks
from span_electra.text.inputs import SEGMENT, find_inputs
from span_electra.text.pretokenize import MAX_TEXT_BYTES

LINES = ["first line", "", "caf\u00e9 \U0001f600", "  three ", "last"]
TEXT = "".join(line + "\n" for line in LINES).encode()


def read(paths, chunk_size=1000, **options):
    inputs = find_inputs(paths, options.get("text_field", "text"))
    return [read_block(block, TextConfig(**options)) for block in cut_blocks(inputs, chunk_size)]


def zst(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return sink.getvalue().to_pybytes()


PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zst}


def as_rows(kind, texts, path):
    """Write texts as rows of a kind; return the file's bytes."""
    if kind == "jsonl":
        return b"".join(json.dumps({"id": 1, "text": text}).encode() + b"\n" for text in texts)
    if kind == "tsv":
        return "".join(f"{number}\t{text}\n" for number, text in [("id", "text"), *enumerate(texts)]).encode()
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), path, row_group_size=2)
    return path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(
    files=st.lists(st.lists(st.text(alphabet="ab \u00e9", max_size=12), max_size=9), min_size=1, max_size=4),
    ending=st.sampled_from(["", "\n"]),
    chunk_size=st.integers(1, 6),
    cap=st.sampled_from([1, 7, 30, 1000]),
    segment=st.sampled_from([1, 3, 64]),
    packing=st.sampled_from(["", ".gz"]),
)
def test_every_byte_comes_once_in_blocks_within_bounds(
    tmp_path_factory, files, ending, chunk_size, cap, segment, packing
):
    folder = tmp_path_factory.mktemp("texts")
    contents = [("\n".join(lines) + ending).encode() for lines in files]
    paths = [folder / f"{number}.txt{packing}" for number in range(len(files))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(PACK[packing](content))
    kept = [path for path in paths if path.stat().st_size]
    if not kept:
        return
    inputs = find_inputs(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "BLOCK_BYTES", cap)
        patch.setattr("span_electra.text.inputs.SEGMENT", segment)
        sources = []
        blocks = list(cut_blocks(inputs, chunk_size, sources=sources))
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert sum(block.consumed for block in blocks) == inputs.size
    assert [source.sha256 for source in sources] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in kept
    ]
    for path, content in zip(paths, contents, strict=True):
        pieces = [piece for block in blocks for piece in block.pieces if piece.path == str(path)]
        rebuilt = b"".join(
            content[piece.begin : piece.end] if piece.text is None else piece.text for piece in pieces
        )
        assert rebuilt == content
        for piece in pieces:
            assert piece.first_line == 1 + content[: piece.begin].count(b"\n")
    for block in blocks:
        lines = sum(
            read_block(replace(block, pieces=(piece,)), TextConfig()).count(b"\n") for piece in block.pieces
        )
        assert lines <= chunk_size
        *full, last = [piece.end - piece.begin for piece in block.pieces] or [0]
        assert sum(full) < cap


@pytest.mark.parametrize("packing", PACK)
def test_packed_text_reads_as_plain(tmp_path, packing):
    path = tmp_path / f"a.txt{packing}"
    path.write_bytes(PACK[packing](TEXT))
    assert b"".join(read(path, chunk_size=2)) == TEXT


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "tsv", "parquet"])
def test_rows_become_documents(tmp_path, kind, packing):
    texts = ["one", "caf\u00e9", " ", "two three"]
    path = tmp_path / f"a.{kind}{packing}"
    path.write_bytes(PACK[packing](as_rows(kind, texts, tmp_path / "made.parquet")))
    expected = "one\n\ncaf\u00e9\n\ntwo three\n\n".encode()
    for chunk_size in (1, 2, 1000):
        assert b"".join(read(path, chunk_size)) == expected


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_a_table_whose_strings_are_no_utf8_is_read_as_lines_are(tmp_path, kind):
    """Arrow checks nothing of what a column of strings holds."""
    texts = pa.array([b"one", None, b"b\xffd", "caf\u00e9".encode()], pa.large_binary())
    texts = texts.cast(pa.large_binary() if kind == pa.large_string() else pa.binary())
    pq.write_table(pa.table({"text": texts.view(kind)}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a.parquet: row 3 is not UTF-8 \(byte 0xff\); .*--errors replace"):
        read(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", errors="replace") == ["one\n\nb\ufffdd\n\ncaf\u00e9\n\n".encode()]


def test_half_a_pair_is_replaced_by_the_sign_that_stands_for_no_character(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b"}\n')
    assert read(tmp_path / "a.jsonl", errors="replace") == ["a\ufffdb\n\n".encode()]


@pytest.mark.parametrize("error", pa.ArrowException.__subclasses__(), ids=lambda error: error.__name__)
def test_whatever_arrow_says_of_a_damaged_table_is_a_line(tmp_path, monkeypatch, error):
    """A damaged byte may name a codec or a type that Arrow does not have, as well as break the rules."""

    def fail(*_):
        raise error("codec 77\nat byte 4")

    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    monkeypatch.setattr("span_electra.text.tables.parquet_batches", fail)
    with pytest.raises(InputError, match=r"a.parquet: not a sound .parquet file \(.*codec 77.*\); get it"):
        read(tmp_path / "a.parquet")


def test_a_column_of_categories_is_text(tmp_path):
    texts = pa.array(["one", "two", None, "one"]).dictionary_encode()
    pq.write_table(
        pa.table({"text": texts, "id": pa.array([7, 8, 8, 7]).dictionary_encode()}), tmp_path / "a.parquet"
    )
    assert read(tmp_path / "a.parquet") == [b"one\n\ntwo\n\none\n\n"]
    with pytest.raises(InputError, match="'id' holds"):
        list(cut_blocks(find_inputs(tmp_path / "a.parquet", "id"), 10))


def test_a_long_line_is_one_block(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x\n" + b"word " * (5 << 20) + b"\ny\n")
    sizes = [len(text) for text in read(path)]
    assert sizes == [2 + (25 << 20) + 1, 2]


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_line_that_no_memory_holds_is_refused_as_it_is_read(tmp_path, monkeypatch, packing):
    assert (
        corpus.LONGEST_LINE + corpus.BLOCK_BYTES // 16 + SEGMENT < MAX_TEXT_BYTES
    )  # the loops hold the rest
    monkeypatch.setattr(corpus, "LONGEST_LINE", 5 << 20)
    path = tmp_path / f"a.txt{packing}"
    path.write_bytes(PACK[packing](b"x\n" + b"word " * (2 << 20) + b"\ny\n"))
    with pytest.raises(InputError, match=f"a.txt{packing}: line 2 is longer than 5 MiB; break it into lines"):
        read(path)


def test_urls_read_as_files(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe("/texts/a.txt", TEXT)
    system.pipe("/texts/b.jsonl.gz", gzip.compress(b'{"text": "row"}\n'))
    assert read("memory://texts") == [TEXT + b"\nrow\n\n"]
    (tmp_path / "a.txt").write_bytes(TEXT)
    assert read(f"file://{tmp_path}/a.txt") == [TEXT]


REFUSED = {
    "not UTF-8": (
        "a.txt",
        b"ok\nfine\nb\xffd\n",
        r"a.txt: line 3 is not UTF-8 \(byte 0xff at 1\); .*replace",
    ),
    "NUL later": ("a.txt", b"x" * (1 << 20) + b"\na\0b\n", "a.txt: line 2 holds a NUL"),
    "NUL soon": ("a.txt", b"x\na\0b\n", "a.txt: line 2 holds a NUL byte; .*--errors replace"),
    "NULs all over": (
        "a.txt",
        b"key\0\0\0value\0\0\0\n" * 9,
        "a.txt: full of NUL bytes: .*; convert it to UTF-8 .iconv",
    ),
    "binary": ("a.bin", b"\x7fELF\0\0\xb0\xff", "a.bin: binary"),
    "UTF-16": ("a.txt", "hi".encode("utf-16"), "a.txt: UTF-16.*iconv"),
    "features": ("a.txt", b"ARROW1\0\0" + bytes(99), "a.txt: features or a table"),
    "empty": ("a.txt", b"", "a.txt: empty"),
    "not packed": ("a.txt.gz", b"plain", "a.txt.gz: cannot be read"),
    "cut gz": ("a.txt.gz", gzip.compress(TEXT * 99)[:-9], "a.txt.gz: cannot be read"),
    "cut bz2": ("a.txt.bz2", bz2.compress(TEXT * 99)[:-9], "a.txt.bz2: cannot be read"),
    "cut xz": ("a.txt.xz", lzma.compress(TEXT * 99)[:-9], "a.txt.xz: cannot be read"),
    "cut zst": ("a.txt.zst", zst(os.urandom(300))[:-9], "a.txt.zst: cannot be read"),
    "no JSON": ("a.jsonl", b'{"text": "a"}\n{text}\n', "a.jsonl: row 2 is not JSON"),
    "deep JSON": ("a.jsonl", b"[" * 100_000 + b"\n", "a.jsonl: row 1 is not JSON"),
    "no field": ("a.jsonl", b'{"body": "a"}\n', "a.jsonl: row 1 has no field 'text' .*body.*--text_field"),
    "number": ("a.jsonl", b'{"text": 3}\n', "a.jsonl: row 1: field 'text' is no text but int"),
    "half a pair": ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl: row 1 holds half"),
    "NUL in JSON": ("a.jsonl", b'{"text": "\\u0000"}\n', "a.jsonl: row 1 holds a NUL"),
    "no column": ("a.tsv", b"a\tb\n1\t2\n", "a.tsv: no column 'text' .*a, b.*--text_field"),
    "short row": ("a.tsv", b"a\ttext\n1\n", "a.tsv: row 2 has 1 column,"),
    "no parquet": ("a.parquet", b"PAR1 nonsense PAR1", "a.parquet: not a sound .parquet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_text_is_refused_by_name(tmp_path, case):
    name, content, message = REFUSED[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.txt.zst", "a.tsv.zst", "a.parquet.zst"])
def test_a_file_that_needs_more_memory_is_not_called_broken(tmp_path, name):
    """As `zstd --long=31` makes them, though one block of six bytes alone."""
    window, block = bytes([0, (31 - 10) << 3]), (6 << 3 | 1).to_bytes(3, "little") + b"text\n\n"
    (tmp_path / name).write_bytes(bytes.fromhex("28b52ffd") + window + block)
    with pytest.raises(InputError, match=rf"{name}: .*; its window is larger .*zstd -d --long=31"):
        read(tmp_path / name)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_told_as_a_damaged_table(tmp_path, monkeypatch, number):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(number, os.strerror(number))

    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(as_rows("parquet", ["one"], tmp_path / "made")))
    monkeypatch.setattr(corpus.tempfile, "TemporaryFile", Full)
    with pytest.raises(OSError, match=os.strerror(number)) as told:
        read(tmp_path / "a.parquet.gz")
    assert told.value.filename == corpus.tempfile.gettempdir()


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch, packing):
    monkeypatch.setattr("span_electra.text.inputs.BOMB_LEAST", 1 << 20)
    path = tmp_path / f"bomb.txt{packing}"
    path.write_bytes(PACK[packing](b"spam\n" * (1 << 20)))
    with pytest.raises(InputError, match="bomb.txt.*unpacks to more than 250 times"):
        read(path)
    # A server that tells no size: then by what was read of it.
    inputs = find_inputs(path)
    inputs = replace(inputs, files=tuple(replace(file, size=0) for file in inputs.files))
    with pytest.raises(InputError, match="bomb.txt.*unpacks to more than 250 times"):
        list(cut_blocks(inputs, 10))


def test_what_a_far_files_client_raises_is_a_line(tmp_path, monkeypatch):
    class Far(io.BytesIO):
        def read(self, size=-1):
            raise ValueError("The HTTP server doesn't appear to support range requests")

    (tmp_path / "a.txt").write_text("one\n")
    inputs = find_inputs(tmp_path / "a.txt")
    far = replace(inputs, files=(replace(inputs.files[0], path="https://example.org/a.txt"),))
    monkeypatch.setattr(corpus, "open_raw", lambda file: Far())
    with pytest.raises(InputError, match=r"a.txt: The HTTP server .*range requests; download it and name"):
        list(cut_blocks(far, 10))


def test_columns_by_number_for_tables_without_header(tmp_path):
    (tmp_path / "a.tsv").write_text("1\tone\n2\ttwo\n")
    assert read(tmp_path / "a.tsv", text_field="1") == [b"one\n\ntwo\n\n"]
