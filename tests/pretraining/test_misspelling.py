"""Misspelt words in rows of ids: keyed by row, marked, and nothing else changed.

Run: pytest tests/pretraining/test_misspelling.py
"""

import json

import numpy as np
import pytest
from encode_examples import SPECIAL, train
from tokenizers import pre_tokenizers, trainers

from span_electra.data_config import VocabularyConfig
from span_electra.pretraining.misspelling import Misspeller, share_of_row
from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import assemble
from span_electra.text.vocabulary_builder import train as build

THAI = "กขคงจชซดตทนบปพมยรลวสหอ\u0e31\u0e34\u0e35\u0e38\u0e48\u0e49"
TEXT = "the cats sat on the mat and looked at the birds, which were singing in the old trees of the garden."


def row_of(vocabulary, text=TEXT):
    ids = vocabulary.tokenizer.encode(text, add_special_tokens=False).ids
    return np.array([[vocabulary.cls_id, *ids, vocabulary.sep_id]])


@pytest.fixture(params=["bpe", "wordpiece"])
def vocabulary(request):
    model = json.loads(train(request.param).to_str())["model"]
    if request.param == "wordpiece":
        # With brackets, as vocabularies of any text have them: then "[UNK]" can be spelt in tokens.
        return assemble(
            "BERT", model["vocab"] | {sign: len(model["vocab"]) + n for n, sign in enumerate("[]")}
        )
    return assemble("BPE", model["vocab"], [tuple(pair) for pair in model["merges"]])


def misspelt(vocabulary, ids_BL, share=0.5, row=0, epoch=0, seed=0):
    lengths_B = np.full(len(ids_BL), ids_BL.shape[1])
    found, _ = Misspeller(vocabulary, share, seed).misspell(ids_BL, lengths_B, np.array([row]), epoch)
    return found["original_BL"], found["misspelt_BL"]


def test_unmarked_tokens_are_the_rows_own_in_order(vocabulary):
    ids_BL = row_of(vocabulary)
    noisy_BL, wrong_BL = misspelt(vocabulary, ids_BL)
    assert noisy_BL.shape == ids_BL.shape and wrong_BL.any() and not wrong_BL.all()
    assert noisy_BL[0, 0] == vocabulary.cls_id and noisy_BL[0, -1] == vocabulary.sep_id
    rest = iter(ids_BL[0].tolist())
    assert all(token in rest for token in noisy_BL[0][~wrong_BL[0]].tolist()), "a subsequence of the row"


def test_where_tokens_went_is_told(vocabulary):
    ids_BL = row_of(vocabulary)
    lengths_B, rows_B = np.array([ids_BL.shape[1]]), np.array([0])
    found, moved_BL = Misspeller(vocabulary, 0.5, 0).misspell(ids_BL, lengths_B, rows_B, 0)
    noisy_L, wrong_L, moved_L = found["original_BL"][0], found["misspelt_BL"][0], moved_BL[0]
    sep = ids_BL.shape[1] - 1
    assert moved_L[0] == 0 and moved_L[sep] == sep and (np.diff(moved_L) >= 0).all()
    kept = (moved_L < sep) & ~wrong_L[moved_L]
    assert (noisy_L[moved_L[kept]] == ids_BL[0][kept]).all()
    assert kept.sum() == (~wrong_L[:sep]).sum(), "all that is well spelt came from somewhere"
    assert (moved_L[:sep] == sep).any(), "and some was cut"


def test_marked_words_are_not_in_the_text(vocabulary):
    noisy_BL, wrong_BL = misspelt(vocabulary, row_of(vocabulary))
    words = vocabulary.tokenizer.decode(noisy_BL[0, 1:-1].tolist()).replace(",", " ").split()
    assert set(words) - set(TEXT.replace(",", " ").replace(".", " .").split())
    clean_BL, none_BL = misspelt(vocabulary, row_of(vocabulary), share=0.0)
    assert not none_BL.any() and (clean_BL == row_of(vocabulary)).all()


def test_errors_depend_on_seed_epoch_and_row_alone(vocabulary):
    ids_BL = row_of(vocabulary)
    first = misspelt(vocabulary, ids_BL)
    for again in ({}, {"row": 0, "epoch": 0}):
        assert all((a == b).all() for a, b in zip(misspelt(vocabulary, ids_BL, **again), first, strict=True))
    for other in ({"row": 1}, {"epoch": 1}, {"seed": 1}):
        assert (misspelt(vocabulary, ids_BL, **other)[0] != first[0]).any()
    # In company a row has the errors that it has alone.
    both = np.concatenate([ids_BL, ids_BL])
    found, _ = Misspeller(vocabulary, 0.5, 0).misspell(both, np.full(2, both.shape[1]), np.array([7, 0]), 0)
    assert (found["original_BL"][1] == first[0][0]).all()


@pytest.mark.parametrize("share", [0.0, 0.05, 1 / 6, 0.3, 0.5, 0.8, 1.0])
def test_rows_differ_in_their_errors_and_have_the_share_together(share):
    draws = (np.arange(300) + 0.5) / 300
    shares_R = np.array([share_of_row(share, which, how_many) for which in draws for how_many in draws])
    assert (shares_R >= 0).all() and (shares_R <= 1).all()
    np.testing.assert_allclose(shares_R.mean(), share, atol=1e-9)
    if 0 < share <= 1 / 6:
        np.testing.assert_allclose((shares_R > 0).mean(), 1 / 3, atol=1e-9)


def test_most_rows_have_no_error(vocabulary):
    ids_BL = np.repeat(row_of(vocabulary), 300, axis=0)
    lengths_B = np.full(300, ids_BL.shape[1])
    found, _ = Misspeller(vocabulary, 0.1, 0).misspell(ids_BL, lengths_B, np.arange(300), 0)
    assert 0.2 < found["misspelt_BL"].any(1).mean() < 0.4


def test_where_no_blank_parts_words_an_error_is_one_characters():
    han = [chr(0x4E00 + number) for number in range(60)]
    letters = np.random.default_rng(0).choice(han, (20, 20))
    text = ", ".join(map("".join, letters))
    tokenizer = train("bpe")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # A token of its own for each character, without which there is no letter to put in another's place.
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(han * 20, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = assemble("BPE", model["vocab"], [tuple(pair) for pair in model["merges"]])
    ids_BL = row_of(vocabulary, text)
    found = [misspelt(vocabulary, ids_BL, share=0.05, row=row)[1][0] for row in range(20)]
    runs = "".join(map(str, np.concatenate(found).astype(int))).split("0")
    assert 0 < max(map(len, runs)) < 20, "of the characters that have an error, not of all between two commas"


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
def test_scripts_without_blanks_are_misspelt_as_others_are(kind):
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice([*THAI], rng.integers(3, 7))) for _ in range(40)]
    lines = ["".join(rng.choice(words, 12)) for _ in range(200)]
    settings = VocabularyConfig(tokenizer_type=kind, vocab_size=400, min_fre=1, strip_accents=False)
    vocabulary = build(["\n".join(lines).encode()], settings)
    ids_BL = row_of(vocabulary, "".join(lines[:4]))
    for seed in range(3):
        noisy_BL, wrong_BL = misspelt(vocabulary, ids_BL, share=0.7, seed=seed)
        assert 0.2 < wrong_BL.mean() < 0.9
        text = Pieces(vocabulary).text(noisy_BL[0, 1:-1].tolist()).strip()
        # No blank that was not there, and no letter but the script's.
        assert set(text.rstrip("\ufffd")) <= set(THAI) and not np.isin(noisy_BL[wrong_BL], range(5)).any()
        rest = iter(ids_BL[0].tolist())
        assert all(token in rest for token in noisy_BL[0][~wrong_BL[0]].tolist()), "a subsequence of the row"


def test_errors_bring_the_marks_of_a_script_where_blanks_part_words_too():
    words, marks = ["\u0915\u092e\u0932", "\u0928\u0917\u0930", "\u092e\u093f\u0932"], "\u093f"
    settings = VocabularyConfig(tokenizer_type="BERT", vocab_size=100, min_fre=1, strip_accents=False)
    vocabulary = build([" ".join(words * 50).encode()], settings)
    ids_BL = row_of(vocabulary, " ".join(words[:2] * 20))
    noisy = [misspelt(vocabulary, ids_BL, share=1.0, seed=seed)[0][0] for seed in range(3)]
    assert any(marks in vocabulary.tokenizer.decode(ids_L.tolist()) for ids_L in noisy)


def test_padding_stays(vocabulary):
    ids_BL = row_of(vocabulary)
    padded_BL = np.pad(ids_BL, ((0, 0), (0, 4)), constant_values=vocabulary.pad_id)
    found, _ = Misspeller(vocabulary, 0.5, 0).misspell(
        padded_BL, np.array([ids_BL.shape[1]]), np.array([0]), 0
    )
    assert (found["original_BL"][:, -4:] == vocabulary.pad_id).all()
    assert not found["misspelt_BL"][:, -5:].any()


def test_special_tokens_of_a_row_stay_and_are_never_marked(vocabulary):
    ids_BL = row_of(vocabulary)
    special = [vocabulary.unk_id, vocabulary.mask_id, vocabulary.sep_id]
    # Each between two words, where one of them may be taken for its beginning or for its end.
    ids_BL[0, 2:-2:3] = np.resize(special, len(ids_BL[0, 2:-2:3]))
    noisy_BL, wrong_BL = misspelt(vocabulary, ids_BL, share=1.0)
    assert wrong_BL.any() and not np.isin(noisy_BL[wrong_BL], special).any()
    kept, there = (ids[np.isin(ids, special)].tolist() for ids in (noisy_BL[0, :-1], ids_BL[0, :-1]))
    assert kept and kept == there[: len(kept)], "in order, but for those that are pushed over the end"
