"""A fine-tuned run from Python: order, pairs, windows, and the answers of training's own evaluation.

Run: pytest tests/inference/test_tasks.py
"""

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from network_examples import vocabulary_of_words
from predictor_examples import LONGEST, TASKS, finetuned, spec_of

from span_electra.config import ARCHITECTURES
from span_electra.errors import InputError
from span_electra.finetuning.batching import TaskRows
from span_electra.finetuning.encoding import encode_examples
from span_electra.finetuning.predictions import predict_rows
from span_electra.finetuning.readers import Example
from span_electra.finetuning.turns import join_turns
from span_electra.inference.arguments import GenerationArguments
from span_electra.inference.task_lines import text_of_line
from span_electra.inference.tasks import Ranking, TaskPredictor, Words, example_of
from span_electra.text.token_spans import read_lines
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble
from span_electra.training.devices import Process

TEXTS = ["the cat sleeps", "", "dogs bark on the mat", "the cat sleeps", "cat " * 40, "a"]
PAIRS = [("the cat", "a dog"), ("", ""), ("dogs " * 30, "bark"), ("the cat", "a dog")]
WORDS = vocabulary_of_words()
NUMBER = {name: number for number, name in enumerate(TASKS)}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def predictor(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    finetuned(folder, architecture=request.param)
    return TaskPredictor.from_folder(folder, "cpu", batch_size=3)


def evaluated(predictor, name, examples, folder):
    """What training's evaluation predicts of the same examples."""
    spec = spec_of(name)
    spec = replace(spec, task=replace(spec.task, noise={}))
    label = {"number": 0.0, "sequence": 0, "several": []}.get(spec.type.head, [0] * LONGEST)  # any
    rows = [row | {"label": label} for row in encode_examples(predictor.vocabulary, spec, examples)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = TaskRows(folder / "rows.jsonl", spec, predictor.vocabulary)
    return predict_rows(predictor.network, NUMBER[name], source, 2, Process(torch.device("cpu"))).predictions


@pytest.mark.parametrize("name", ["film", "clean", "topics", "near", "tags", "wrong", "same"])
def test_answers_are_those_of_the_evaluation_in_the_order_of_the_texts(name, predictor, tmp_path):
    texts = PAIRS if name == "same" else TEXTS
    if name in ("tags", "wrong"):  # evaluation does not judge what is cut off
        texts = [text for text in texts if len(text.split()) < LONGEST - 2]
        examples = [Example(str(n), (text,), tuple(text.split())) for n, text in enumerate(texts)]
    else:
        examples = [Example(str(n), text if name == "same" else (text,)) for n, text in enumerate(texts)]
    expected, labels = evaluated(predictor, name, examples, tmp_path), TASKS[name][1]
    found = predictor(texts, name)[name]
    if name == "near":
        assert [answer.value for answer in found] == pytest.approx(expected, abs=1e-5)
        assert len(set(np.round(expected, 4))) > 3
    elif name in ("film", "clean", "same"):
        assert [answer.label for answer in found] == [labels[number] for number in expected]
        assert all(1 / len(labels) <= answer.probability <= 1 for answer in found)
    else:
        assert [list(answer.labels) for answer in found] == [[labels[n] for n in row] for row in expected]
    if name == "topics":
        assert all((answer.probability[label] > 0.5) == (label in answer.labels)
                   for answer in found for label in labels)  # fmt: skip


def test_words_have_the_probabilities_of_their_tokens(predictor):
    words = ["the", "zz", "cat"]  # two tokens for the second
    ids = predictor.vocabulary.tokenizer.encode("the zz cat").ids
    states_1LD = predictor.network.encoder(torch.tensor([ids]), None)
    with torch.no_grad():
        wrong_T = predictor.network.answer(NUMBER["wrong"], states_1LD)[0, 1:-1].sigmoid().tolist()
        tags_TC = predictor.network.answer(NUMBER["tags"], states_1LD)[0, 1:-1].softmax(-1)
    assert len(wrong_T) == 4
    found = predictor([words, "the zz cat"], ["wrong", "tags"])
    expected = [wrong_T[0], max(wrong_T[1:3]), wrong_T[3]]
    assert found["wrong"][0].probability == pytest.approx(expected, abs=1e-5)
    best_W = tags_TC[[0, 1, 3]].max(-1).values.tolist()
    assert found["tags"][0].probability == pytest.approx(best_W, abs=1e-5)
    assert found["wrong"][0] == found["wrong"][1] and found["wrong"][0].words == tuple(words)
    strict = replace(predictor, threshold=max(expected) + 1e-5)
    assert set(strict([words], "wrong")["wrong"][0].labels) == {"0"}
    assert "1" in replace(predictor, threshold=0.0)([words], "wrong")["wrong"][0].labels
    # From the threshold on, as the flag says, and as pretrained models detect and correct.
    most = max(found["wrong"][0].probability)
    assert "1" in replace(predictor, threshold=most)([words], "wrong")["wrong"][0].labels


def test_answers_to_what_was_longer_than_a_row_say_so(predictor):
    fits, long = "cat " * (LONGEST - 2), "cat " * (LONGEST - 1)
    for name in ("film", "topics", "near", "clean"):
        assert [answer.cut for answer in predictor([long, "", fits], name)[name]] == [True, False, False]
    pairs = [("cat " * 13, ""), ("cat " * 13, "a")]
    assert [answer.cut for answer in predictor(pairs, "same")["same"]] == [False, True]
    room = LONGEST - 8  # half a row is for the reply
    assert [predictor.longest_row(spec_of(name)) for name in ("chat", "film")] == [room, LONGEST]
    turns = [["cat " * (room - 2)], ["cat " * (room - 2), "a"], []]
    assert [answer.cut for answer in predictor(turns, "chat")["chat"]] == [False, True, False]
    asked = [(["cat " * 12], ["a"]), (["cat " * 13], ["a"]), (["cat " * 14], ["a"]), (["cat " * 15], ["a"])]
    assert [answer.cut for answer in predictor(asked, "select")["select"]] == [False, True, True, True]
    assert [answer.cut for answer in predictor(asked, "near it")["near it"]] == [False, False, False, True]


def test_every_word_of_a_long_text_is_judged_in_its_window(predictor):
    words = ("the cat sleeps on dogs mat un bark " * 8).split()
    found = predictor([words, [], words], ["tags", "wrong"])
    for name in ("tags", "wrong"):
        assert [len(answer.labels) for answer in found[name]] == [64, 0, 64]
        assert min(found[name][0].probability) > 0
        assert found[name][1] == Words((), (), ())
        assert found[name][0] == found[name][2]
    # The last window is the last 14 tokens, and judges the second half of them.
    alone = predictor([words[-14:]], "tags")["tags"][0]
    assert found["tags"][0].probability[-7:] == pytest.approx(alone.probability[-7:], abs=1e-5)


@torch.no_grad()
def test_candidates_are_scored_after_their_turns(predictor):
    vocabulary, task = predictor.vocabulary, NUMBER["select"]
    asked = [(["the cat", "sleeps"], ["the mat", "dogs bark", ""]), (["a dog"], []), ([], ["un"])]
    found = predictor(asked)["select"]
    for (turns, candidates), answer in zip(asked, found, strict=True):
        expected = []
        for last in candidates:
            ids = [vocabulary.tokenizer.encode(turn, add_special_tokens=False).ids for turn in [*turns, last]]
            row = join_turns(ids, vocabulary.sep_id, LONGEST)
            types_1L = torch.tensor([row.types])
            states_1LD = predictor.network.encoder(torch.tensor([row.ids]), None, types_BL=types_1L)
            expected.append(predictor.network.answer(task, states_1LD).item())
        assert answer.scores == pytest.approx(expected, abs=1e-5)
    assert found[1] == Ranking(()) and len(set(found[0].scores)) == 3


@torch.no_grad()
def test_candidates_are_as_near_as_their_vectors(predictor):
    vocabulary, task = predictor.vocabulary, NUMBER["near it"]

    def vector_of(turns):
        ids = [vocabulary.tokenizer.encode(turn, add_special_tokens=False).ids for turn in turns]
        row = join_turns(ids, vocabulary.sep_id, LONGEST, open_ended=True)
        states_1LD = predictor.network.encoder(
            torch.tensor([row.ids]), None, types_BL=torch.tensor([row.types])
        )
        return torch.nn.functional.normalize(states_1LD.mean(1), dim=-1)[0]

    asked = [(["the cat", "sleeps"], ["the mat", "dogs bark", ""]), (["a dog"], []), ([], ["un"])]
    found = predictor(asked)["near it"]
    for (turns, candidates), answer in zip(asked, found, strict=True):
        expected = [float(vector_of(turns) @ vector_of([last])) for last in candidates]
        assert answer.scores == pytest.approx(expected, abs=1e-5)
    assert found[1] == Ranking(()) and len(set(found[0].scores)) == 3
    assert predictor.network.tasks[task].kind == "similarity"


def test_all_tasks_that_can_read_the_texts_answer(predictor):
    assert set(predictor(["the cat"])) == {"film", "topics", "near", "tags", "chat", "wrong", "clean"}
    assert set(predictor([("the cat", "a dog")])) == {"same", "topics", "near"}
    assert set(predictor([["the", "cat"]])) == {"tags", "chat", "wrong"}
    assert set(predictor([(["the"], ["cat"])])) == {"select", "near it"}
    assert all(answers == [] for answers in predictor([]).values())
    assert predictor(["the cat", ["the", "cat"]], "tags")["tags"][0].words == ("the", "cat")


@pytest.mark.parametrize("name", ["near", "topics"])
def test_a_task_of_one_text_or_two_reads_what_its_train_rows_were(name):
    spec, texts = spec_of(name), ("a", ("a", "b"))
    for paired, able in ((None, [True, True]), (False, [True, False]), (True, [False, True])):
        told = replace(spec, task=replace(spec.task, paired=paired))
        assert [example_of(told, text, WORDS) is not None for text in texts] == able
        lines = [text_of_line(told, line) for line in ("a", "a\tb", "")]
        read = [line is not None and example_of(told, line, WORDS) is not None for line in lines]
        # A TAB is a character of a text where none is paired; an empty line is an empty text or pair.
        assert read == [able[0], True, True]


@pytest.mark.parametrize(
    ("texts", "tasks", "message"),
    [
        (["a"], "flim", "task 'flim' is not known; did you mean 'film'"),
        (["a"], ["film", "same"], "text 1: task 'same' .* reads a pair"),
        (["a", ("a", "b")], ["near", "film"], "text 2: task 'film' .* reads a text"),
        ([("a", "b"), "a"], ["same"], "no task can read them all: task 'same'"),
        ([["a"], ("a", "b", "c")], None, "no task can read them all: task 'film'"),
        ([(["a"], "b")], "select", r"task 'select' .* reads \(turns, candidates\)"),
        ("a", "film", "give a list"),
    ],
)
def test_what_cannot_be_read_is_told(texts, tasks, message, predictor):
    with pytest.raises(InputError, match=message):
        predictor(texts, tasks)


def test_answers_that_are_not_numbers_are_refused(tmp_path):
    """In JSON they would be no JSON."""
    finetuned(tmp_path / "run", *(names := [name for name in TASKS if name != "chat"]))
    predictor = TaskPredictor.from_folder(tmp_path / "run", "cpu")

    def refused(name):
        text = (["a"], ["b"]) if spec_of(name).type.has_candidates else ("a", "b") if name == "same" else "a"
        with pytest.raises(InputError, match="run: its answers are not numbers; its weights are broken"):
            predictor([text], name)

    list(predictor.network.heads[names.index("near")].parameters())[-1].data.fill_(float("inf"))
    refused("near")
    for parameter in predictor.network.parameters():
        parameter.data.fill_(float("nan"))
    for name in names:
        refused(name)


def test_a_conversation_is_answered_with_its_turns(predictor):
    bold = replace(predictor, speech=GenerationArguments(max_new_tokens=4, temperature=0))
    talker = bold.talker()
    found = [answer.text for answer in bold([["the cat", "sleeps"], "dogs bark", []], "chat")["chat"]]
    assert found == [talker(["the cat", "sleeps"]), talker(["dogs bark"]), talker([])]
    with pytest.raises(InputError, match="leave no room"):
        replace(predictor, speech=GenerationArguments(max_new_tokens=14)).talker()


def test_a_model_without_a_conversation_task_does_not_talk(tmp_path):
    finetuned(tmp_path, "film", "tags")
    with pytest.raises(InputError, match=r"has no Conversation task.*film \(Single.*tags \(NER\)"):
        TaskPredictor.from_folder(tmp_path, "cpu").talker()


def test_words_of_a_text_without_blanks_are_cut_as_detection_cuts_them():
    tokens = [*SPECIAL_TOKENS, "无", "法", "打", "开", "pdf", "##x"]
    vocabulary = assemble("BERT", {token: number for number, token in enumerate(tokens)})
    for text in ("无法打开 pdfx", "pdf pdfx", "", "无法。"):
        (line,) = read_lines(vocabulary, [text])
        # Tokens that are no words were not taught, and that is said.
        told = line.words != text.split()
        with pytest.warns(UserWarning, match="^tags: .* give a list of them") if told else nullcontext():
            assert example_of(spec_of("tags"), text, vocabulary).words == tuple(line.words)
        # A mark of a spelling set is of all between two blanks, whatever the script.
        assert example_of(spec_of("wrong"), text, vocabulary).words == tuple(text.split())
    given = ["无法", "New York"]
    assert example_of(spec_of("tags"), given, vocabulary).words == tuple(given)
