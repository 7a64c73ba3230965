"""Laws of clean text: lines, documents, marks and bytes that are no text.

Run: pytest tests/text/test_clean.py
"""

import csv
import io
import itertools
import json

import pytest

from span_electra.data_config import TextConfig
from span_electra.errors import InputError
from span_electra.text.clean import Replaced, read_block, replaced_in
from span_electra.text.corpus import cut_blocks
from span_electra.text.inputs import SEGMENT, find_inputs


def read(paths, chunk_size=1000, **options):
    return [read_block(block, TextConfig(**options)) for block in cut_blocks(find_inputs(paths), chunk_size)]


def test_line_breaks_in_a_row_stay_and_its_blank_lines_go(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "one\r\n\n two\n"}) + "\r\n" + '{"text": null}\n')
    assert read(path) == [b"one\n two\n\n"]


def test_each_file_is_a_document_of_its_own(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    assert read(tmp_path) == [b"a\n\nb\n\nc\n"]


def test_byte_order_mark_and_carriage_returns_go(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert read(path) == [b"one\ntwo\n"]


def test_replace_goes_on_where_strict_stops(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"ok\nb\xff\x80d\n")
    assert read(path, errors="replace") == ["ok\nb\ufffd\ufffdd\n".encode()]


def test_what_was_replaced_is_counted_with_the_file_that_has_most_of_it(tmp_path):
    for name, wrong in (("a", 1), ("b", 3), ("c", 0)):
        (tmp_path / f"{name}.txt").write_bytes(b"sound\n" * 9 + b"\xff\n" * wrong)
    for errors, chunk_size in itertools.product(("strict", "replace"), (4, 1000)):
        reading = TextConfig(errors=errors)
        replaced = Replaced(reading)
        for block in cut_blocks(find_inputs(tmp_path), chunk_size):
            if errors == "replace":
                replaced.add(block, replaced_in(read_block(block, reading), reading))
        assert replaced_in("\ufffd".encode(), reading) == (errors == "replace")
        told = [note for note in replaced.notes() if note.startswith("4 characters are U+FFFD")]
        assert len(told) == (errors == "replace") and all(note.endswith("b.txt") for note in told)


@pytest.mark.parametrize("before", [0, SEGMENT], ids=["first", "later"])
def test_a_nul_is_mended_wherever_it_stands(tmp_path, before):
    # A character that goes on in the next segment is no fault of the first one's.
    begin = b"\n" * before + b"a\0b"
    data = begin + b"x" * (-len(begin) % SEGMENT - 1) + "é\n".encode()
    (tmp_path / "a.txt").write_bytes(data)
    read_all = b"".join(read(tmp_path / "a.txt", errors="replace"))
    assert read_all == data.replace(b"\0", "\ufffd".encode())


def table(rows, **quoting):
    written = io.StringIO()
    csv.writer(written, delimiter="\t", lineterminator="\n", **quoting).writerows([("text", "id"), *rows])
    return written.getvalue()


@pytest.mark.parametrize("text", ['He said "hi" to her', "two\nlines here", "a\ttab", '"', 'say "no"'])
@pytest.mark.parametrize("last", [False, True])
def test_a_table_with_quoting_is_refused_and_not_misread(tmp_path, text, last):
    path, rows = tmp_path / "a.tsv", [("plain", 1), (text, 2), ("more", 3)]
    written = table(rows)
    if last:  # the text's column behind the other
        if "\t" in text:
            return  # its first part is all that a reader without quoting can know
        written = "id\ttext\n" + table([(two, one) for one, two in rows]).split("\n", 1)[1]
    path.write_text(written)
    with pytest.raises(InputError, match="a.tsv: row [34] is of a table with quoting.*save it as .jsonl"):
        read(path)


def test_quotation_marks_of_a_table_without_quoting_are_text(tmp_path):
    texts = [
        '"I am here.',
        'Come in," he said.',
        '"Who?"',
        '"A" and "B"',
        '""',
        '"',
        "''",
        '5" tall',
        '"" x ""',
    ]
    (tmp_path / "a.tsv").write_text("text\tid\n" + "".join(f"{text}\t1\n" for text in texts))
    (tmp_path / "b.tsv").write_text("id\ttext\n" + "".join(f"1\t{text}\n" for text in texts))
    for name in "ab":
        assert b"".join(read(tmp_path / f"{name}.tsv")).decode().split("\n\n")[:-1] == texts
