"""Finding and replacing wrong words, with networks made by hand.

Run: pytest tests/inference/test_correction.py
"""

import unicodedata
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from network_examples import by_hand, frequencies, id_of, seeing_ids, spotter, vocabulary_of_words
from own_tokenizer_examples import PLAIN, unigram, write_folder
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from span_electra.hub.networks import Network, Networks
from span_electra.inference import correction
from span_electra.inference.candidates import NATS_AN_EDIT, Candidates
from span_electra.inference.correction import (
    LONGEST_WORD,
    SEVERAL,
    Suspect,
    core_of,
    in_pieces,
    mask_suspects,
    spelt_in,
    suspects_of,
)
from span_electra.text.own_tokenizer import open_tokenizer
from span_electra.text.token_spans import read_lines
from span_electra.text.vocabulary import SPECIAL_TOKENS, Vocabulary, add_special, assemble
from span_electra.text.word_starts import byte_letters

TABLE = Candidates(vocabulary_of_words())
# What is not spelt with words is spelt with letters, and those the spotter takes for wrong.
SUSPICIOUS = {**{f"##{letter}": 2.0 for letter in "abcdefghijklmnopqrstuvwxyz"}}


def correct(networks, table, texts, threshold=0.5, top_k=3):
    return correction.correct(networks, table, texts, threshold=threshold, top_k=top_k)


def test_both_must_agree():
    texts = ["Teh cat, slepe on (teh) mat", "", "the cat"]
    networks = by_hand(frequencies({}), spotter(SUSPICIOUS))
    found = correct(networks, TABLE, texts)
    assert [line.corrected for line in found] == ["The cat, sleep on (the) mat", "", "the cat"]
    assert [(change.before, change.after) for change in found[0].changes] == [
        ("Teh", "The"),
        ("slepe", "sleep"),
        ("teh", "the"),
    ]
    # A discriminator that calls every proposal wrong too leaves the words as they are.
    stubborn = by_hand(frequencies({}), spotter(SUSPICIOUS, usual=2.0))
    assert [line.corrected for line in correct(stubborn, TABLE, texts)] == texts


@pytest.mark.parametrize(
    ("word", "core"),
    [
        ("(don't,", "don't"),
        ("'well-known'", "well-known"),
        ("cafe\u0301.", "cafe\u0301"),
        ("\u0928\u0926\u0940!", "\u0928\u0926\u0940"),  # Hindi: a vowel sign ends it
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),  # Persian: joined by nothing visible
        ("a.b", ""),
        ("\u2764\ufe0f", ""),  # a heart, and what makes it red
        ("\u0301", ""),
        ("...", ""),
    ],
)
def test_a_word_is_what_stands_between_its_punctuation_in_any_script(word, core):
    found = core_of(word)
    assert (word[slice(*found)] if found else "") == (word if core is None else core)


def test_a_known_word_changes_on_strong_evidence_only():
    """'cat' looks wrong and 'cats' right, yet the generator has to prefer it by far."""
    for ahead, wanted in ((NATS_AN_EDIT - 4.0, "the cat"), (30.0, "the cats")):
        networks = by_hand(frequencies({"cat": 0.0, "cats": ahead}), spotter({"cat": 0.5}, usual=-0.5))
        assert correct(networks, TABLE, ["the cat"])[0].corrected == wanted


def test_the_typed_word_counts_with_all_its_tokens():
    """Spelt with letters that the generator expects, 'catt' is no slip; else it is."""
    networks = by_hand(frequencies({"cat": 9.0, "##t": 30.0}), spotter({"##t": 1.0}))
    assert correct(networks, TABLE, ["the catt"])[0].corrected == "the catt"
    networks = by_hand(frequencies({"cat": 9.0}), spotter({"##t": 1.0}))
    assert correct(networks, TABLE, ["the catt"])[0].corrected == "the cat"


def test_masks_stand_where_the_suspects_did():
    found = [Suspect(0, 0, 0, 2, first=0, last=2), Suspect(0, 2, 5, 6, first=3, last=4)]
    ids_T, mask_M = mask_suspects(np.array([10, 11, 12, 13, 14]), found, [1, 2], 3)
    assert ids_T.tolist() == [3, 12, 3, 3, 14] and mask_M.tolist() == [0, 2, 3]


def test_words_change_their_length_without_hurting_their_neighbours():
    networks = by_hand(frequencies({}), spotter(SUSPICIOUS))
    assert correct(networks, TABLE, ["caat sleepps, doggs!"], top_k=1)[0].corrected == "cat sleeps, dogs!"


def test_words_of_several_tokens_are_seen_at_as_many_masks():
    networks = by_hand(frequencies({"un": 0.0, "##d": -2.0}))
    lines = read_lines(networks.vocabulary, ["the undd", "the un"])
    found = [
        suspect
        for number, line in enumerate(lines)
        for suspect in suspects_of(number, line, [1], SPECIAL_TOKENS)
    ]
    ((number, scored),) = in_pieces(networks, TABLE, lines, found, 2)  # no more than two: left out
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


def over(vocabulary, wrong, likely=()):
    """Networks that take some tokens for wrong, and some for likely."""
    logits_V = torch.tensor([3.0 if token in wrong else -4.0 for token in vocabulary.tokens_V])
    doubtful = Network(seeing_ids, lambda states: logits_V[states[..., 0].long()], 32, "by hand")
    likely_V = torch.tensor([9.0 if token in likely else 0.0 for token in vocabulary.tokens_V])
    usual = Network(seeing_ids, lambda states: likely_V.expand(*states.shape[:-1], -1), 32, "by hand")
    return Networks(vocabulary, "cpu", usual, doubtful)


def bpe_of_the():
    """Bytes, and the word "the", with a blank and without."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "t"), ("Ġ", "x")]
    tokens = [*SPECIAL_TOKENS, *byte_letters(), *map("".join, merges)]
    return assemble("BPE", {token: number for number, token in enumerate(tokens)}, merges)


def unigram_vocabulary(folder):
    return open_tokenizer(write_folder(folder, unigram(), PLAIN) / "tokenizer.json")


@pytest.mark.parametrize("kind", ["BERT", "BPE", "Unigram"])
@pytest.mark.parametrize(
    "text", ["go (thex)", "go thex", "thex", 'go "(thex', "“thex”", "on  thex", "a-b/thex"]
)
def test_what_is_asked_for_is_what_the_corrected_line_will_hold(kind, text, tmp_path):
    vocabularies = {"BERT": vocabulary_of_words, "BPE": bpe_of_the}
    vocabulary = vocabularies[kind]() if kind in vocabularies else unigram_vocabulary(tmp_path)
    start, found = text.index("thex"), 0
    suspect = Suspect(0, 0, start, start + 4, first=0, last=4)
    for width in SEVERAL:
        words, ids_CW = spelt_in(Candidates(vocabulary), text, suspect, width)
        for word, ids_W in zip(words, ids_CW.tolist(), strict=True):
            (line,) = read_lines(vocabulary, [text[:start] + word + text[start + 4 :]])
            inside_T = (line.starts_T < start + len(word)) & (line.ends_T > start)
            assert line.ids_T[inside_T].tolist() == ids_W, word
        found += len(words)
    assert found


def test_words_behind_marks_are_corrected_where_blanks_are_part_of_tokens():
    networks = over(bpe_of_the(), [*"eh"])
    text = 'teh (teh) "teh", “teh” -teh teh'
    assert correct(networks, Candidates(networks.vocabulary), [text])[0].corrected == text.replace(
        "teh", "the"
    )


def test_a_word_of_several_tokens_keeps_its_capital():
    networks = by_hand(frequencies({"un": 9.0, "##d": 9.0}), spotter({"##x": 3.0}))
    assert correct(networks, TABLE, ["the Undx cat"])[0].corrected == "the Und cat"


def test_a_later_candidate_is_taken_where_the_first_is_found_wrong():
    networks = by_hand(frequencies({"cats": -6.0}), spotter(SUSPICIOUS | {"cat": 3.0}))
    assert correct(networks, TABLE, ["the caat"])[0].corrected == "the cats"
    assert correct(networks, TABLE, ["the caat"], top_k=1)[0].corrected == "the caat"
    # Agreed upon after what stands behind it; written in that order, the line came twice from there on.
    assert correct(networks, TABLE, ["a caat on teh mat"])[0].corrected == "a cats on the mat"


def test_a_candidate_may_join_its_neighbour_where_there_are_no_blanks():
    """こんにち わ are two words and こんにちは is one; what follows has another number then."""
    tokens = [*SPECIAL_TOKENS, "こんにち", "こんにちは", "は", "。", "##わ", "##は"]
    vocabulary = assemble("BERT", {token: number for number, token in enumerate(tokens)})
    networks = over(vocabulary, ["##わ", "。"], ["は"])
    # The mark behind it is wrong: its probability must not be taken for that of the word that was put in.
    for text, wanted in (("こんにちわ", "こんにちは"), ("こんにちわ。", "こんにちは。")):
        assert correct(networks, Candidates(vocabulary), [text])[0].corrected == wanted


def test_masks_and_marks_are_left_alone():
    networks = by_hand(frequencies({}), spotter({"[MASK]": 9.0, ".": 9.0}))
    assert correct(networks, TABLE, ["the [MASK] ."])[0].corrected == "the [MASK] ."
    spelled = by_hand(frequencies({}), spotter(SUSPICIOUS))
    assert correct(spelled, TABLE, ["<b>teh</b> teh"])[0].corrected == "<b>teh</b> the"


def test_long_lines_are_corrected_to_the_end():
    networks = by_hand(frequencies({}), spotter(SUSPICIOUS))
    assert correct(networks, TABLE, ["teh " * 300])[0].corrected == "the " * 300


def test_a_word_too_long_to_be_typed_is_passed_through_with_its_neighbours_corrected(monkeypatch):
    networks = by_hand(frequencies({}), spotter(SUSPICIOUS))
    assert correct(networks, TABLE, ["q" * LONGEST_WORD])[0].changes, "the longest that is tried"
    tried = []
    monkeypatch.setattr(correction, "one_edit_away", lambda word, _: tried.append(len(word)) or [word])
    for long in ("q" * 5000, "q" * (LONGEST_WORD + 1), "'" * 100_000 + "."):
        found = correct(networks, TABLE, [f"teh {long} teh"])[0]
        assert found.corrected == f"the {long} the"
        assert [change.before for change in found.changes] == ["teh", "teh"]
    assert set(tried) == {3}


def test_only_the_log_probabilities_of_a_batch_are_held():
    """A text of many suspects must not keep what the generator says at each of their masks."""
    networks = replace(by_hand(frequencies({}), spotter(SUSPICIOUS)), batch_size=4)
    lines = read_lines(networks.vocabulary, ["undd caatt " * 400])
    found = suspects_of(0, lines[0], list(range(800)), SPECIAL_TOKENS)
    refs, most = [], 0
    for _, _, log_V in correction.at_masks(networks, lines, found, [2] * 800):
        refs = [ref for ref in refs if ref() is not None] + [weakref.ref(log_V.base)]
        most = max(most, len({id(ref()) for ref in refs}))
    assert most <= 2


def all_of(tokens, wrong_letters, **rules):
    """Networks over these tokens that take the first of them for likely and some pieces for wrong."""
    vocabulary = assemble("BERT", {token: number for number, token in enumerate(tokens)}, **rules)
    return over(vocabulary, wrong_letters, [tokens[len(SPECIAL_TOKENS)]])


@pytest.mark.parametrize("number", ["48213", "1987", "٤٨٢١", "3rdd", "x²²"])
def test_digits_in_are_digits_out(number):
    """A digit more or less is another number, of which no neighbour says anything."""
    digits = sorted(set(number))
    tokens = [*SPECIAL_TOKENS, "the", *digits, *(f"##{each}" for each in digits), "##h", "##e", "t"]
    tokens += [number[1:], number[:-1]]
    tokens = list(dict.fromkeys(tokens))
    networks = all_of(tokens, [token for token in tokens if token.startswith("##")], strip_accents=False)
    text = f"the {number} ({number}). teh"
    found = correct(networks, Candidates(networks.vocabulary), [text])[0]
    assert found.corrected == f"the {number} ({number}). the"


@pytest.mark.parametrize(
    ("rules", "corrected"),
    [
        ({}, "fürr İst fur"),
        ({"strip_accents": False}, "für İst für"),
        ({"lowercase": False, "strip_accents": True}, "fürr İst fur"),
    ],
)
def test_words_keep_the_accents_that_the_vocabulary_has_not(rules, corrected):
    word = "für" if rules.get("strip_accents") is False else "fur"
    pieces = ["f", "u", "i", "##u", "##ü", "##r", "##s", "##t"]
    networks = all_of([*SPECIAL_TOKENS, word, *pieces], ["##r"], **rules)
    found = correct(networks, Candidates(networks.vocabulary), ["fürr İst furr"])[0].corrected
    assert found == corrected


def of_the_and_fur(kind):
    """The words "the" and "fur" behind a blank, and the letters that others fall into."""
    if kind == "BPE":
        merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "t"), ("f", "u"), ("fu", "r"), ("Ġ", "fur")]
        tokens = [*SPECIAL_TOKENS, *byte_letters(), *map("".join, merges)]
        return assemble("BPE", {token: number for number, token in enumerate(tokens)}, merges)
    tokens = [*SPECIAL_TOKENS, "▁the", "▁fur", "▁t", *"▁efhrtu"]
    scored = [(token, -1.0 if len(token) > 2 else -5.0) for token in tokens]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=tokens.index("[UNK]")))
    add_special(tokenizer, SPECIAL_TOKENS, mask="[MASK]")
    return Vocabulary(tokenizer, "SentencePiece")


LOWER, BARE = [normalizers.Lowercase()], [normalizers.NFKD(), normalizers.StripAccents()]


@pytest.mark.parametrize("kind", ["BPE", "Metaspace", "blanks by rules"])
@pytest.mark.parametrize(
    ("rules", "text", "corrected"),
    [
        (LOWER, "the teh Teh", "the the The"),
        (BARE, "the teh fürr furr", "the the fürr fur"),
        ([*BARE, *LOWER], "the teh Teh fürr furr", "the the The fürr fur"),
    ],
    ids=["lower", "bare", "bare lower"],
)
def test_capitals_and_accents_are_kept_whatever_kind_of_tokenizer_drops_them(kind, rules, text, corrected):
    vocabulary = of_the_and_fur(kind)
    if kind == "Metaspace":
        vocabulary.tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    if kind == "blanks by rules":
        rules = [*rules, normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    vocabulary.tokenizer.normalizer = normalizers.Sequence(rules)
    networks = over(vocabulary, [*"ehr"], ["Ġthe", "▁the", "Ġfur", "▁fur"])
    assert correct(networks, Candidates(vocabulary), [text])[0].corrected == corrected


@pytest.mark.parametrize("whole", [True, False])
def test_korean_is_corrected_in_syllables(whole):
    """As a word of the vocabulary, or as what one letter makes of what was typed."""
    word, typed = (unicodedata.normalize("NFD", text) for text in ("안녕", "안뇽"))
    tokens = [word] if whole else [word[:4], f"##{word[4:]}"]
    tokens += [typed[0], *(f"##{letter}" for letter in dict.fromkeys(word + typed))]
    networks = all_of([*SPECIAL_TOKENS, *tokens], ["##\u116d"])
    found = correct(networks, Candidates(networks.vocabulary), ["안뇽, 안뇽"], top_k=40)[0]
    assert found.corrected == "안녕, 안녕" or not whole
    for change in found.changes:
        assert "안녕" in change.suggestions
        assert change.suggestions == [unicodedata.normalize("NFC", each) for each in change.suggestions]
