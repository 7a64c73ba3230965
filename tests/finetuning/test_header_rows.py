"""Which first rows are headers. Run: pytest tests/finetuning/test_header_rows.py"""

import pytest
from task_examples import read, write

from span_electra.errors import InputError
from span_electra.finetuning.header_rows import looks_like_header, refuse_header

HEADERS = (
    "id\tlabel\tsentence", "uid\tlabel\ttext", "idx\tsentence1\tsentence2\tlabel", "ID\tSentiment\tTweet",
    "sentence\tlabel\tidx", "id\tgold_label\tmy_column", "pairID\tpremise\thypothesis\tgold_label",
    "Quality\t#1 ID\t#1 String", "token\ttag", "word pos chunk ner", "textA\ttextB\tscore", "uid\ttext",
)  # fmt: skip
ROWS = (
    "1\tlabel\tA text.", "u1\tgood\tA warm and funny film.", "7\tquestion\tWhat is the label of the text",
    "1\t0\tsentence", "0\t1\tlabel text", "id7\tgood\tfine", "text NN", "Label O", "the\tlabel\tis",
    "\t\t", "1\ttext", "words\tcome",
)  # fmt: skip


@pytest.mark.parametrize("line", HEADERS)
def test_a_header_is_refused_with_the_way_out(line):
    fields = line.split("\t") if "\t" in line else line.split()
    with pytest.raises(InputError, match=r"a.tsv: line 1: looks like a header \(.*columns:.*remove the line"):
        refuse_header(fields, "a.tsv: line 1", [["7", "a text"], fields])


@pytest.mark.parametrize("line", ROWS)
def test_a_row_of_data_is_none(line):
    assert not looks_like_header(line.split("\t") if "\t" in line else line.split())


@pytest.mark.parametrize("line", HEADERS)
def test_what_stands_in_its_column_again_is_no_header(line):
    """`q-17 comment No comment` is a question's row, of the label `comment`."""
    fields = line.split("\t") if "\t" in line else line.split()
    for place, field in enumerate(fields):
        other = ["x"] * len(fields)
        other[place] = field
        refuse_header(fields, "a.tsv: line 1", [["y"] * len(fields)] * 20 + [other])
        with pytest.raises(InputError, match="further down"):
            refuse_header(fields, "a.tsv: line 1", [["y"] * len(fields)] * 200 + [other])


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (
            "SingleSenClassification",
            ["q-17\tcomment\tNo comment", "q-18\tquestion\tWhy?", "q-19\tcomment\tOh."],
        ),
        ("NER", ["Label tag", "of O", "", "a O", "word tag"]),
    ],
)
def test_files_whose_first_row_is_made_of_usual_names(kind, rows, tmp_path):
    found = read(write(tmp_path, "a.txt", "\n".join(rows) + "\n"), kind)
    assert found[0].texts[0] in ("No comment", "Label of")
    with pytest.raises(InputError, match="a.txt: line 1: looks like a header"):
        read(write(tmp_path, "a.txt", "\n".join(rows[:2]) + "\n"), kind)
