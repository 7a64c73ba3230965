"""Spelling noise: laws of labels, shares, edits and spaces. Run: pytest tests/text/test_noise.py"""

import json
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from span_electra.errors import InputError
from span_electra.text.letters import JOINERS, is_mark
from span_electra.text.noise import (
    EDITS,
    KINDS,
    NoiseConfig,
    corrupt_words,
    cut_core,
    edit_word,
    load_misspellings,
    sample_edit_count,
)

LIST = {
    "their": ["thier", "there"],
    "separate": ["seperate"],
    "a lot": ["alot"],
    "alot": ["a lot"],
    "English": ["english", "Englsh"],
    "don't": ["dont"],
}
ROW = '"Their" ENGLISH friends, 1973, don\'t live separate alot (nor our\u00a0cats) привет हिन्दी x - .'.split(
    " "
)
AGREES = (
    "a row's label no longer agrees with its text: a wrong word must differ from its original words, a right "
    "one must not; the training data would be mislabelled"
)


def noise(kind, **changes):
    return NoiseConfig(kind=kind, misspellings="given by hand", **changes)


def never_p(count, trials, share):
    """Whether a count is out of what a binomial law gives in a million tests."""
    return stats.binomtest(count, trials, share).pvalue < 1e-6


def check_laws(words, noisy):
    for word, wrong, (start, end) in zip(noisy.words, noisy.wrong, noisy.origin, strict=True):
        assert wrong == (word != " ".join(words[start:end])), AGREES
    # The parts of one word share its origin; apart from that, origins tile the row.
    tiles = [
        origin for place, origin in enumerate(noisy.origin) if noisy.origin[place - 1 : place] != (origin,)
    ]
    assert [place for start, end in tiles for place in range(start, end)] == list(range(len(words)))


# --- what holds for every kind ------------------------------------------------------------------------


@given(
    words=st.lists(st.one_of(st.sampled_from(ROW), st.text(min_size=1, max_size=8)), max_size=12),
    kind=st.sampled_from(KINDS),
    edits=st.sets(st.sampled_from(EDITS), min_size=1),
    shares=st.tuples(*[st.sampled_from([0.0, 0.3, 1.0])] * 3),
    row=st.integers(0, 2**63 - 1),
)
@settings(max_examples=100, deadline=None)
def test_labels_and_origins_agree_with_the_text_of_any_row(words, kind, edits, shares, row):
    config = noise(
        kind,
        edits=sorted(edits),
        geometric_p=0.3,
        word_share=shares[0],
        realistic_share=shares[1],
        white_space_share=shares[2],
    )
    noisy = corrupt_words(words, config, LIST, (0, 0, row))
    check_laws(words, noisy)
    assert all(noisy.words), "a word became empty"
    # What had no space has none now, so that the row can be written as a line and read again.
    if not any(mark.isspace() for word in words for mark in word):
        assert " ".join(noisy.words).split() == list(noisy.words)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_depends_on_its_key_and_words_alone(kind):
    config = noise(kind, word_share=0.6)
    alone = corrupt_words(ROW, config, LIST, (3, 1, 7))
    for row in (0, 8, 9):  # other rows before it: no state is left behind
        corrupt_words(ROW, config, LIST, (3, 1, row))
    assert corrupt_words(tuple(ROW), config, dict(LIST), (3, 1, 7)) == alone
    keys = [(seed, epoch, row) for seed in (3, 4) for epoch in (1, 2) for row in range(20)]
    drawn = {corrupt_words(ROW, config, LIST, key) for key in keys}
    assert len(drawn) == 1 if kind == "none" else len(drawn) > 5


def test_keys_of_any_size_give_streams_of_their_own():
    words, config = ["abcdefghij"] * 4, noise("artificial", word_share=1.0, geometric_p=0.1)
    large = 2**63 - 1
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (large, 0, 0), (0, large, 0), (0, 0, large)]
    assert len({corrupt_words(words, config, {}, key).words for key in keys}) == len(keys)


def test_none_and_shares_of_zero_change_nothing_and_one_changes_all():
    for config in (
        noise("none"),
        noise("mixed", word_share=0.0),
        noise("white_space", white_space_share=0.0),
    ):
        noisy = corrupt_words(ROW, config, LIST, (0, 0, 0))
        assert (noisy.words, set(noisy.wrong)) == (tuple(ROW), {0})
        assert noisy.origin == tuple((place, place + 1) for place in range(len(ROW)))
    words = ["every", "Word", "Here"]
    assert corrupt_words(words, noise("artificial", word_share=1.0), {}, (0, 0, 0)).wrong == (1, 1, 1)
    assert corrupt_words([], noise("artificial"), {}, (0, 0, 0)).words == ()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.9])
def test_the_share_of_corrupted_words_is_as_asked(share):
    words = [*"short and much longer words stand here".split(), "1973", "-"]
    config = noise("artificial", word_share=share)
    rows = [corrupt_words(words, config, {}, (0, 0, row)).wrong for row in range(1000)]
    wrong_RW = np.array(rows)
    assert not wrong_RW[:, 7:].any(), "nobody can see that a number or a dash is misspelt"
    for place in range(7):
        assert not never_p(int(wrong_RW[:, place].sum()), 1000, share)


# --- artificial ---------------------------------------------------------------------------------------


def test_the_number_of_edits_follows_the_truncated_geometric_law():
    # Every insertion makes a word one longer, so that its edits can be counted from outside.
    longest, p, rows = 6, 0.4, 4000
    config = noise("artificial", edits=["insert"], geometric_p=p, word_share=1.0)
    noisy = (corrupt_words(["abcdef"], config, {}, (0, 0, row)).words[0] for row in range(rows))
    counts = Counter(len(word) - longest for word in noisy)
    law = p * (1 - p) ** np.arange(longest)
    observed = [counts.pop(edits) for edits in range(1, longest + 1)]
    assert not counts, "more edits than the word has characters, or none"
    assert stats.chisquare(observed, rows * law / law.sum()).pvalue > 1e-4


@pytest.mark.parametrize("p", [1e-300, 1e-9, 0.5, 1 - 1e-16, 1.0])
def test_no_probability_leaves_the_law_s_range(p):
    rng = np.random.default_rng(0)
    drawn = Counter(sample_edit_count(3, p, rng) for _ in range(300))
    assert set(drawn) <= {1, 2, 3}
    assert (set(drawn) == {1}) == (p > 0.9)
    if p < 1e-8:  # the law's limit: any number of edits as likely
        assert stats.chisquare([drawn[1], drawn[2], drawn[3]]).pvalue > 1e-4


def one_edit_away(word, edit):
    """All a single edit by 'x', the only letter to be had, makes of a word."""
    places = range(len(word) + (edit == "insert"))
    cut = {"insert": lambda i: "x" + word[i:], "delete": lambda i: word[i + 1 :]}
    cut |= {"replace": lambda i: "x" + word[i + 1 :], "swap": lambda i: word[i : i + 2][::-1] + word[i + 2 :]}
    return {word[:place] + cut[edit](place) for place in places} - {word}


@pytest.mark.parametrize("edit", EDITS)
def test_each_edit_reaches_all_and_only_its_results(edit):
    rng = np.random.default_rng(0)
    config = noise("artificial", edits=[edit], geometric_p=1.0)
    assert {edit_word("abcb", config, ["x"], rng) for _ in range(300)} == one_edit_away("abcb", edit)


def test_edits_are_drawn_alike():
    rng = np.random.default_rng(0)
    config = noise("artificial", geometric_p=1.0)
    kinds = Counter()
    for _ in range(4000):
        edited = edit_word("abcdef", config, ["x"], rng)
        kinds[next(edit for edit in EDITS if edited in one_edit_away("abcdef", edit))] += 1
    assert stats.chisquare([kinds[edit] for edit in EDITS]).pvalue > 1e-4


@pytest.mark.parametrize(
    ("word", "edits"),
    [
        ("aaa", ["swap"]),
        ("a", ["swap"]),
        ("a", ["delete"]),
        ("aA", ["swap"]),
        ("12", list(EDITS)),
        ("...", list(EDITS)),
    ],
)
def test_a_word_that_no_edit_changes_is_right(word, edits):
    noisy = corrupt_words([word], noise("artificial", word_share=1.0, edits=edits), {}, (0, 0, 0))
    assert (noisy.words, noisy.wrong) == ((word,), (0,))


def test_edits_do_not_lead_back_to_the_word_nor_to_its_case_or_accents():
    # "ab" by swaps has nothing but "ba" to become; a second swap would undo the first.
    config = noise("artificial", word_share=1.0, edits=["swap"], geometric_p=0.01)
    for row in range(50):
        assert corrupt_words(["ab"], config, {}, (0, 0, row)).words == ("ba",)
    rng = np.random.default_rng(0)
    config = noise("artificial", edits=["replace"], geometric_p=1.0)
    # An uncased tokenizer reads é as e: such an error would be labelled, and not be there.
    assert {edit_word("e", config, ["e", "é", "x"], rng) for _ in range(100)} == {"x"}


def test_letters_are_those_of_the_words_script_in_the_case_of_their_place():
    words = ["привет", "МИР", "é", "हिन्दी", "น้ำที่"]
    config = noise("artificial", word_share=1.0, geometric_p=0.2)
    rows = [corrupt_words(words, config, {}, (0, 0, row), accents=True).words for row in range(1000)]
    found = [{mark for noisy in rows for mark in noisy[place]} for place in range(5)]
    assert found[0] == set("приветм") and found[1] == {mark.upper() for mark in found[0]}
    assert found[2] == set("abcdefghijklmnopqrstuvwxyzé"), "of Latin all letters are known"
    for place in (3, 4):
        assert found[place] == set(words[place])
        more = [Counter(noisy[place]) - Counter(words[place]) for noisy in rows]
        assert any(unicodedata.category(mark)[0] == "M" for marks in more for mark in marks)


def test_an_accent_is_an_error_where_it_is_read():
    config, rng = noise("artificial", edits=["replace"], geometric_p=1.0), np.random.default_rng(0)
    for accents, wanted in ((True, {"é", "x"}), (False, {"x"})):
        made = {edit_word("e", config, ["e", "é", "x"], rng, accents=accents) for _ in range(100)}
        assert made == wanted, "and capitals are none, whatever is read"
    assert edit_word("aA", noise("artificial", edits=["swap"]), ["a"], rng, accents=True) == "aA"


def test_punctuation_around_a_word_stays():
    assert cut_core('"Don\'t!"') == ('"', "Don't", '!"')
    assert cut_core("--") == ("", "", "--")
    assert cut_core("(हिन्दी।") == ("(", "हिन्दी", "।"), "a vowel sign at the end is part of the word"
    config = noise("artificial", word_share=1.0, geometric_p=0.2)
    for row in range(100):
        noisy = corrupt_words(['("word",'], config, {}, (0, 0, row)).words[0]
        assert noisy.startswith('("') and noisy.endswith('",') and len(noisy) > 4


# --- realistic and mixed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "become"),
    [
        ("their", {"thier", "there"}),
        ('"Their,', {'"Thier,', '"There,'}),
        ("THEIR!", {"THIER!", "THERE!"}),
        ("English", {"english", "Englsh"}),  # the small letter is the error, and stays
        ("ENGLISH", {"english", "ENGLSH"}),
        ("Don't.", {"Dont."}),
        ("unlisted", {"unlisted"}),
        ("1973", {"1973"}),
        ("Alot.", {"A lot."}),
    ],
)
def test_realistic_noise_gives_known_misspellings_in_the_word_s_case(word, become):
    config = noise("realistic", word_share=1.0)
    rows = [corrupt_words(["so", word], config, LIST, (0, 0, row)) for row in range(40)]
    assert {" ".join(noisy.words[1:]) for noisy in rows} == become
    assert {noisy.origin[1:] for noisy in rows} <= {((1, 2),), ((1, 2), (1, 2))}


def test_a_misspelling_of_several_words_becomes_several_of_one_origin():
    noisy = corrupt_words(["cats", "alot", "x"], noise("realistic", word_share=1.0), LIST, (0, 0, 0))
    assert noisy.words == ("cats", "a", "lot", "x")
    assert noisy.wrong == (0, 1, 1, 0)
    assert noisy.origin == ((0, 1), (1, 2), (1, 2), (2, 3))


def test_the_share_of_known_words_that_are_misspelt_and_of_mixed_ways_is_as_asked():
    words = ["separate"] * 4000
    realistic = corrupt_words(words, noise("realistic", word_share=0.3), LIST, (0, 0, 0))
    assert set(realistic.words) == {"separate", "seperate"}
    assert not never_p(sum(realistic.wrong), 4000, 0.3)
    mixed = corrupt_words(words, noise("mixed", word_share=1.0, realistic_share=0.7), LIST, (0, 0, 0))
    # An artificial edit makes the very misspelling, too: one of 8 places, one of 25 letters, one of 4 edits.
    assert not never_p(Counter(mixed.words)["seperate"], 4000, 0.7 + 0.3 * 0.8 / 4 / 8 / 25)
    unlisted = corrupt_words(["unlisted"] * 50, noise("mixed", word_share=1.0), LIST, (0, 0, 0))
    assert all(unlisted.wrong), "a word without a list takes the artificial way"


# --- white space --------------------------------------------------------------------------------------


def test_white_space_noise_moves_spaces_and_nothing_else():
    config = noise("white_space", white_space_share=0.4)
    for row in range(200):
        noisy = corrupt_words(ROW, config, LIST, (0, 0, row))
        assert "".join(noisy.words) == "".join(ROW)
        check_laws(ROW, noisy)


def nfc(text):
    return unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text", ["Việt được tiếng 한국어 пойдём", "हिन्दी क\u094d\u200dष می\u200cروم น้ำที่ é e\u0301"]
)
def test_white_space_never_parts_a_letter(text):
    words = unicodedata.normalize("NFD", text).split()
    rows = [
        corrupt_words(words, noise("white_space", white_space_share=0.5), {}, (0, 0, row))
        for row in range(200)
    ]
    for word in (word for noisy in rows for word in noisy.words):
        assert not is_mark(word[0]) and word[0] not in JOINERS and word[-1] not in JOINERS
    assert {"".join(map(nfc, noisy.words)) for noisy in rows} == {"".join(map(nfc, words))}
    assert max(len(noisy.words) for noisy in rows) > len(words)
    letter = corrupt_words(["e\u0301"], noise("white_space", white_space_share=1.0), {}, (0, 0, 0))
    assert letter.words == ("e\u0301",)


def test_the_share_of_lost_and_new_spaces_is_as_asked():
    words, share = ["abc"] * 3000, 0.2
    noisy = corrupt_words(words, noise("white_space", white_space_share=share), {}, (0, 0, 0))
    lost = sum(end - start - 1 for start, end in set(noisy.origin))
    assert not never_p(lost, 2999, share)
    kept = sum(end - start == 1 for start, end in set(noisy.origin))
    split = sum(count == 2 for count in Counter(noisy.origin).values())
    assert not never_p(split, kept, share), "of the words that kept their spaces"
    assert {word for word in noisy.words if len(word) < 3} == {"a", "bc", "ab", "c"}


def test_white_space_goes_with_any_kind_and_by_itself_has_a_share():
    assert NoiseConfig("white_space").white_space == 0.1
    assert NoiseConfig("artificial").white_space == 0.0
    config = noise("realistic", word_share=1.0, white_space_share=1.0)
    noisy = corrupt_words(["their", "their", "alot", "their"], config, LIST, (0, 0, 0))
    assert noisy.words[0] in {one + two for one in LIST["their"] for two in LIST["their"]}
    assert noisy.origin == ((0, 2), (2, 3), (2, 3), (3, 4), (3, 4)), "parts of a word are not merged further"


# --- files and settings -------------------------------------------------------------------------------


def test_misspellings_are_read(tmp_path):
    path = tmp_path / "known.json"
    path.write_text(json.dumps(LIST), encoding="utf-8")
    assert load_misspellings(path) == LIST


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b"their thier\n", "not valid JSON"),
        (b'{"a": ["\xff"]}', "not UTF-8 (byte 0xff at 8)"),
        (b"[" * 100000, "not valid JSON"),
        (b'["their"]', "a JSON list; give an object"),
        (b'{"their": "thier"}', "'their' has no list of texts"),
        (b'{"their": [1]}', "'their' has no list of texts"),
        (b'{"their": [" "]}', "'their' has no list of texts"),
        (b'{"": ["a"]}', "'' has no list of texts"),
        (b'{"their": ["\\ud800"]}', "'their' has no list of texts"),
    ],
)
def test_what_is_no_list_of_misspellings_is_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "known.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        load_misspellings(path)
    assert said in str(refused.value) and str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match="gone.json: No such file"):
        load_misspellings(tmp_path / "gone.json")
    with pytest.raises(InputError, match="directory; give a JSON object"):
        load_misspellings(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "artifical"}, "did you mean 'artificial'"),
        ({"word_share": 1.5}, "word_share: 1.5 is too large; the most is 1"),
        ({"realistic_share": -0.1}, "realistic_share: -0.1 is too small; the least is 0"),
        ({"white_space_share": 2.0}, "white_space_share: 2.0 is too large"),
        ({"word_share": "0.3"}, "word_share: '0.3' is no number; give one, without quotes"),
        ({"geometric_p": "0.8"}, "geometric_p: '0.8' is no number"),
        ({"realistic_share": None}, "realistic_share: None is no number"),
        ({"geometric_p": 0.0}, "geometric_p: 0.0 must be above 0"),
        ({"word_share": float("nan")}, "word_share: nan"),
        ({"edits": []}, "edits: .* must be different ones"),
        ({"edits": ["swap", "swap"]}, "edits: .* must be different ones"),
        ({"edits": ["swop"]}, "did you mean 'swap'"),
        ({"kind": "mixed"}, "misspellings: kind mixed needs a file"),
        ({"misspellings": " "}, "misspellings: ' ' is no usable text"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(changes, said):
    with pytest.raises(InputError, match=said):
        NoiseConfig(**changes)
