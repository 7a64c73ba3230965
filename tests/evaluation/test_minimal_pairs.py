"""Minimal pairs, against scores by hand or one sentence at a time.

Run: pytest tests/evaluation/test_minimal_pairs.py
"""

import gzip
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from network_examples import by_hand, exported, frequencies, spotter

from span_electra.errors import InputError
from span_electra.evaluation.minimal_pairs import (
    SCORES,
    Pair,
    read_pairs,
    score_pairs,
    score_sentences,
    word_ends,
    word_starts_of,
)
from span_electra.hub.networks import open_networks
from span_electra.text.vocabulary import assemble
from span_electra.text.word_starts import byte_letters

SENTENCES = ["the cat sleeps.", "the cat sleep.", "dogs undo the mat", "a", "the dog barks on the mat."]


def pair(good, bad, paradigm="agreement", field="morphology"):
    return Pair(good, bad, paradigm, field, "")


@torch.no_grad()
def slow_scores(model, vocabulary, text):
    """Every score of one sentence, token by token, as the papers put it."""
    ids = vocabulary.tokenizer.encode(text).ids
    starts = vocabulary.starts_word_V
    found = dict.fromkeys(SCORES, 0.0)
    logits_L = model.discriminator.head(model.discriminator.encoder(torch.tensor([ids]), None))[0]
    found["discriminator"] = torch.log(1 - logits_L.double().sigmoid())[1:-1].sum().item()
    for place in range(1, len(ids) - 1):
        end = place + 1
        while end < len(ids) - 1 and not starts[ids[end]]:
            end += 1
        for name, until in (("pll", place + 1), ("pll_l2r", end)):
            hidden = [vocabulary.mask_id if place <= at < until else token for at, token in enumerate(ids)]
            states_LD = model.generator.encoder(torch.tensor([hidden]), None)[0]
            logits_LV = model.generator.head(states_LD, model.generator.encoder)
            found[name] += logits_LV.double()[place].log_softmax(-1)[ids[place]].item()
    return found


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_batches_give_the_scores_of_sentences_one_by_one(batch_size, tmp_path, architecture):
    model = exported(tmp_path)
    networks = open_networks(tmp_path, batch_size=batch_size)
    found = score_sentences(networks, SENTENCES, list(SCORES))
    for number, text in enumerate(SENTENCES):
        slow = slow_scores(model, networks.vocabulary, text)
        assert {name: found[name][number] for name in SCORES} == pytest.approx(slow, abs=1e-4)
    assert found["pll"][2] != found["pll_l2r"][2], "'undo' is two tokens, so the scores must differ"


@pytest.mark.parametrize("score", SCORES)
def test_answers_that_are_not_numbers_are_refused(score, tmp_path):
    exported(tmp_path)
    networks = open_networks(tmp_path)
    part = "discriminator" if score == "discriminator" else "generator"
    with torch.no_grad():
        for parameter in getattr(networks, part).encode.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(InputError, match=f"{part}: its answers are not numbers; its weights are broken"):
        score_sentences(networks, SENTENCES, [score])


def test_scores_by_hand():
    networks = by_hand(frequencies({"cat": 1.0, "dog": 0.0}, usual=-40.0), spotter({"cats": 3.0}, usual=-3.0))
    found = score_sentences(networks, ["cat dog", "cats dog"], ["discriminator", "pll"])
    assert found["pll"][0] == pytest.approx(math.log(math.e / (1 + math.e)) + math.log(1 / (1 + math.e)))
    assert found["discriminator"][0] == pytest.approx(-2 * math.log1p(math.exp(-3)))
    assert found["discriminator"][1] == pytest.approx(-math.log1p(math.exp(-3)) - math.log1p(math.exp(3)))


def test_the_end_of_each_tokens_word():
    starts_GL = np.array([[True, True, False, True, True], [True, True, True, False, False]])
    assert word_ends(starts_GL).tolist() == [[1, 3, 3, 4, 5], [1, 2, 4, 4, 5]]


def test_words_are_those_of_whole_word_masks_in_every_script():
    special = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]
    vocabulary = assemble("BPE", {token: n for n, token in enumerate(special + byte_letters())})

    def starts(text):
        row = [0, *(5 + byte for byte in text.encode()), 1]
        return word_starts_of(vocabulary, np.array([row, row]))

    (found, same), english = starts("我爱"), starts("un it")[0]  # a character is three tokens
    assert found.tolist() == same.tolist() == [True, True, False, False, True, False, False, True]
    assert word_ends(starts("我爱"))[0, 1:7].tolist() == [4, 4, 4, 7, 7, 7]
    assert english.tolist() == [True, True, False, True, False, False, True]


def test_accuracies_by_hand():
    pairs = [
        pair("the cat sleeps", "the cats sleeps"),
        pair("the cats sleep", "the cat sleep"),  # the spotter dislikes every 'cats'
        pair("the cat barks", "the cats barks", "binding", "syntax"),
        pair("the dog", "the dog", "binding", "syntax"),  # a tie counts as wrong
    ]
    report = score_pairs(by_hand(discriminator=spotter({"cats": 3.0})), pairs, ["discriminator"])
    assert (report["pairs"], report["ties, discriminator"]) == (4, 1)
    assert {name: row["discriminator"] for name, row in report["by field"].items()} == {
        "morphology": 0.5,
        "syntax": 0.5,
        "all": 0.5,
    }
    assert report["by paradigm"]["binding"]["discriminator, 95%"] == pytest.approx([0.0945, 0.9055], abs=1e-3)
    assert "by phenomenon" not in report


def test_files_and_folders_of_pairs(tmp_path):
    line = {"sentence_good": "a", "sentence_bad": "b", "UID": "first", "field": "syntax/semantics"}
    (tmp_path / "one.jsonl").write_text(json.dumps(line) + "\n\n")
    (tmp_path / "two.jsonl").write_text('{"sentence_good": "c", "sentence_bad": "d"}\n')
    found = read_pairs([str(tmp_path)])
    assert [(pair.paradigm, pair.field) for pair in found] == [("first", "syntax_semantics"), ("two", "")]
    assert read_pairs([str(tmp_path / "two.jsonl")]) == found[1:]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"sentence_good": "a"}',
        '{"sentence_good": 1, "sentence_bad": 2}',
        '{"sentence_good": "a", "sentence_bad": "\\ud83d"}',
    ],
)
def test_a_line_that_is_no_pair_is_named(line, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"sentence_good": "c", "sentence_bad": "d"}\n' + line)
    with pytest.raises(InputError, match="bad.jsonl: line 2"):
        read_pairs([str(tmp_path)])


@pytest.mark.parametrize(
    ("sentence", "message"),
    [("cat " * 31, "'cat cat.*has 31 tokens, the model reads 1 to 30"), (" \x7f", "'.*' has 0 tokens")],
)
def test_a_sentence_that_the_model_cannot_read_is_named(sentence, message, tmp_path):
    """One without tokens would win every comparison, or lose it."""
    lines = [{"sentence_good": "cat", "sentence_bad": bad} for bad in ("dog", sentence)]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pairs = read_pairs([str(tmp_path)])
    with pytest.raises(InputError, match=f"one.jsonl: line 2: {message}"):
        score_pairs(by_hand(discriminator=spotter({})), pairs, ["discriminator"])


def test_a_folder_without_pairs_is_named(tmp_path):
    with pytest.raises(InputError, match="no .jsonl"):
        read_pairs([str(tmp_path)])
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="no minimal pair in it; name files"):
        read_pairs([str(tmp_path)])
    with pytest.raises(InputError, match="none.jsonl: no such file"):
        read_pairs([str(tmp_path / "none.jsonl")])


def test_a_line_of_pairs_ends_at_a_newline_alone(tmp_path):
    good, bad = "the cat\u2028sleeps", "the cat\x85sleep"
    entry = json.dumps({"sentence_good": good, "sentence_bad": bad}, ensure_ascii=False)
    (tmp_path / "pairs.jsonl").write_bytes(f"{entry}\r\n{entry}\n".encode())
    assert [(pair.good, pair.bad) for pair in read_pairs([str(tmp_path)])] == [(good, bad)] * 2


def test_packed_pairs_are_those_of_the_file(tmp_path):
    content = b'{"sentence_good": "a", "sentence_bad": "b"}\n'
    (tmp_path / "all.one.jsonl").write_bytes(content)
    (tmp_path / "all.one.jsonl.gz").write_bytes(gzip.compress(content))
    (plain,), (packed,) = (read_pairs([str(tmp_path / f"all.one.jsonl{end}")]) for end in ("", ".gz"))
    assert packed == replace(plain, place=packed.place) and plain.paradigm == "all.one"
