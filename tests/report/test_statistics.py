"""Laws of the data's statistics: every row counted, spans by the law they were drawn by.

Run: pytest tests/report/test_statistics.py
"""

import json

import numpy as np
import pytest
from feature_examples import VOCABULARY, build, make

from span_electra.data_config import MaskingConfig
from span_electra.features.store import open_features
from span_electra.report.statistics import UsedRows, content_of, describe_data, write_statistics
from span_electra.text.vocabulary import assemble
from span_electra.text.word_starts import byte_letters


@pytest.fixture
def features(tmp_path):
    make(tmp_path / "train", rows=900)
    return open_features(tmp_path / "train")


def every(features):
    return UsedRows(features, np.arange(features.rows))


def test_limits_and_splits_count_the_rows_that_are_used(features):
    """A limit, or a split, leaves rows of the file out: no number of the page may count them."""
    rows_R = np.arange(3, 203)
    found = describe_data(UsedRows(features, rows_R), UsedRows(features, np.arange(3)))
    train, valid = found["splits"]["train"], found["splits"]["valid"]
    assert (train["rows"], train["rows_in_files"], valid["rows"]) == (200, features.rows, 3)
    assert train["tokens"] == features.lengths_R[rows_R].sum()
    assert train["longest"] == features.lengths_R[rows_R].max() and valid["longest"] <= valid["max_seq_len"]
    assert train["masked"] == features.spans(rows_R).lengths_S.sum()
    assert sum(found["lengths"]["counts"]) == 200 and found["spans"]["rows"] == 200


def test_every_row_is_in_the_histogram(features):
    found = describe_data(every(features))["lengths"]
    assert sum(found["counts"]) == features.rows and len(found["edges"]) == len(found["counts"]) + 1
    for number, count in enumerate(found["counts"]):
        inside = (features.lengths_R >= found["edges"][number]) & (
            features.lengths_R < found["edges"][number + 1]
        )
        assert count == inside.sum()


def test_content_is_the_text_without_its_frame(features):
    rows_N = np.array([3, 800])
    whole = [features.gather([row], int(features.lengths_R[row]))[0] for row in rows_N]
    assert content_of(features, rows_N).tolist() == [*whole[0][1:-1], *whole[1][1:-1]]


def test_span_lengths_are_counted_in_whole_words(features):
    """By hand: a span has a word for its first token and for every later one that starts a word."""
    rows_N, words = np.arange(features.rows), []
    spans, begin = features.spans(rows_N), 0
    for row, end in enumerate(spans.row_ends_R):
        ids_L = features.gather([row], int(features.lengths_R[row]))[0]
        for start, length in zip(spans.starts_S[begin:end], spans.lengths_S[begin:end], strict=True):
            words.append(1 + int(VOCABULARY.starts_word_V[ids_L[start + 1 : start + length]].sum()))
        begin = end
    found = describe_data(every(features))["spans"]
    assert found["mean_words"] == pytest.approx(np.mean(words))
    assert found["shares"][:3] == pytest.approx([np.mean(np.array(words) == number) for number in (1, 2, 3)])
    assert sum(found["shares"]) == pytest.approx(1) == sum(found["law"])


@pytest.mark.parametrize("whole_words", [True, False])
def test_a_runs_own_law_is_told_and_not_the_files(features, whole_words):
    law = MaskingConfig(0.1, max_span_len=3, geometric_p=0.5, whole_words=whole_words)
    found = describe_data(UsedRows(features, np.arange(features.rows), law))
    assert found["splits"]["train"]["mask_ratio"] == 0.1
    assert found["splits"]["train"]["masked"] < 0.7 * features.header.masked  # which hides .2
    assert found["spans"]["unit"] == ("whole words" if whole_words else "tokens")
    # The last span of a row is cut to its budget, which makes many of so few tokens shorter than the law.
    assert len(found["spans"]["shares"]) == 3 and found["spans"]["geometric_p"] == 0.5
    assert sum(found["spans"]["shares"]) == pytest.approx(1)


def test_the_vocabularys_numbers(features):
    found = describe_data(every(features))["vocabulary"]
    assert (found["size"], found["type"]) == (VOCABULARY.size, "BERT")
    assert found["unknown"] == 0 and 0 < found["commonest_share"] < 0.1 and found["tokens_a_word"] > 1


def test_where_no_blank_stands_between_words_every_character_is_one(tmp_path):
    tokens = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", *byte_letters()]
    vocabulary = assemble("BPE", {token: number for number, token in enumerate(tokens)})
    (tmp_path / "a.txt").write_text("我爱你\n" * 200, encoding="utf-8")
    build(tmp_path / "a.txt", vocabulary, tmp_path / "f.arrow")
    # A line is a blank, a word to itself, and three characters of three tokens each.
    found = describe_data(every(open_features(tmp_path / "f.arrow")))["vocabulary"]
    assert found["tokens_a_word"] == pytest.approx(10 / 4, rel=0.05)  # rows begin anywhere


def test_it_is_written_as_json_with_both_splits(features, tmp_path):
    write_statistics(tmp_path, every(features), every(features))
    splits = json.loads((tmp_path / "statistics.json").read_text())["splits"]
    assert splits["train"] == splits["valid"] and splits["train"]["rows"] == features.rows
    assert 0 < splits["train"]["fill"] < 1


def test_few_rows_and_no_spans_are_no_trouble(tmp_path):
    make(tmp_path / "one", rows=1, batches=1, longest=3)
    found = describe_data(every(open_features(tmp_path / "one")))
    assert found["spans"]["mean_words"] == 0 and found["lengths"]["counts"] == [0, 0, 1]
