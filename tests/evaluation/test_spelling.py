"""Spelling errors found without fine-tuning. Run: pytest tests/evaluation/test_spelling.py"""

import numpy as np
import pytest
from network_examples import by_hand, spotter

from span_electra.errors import InputError
from span_electra.evaluation.spelling import find_sets, read_set, score_spelling, word_probabilities


def write_set(folder, lines, labels):
    folder.mkdir(parents=True)
    (folder / "corrupt.txt").write_text("".join(line + "\n" for line in lines))
    (folder / "correct.txt").write_text("".join(label + "\n" for label in labels))
    return folder


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_words_get_what_their_tokens_say():
    networks = by_hand(discriminator=spotter({"cats": 3.0, "##do": 1.0}, usual=-2.0))
    found = word_probabilities(networks, ["the cats", "", "undo " * 40])
    assert found["max"][:2] == pytest.approx([sigmoid(-2), sigmoid(3)])
    assert len(found["max"]) == 42, "two words, none, and a line longer than the model reads"
    assert found["max"][2:] == pytest.approx(np.full(40, sigmoid(1)))
    assert found["mean"][2:] == pytest.approx(np.full(40, (sigmoid(1) + sigmoid(-2)) / 2))


def test_a_set_is_scored_by_hand_with_the_threshold_of_dev(tmp_path):
    # In dev only what is at least as suspicious as 'dogs' is wrong; in test one of three such words is right.
    write_set(tmp_path / "dev" / "easy", ["the cats dog dogs"], ["0 1 0 1"])
    write_set(tmp_path / "test" / "easy", ["cats dogs the", "dog cats"], ["1 0 0", "0 1"])
    networks = by_hand(discriminator=spotter({"cats": 3.0, "dogs": 2.0, "dog": -1.0}))
    row = score_spelling(networks, tmp_path)["easy"]
    assert (row["precision"], row["recall"], row["F1"]) == pytest.approx((2 / 3, 1.0, 0.8))
    assert row["threshold"] == pytest.approx((sigmoid(2) + sigmoid(-1)) / 2)
    assert (row["words"], row["wrong"], row["area under curve"]) == (5, 0.4, 1.0)
    assert row["F1 of calling all wrong"] == pytest.approx(2 * 0.4 / 1.4)


def test_sets_are_found_and_other_tasks_passed_over(tmp_path):
    for split in ("dev", "test"):
        write_set(tmp_path / split / "words" / "a", ["x"], ["1"])
        write_set(tmp_path / split / "texts" / "a", ["x"], ["clean text"])
    write_set(tmp_path / "test" / "words" / "b", ["x"], ["1"])
    sets = find_sets(tmp_path)
    assert sorted(sets) == ["words/a", "words/b"]
    assert sets["words/b"][0] == tmp_path / "dev" / "words" / "a"


def test_lines_that_windows_wrote_end_where_others_do(tmp_path):
    lines, labels = ["teh cat", "", "the cat"], ["1 0", "", "0 0"]
    same = read_set(write_set(tmp_path / "unix", lines, labels))
    ended = ([line + "\r" for line in texts] for texts in (lines, labels))
    other = read_set(write_set(tmp_path / "windows", *ended))
    assert other.lines == same.lines == lines and other.wrong_W.tolist() == same.wrong_W.tolist()


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(InputError, match="no set there"):
        find_sets(tmp_path)
    with pytest.raises(InputError, match="line 2 is no 0 or 1 for each of 2 words"):
        read_set(write_set(tmp_path / "a", ["x", "y z"], ["1", "0"]))
    with pytest.raises(InputError, match="correct.txt: ends before .*corrupt.txt; both need as many"):
        read_set(write_set(tmp_path / "b", ["x", "y z"], ["1"]))
