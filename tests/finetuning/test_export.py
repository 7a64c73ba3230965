"""What the stock classes compute from an exported task is what we compute, offline.

Run: pytest tests/finetuning/test_export.py
"""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from own_tokenizer_examples import bpe, roberta, unigram, wordpiece, write_folder
from task_network_examples import (
    LABELS,
    PAIRS,
    TAGS,
    TEXTS,
    VOCABULARY,
    batch_of,
    network_of,
    ours_of,
    row_of,
    spec_of,
)
from tokenizers import Tokenizer, normalizers

from span_electra.errors import InputError
from span_electra.finetuning.export import export_task
from span_electra.finetuning.task_types import TASK_TYPES
from span_electra.hub.folders import stamp_in
from span_electra.hub.opening import open_model
from span_electra.text.own_tokenizer import open_tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers  # its import warns of things that are not ours

AUTO = {
    "tokens": "AutoModelForTokenClassification",
    "replaced": "AutoModelForPreTraining",
    "language": "AutoModelForCausalLM",
    "similarity": "AutoModel",
}


@pytest.fixture(autouse=True)
def offline(architecture, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def stock_of(folder, kind):
    if kind == "replaced" and "ModernBert" in (folder / "config.json").read_text():
        kind = "tokens"
    auto = getattr(transformers, AUTO.get(kind, "AutoModelForSequenceClassification"))
    model, told = auto.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def vectors_of(answer, asked):
    """What sentence-transformers makes of states by the files beside them: their mean, at length 1."""
    mask_BL1 = asked["attention_mask"][..., None]
    mean_BD = (answer.last_hidden_state * mask_BL1).sum(1) / mask_BL1.sum(1)
    return torch.nn.functional.normalize(mean_BD, dim=-1)


# --- the same numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("task_type", TASK_TYPES)
@torch.no_grad()
def test_stock_classes_give_our_logits_for_our_rows(architecture, task_type, lowercase, paired, tmp_path):
    spec, network = spec_of(task_type, lowercase), network_of(task_type)
    if paired and spec.type.by_word:
        return  # words come one sentence a row
    if paired and spec.type.head == "similarity":
        return  # each text has a vector of its own
    export_task(network, 0, spec, VOCABULARY, tmp_path / "out")
    model, tokenizer = stock_of(tmp_path / "out", spec.type.head)
    assert tokenizer.truncation_side == ("left" if spec.type.in_turns else "right")
    texts = PAIRS if paired else TEXTS
    columns = zip(*PAIRS, strict=True) if paired else [TEXTS]
    asked = tokenizer(*map(list, columns), padding=True, return_tensors="pt")
    answer = model(**asked)
    theirs = vectors_of(answer, asked) if spec.type.head == "similarity" else answer.logits
    if architecture == "modern" and spec.type.head == "replaced":  # of logits [0, l]
        theirs = theirs[..., 1] - theirs[..., 0]
    ours = ours_of(network, spec, texts)
    largest = max(logits.abs().max() for *_, logits in ours)
    assert largest > 0.01, "logits of nearly zero would prove nothing"
    for row, (ids_L, types_L, logits) in enumerate(ours):
        real = asked["attention_mask"][row].bool()
        assert torch.equal(asked["input_ids"][row][real], ids_L)
        if architecture == "electra":  # the other has no types, and its tokenizer gives none
            assert torch.equal(asked["token_type_ids"][row][real], types_L)
        by_token = spec.type.head in ("tokens", "replaced", "language")
        told = theirs[row][real] if by_token else theirs[row]
        assert (told - logits).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ["BertTokenizer", "PreTrainedTokenizerFast"])
def test_a_brought_class_of_tokenizer_leaves_lower_case_in_an_export(name, tmp_path):
    cased = Tokenizer.from_str(VOCABULARY.to_json())
    cased.normalizer = normalizers.BertNormalizer(lowercase=False)
    settings = {"tokenizer_class": name, "do_lower_case": False, **VOCABULARY.special.config_keys()}
    brought = open_tokenizer(write_folder(tmp_path / "own", cased, settings))
    network, spec = network_of("SingleSenClassification"), spec_of("SingleSenClassification", lowercase=True)
    export_task(network, 0, spec, brought, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    assert tokenizer("undo the CATS").input_ids == brought.tokenizer.encode("undo the cats").ids


CLASSES = {
    "RobertaTokenizer": roberta,
    "GPT2Tokenizer": bpe,
    "BertTokenizer": wordpiece,
    "T5Tokenizer": unigram,
    "PegasusTokenizer": unigram,
    "XLMRobertaTokenizer": unigram,
    "PreTrainedTokenizerFast": roberta,
}


@pytest.mark.parametrize("task_type", ["SingleSenClassification", "Conversation"])
@pytest.mark.parametrize("name", CLASSES)
def test_rows_of_a_brought_tokenizer_are_those_of_training_whatever_its_class(
    architecture, name, task_type, tmp_path
):
    """Classes frame texts by rules of their own, and many tell no token types."""
    settings = {"tokenizer_class": name, "model_input_names": ["input_ids", "attention_mask"]}
    brought = open_tokenizer(write_folder(tmp_path / "own", CLASSES[name](), settings) / "tokenizer.json")
    spec, network = spec_of(task_type), network_of(task_type)
    export_task(network, 0, spec, brought, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    for text in (("the cats sleep",), ("the cats", "a dog barks")):
        ids, types = row_of(brought, spec, text)
        asked = tokenizer(*text)
        assert asked["input_ids"] == list(ids)
        assert asked.get("token_type_ids") == (list(types) if architecture == "electra" else None)


@torch.no_grad()
def test_a_mean_of_tokens_is_the_stock_classs(architecture, tmp_path):
    if architecture == "electra":
        return  # its stock class reads [CLS] alone; see test_experiment.py
    name = "SingleSenClassification"
    network, spec = network_of(name), spec_of(name)
    first = torch.stack([logits for *_, logits in ours_of(network, spec, TEXTS)])
    network.tasks = (replace(network.tasks[0], pooling="mean"),)
    export_task(network, 0, spec, VOCABULARY, tmp_path / "out")
    model, tokenizer = stock_of(tmp_path / "out", "sequence")
    asked = tokenizer(TEXTS, padding=True, return_tensors="pt")
    theirs = model(**asked).logits
    alone = torch.stack([logits for *_, logits in ours_of(network, spec, TEXTS)])
    attention_mask_BL = asked["attention_mask"].bool()
    batch = batch_of(asked["input_ids"], attention_mask_BL=attention_mask_BL)
    assert not attention_mask_BL.all() and (first - theirs).abs().max() > 1e-3
    for ours in (alone, network.logits(batch)):  # padding has no part in the mean
        assert (ours - theirs).abs().max() <= 1e-5


def test_the_config_names_labels_and_problem(architecture, tmp_path):
    types = ("SingleSenClassification", "MultiLabelClassification", "Regression", "NER", "Conversation")
    network, configs = network_of(*types), {}
    for number, task_type in enumerate(types):
        folder = export_task(network, number, spec_of(task_type), VOCABULARY, tmp_path / task_type)
        configs[task_type] = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    assert configs["NER"].id2label == dict(enumerate(TAGS))
    assert configs["NER"].label2id == {name: number for number, name in enumerate(TAGS)}
    problems = [configs[task_type].problem_type for task_type in types[:3]]
    assert problems == ["single_label_classification", "multi_label_classification", "regression"]
    assert configs["Regression"].num_labels == 1 and configs["SingleSenClassification"].num_labels == 3
    assert architecture == "modern" or configs["Conversation"].is_decoder
    assert configs["Conversation"].eos_token_id == VOCABULARY.sep_id
    assert all(config.classifier_dropout == 0.25 for config in configs.values())
    assert all(config.pad_token_id == VOCABULARY.pad_id for config in configs.values())


def test_pipelines_give_the_label_we_predict(tmp_path):
    types = ("SingleSenClassification", "NER")
    network = network_of(*types, seed=4)  # whose labels differ
    folders = [
        export_task(network, number, spec_of(task_type), VOCABULARY, tmp_path / task_type)
        for number, task_type in enumerate(types)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classify = transformers.pipeline("text-classification", model=str(folders[0]), device="cpu")
        tag = transformers.pipeline("token-classification", model=str(folders[1]), device="cpu",
                                    ignore_labels=[])  # fmt: skip
        classes, tags = classify(TEXTS), tag(TEXTS)
    assert len({answer["label"] for answer in classes}) > 1, "the same label for all would prove little"
    for answer, (*_, logits_C) in zip(classes, ours_of(network, spec_of(types[0]), TEXTS), strict=True):
        assert answer["label"] == LABELS[types[0]][logits_C.argmax()]
        assert answer["score"] == pytest.approx(float(logits_C.softmax(0).max()), abs=1e-5)
    for answers, (*_, logits_LC) in zip(tags, ours_of(network, spec_of("NER"), TEXTS, task=1), strict=True):
        found = [TAGS[number] for number in logits_LC[1:-1].argmax(-1)]
        assert [answer["entity"] for answer in answers] == found


def test_generate_runs_and_takes_the_likeliest_token(tmp_path):
    network, spec = network_of("Conversation"), spec_of("Conversation")
    model, tokenizer = stock_of(export_task(network, 0, spec, VOCABULARY, tmp_path / "out"), "language")
    asked = tokenizer("the cat", return_tensors="pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = model.generate(**asked, max_new_tokens=6, do_sample=False)[0]
    length = asked["input_ids"].shape[1]
    before_1P = asked.get("token_type_ids", torch.zeros_like(asked["input_ids"]))
    types_1L = torch.cat([before_1P, before_1P.new_ones(1, len(said) - length)], 1)
    with torch.no_grad():
        logits_LV = network.logits(batch_of(said[None], types_1L))[0]
    assert length < len(said) <= length + 6
    assert torch.equal(logits_LV[length - 1 : -1].argmax(-1), said[length:])


# --- folders --------------------------------------------------------------------------------------------


def test_an_export_of_ours_is_replaced_and_nothing_else(tmp_path):
    spec, folder = spec_of("NER"), tmp_path / "out"
    export_task(network_of("NER"), 0, spec, VOCABULARY, folder)
    before = (folder / "model.safetensors").read_bytes()
    assert export_task(network_of("NER", seed=1), 0, spec, VOCABULARY, folder) == folder
    assert (folder / "model.safetensors").read_bytes() != before
    for name, text in (
        ("thesis.txt", "years of work"),
        ("config.json", json.dumps({"model_type": "electra"})),
    ):
        foreign = tmp_path / name
        foreign.mkdir()
        (foreign / name).write_text(text)
        with pytest.raises(InputError, match="in the way and no export of ours"):
            export_task(network_of("NER"), 0, spec, VOCABULARY, foreign)
        assert [path.read_text() for path in foreign.iterdir()] == [text]
    assert not list(tmp_path.glob(".*")), "nothing is left beside"


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_an_export_of_every_type_of_task_is_known_as_ours_again(task_type, tmp_path):
    network, spec = network_of(task_type), spec_of(task_type)
    for _ in range(2):
        export_task(network, 0, spec, VOCABULARY, tmp_path / "out")
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="notes.txt: no export of ours has it"):
        export_task(network, 0, spec, VOCABULARY, tmp_path / "out")


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_an_exported_task_tells_what_its_checkpoint_does_of_its_training(task_type, tmp_path):
    network, spec = network_of(task_type), spec_of(task_type)
    network.config = replace(network.config, initialization="local")
    meta = {"step": 7, "files": {"model.safetensors": {"sha256": "65129b"}}, "max_seq_len": 20}
    folder = export_task(network, 0, spec, VOCABULARY, tmp_path / "out", meta=meta)
    pretrained = open_model(folder).need("discriminator")
    assert pretrained.longest == 20 and pretrained.config.initialization == "local"
    assert stamp_in(folder) == {"step": 7, "weights": "65129b"}


@pytest.mark.parametrize("task_type, part", [("NER", "none"), ("SpellingWords", "discriminator"),
                                             ("Conversation", "generator")])  # fmt: skip
def test_an_exported_task_is_an_encoder_to_start_from(task_type, part, tmp_path):
    network = network_of(task_type)
    folder = export_task(network, 0, spec_of(task_type), VOCABULARY, tmp_path / "out")
    pretrained = open_model(folder).need(part)
    assert pretrained.part == part and pretrained.vocabulary.sha256 == VOCABULARY.sha256
    for name, weight in network.encoder.state_dict().items():
        assert torch.equal(pretrained.weights[f"encoder.{name}"], weight)
