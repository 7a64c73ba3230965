"""Rows that train and rows that are held out: all, by limits and by splits, of one file or several.

Run: pytest tests/pretraining/test_data.py
"""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from feature_examples import make
from run_examples import small_run, write_rows

from span_electra.data_config import LoaderConfig, MaskingConfig
from span_electra.errors import InputError
from span_electra.pretraining.arguments import TrainDataArguments
from span_electra.pretraining.data import (
    commonest_share,
    open_data,
    settings_of_text,
    settings_unread,
    sized_model,
    token_counts,
)


@pytest.fixture
def two(tmp_path):
    files = write_rows(tmp_path / "a.arrow", rows=20), write_rows(tmp_path / "b.arrow", rows=30, seed=1)
    return replace(small_run(files[0], tmp_path / "run"), train_features=files)


def test_one_limit_and_split_hold_for_all_files_together(two):
    data = open_data(replace(two, train_rows=(40,), valid_split=(0.25,)))
    assert len(data.train_rows) == 30 and len(data.valid_rows) == 10
    assert sorted([*data.train_rows, *data.valid_rows]) == list(range(40))


def test_each_file_has_its_own_limit_and_split(two):
    data = open_data(replace(two, train_rows=(10, 0), valid_split=(0.0, 3)))
    rows = np.concatenate([data.train_rows, data.valid_rows])
    assert sorted(rows) == [*range(10), *range(20, 50)]
    assert len(data.valid_rows) == 3 and data.valid_rows.min() >= 20
    with pytest.raises(InputError, match="train_occur: 3 values for 2 files"):
        open_data(replace(two, train_rows=(1, 2, 3)))
    with pytest.raises(InputError, match="valid_occur: 3 values for 2 files"):
        open_data(replace(two, valid_features=two.train_features, valid_rows=(1, 2, 3)))


def test_a_limit_of_validation_rows_without_a_file_of_them_is_told(two):
    with pytest.warns(UserWarning, match="valid_occur: counts the rows of a --valid_file.*name one"):
        open_data(replace(two, valid_rows=(5,)))
    first, second = two.train_features
    open_data(replace(two, train_features=(first,), valid_features=(second,), valid_rows=(5,)))


@pytest.mark.parametrize("fixed", [{}, {"init_from": "published"}, {"resume_from": "run"}])
def test_rows_longer_than_all_positions_are_refused_with_what_can_be_done(two, fixed):
    short = replace(two, model=replace(two.model, max_position_embeddings=12), **fixed)
    way_out = "max_seq_len 24; " + ("" if fixed else "raise it or ") + "make shorter .* --max_seq_len 12"
    with pytest.raises(InputError, match=f"max_position_embeddings: 12 is less .*{way_out}"):
        open_data(short)


def test_held_out_rows_that_are_learned_from_are_told(two, tmp_path):
    first, second = two.train_features
    open_data(replace(two, train_features=(first,), valid_features=(second,)))
    with pytest.warns(UserWarning, match=f"^{second}: in the training features and in those of --valid_file"):
        open_data(replace(two, valid_features=(second,)))
    make(tmp_path / "one.arrow"), make(tmp_path / "other.arrow", seed=1)  # of the same text
    files = {"train_features": (f"{tmp_path}/one.arrow",), "valid_features": (f"{tmp_path}/other.arrow",)}
    model = replace(two.model, max_position_embeddings=64)
    with pytest.warns(UserWarning, match="^text.txt: in the training features.*numbers flatter"):
        open_data(replace(two, model=model, **files))


def test_a_file_that_is_named_twice_is_read_once_and_has_one_value(two):
    first, second = two.train_features
    data = open_data(replace(two, train_features=(first, second, first), valid_split=(0.0,)))
    assert len(data.train_rows) == data.train.rows == 50
    with pytest.raises(InputError, match=f"^{first}: named twice, where each file has a value; name it once"):
        open_data(replace(two, train_features=(first, first), train_rows=(10, 20)))


def test_one_number_for_all_files_does_not_stand_beside_values_for_each(two):
    data = open_data(replace(two, train_rows=(10, 20), valid_split=(0.1,)))  # a share of all is one of each
    assert len(data.valid_rows) == 3
    with pytest.raises(InputError, match="train_occur: one count .10., but valid_split has one value for"):
        open_data(replace(two, train_rows=(10,), valid_split=(0.1, 0.2)))
    with pytest.raises(InputError, match="valid_split: one count .5., but train_occur has one value for"):
        open_data(replace(two, train_rows=(10, 20), valid_split=(5.0,)))


def test_the_commonest_share_is_that_of_content_tokens(two):
    assert 1 / 60 <= commonest_share(open_data(two)) < 0.05  # 60 words, about as frequent


def test_features_that_hide_nothing_are_told(tmp_path):
    short = write_rows(tmp_path / "short.arrow", longest=4)  # a fifth of two tokens rounds to none
    with pytest.warns(UserWarning, match="short.arrow: hides no token.*--mask_ratio"):
        open_data(small_run(short, tmp_path / "run"))
    scheduled = LoaderConfig(8, masking_schedule=["0: mask_ratio=0.5"])
    open_data(small_run(short, tmp_path / "run", loader=scheduled))  # masks them in a way of its own


@pytest.mark.filterwarnings("ignore:.*other rows or masks")
def test_held_out_rows_that_hide_nothing_are_told(tmp_path):
    rows = write_rows(tmp_path / "rows.arrow")
    short = write_rows(tmp_path / "short.arrow", longest=4)
    settings = replace(small_run(rows, tmp_path / "run"), valid_features=(short,))
    with pytest.warns(UserWarning, match="short.arrow: 60 held-out rows too short to hide a token"):
        open_data(settings)
    # By the masking that validates them, be it another's than their file's.
    hidden = LoaderConfig(8, masking_schedule=["0: mask_ratio=0.1", "0.5: mask_ratio=0.5"])
    open_data(replace(settings, train_loader=hidden))
    none = replace(hidden, masking_schedule=["0: mask_ratio=0.5", "0.5: mask_ratio=0.01"])
    with pytest.warns(UserWarning, match="60 held-out rows too short"):
        open_data(replace(settings, train_loader=none))


@pytest.mark.parametrize(
    "made, words",
    [
        ({}, None),
        ({"longest": 30}, "max_seq_len 30 .training 40."),
        ({"masking": MaskingConfig(mask_ratio=0.3, max_span_len=5)}, "mask_ratio 0.3 .training 0.2., max_s"),
    ],
)
def test_held_out_features_of_other_rows_or_masks_are_told_where_these_count(two, tmp_path, made, words):
    make(tmp_path / "one.arrow"), make(tmp_path / "other.arrow", seed=1, **made)
    files = {"train_features": (f"{tmp_path}/one.arrow",), "valid_features": (f"{tmp_path}/other.arrow",)}
    settings = replace(two, model=replace(two.model, max_position_embeddings=64), **files)

    def told(settings):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            open_data(settings)
        said = [str(warning.message) for warning in caught]
        return [line for line in said if "other rows or masks" in line]

    said = told(settings)
    assert len(said) == (words is not None)
    assert all(re.search(f"other.arrow: made with {words}", line) for line in said)
    # Masked by the schedule, theirs do not count.
    scheduled = LoaderConfig(8, masking_schedule=["0: mask_ratio=0.1", "0.5: "])
    assert len(told(replace(settings, train_loader=scheduled))) == ("longest" in made)


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"mask_ratio": 0.3}, ["mask_ratio: 0.3 changes nothing", "made with 0.2", "'0: mask_ratio=0.3'"]),
        ({"max_seq_len": 9}, ["max_seq_len: 9 changes nothing", "create_feature_SE.py --max_seq_len 9"]),
        ({"raw_text_dir": "data", "vocab_file": "v"}, ["raw_text_dir, vocab_file: not read"]),
        ({}, []),
    ],
)
def test_what_made_features_cannot_give_is_said(two, asked, words):
    said = settings_of_text(TrainDataArguments(**asked), open_data(two).train)
    assert len(said) == bool(words) and all(word in said[0] for word in words), said


@pytest.mark.parametrize(
    "schedule, said",
    [
        ([], []),
        (["0: mask_ratio=0.3", "0.5: mask_ratio=0.1"], ["mask_ratio"]),
        (["0: mask_ratio=0.3", "0.5: max_span_len=1"], []),  # until the end one of the two is asked for
        (["0: mask_ratio=0.3 max_span_len=1 geometric_p=0.2"], ["mask_ratio", "max_span_len"]),
    ],
)
def test_masks_that_every_phase_of_a_schedule_says_itself_are_told(schedule, said):
    """--raw_text_dir X --mask_ratio 0.4 trained by the schedule of configs/tiny.json without a word."""
    asked = TrainDataArguments(raw_text_dir="x", mask_ratio=0.4, max_span_len=5, masking_schedule=schedule)
    assert [line.partition(":")[0] for line in settings_unread(asked, [])] == said


def test_a_model_without_a_size_takes_the_vocabularys(two):
    data = open_data(two)
    assert sized_model(two.model, data).vocab_size == data.train.header.vocab_size == 65


def test_counts_are_of_content_in_the_rows_that_train(two):
    data = open_data(replace(two, train_rows=(40,), valid_split=(0.25,)))
    counts_V, header = token_counts(data, rows=10_000), data.train.header
    lengths_R = data.train.lengths_R[data.train_rows]
    assert counts_V.sum() == lengths_R.sum() - 2 * len(lengths_R)
    assert not counts_V[[header.cls_id, header.sep_id, header.pad_id]].any()
    assert len(counts_V) == header.vocab_size
