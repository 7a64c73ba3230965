"""Finding and replacing wrong words, with networks made by hand.

Run: pytest tests/inference/test_correction.py
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_examples import by_hand, frequencies, id_of, spotter, vocabulary_of_words

from span_electra.inference.correction import (
    NATS_AN_EDIT,
    Candidates,
    Suspect,
    correct,
    detect,
    hide_suspects,
    in_pieces,
    one_edit_away,
    rank,
    suspects,
)
from span_electra.text.token_spans import read_lines

letters = st.text("catdogs", min_size=1, max_size=7)
TABLE = Candidates(vocabulary_of_words())
# What is not spelt with words is spelt with letters, and those the spotter takes for wrong.
SUSPICIOUS = {**{f"##{letter}": 2.0 for letter in "abcdefghijklmnopqrstuvwxyz"}}


def slow_distance(one, two):
    """Optimal string alignment as the textbook has it."""
    table = [[max(i, j) if 0 in (i, j) else 0 for j in range(len(two) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(two) + 1):
            table[i][j] = min(
                table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (one[i - 1] != two[j - 1])
            )
            if i > 1 and j > 1 and one[i - 1] == two[j - 2] and one[i - 2] == two[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


@settings(deadline=None)
@given(letters)
def test_distances_are_the_textbooks(word):
    assert TABLE.distances(word).tolist() == [slow_distance(known, word) for known in TABLE.words]
    assert TABLE.distances(word, 2).tolist() == [min(slow_distance(known, word), 3) for known in TABLE.words]
    assert {"the", "cats", "un"} <= set(TABLE.words) and "do" not in TABLE.words


def test_candidates_weigh_the_place_against_the_letters():
    log_V = np.full(vocabulary_of_words().size, -3.0)
    assert rank(TABLE, "Teh", log_V, True, True, 1) == ["The"]
    log_V[vocabulary_of_words().tokenizer.token_to_id("cats")] = 30.0
    assert rank(TABLE, "cast", log_V, True, True, 2) == ["cats", "cat"]
    assert rank(TABLE, "catt", log_V, True, True, 1) == ["cats"], "what fits the place wins among equals"
    assert rank(TABLE, "teh", log_V, True, True, 9) == ["the"], "what shares half the letters is another word"


def test_both_must_agree():
    texts = ["Teh cat, slepe on (teh) mat", "", "the cat"]
    networks = by_hand(frequencies({}), spotter(SUSPICIOUS))
    found = correct(networks, TABLE, texts, 0.5, 3, 8)
    assert [line.corrected for line in found] == ["The cat, sleep on (the) mat", "", "the cat"]
    assert [(change.before, change.after) for change in found[0].changes] == [
        ("Teh", "The"),
        ("slepe", "sleep"),
        ("teh", "the"),
    ]
    # A discriminator that calls every proposal wrong too leaves the words as they are.
    stubborn = by_hand(frequencies({}), spotter(SUSPICIOUS, usual=2.0))
    assert [line.corrected for line in correct(stubborn, TABLE, texts, 0.5, 3, 8)] == texts


def test_a_known_word_changes_on_strong_evidence_only():
    """'cat' looks wrong and 'cats' right, yet the generator has to prefer it by far."""
    for ahead, wanted in ((NATS_AN_EDIT - 4.0, "the cat"), (30.0, "the cats")):
        networks = by_hand(frequencies({"cat": 0.0, "cats": ahead}), spotter({"cat": 0.5}, usual=-0.5))
        assert correct(networks, TABLE, ["the cat"], 0.5, 3, 8)[0].corrected == wanted


def test_the_typed_word_counts_with_all_its_tokens():
    """Spelt with letters that the generator expects, 'catt' is no slip; else it is."""
    networks = by_hand(frequencies({"cat": 9.0, "##t": 30.0}), spotter({"##t": 1.0}))
    assert correct(networks, TABLE, ["the catt"], 0.5, 3, 8)[0].corrected == "the catt"
    networks = by_hand(frequencies({"cat": 9.0}), spotter({"##t": 1.0}))
    assert correct(networks, TABLE, ["the catt"], 0.5, 3, 8)[0].corrected == "the cat"


def test_masks_stand_where_the_suspects_did():
    found = [Suspect(0, 0, 0, 2, 0, 2), Suspect(0, 2, 5, 6, 3, 4)]
    hidden = hide_suspects(np.array([10, 11, 12, 13, 14]), found, [1, 2], 3)
    assert hidden.ids_T.tolist() == [3, 12, 3, 3, 14] and hidden.starts == [0, 2]


def test_words_change_their_length_without_hurting_their_neighbours():
    networks = by_hand(frequencies({}), spotter(SUSPICIOUS))
    assert correct(networks, TABLE, ["caat sleepps, doggs!"], 0.5, 1, 8)[0].corrected == "cat sleeps, dogs!"


def test_words_of_several_tokens_are_seen_at_as_many_masks():
    networks = by_hand(frequencies({"un": 0.0, "##d": -2.0}))
    lines = read_lines(networks.vocabulary, ["the undd", "the un"])
    found = [suspect for number, line in enumerate(lines) for suspect in suspects(number, line, [1])]
    ((number, scored),) = in_pieces(networks, lines, found, 2, 8)  # what has no more than two is left out
    tokens = {
        word: networks.vocabulary.tokenizer.encode(word, add_special_tokens=False).tokens
        for word, _ in scored
    }
    assert (
        number == 0 and tokens["und"] == ["un", "##d"] and {len(pieces) for pieces in tokens.values()} == {2}
    )
    log_V = frequencies({"un": 0.0, "##d": -2.0}).answer(torch.zeros(1)).log_softmax(-1)
    expected = float(log_V[id_of("un")] + log_V[id_of("##d")]) - NATS_AN_EDIT
    assert dict(scored)["und"] == pytest.approx(expected, abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.text("abcé", min_size=1, max_size=6))
def test_one_edit_makes_all_that_is_one_edit_away(word):
    made = one_edit_away(word)
    assert {slow_distance(word, other) for other in made} == {1} and len(set(made)) == len(made)
    # Letters less, exchanged, other and more, but for those that two ways give and the empty word.
    assert {word + "q", "q" + word, word[:-1] + "q"} <= set(made) and ("" not in made)


def test_a_later_candidate_is_taken_where_the_first_is_found_wrong():
    networks = by_hand(frequencies({"cats": -6.0}), spotter(SUSPICIOUS | {"cat": 3.0}))
    assert correct(networks, TABLE, ["the caat"], 0.5, 3, 8)[0].corrected == "the cats"
    assert correct(networks, TABLE, ["the caat"], 0.5, 1, 8)[0].corrected == "the caat"


def test_masks_and_marks_are_left_alone():
    networks = by_hand(frequencies({}), spotter({"[MASK]": 9.0, ".": 9.0}))
    assert correct(networks, TABLE, ["the [MASK] ."], 0.5, 3, 8)[0].corrected == "the [MASK] ."
    spelled = by_hand(frequencies({}), spotter(SUSPICIOUS))
    assert correct(spelled, TABLE, ["<b>teh</b> teh"], 0.5, 3, 8)[0].corrected == "<b>teh</b> the"


def test_long_lines_are_corrected_to_the_end():
    networks = by_hand(frequencies({}), spotter(SUSPICIOUS))
    assert correct(networks, TABLE, ["teh " * 300], 0.5, 3, 8)[0].corrected == "the " * 300


def test_a_word_is_wrong_if_any_of_its_tokens_is():
    found = detect(
        by_hand(discriminator=spotter({"##do": 1.0, "cat": 0.0}, usual=-2.0)), ["undo cat  the", ""], 8
    )
    assert found[0].words == ["undo", "cat", "the"]
    do, others = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2))
    assert found[0].probability == pytest.approx([1 - (1 - do) * (1 - others), 0.5, others])
    assert found[0].spans == [(0, 4), (5, 8), (10, 13)]
    assert found[1].words == []
