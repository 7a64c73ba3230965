"""What the page shows of a text. Run: pytest tests/inference/test_analysis.py"""

import json

import pytest
import torch
from network_examples import by_hand, frequencies, seeing_ids, spotter
from predictor_examples import finetuned, spec_of

from span_electra.errors import InputError
from span_electra.hub.networks import Network, Networks
from span_electra.inference.analysis import analyze, task_answers, text_for
from span_electra.inference.lines import line_function
from span_electra.inference.predictor import Predictor
from span_electra.inference.tasks import TaskPredictor
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble
from span_electra.text.word_starts import byte_letters


def test_lines_say_what_belongs_together():
    assert text_for(spec_of("film"), "a\nb") == "a b" and text_for(spec_of("tags"), "a b\n") == "a b"
    assert text_for(spec_of("same"), "a\nb") == ("a", "b")
    assert text_for(spec_of("same"), "a") is None and text_for(spec_of("same"), "a\nb\nc") is None
    assert text_for(spec_of("topics"), "a\nb") == ("a", "b") and text_for(spec_of("topics"), "a") == "a"
    assert text_for(spec_of("chat"), "a\n\nb") == ["a", "b"]
    assert text_for(spec_of("select"), "a\nb\n\nc\nd") == (["a", "b"], ["c", "d"])
    assert text_for(spec_of("select"), "a\nb") is None


def test_every_task_that_can_read_a_text_answers_it_as_the_predictor_does(tmp_path):
    finetuned(tmp_path)
    predictor = TaskPredictor.from_folder(tmp_path, device="cpu")
    found = {answer["task"]: answer for answer in task_answers(predictor, "the cat\nthe dog")["answers"]}
    assert "same" in found and "select" not in found
    assert found["same"]["label"] == predictor([("the cat", "the dog")], "same")["same"][0].label
    assert found["tags"]["words"] == ("the", "cat", "the", "dog") and found["near"]["kind"] == "number"


def test_what_no_task_reads_is_refused(tmp_path):
    finetuned(tmp_path, "select")
    with pytest.raises(InputError, match="select: turns a line each"):
        task_answers(TaskPredictor.from_folder(tmp_path, device="cpu"), "the cat")


def test_characters_are_those_of_the_text_in_one_line():
    predictor = Predictor(by_hand(frequencies({"dog": 1.0}), spotter({"cats": 3.0})))
    found = analyze(predictor, "the\ncats [MASK]", 0.5, 3)
    assert found["text"] == "the cats [MASK]"
    assert [found["text"][start:end] for start, end, _ in found["tokens"]] == ["the", "cats"]
    assert found["blanks"][0][0][0] == "dog"


def test_the_page_shows_what_the_lines_say():
    """Shares with digits that count, however small, and doubted words with their numbers."""
    predictor = Predictor(by_hand(frequencies({"dog": 9.0}), spotter({"cats": 3.0})))
    found = analyze(predictor, "the cats [MASK]", 0.5, 3)
    filled = json.loads(
        line_function(predictor, "fill", as_text=False, threshold=0.5, top_k=3)([found["text"]])[0]
    )
    (shown,), (told,) = found["blanks"], [blank["whole"] for blank in filled["blanks"]]
    assert [text for text, _ in shown] == [text for text, _ in told]
    assert [share for _, share in shown] == pytest.approx([share for _, share in told], rel=1e-3)
    assert 0 < found["blanks"][0][-1][1] < 1e-4
    corrected = line_function(predictor, "correct", as_text=False, threshold=0.5, top_k=3)([found["text"]])[0]
    assert found["doubted"] == json.loads(corrected)["doubted"] != []


def test_every_character_has_the_verdict_of_a_token_that_shows_it():
    """Byte-level BPE gives the blank behind a mask an empty token before the word's own."""
    ids = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *byte_letters()])}
    vocabulary = assemble("BPE", ids)
    even = Network(seeing_ids, lambda states: torch.zeros(*states.shape[:-1], vocabulary.size), 32, "by hand")
    sure = Network(seeing_ids, lambda states: torch.zeros(states.shape[:-1]), 32, "by hand")
    for text in ("go [MASK] on", "[MASK] x", "a [MASK] [MASK], b"):
        found = analyze(Predictor(Networks(vocabulary, "cpu", even, sure)), text, 0.5, 3)
        shown, done = "", 0
        for start, end, _ in found["tokens"]:
            assert start < end
            shown += text[max(start, done) : end]
            done = max(done, end)
        assert shown.replace(" ", "") == text.replace("[MASK]", "").replace(" ", "")
