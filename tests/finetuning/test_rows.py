"""Rows of files, whatever their format. Run: pytest tests/finetuning/test_rows.py"""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from task_examples import write

from span_electra.errors import InputError
from span_electra.finetuning import rows
from span_electra.finetuning.rows import (
    first_line,
    read_headerless,
    read_json_lines,
    read_lines,
    read_table,
    suffix_of,
)
from span_electra.text.inputs import KINDS

PACK = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def values(path, columns) -> list[dict]:
    return [row.values for row in read_table(path, columns)]


@pytest.mark.parametrize("packing", PACK)
def test_packed_files_are_read_like_plain_ones(tmp_path, packing, monkeypatch):
    monkeypatch.setattr("span_electra.text.inputs.SEGMENT", 3)  # lines and letters cross the ends of segments
    path = tmp_path / f"a.tsv{packing}"
    path.write_bytes(PACK[packing]("\ufeffé1\t2\r\n\nlast".encode()))
    assert list(read_lines(path)) == [(1, "é1\t2"), (2, ""), (3, "last")]
    assert first_line(path) == "é1\t2"
    assert suffix_of(path) == ".tsv"


@pytest.mark.parametrize("packing", PACK)
def test_packed_tables_are_read_like_plain_ones(tmp_path, packing):
    path = tmp_path / "plain"
    pq.write_table(pa.table({"text": ["a", "b"], "tags": [["x"], ["y", "z"]], "other": [1, 2]}), path)
    packed = tmp_path / f"a.parquet{packing}"
    packed.write_bytes(PACK[packing](path.read_bytes()))
    assert values(packed, ["text", "tags"]) == [
        {"text": "a", "tags": ["x"]},
        {"text": "b", "tags": ["y", "z"]},
    ]
    assert [row.where for row in read_table(packed, ["text"])][1] == f"{packed}: row 2"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs", "Cc"]))] * 2),  # controls tell encodings
        min_size=1,
    )
)
def test_what_is_written_is_read(tmp_path, cells):
    # Line ends that only some programs know (U+2028, form feed) are letters like others.
    expected = [{"a": a, "b": b} for a, b in cells]
    tsv = write(tmp_path, "a.tsv", "".join(f"{a}\t{b}\n" for a, b in [("a", "b"), *cells]))
    assert values(tsv, ["a", "b"]) == expected
    csv = "".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in pair) + "\n" for pair in [("a", "b"), *cells]
    )
    assert values(write(tmp_path, "a.csv", csv), ["a"]) == expected
    lines = "".join(json.dumps(record) + "\n" for record in expected)
    for suffix in (suffix for suffix, kind in KINDS.items() if kind == "jsonl"):
        assert values(write(tmp_path, f"a{suffix}", lines), ["a"]) == expected


def test_quotes_are_letters_in_tsv_and_quotes_in_csv(tmp_path):
    assert values(write(tmp_path, "a.tsv", 'a\n"x, y\n'), ["a"]) == [{"a": '"x, y'}]
    csv = list(
        read_table(write(tmp_path, "a.csv", 'a,b\n"x, ""y""\nz",1\n\n'.replace("\n\n", "\nu,2\n")), ["a"])
    )
    assert [(row.number, row.values) for row in csv] == [
        (3, {"a": 'x, "y"\nz', "b": "1"}),
        (4, {"a": "u", "b": "2"}),
    ]


def test_a_blank_line_between_rows_is_an_empty_text_where_there_is_one_column(tmp_path):
    for name in ("a.tsv", "a.csv"):
        text = "\na\nx\n\ny\n\n  \n"
        assert values(write(tmp_path, name, text), ["a"]) == [{"a": "x"}, {"a": ""}, {"a": "y"}]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
def test_blank_lines_are_no_rows_and_errors_count_them(tmp_path, name):
    lines = {
        "a.tsv": ["a\tb", "x\ty", "\t", "z\tu"],
        "a.csv": ["a,b", "x,y", '"",""', "z,u"],
        "a.jsonl": ["", '{"a": "x"}', '{"a": ""}', '{"a": "z"}'],
    }[name]
    path = write(tmp_path, name, "\n\n".join(lines) + "\n\n \r\n\n")
    assert [(row.number, row.values["a"]) for row in read_table(path, ["a"])] == [(3, "x"), (5, ""), (7, "z")]
    path.write_text(path.read_text().rstrip() + "\n\nbad")
    with pytest.raises(InputError, match=f"{name}: line 9: "):
        values(path, ["a"])


def test_a_field_of_csv_has_any_size(tmp_path):
    text = "x " * (1 << 18)
    assert values(write(tmp_path, "a.csv", f'a,b\n"{text}",1\n'), ["a"])[0]["a"] == text


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named(tmp_path, name, packing, encoding):
    path = tmp_path / f"{name}{packing}"
    path.write_bytes(PACK[packing]("a\tb\n1\t2\n".encode(encoding)))
    with pytest.raises(InputError, match=f"{name}{packing}: .*UTF-16.*; convert it to UTF-8 .iconv"):
        values(path, ["a"])


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.tsv", "", "a.tsv: empty"),
        ("a.tsv", "b\tc\n1\t2\n", "a.tsv: no column 'a'; there are b, c"),
        ("a.tsv", "a\ta\n1\t2\n", "a.tsv: more than one column 'a'"),
        ("a.tsv", "a\tb\n1\t2\n1\n", r"a.tsv: line 3: 1 column where 2 belong \(a, b\)"),
        ("a.tsv", "a\tb\n1\t2\t3\n", "a.tsv: line 2: 3 columns where 2 belong"),
        ("a.tsv", "a\n\0\n", "a.tsv: line 2: binary"),
        ("a.csv", "a,b\n1\n", "a.csv: line 2: 1 column where 2 belong"),
        ("a.csv", 'a\n"x\ny\n', "a.csv: line 3: unexpected end of data"),
        ("a.csv", 'a\n"x"y\n', "a.csv: line 2: .*; mend the quotes"),
        ("a.jsonl", '{"a": 1}\n{"b": 1, "c": 2}\n', "a.jsonl: line 2: no column 'a'; there are b, c"),
        ("a.jsonl", '{"a": 1}\n[1]\n', "a.jsonl: line 2: no JSON object"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "a.jsonl: line 2: not JSON"),
        ("a.parquet", "PAR1, or not", "a.parquet: not a sound .parquet file"),
        ("a.xlsx", "a", "a.xlsx: a file with columns ends in .tsv"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_by_file_and_number(tmp_path, name, text, problem):
    with pytest.raises(InputError, match=problem) as caught:
        values(write(tmp_path, name, text), ["a"])
    assert "\n" not in str(caught.value)


def test_a_missing_column_of_parquet_is_named(tmp_path):
    pq.write_table(pa.table({"b": [1], "c": [2]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a.parquet: no column 'a'; there are b, c"):
        values(tmp_path / "a.parquet", ["a"])


def test_a_table_whose_strings_are_no_utf8_is_not_called_damaged(tmp_path):
    texts = pa.array([b"x\xffy"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"a": texts}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a.parquet: holds text that is not UTF-8 .*; convert it"):
        values(tmp_path / "a.parquet", ["a"])


def test_bytes_that_are_no_text_are_refused_by_place(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"a\nx\xffy\n")
    with pytest.raises(InputError, match=r"a.tsv: line 2: not UTF-8 \(byte 0xff at 1\)"):
        list(read_lines(tmp_path / "a.tsv"))


def test_a_damaged_packed_file_is_named(tmp_path):
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"some lines\n" * 99)[:-9])
    with pytest.raises(InputError, match="a.tsv.gz: cannot be read to its end"):
        list(read_lines(tmp_path / "a.tsv.gz"))


def test_a_packed_empty_file_has_no_columns(tmp_path):
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b""))
    assert list(read_lines(tmp_path / "a.tsv.gz")) == []
    with pytest.raises(InputError, match="a.tsv.gz: no column 'a'"):
        values(tmp_path / "a.tsv.gz", ["a"])


def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("span_electra.text.inputs.BOMB_LEAST", 1 << 20)
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress((b"x" * 4095 + b"\n") * 1000))
    with pytest.raises(InputError, match="unpacks to more than 250 times its size"):
        list(read_lines(tmp_path / "a.tsv.gz"))


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LONGEST_LINE", 1 << 20)
    with pytest.raises(InputError, match="a.tsv: line 2: longer than 1 MiB"):
        list(read_lines(write(tmp_path, "a.tsv", "a\n" + "x" * (3 << 20))))


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="a folder, not a file"):
        list(read_lines(tmp_path))
    with pytest.raises(InputError, match="b.tsv: no such file"):
        list(read_lines(tmp_path / "b.tsv"))


def test_headerless_rows_have_the_columns_asked_for(tmp_path):
    path = write(tmp_path, "a.tsv", "1\tx\n2\t\n")
    assert [row.values for row in read_headerless(path, ("uid", "text"))] == [
        {"uid": "1", "text": "x"},
        {"uid": "2", "text": ""},
    ]
    with pytest.raises(InputError, match=r"line 1: 2 columns where 3 belong \(uid, label, text\).*header"):
        list(read_headerless(path, ("uid", "label", "text")))


def test_json_lines_hold_any_value(tmp_path):
    lines = write(tmp_path, "a.jsonl", '["a\u2028\x85"]\n3')  # which end no line of JSON
    assert list(read_json_lines(lines)) == [(1, ["a\u2028\x85"]), (2, 3)]
    with pytest.raises(InputError, match="a.jsonl: line 1: not JSON .*recursion"):
        list(read_json_lines(write(tmp_path, "a.jsonl", "[" * 99999)))
