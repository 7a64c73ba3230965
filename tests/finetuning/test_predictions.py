"""Predictions in the rows' order whatever the batches; metrics, and what is written of them.

Run: pytest tests/finetuning/test_predictions.py
"""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from finetune_examples import sources_of, write_task
from hypothesis import given
from hypothesis import strategies as st
from network_examples import exported, vocabulary_of_words
from task_examples import one_task

from span_electra.errors import InputError
from span_electra.finetuning.batching import turn_windows
from span_electra.finetuning.decoding import SHIFTS, best_tags, direction, orders_of
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.export import export_task
from span_electra.finetuning.predictions import (
    TaskPredictions,
    called_replaced,
    check_metrics,
    compute_metrics,
    predict_rows,
    prediction_lines,
    tag_orders,
    word_scores,
)
from span_electra.finetuning.task_model import take_pretrained
from span_electra.finetuning.task_types import RECORDS, TASK_TYPES
from span_electra.finetuning.turns import join_turns
from span_electra.hub.opening import open_model
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.training.devices import Process

SINGLE = "SingleSenClassification"
CPU = Process(torch.device("cpu"))


def network_and_rows(folder, kind):
    exported(folder / "small")
    start = open_model(folder / "small").need("generator" if kind == "Conversation" else "discriminator")
    [source] = sources_of(folder, {"t": write_task(folder, kind)}, "dev")
    head = HeadConfig(source.spec.type.head, source.spec.type.outputs(source.spec.labels))
    network = TaskNetwork(start.config, (head,), seed=1)
    take_pretrained(network, start)
    return network, source


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_predictions_come_in_the_rows_order_whatever_the_batch_size(kind, tmp_path, architecture):
    network, source = network_and_rows(tmp_path, kind)
    one, many = (predict_rows(network, 0, source, size, CPU) for size in (1, 7))
    assert one.uids == many.uids == [str(source.stored(row)["uid"]) for row in range(len(source))]
    for mine, theirs in zip(one.predictions, many.predictions, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    assert predict_rows(network, 0, source, 7, CPU, stop=lambda: True) is None


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_batches_hold_few_tokens_those_of_candidates_too(kind, tmp_path, monkeypatch):
    network, source = network_and_rows(tmp_path, kind)
    one, seen, states = predict_rows(network, 0, source, 1, CPU), [], TaskNetwork.states
    # The turns and ten candidates, each in a row of its own.
    most = source.spec.max_seq_len * (11 if source.spec.type.has_candidates else 1)
    monkeypatch.setattr("span_electra.hub.networks.BATCH_TOKENS", most)
    monkeypatch.setattr(
        TaskNetwork, "states", lambda self, batch, key: seen.append(batch.ids_BL) or states(self, batch, key)
    )
    assert predict_rows(network, 0, source, 256, CPU).uids == one.uids
    assert len(seen) > 1 and max(ids_BL.numel() for ids_BL in seen) <= most


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_answers_that_are_not_numbers_are_refused(kind, tmp_path):
    network, source = network_and_rows(tmp_path, kind)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(InputError, match="t: its answers are not numbers; its weights are broken"):
        predict_rows(network, 0, source, 7, CPU)


def test_perplexity_is_that_of_the_exported_folder_by_hand(tmp_path):
    network, source = network_and_rows(tmp_path, "Conversation")
    found = compute_metrics(predict_rows(network, 0, source, 5, CPU), source)["perplexity"]
    export_task(network, 0, source.spec, vocabulary_of_words(), tmp_path / "talk")
    from transformers import ElectraForCausalLM

    model = ElectraForCausalLM.from_pretrained(tmp_path / "talk").eval()
    nats, tokens = 0.0, 0
    for row in range(len(source)):
        turns = source.stored(row)["turns"]
        for begin, end in turn_windows(turns, 32):
            unpadded = join_turns(turns[begin:end], vocabulary_of_words().sep_id, 32)
            ids, types = torch.tensor([unpadded.ids]), torch.tensor([unpadded.types])
            with torch.no_grad():
                log_LV = model(input_ids=ids, token_type_ids=types).logits[0].log_softmax(-1)
            nats -= float(log_LV[:-1].gather(1, ids[0, 1:, None]).double().sum())
            tokens += ids.shape[1] - 1
    assert found == pytest.approx(math.exp(nats / tokens), rel=1e-4)


def test_a_word_has_the_class_of_its_first_token_or_is_wrong_where_any_token_is():
    row = {"words": 4, "word_ids": [-1, 0, 0, 2, -1]}  # the second word has no token, the last was cut off
    logits_LC = np.eye(3)[[0, 2, 1, 1, 0]]
    assert classes_of(row, logits_LC, ("0", "1", "2")) == [2, 0, 1, 0]
    assert classes_of(row, logits_LC, ("B-N", "I-N", "O")) == [2, 2, 1, 2], "no part of a name"
    assert called_replaced(row, np.array([9.0, -1.0, 2.0, -3.0, 9.0])) == [1, 0, 0, 0]
    nothing = {"words": 1, "word_ids": [-1, -1]}
    assert classes_of(nothing, logits_LC[:2], ("B-N", "I-N", "O")) == [2]


def classes_of(row, logits_LC, labels):
    scores_WC, _ = word_scores(logits_LC, np.array(row["word_ids"]), row["words"], labels)
    return scores_WC.argmax(-1).tolist()


@pytest.mark.parametrize("kind", [SINGLE, "MultiLabelClassification", "NER"])
def test_the_threshold_that_rows_ask_for_is_the_best_and_is_that_of_the_exported_bias(kind, tmp_path):
    network, source = network_and_rows(tmp_path, kind)
    if kind == SINGLE:
        source.spec = replace(source.spec, task=replace(source.spec.task, metrics=("f1",)))
    moved_C = torch.from_numpy(direction(source.spec.type.head, source.spec.labels))
    with torch.no_grad():
        network.heads[0].score.bias -= 2.5 * moved_C  # a network that hardly ever dares
    tuned = predict_rows(network, 0, source, 7, CPU, shift=None)
    assert tuned.shift in SHIFTS
    again = predict_rows(network, 0, source, 7, CPU, shift=tuned.shift)
    assert again.predictions == tuned.predictions
    plain = predict_rows(network, 0, source, 7, CPU)
    assert plain.shift == 0 and plain.predictions != tuned.predictions
    with torch.no_grad():
        network.heads[0].score.bias += tuned.shift * moved_C
    assert predict_rows(network, 0, source, 7, CPU).predictions == tuned.predictions


def test_tags_are_in_an_order_that_the_training_rows_have(tmp_path):
    network, source = network_and_rows(tmp_path, "NER")
    assert tag_orders(source) == ("B B same", "B O", "O B", "O O")
    network.tasks = (replace(network.tasks[0], orders=("B O", "O B", "O O")),)  # no two names side by side
    found = predict_rows(network, 0, source, 7, CPU).predictions
    tags = [[source.spec.labels[label] for label in row] for row in found]
    assert any("B-N" in row for row in tags)
    assert not any(pair == ("B-N", "B-N") for row in tags for pair in zip(row, row[1:], strict=False))
    network.heads[0].score.bias.data[source.spec.labels.index("O")] -= 50
    assert predict_rows(network, 0, source, 7, CPU).predictions != found, "O only where it must be"


@pytest.mark.parametrize(
    ("labels", "row", "orders"),
    [
        (("B", "E", "M", "S"), [0, 2, 1, 3], ("B M same", "E S same", "M E same", "O B", "S O")),
        (("NOUN", "VERB"), [0, 1], ()),  # parts of speech stand anywhere
        (("O", "NN"), [0, 1], ()),
    ],
)
def test_tags_of_chunks_have_an_order_with_and_without_an_outside(labels, row, orders):
    class Rows(list):
        spec = SimpleNamespace(labels=labels, type=SimpleNamespace(head="tokens"))
        stored = list.__getitem__

    assert tag_orders(Rows([{"label": row}])) == orders


def test_words_that_the_row_has_no_token_of_end_what_was_begun_where_no_tag_is_outside():
    """As in Chinese word segmentation, B M E and S, of a text that is longer than a row."""
    labels = ("B", "E", "M", "S")
    orders = orders_of([["S", "B", "E", "B", "M", "E", "S"], ["B", "E"]])
    word_L = np.array([-1, 0, 1, -1])
    scores_WC, _ = word_scores(np.eye(4)[[3, 3, 0, 3]], word_L, 4, labels)
    found = [labels[tag] for tag in best_tags(scores_WC, labels, orders)]
    assert found[:2] == ["S", "B"] and {*orders} >= {*orders_of([found])}


def told(kind, labels=(), metrics=()):
    spec = SimpleNamespace(type=next(one for one in RECORDS if one.head == kind), labels=labels)
    spec.task = SimpleNamespace(metrics=metrics)
    return SimpleNamespace(spec=spec)


def test_metrics_and_lines_of_outcomes_made_by_hand():
    uids = ["x\ty", "2", "3", "4"]
    sequence, predicted = (
        told("sequence", ("no", "yes"), ("accuracy",)),
        TaskPredictions(uids, [0, 1, 1, 0], [0, 1, 0, 0]),
    )
    assert compute_metrics(predicted, sequence) == {"accuracy": 0.75}
    lines = list(prediction_lines(predicted, sequence))
    assert lines[:2] == ["uid\tprediction\tlabel\n", "x y\tno\tno\n"] and len(lines) == 5
    several = told("several", ("a", "b"), ("f1",))
    assert compute_metrics(TaskPredictions(["1", "2"], [[0], []], [[0, 1], []]), several) == {
        "f1": pytest.approx(2 / 3)
    }
    assert list(prediction_lines(TaskPredictions(["1"], [[0, 1]], [[]]), several))[1] == "1\ta,b\t\n"
    talk = TaskPredictions(["1", "2"], [(10 * math.log(50), 10), (10 * math.log(50), 10)], [None, None])
    language = told("language", metrics=("perplexity",))
    assert compute_metrics(talk, language) == {"perplexity": pytest.approx(50)}
    ranked = TaskPredictions(["1"], [np.array([0.5, 0.9, 0.1])], [None])
    for kind in ("ranking", "similarity"):
        choice = told(kind, metrics=("recall_at_1",))
        assert list(prediction_lines(ranked, choice))[1] == "1\t2\t1\n"
        assert compute_metrics(ranked, choice) == {"recall_at_1": 0.0}


def test_a_threshold_among_three_labels_is_refused(tmp_path):
    task = replace(one_task(tmp_path), tuned_threshold=True)
    check_metrics(TaskSpec(task, ("no", "yes"), 32))
    with pytest.raises(InputError, match="t.tuned_threshold: a threshold decides between two labels"):
        check_metrics(TaskSpec(task, ("a", "b", "c"), 32))


def test_f1_of_more_than_two_labels_is_refused(tmp_path):
    for kind, labels, refused in (
        (SINGLE, ("a", "b", "c"), True),
        ("SentencePairClassification", tuple("abcdefg"), True),
        (SINGLE, ("a", "b"), False),
        ("SpellingSequence", ("0", "1"), False),
        ("MultiLabelClassification", ("a", "b", "c"), False),
    ):
        task = replace(one_task(tmp_path, kind), metrics=("f1", "accuracy"))
        if not refused:
            check_metrics(TaskSpec(task, labels, 32))
            continue
        with pytest.raises(InputError, match=r"t.metrics: f1 .* here are \d \(a, b, c.*; write macro_f1"):
            check_metrics(TaskSpec(task, labels, 32))
        for metrics in (("accuracy", "macro_f1"), ("matthews",)):
            check_metrics(TaskSpec(replace(task, metrics=metrics), labels, 32))


def test_several_labels_are_written_in_one_order_each_once():
    several = told("several", ("a", "b", "c"), ("f1",))
    lines = list(prediction_lines(TaskPredictions(["1"], [[0, 2]], [[2, 0, 2]]), several))
    assert lines[1] == "1\ta,c\ta,c\n"


def fields_of(source, prediction, target, uid="1"):
    """The fields of the line that is written for a row."""
    line = [*prediction_lines(TaskPredictions([uid], [prediction], [target]), source)][1]
    assert line.endswith("\n") and line.count("\n") == 1
    return line[:-1].split("\t")


FINITE = {"allow_nan": False, "allow_infinity": False}


@given(st.floats(width=32, **FINITE), st.floats(**FINITE))
def test_numbers_are_written_as_the_task_has_them(prediction, target):
    _, found, label = fields_of(told("number"), prediction, target)
    assert float(label) == target and np.float32(found) == np.float32(prediction)
    assert fields_of(told("number"), 4.0, 1234567.891) == ["1", "4", "1234567.891"]


LABEL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4)


@given(st.lists(LABEL, min_size=2, max_size=4, unique=True), st.data())
def test_labels_are_written_as_the_task_has_them(labels, data):
    rows = data.draw(st.lists(st.lists(st.integers(0, len(labels) - 1), unique=True), min_size=1, max_size=3))
    for kind, separator in (("several", ","), ("tokens", " ")):
        listed = any(separator in label for label in labels)
        for row in rows:
            row = sorted(row)
            _, found, label = fields_of(told(kind, tuple(labels)), row, row)
            there = json.loads(found) if listed else found.split(separator) if found else []
            assert found == label and there == [labels[number] for number in row]
    label = labels[rows[0][0]] if rows[0] else labels[0]
    uid, found, _ = fields_of(told("sequence", tuple(labels)), labels.index(label), 0, uid=label)
    assert uid == found == label


def test_metrics_that_cannot_be_taken_are_refused_before_training(tmp_path):
    task = one_task(tmp_path, "NER")
    with pytest.raises(
        InputError, match=r"chunk_f1 needs tags .* not 'NN'; write metrics: \[accuracy\], .*label_map_or_file"
    ):
        check_metrics(TaskSpec(task, ("O", "NN"), 32))
    for letters in ("BI", "BIES", "BILU", "BMES", "BMEW"):
        check_metrics(TaskSpec(task, ("O", *(f"{letter}-X" for letter in letters)), 32))
