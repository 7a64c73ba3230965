"""The cards of exported tasks: what they tell, and that their code does what it says.

Run: pytest tests/finetuning/test_task_card.py
"""

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from model_examples import small_config
from own_tokenizer_examples import roberta, write_folder
from task_network_examples import LABELS, TAGS, VOCABULARY, batch_of, network_of, ours_of, spec_of

from span_electra.finetuning.decoding import orders_of
from span_electra.finetuning.encoding import encode_examples
from span_electra.finetuning.export import export_task, metrics_of, task_facts
from span_electra.finetuning.predictions import decided, word_scores
from span_electra.finetuning.readers import Example
from span_electra.finetuning.task_card import render_task_card
from span_electra.finetuning.task_model import TaskModel
from span_electra.finetuning.turns import never_said
from span_electra.hub.electra import ELECTRA
from span_electra.hub.model_card import CardFacts
from span_electra.hub.modernbert import MODERN
from span_electra.text.own_tokenizer import open_tokenizer
from span_electra.text.word_starts import without_blanks


@pytest.fixture(autouse=True)
def offline(architecture, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# --- what its code does --------------------------------------------------------------------------------


def run_card(folder, before, text, *more):
    """What the code of a card makes of a text in place of its own; `said`: what a pipeline answers last."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace("\nanswer(", "\nsaid = answer(")
    for theirs, ours in more:
        assert theirs in code
        code = code.replace(theirs, ours)
    assert before in code
    told: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code.replace("path/to/this/folder", str(folder)).replace(before, text), told)
    return told


@pytest.mark.parametrize("text", ["the cat", "the cats sleep on the mat " * 9])
def test_the_code_of_a_conversations_card_speaks_however_long_the_talk(architecture, text, tmp_path):
    """Behind the last position there is none, and a turn without its type would be the other's."""
    network, spec = network_of("Conversation"), spec_of("Conversation")
    never = never_said(VOCABULARY, network.config.vocab_size)
    with torch.no_grad():  # as if all that no turn held were what the network would rather say
        network.heads[0].bias[never] = 50.0
    folder = export_task(network, 0, spec, VOCABULARY, tmp_path / "out")
    told = run_card(folder, "Is this seat free?", text)
    asked, said = told["row"]["input_ids"][0], told["said"]
    assert len(asked) <= 16 and 0 < len(said) <= 16
    row_L = torch.cat([asked, said])[None]
    types_1L = torch.tensor([[0] * (len(asked) - 1) + [1] * (1 + len(said))])
    with torch.no_grad():
        logits_LV = network.logits(batch_of(row_L, types_1L))[0]
    assert set(logits_LV[len(asked) - 1 : -1].argmax(-1).tolist()) <= {*never}
    logits_LV[:, never] = -math.inf
    assert torch.equal(logits_LV[len(asked) - 1 : -1].argmax(-1), said)
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert front.get("pipeline_tag") == (None if architecture == "electra" else "text-generation")
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings["max_new_tokens"] == 16 and settings["eos_token_id"] == VOCABULARY.sep_id


@pytest.mark.parametrize("made", ["WordPiece", "BPE"])
@pytest.mark.parametrize(
    "words",
    [
        "the u.s. cats undo un-bark",
        "แมว นอน the cats 无法 打开 PDF 。",  # mostly written without blanks
        "the cats " * 20,  # more than a row has room for
    ],
)
def test_the_code_of_a_taggers_card_gives_every_word_its_label_in_the_row_of_training(
    architecture, words, made, tmp_path
):
    """Pipelines take words between blanks, or every token without ##, for a word."""
    spec, text = spec_of("NER"), tuple(words.split())
    vocabulary = VOCABULARY
    if made == "BPE":
        vocabulary = open_tokenizer(write_folder(tmp_path / "own", roberta(), {}) / "tokenizer.json")
    network = network_of("NER", seed=4, vocab_size=vocabulary.size)
    row = encode_examples(vocabulary, spec, [Example("1", (), text)])[0]
    with torch.no_grad():
        logits_LC = network.logits(batch_of(torch.tensor([row["input_ids"]])))[0]
        network.heads[0].score.bias -= logits_LC.mean(0)  # no label is every token's
        logits_LC = logits_LC - logits_LC.mean(0)
    folder = export_task(network, 0, spec, vocabulary, tmp_path / "out")
    first = {word: place for place, word in reversed([*enumerate(row["word_ids"])])}
    best = [TAGS[logits_LC[first[word]].argmax()] if word in first else "O" for word in range(len(text))]
    told = run_card(folder, "The quick brown fox jumps over the lazy dog .", words)
    assert told["row"] == row["input_ids"]
    assert told["labels"] == list(zip(text, best, strict=True)) and len(set(best)) > 1


@pytest.mark.parametrize("labels", [TAGS, ("B", "M", "E", "S")])
@pytest.mark.parametrize("words", ["the u.s. cats undo un-bark", "the cats " * 20])
def test_the_code_of_a_taggers_card_gives_the_tags_that_predictions_have(labels, words, tmp_path):
    """Tags in an order that training has, where the likeliest ones are in none."""
    rows = [labels, [*labels[:3], "O"]] if "O" in labels else [["B", "M", "E", "S"], ["B", "E", "B", "E"]]
    spec, text, orders = replace(spec_of("NER"), labels=labels), tuple(words.split()), orders_of(rows)
    network = network_of("NER", seed=4)
    network.tasks = (replace(network.tasks[0], orders=orders),)
    row = encode_examples(VOCABULARY, spec, [Example("1", (), text)])[0]
    with torch.no_grad():
        logits_LC = network.logits(batch_of(torch.tensor([row["input_ids"]])))[0]
        network.heads[0].score.bias -= logits_LC.mean(0)  # no label is every token's
        logits_LC = (logits_LC - logits_LC.mean(0)).numpy()
    scores_WC, _ = word_scores(logits_LC, np.array(row["word_ids"]), len(text), labels)
    [best] = decided([scores_WC], spec, network.tasks[0], shift=0.0)
    assert best != scores_WC.argmax(-1).tolist()
    folder = export_task(network, 0, spec, VOCABULARY, tmp_path / "out")
    told = run_card(folder, "The quick brown fox jumps over the lazy dog .", words)
    assert told["labels"] == [(word, labels[tag]) for word, tag in zip(text, best, strict=True)]
    assert "pipelines take each word's likeliest tag" in (folder / "README.md").read_text()


def test_the_code_of_a_taggers_card_knows_the_scripts_without_blanks(tmp_path):
    folder = export_task(network_of("NER"), 0, spec_of("NER"), VOCABULARY, tmp_path / "out")
    told = run_card(folder, "quick", "fast")
    for code_point in range(0x110000):
        character = chr(code_point)
        assert bool(told["bare"].fullmatch(2 * character)) == without_blanks(character), hex(code_point)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("task_type", ["SingleSenClassification", "MultiLabelClassification"])
def test_the_code_of_a_classifiers_card_scores_the_rows_of_training(task_type, paired, long, tmp_path):
    """Also of a text that is too long, which the pipeline by itself gives the network whole."""
    if paired and task_type == "SingleSenClassification":
        return
    spec, network = spec_of(task_type), network_of(task_type)
    spec = replace(spec, task=replace(spec.task, paired=paired))
    folder = export_task(network, 0, spec, VOCABULARY, tmp_path / "out")
    text, other = ("the cats sleep on the mat" + " dogs bark" * 20 * long, "the dog" + " undo" * 25 * long)
    if paired:
        told = run_card(folder, "The quick brown fox jumps.", text, ("Over the lazy dog.", other))
    else:
        told = run_card(folder, "The quick brown fox jumps over the lazy dog.", text)
    ((*_, logits_C),) = ours_of(network, spec, [(text, other) if paired else text])
    several = task_type == "MultiLabelClassification"
    shares_C = logits_C.sigmoid() if several else logits_C.softmax(-1)
    ours = dict(zip(LABELS[task_type], shares_C.tolist(), strict=True))
    scores = {label["label"]: label["score"] for label in told["said"]}
    best = max(ours, key=ours.get)
    assert scores == pytest.approx(ours if several else {best: ours[best]}, abs=1e-5)


# --- the card -----------------------------------------------------------------------------------------

META = {
    "step": 30,
    "encoder": "/home/me/runs/first/discriminator",
    "from_scratch": False,
    "rows": {"t": {"train": 100, "dev": 20}},
    "prepared": {"t": "9f86d0"},
    "loop": {
        **{"step": 30, "tokens": 5000.0, "samples": 300},
        **{"valid": {"t_f1": 0.5, "score": 0.7}, "valid_step": 30},
    },
}


def card_of(tmp_path, meta, **facts):
    spec = spec_of("SingleSenClassification")
    model = TaskModel(network_of("SingleSenClassification"), (spec,), VOCABULARY, meta)
    told = task_facts(model, 0, CardFacts(**facts))
    return (
        export_task(model.network, 0, spec, VOCABULARY, tmp_path / "t", facts=told) / "README.md"
    ).read_text()


def test_the_card_names_base_model_data_sizes_metrics_and_no_path(tmp_path):
    text = card_of(tmp_path, META, license="mit", language=["en"])
    front = yaml.safe_load(text.split("---\n")[1])
    assert "Started from `first`." in text and "base_model" not in front  # no name on a hub
    assert front["license"] == "mit" and front["language"] == ["en"]
    assert front["pipeline_tag"] == "text-classification" and front["library_name"] == "transformers"
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["name"] == "dev rows" and result["metrics"] == [{"type": "f1", "value": 0.5}]
    rows = ("| rows of the train | 100 |", "| rows of the dev | 20 |", "| tokens seen | 5000 |", "9f86d0")
    for piece in (*rows, "## Sizes", "## Limits", 'pipeline("text-classification"', "Metrics on dev rows"):
        assert piece in text, piece
    assert "/home" not in text


def test_a_model_from_random_weights_has_no_base_and_what_is_named_wins(tmp_path):
    meta = META | {"from_scratch": True, "loop": {}}
    assert "Started from" not in card_of(tmp_path, meta) and "model-index" not in card_of(tmp_path, meta)
    assert 'base_model: "me/base"' in card_of(tmp_path, META, base_model="me/base")


def test_a_card_has_no_metrics_of_other_weights(tmp_path):
    for step, there in ((30, True), (20, False)):
        text = card_of(tmp_path, META | {"loop": META["loop"] | {"valid_step": step}})
        assert ("model-index" in text) == ("## Metrics" in text) == there


def test_metrics_go_to_the_task_whose_name_fits_them_best():
    valid = {"a_f1": 1.0, "a_b_f1": 2.0, "test_a_f1": 3.0, "test_a_b_f1": 4.0, "test_f1": 5.0, "score": 6.0}
    assert metrics_of(valid, "a", ["a", "a_b", "test"]) == {"dev": {"f1": 1.0}, "test": {"f1": 3.0}}
    assert metrics_of(valid, "a_b", ["a", "a_b", "test"]) == {"dev": {"f1": 2.0}, "test": {"f1": 4.0}}
    assert metrics_of(valid, "test", ["a", "a_b", "test"]) == {"dev": {"f1": 5.0}}


# --- which code and notes -----------------------------------------------------------------------------


def test_each_type_of_task_has_the_code_and_the_notes_that_it_needs():
    def card(task_type, record=ELECTRA, **task):
        spec = spec_of(task_type)
        spec = replace(spec, task=replace(spec.task, name="mine", **task))
        facts = CardFacts(base_model="me/base", metrics={"f1": 0.5})
        return render_task_card(spec, record, facts, config=small_config(), vocabulary=VOCABULARY)

    def front_of(text):
        return yaml.safe_load(text.split("---\n")[1])

    text = card("SingleSenClassification")
    assert front_of(text)["pipeline_tag"] == "text-classification"
    assert "mine (SingleSenClassification)" in text and "ElectraForSequenceClassification" in text
    assert 'pipeline("text-classification"' in text and "| layers |" in text
    text = card("SentencePairClassification")
    assert "pipeline(" not in text and "ElectraForSequenceClassification.from_pretrained(" in text
    text = card("NER")
    assert front_of(text)["pipeline_tag"] == "token-classification"
    # What follows a word's first token was never learned, and would be told like names.
    assert "that of its first token" in text and "with a label each" in text
    text = card("SpellingWords", MODERN)
    assert 'pipeline("token-classification"' in text and "first" not in text
    text = card("MultiLabelClassification")
    assert "top_k=None" in text and "from .5 on" in text and "text_pair" not in text
    for record, told in ((ELECTRA, True), (MODERN.decoder, False)):
        text = card("Conversation", record)
        assert "max_length=16" in text and "model.generate(" in text
        assert ("gives the network no token types" in text) == ("pipeline_tag" not in front_of(text)) == told
        assert front_of(text)["model-index"][0]["results"][0]["task"]["type"] == "text-generation"
    for record, told in ((ELECTRA, True), (MODERN, False)):
        assert ("`token_type_ids` of your own" in card("ResponseRetrieval", record)) == told
