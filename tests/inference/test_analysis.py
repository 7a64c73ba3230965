"""What the page shows of a text. Run: pytest tests/inference/test_analysis.py"""

import json

import pytest
from network_examples import by_hand, frequencies, spotter
from predictor_examples import finetuned, spec_of

from span_electra.errors import InputError
from span_electra.inference.analysis import analyze, task_answers, text_for
from span_electra.inference.lines import answering
from span_electra.inference.predictor import Predictor
from span_electra.inference.tasks import TaskPredictor


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
        answering(predictor, "fill", as_text=False, threshold=0.5, top_k=3)([found["text"]])[0]
    )
    (shown,), (told,) = found["blanks"], [blank["whole"] for blank in filled["blanks"]]
    assert [text for text, _ in shown] == [text for text, _ in told]
    assert [share for _, share in shown] == pytest.approx([share for _, share in told], rel=1e-3)
    assert 0 < found["blanks"][0][-1][1] < 1e-4
    corrected = answering(predictor, "correct", as_text=False, threshold=0.5, top_k=3)([found["text"]])[0]
    assert found["doubted"] == json.loads(corrected)["doubted"] != []
