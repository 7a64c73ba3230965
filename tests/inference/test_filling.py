"""What the generator would write, against one mask at a time. Run: pytest tests/inference/test_filling.py"""

import itertools
import unicodedata

import numpy as np
import pytest
import torch
from network_examples import by_hand, exported, frequencies, seeing_ids, vocabulary_of_words

from span_electra.hub.networks import Network, Networks, open_networks
from span_electra.inference.filling import Blank, Filling, fill, fill_in
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble


@torch.no_grad()
def slow_log(model, ids, place):
    states_LD = model.generator.encoder(torch.tensor([ids]), None)[0]
    logits_LV = model.generator.head(states_LD, model.generator.encoder)
    return logits_LV[place].double().log_softmax(-1)


def test_the_likeliest_tokens_by_hand():
    networks = by_hand(frequencies({"cat": 3.0, "dog": 2.0, "##do": 1.0, "[PAD]": 9.0}))
    found = fill(networks, ["the [MASK] sleeps", "", "no blank"], top_k=3)
    blank = found[0].blanks[0]
    assert [filling.text for filling in blank.joint] == [" cat", " dog", "do"]
    assert blank.joint[0].probability / blank.joint[1].probability == pytest.approx(np.e)
    assert (blank.start, blank.end) == (4, 10)
    assert [line.filled for line in found] == ["the cat sleeps", "", "no blank"]


def test_a_filling_goes_on_with_a_syllable_that_the_vocabulary_takes_apart():
    tokens = [*SPECIAL_TOKENS, unicodedata.normalize("NFD", "가"), "##\u11ab"]
    vocabulary = assemble("BERT", {token: number for number, token in enumerate(tokens)})
    logits_V = torch.arange(len(tokens)).float()
    usual = Network(seeing_ids, lambda states: logits_V.expand(*states.shape[:-1], -1), 32, "by hand")
    texts = ["가 [MASK]", unicodedata.normalize("NFD", "가")]
    found = fill(Networks(vocabulary, "cpu", usual), texts, top_k=2)
    assert [filling.text for filling in found[0].blanks[0].joint] == ["\u11ab", " 가"]
    assert [line.filled for line in found] == ["간", texts[1]], "what has no blank stays as it is"


def test_tokens_and_spans_are_those_of_the_model(tmp_path, architecture):
    model = exported(tmp_path)
    networks = open_networks(tmp_path, batch_size=4)
    vocabulary = networks.vocabulary
    text = "[MASK] the [MASK] [MASK] on"
    ids = vocabulary.tokenizer.encode(text).ids
    first, second = fill(networks, ["on", text], top_k=vocabulary.size)[1].blanks
    log_V = slow_log(model, ids, 1)[5:]
    assert [filling.probability for filling in first.joint] == pytest.approx(
        sorted(log_V.exp().tolist(), reverse=True), rel=1e-3
    )
    # A beam as wide as the vocabulary has looked at everything: the best pair is the best there is.
    log_V, best = slow_log(model, ids, 3), -np.inf
    for one, two in itertools.product(range(5, vocabulary.size), repeat=2):
        if one > 5 and two > 5:
            continue  # a sample of all pairs is enough, and quick
        after = slow_log(model, [*ids[:3], one, *ids[4:]], 4)
        best = max(best, (log_V[one] + after[two]).item())
    assert np.log(second.joint[0].probability) >= best - 1e-4
    assert len(second.tokens) == 2 and len(second.joint) == vocabulary.size


def test_long_lines_are_filled_wherever_the_blank_is(tmp_path):
    exported(tmp_path)
    networks = open_networks(tmp_path)
    words = ["cat"] * 200
    for place in (0, 1, 29, 100, 199):
        text = " ".join([*words[:place], "[MASK]", "[MASK]", *words[place:]])
        found = fill(networks, [text], top_k=2)[0]
        assert len(found.blanks) == 1 and len(found.blanks[0].joint) == 2
        assert "[MASK]" not in found.filled
    everything = fill(networks, ["[MASK] " * 60], top_k=2)[0].blanks[0]
    assert len(everything.tokens) == 60 and everything.joint == []
    # Too many for a row to hold: each is filled by itself, and none is left out.
    found = fill(by_hand(frequencies({"dog": 3.0})), ["the " + "[MASK] " * 60 + "mat"], top_k=1)
    assert found[0].filled.split() == ["the", *["dog"] * 60, "mat"]


def test_fillings_keep_their_blanks():
    def filled(text, filling):
        start = text.index("[")
        return fill_in(text, [Blank(start, start + 6, [], [Filling(filling, 1.0)])])

    assert filled("go [MASK]", " on") == "go on"
    assert filled("go [MASK]", "ing") == "going"
    assert filled("[MASK] on", " go") == "go on"
    # All words of WordPiece bring a blank, and the line may have none to bring.
    for text in ("see ([MASK]) now", "“[MASK]”", "well-[MASK]", "¿[MASK]?", "-[MASK]"):
        assert filled(text, " go") == text.replace("[MASK]", "go")
    assert filled("see ( [MASK] )", " go") == "see ( go )"
    assert filled("the[MASK]", " go") == "the go" and filled("नदी[MASK]", " go") == "नदी go"


def test_a_special_token_is_never_written():
    networks = by_hand(frequencies({token: 30.0 for token in ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]")}))
    size = vocabulary_of_words().size
    found = fill(networks, ["[MASK] [MASK]"], top_k=size)[0].blanks[0]
    assert len(found.tokens[0]) == size - 5
    assert not any("[" in filling.text for filling in found.joint + found.tokens[1])
