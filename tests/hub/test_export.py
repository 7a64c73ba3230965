"""Export: what `transformers` computes from our folders is what we compute, and folders start models again.

Run: pytest tests/hub/test_export.py   (the one file of tests that imports transformers)
"""

import errno
import json
import warnings
from dataclasses import asdict

import pytest
import torch
from model_examples import MASK, VOCAB, batch_of, slot_logits, small_config
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from span_electra.errors import InputError
from span_electra.hub.export import export_run, initialize, load_exported
from span_electra.hub.model_card import CardFacts
from span_electra.hub.opening import open_model
from span_electra.model.electra import SpanElectra
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble
from span_electra.training import checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers
    from transformers import AutoTokenizer, ElectraForPreTraining, pipeline


def vocabulary_of(last="zebra"):
    words = [f"word{number}" for number in range(VOCAB - len(SPECIAL_TOKENS) - 1)]
    tokens = [*SPECIAL_TOKENS, *words, last]
    return assemble("BERT", {token: number for number, token in enumerate(tokens)})


def model_of(seed=0, **changes):
    """A model whose every weight is away from its start, as after training."""
    model = SpanElectra(small_config(**changes), MASK, seed).eval()
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=dice) * 0.1)
    return model


def export(model, folder):
    export_run(model, vocabulary_of(), folder, CardFacts(metrics={"f1": 0.5}))
    return folder


MODERN = {"architecture": "modern", "layer_norm_eps": 1e-5}
EQUAL = {"generator": small_config().discriminator, "embedding_size": 16}
CASES = [
    {"embedding_sharing": "auto"},
    {"embedding_sharing": "gdes", "hidden_act": "gelu_new"},
    {"embedding_sharing": "none", "hidden_act": "silu", "use_SBGO": True, "use_SBPO": True},
    {"embedding_sharing": "none", "hidden_act": "gelu_new", "dim_final_feedforward": 6},
    {"embedding_sharing": "auto", **EQUAL},
    {"embedding_sharing": "gdes", "hidden_act": "relu", **EQUAL},
    {**MODERN, "embedding_sharing": "auto"},
    {**MODERN, "embedding_sharing": "gdes", "hidden_act": "gelu_new", "local_attention": 6},
    {**MODERN, "embedding_sharing": "none", "hidden_act": "silu", "use_SBGO": True, "use_SBPO": True},
    {**MODERN, "embedding_sharing": "auto", "rope_theta": 500.0, **EQUAL},
    {**MODERN, "embedding_sharing": "none", "hidden_act": "relu", "dim_final_feedforward": 4},
    {**MODERN, "embedding_sharing": "gdes", "local_attention": 4, "global_attention_every": 2, **EQUAL},
]


def stock_of(folder):
    """The class that config.json names, with nothing missing and nothing left over."""
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model, found = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    return model.eval()


def name_of(changes):
    return "-".join(str(value) for value in changes.values() if isinstance(value, str))[:40]


@pytest.mark.parametrize("changes", CASES, ids=name_of)
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_stock_classes_give_our_logits(changes, padded, tmp_path):
    model, masked = model_of(**changes), batch_of(padded=padded)
    export(model, tmp_path)
    asked = {} if masked.attention_mask_BL is None else {"attention_mask": masked.attention_mask_BL.long()}
    attention_mask_BL = (
        torch.ones_like(masked.original_BL, dtype=torch.bool) if not padded else masked.attention_mask_BL
    )

    generator = stock_of(tmp_path / "generator")
    states_BLD = model.generator.encoder(masked.original_BL, masked.attention_mask_BL)
    ours_BLV = model.generator.head(states_BLD, model.generator.encoder)
    theirs_BLV = generator(masked.original_BL, **asked).logits
    assert (ours_BLV - theirs_BLV)[attention_mask_BL].abs().max() <= 1e-5
    slots_SV, _ = slot_logits(model.generator, masked.original_BL, masked)
    assert (slots_SV - theirs_BLV.flatten(0, 1)[masked.slots_S]).abs().max() <= 1e-5

    discriminator = stock_of(tmp_path / "discriminator")
    ours_BL = model.discriminator(masked.original_BL, masked, None).logits_BL
    theirs_BL = discriminator(masked.original_BL, **asked).logits
    if model.config.architecture == "modern":  # of logits [0, l]
        assert discriminator.config.id2label == {0: "original", 1: "replaced"}
        assert (theirs_BL[..., 0] == 0).all()
        theirs_BL = theirs_BL[..., 1]
    assert (ours_BL - theirs_BL)[attention_mask_BL].abs().max() <= 1e-5
    assert ours_BL.abs().max() > 0.01, "logits of nearly zero would prove nothing"


def test_stock_tokenizer_gives_our_ids_and_fill_mask_works(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    export(model_of(), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "discriminator")
    assert tokenizer("word7 [MASK] zebra").input_ids == [0, 12, 3, VOCAB - 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fill = pipeline("fill-mask", model=str(tmp_path / "generator"), device="cpu")
    answers = fill("word7 [MASK] zebra")
    assert len(answers) == 5 and all(answer["token_str"] for answer in answers)


def test_a_pipeline_tells_the_replaced_words_of_a_modern_discriminator(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = model_of(**MODERN)
    export(model, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        find = pipeline("token-classification", model=str(tmp_path / "discriminator"), device="cpu")
    found = find("word7 word8 zebra")
    ids_1L = torch.tensor([find.tokenizer("word7 word8 zebra").input_ids])
    logits_L = model.discriminator.head(model.discriminator.encoder(ids_1L, None))[0, 1:-1]
    assert [word["entity"] for word in found] == [
        "replaced" if logit > 0 else "original" for logit in logits_L
    ]


@pytest.mark.parametrize("labels", [2, 3])
def test_a_classifier_made_anew_starts_as_the_card_says(labels, tmp_path):
    """That of a modern discriminator tells original from replaced, which two labels would start from."""
    folder = export(model_of(**MODERN), tmp_path) / "discriminator"
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace("path/to/discriminator", str(folder))
    if labels == 3:
        code = code.replace('1: "good"', '1: "good", 2: "so"').replace('"good": 1', '"good": 1, "so": 2')
    told: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, told)
    stored = load_file(folder / "model.safetensors")["classifier.weight"]
    assert told["model"].config.num_labels == labels and told["model"].config.id2label[1] == "good"
    assert told["model"].classifier.weight.shape == (labels, stored.shape[1])
    assert not torch.equal(told["model"].classifier.weight[:1], stored[:1])


@pytest.mark.parametrize("changes", [{}, MODERN], ids=["electra", "modern"])
def test_exported_dropout_is_what_fine_tuning_wants_whatever_pretraining_had(changes, tmp_path):
    export(model_of(**changes), tmp_path)  # itself without dropout
    settings = json.loads((tmp_path / "discriminator/config.json").read_text())
    rates = {name: value for name, value in settings.items() if "dropout" in name}
    assert rates and set(rates.values()) == {0.1}
    assert "dropout 0.1" in (tmp_path / "discriminator/README.md").read_text()


def test_an_export_trained_on_elsewhere_is_taken_as_it_is_now(tmp_path):
    """The factors beside the folded table are those of before."""
    export(model_of(**MODERN), tmp_path)
    stock = stock_of(tmp_path / "generator")
    torch.nn.init.normal_(stock.model.embeddings.tok_embeddings.weight)
    stock.save_pretrained(tmp_path / "generator")
    pretrained = open_model(tmp_path / "generator").need("generator")
    assert pretrained.config.embedding_size == 8
    table_VD = pretrained.weights["encoder.embeddings.word.weight"]
    assert torch.equal(table_VD, stock.model.embeddings.tok_embeddings.weight)


@pytest.mark.parametrize("changes", CASES, ids=name_of)
def test_a_model_started_from_an_export_is_the_exported_one(changes, tmp_path):
    model, again = model_of(**changes), model_of(seed=1, **changes)
    export(model, tmp_path)
    notes = load_exported(tmp_path, again, vocabulary_of())
    assert len(notes) == (4 if "use_SBGO" in changes else 2)
    batch = batch_of()
    assert torch.allclose(model(batch).loss, again(batch).loss, rtol=1e-5)
    assert torch.allclose(model(batch).tally, again(batch).tally, rtol=1e-4)


@pytest.mark.parametrize("trained", ["gdes", "none"])
def test_networks_that_share_less_than_the_model_would_are_refused(trained, tmp_path):
    folder = export(model_of(embedding_sharing=trained), tmp_path / "run")
    saved = checkpoint.save(tmp_path, 7, model_of(embedding_sharing="none").state_dict(), {}, {})
    for source in (folder, saved):
        model = model_of(1)
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        with pytest.raises(InputError, match="differ, which the model shares; give --embedding_sharing"):
            initialize(model, source)
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    initialize(model_of(1, embedding_sharing=trained), folder)


def test_one_network_alone_can_be_taken(tmp_path):
    model, again = model_of(embedding_sharing="none"), model_of(seed=1, embedding_sharing="none")
    export(model, tmp_path)
    before = again.generator.head.dense.weight.clone()
    load_exported(tmp_path / "discriminator", again)
    assert torch.equal(again.discriminator.head.dense.weight, model.discriminator.head.dense.weight)
    assert torch.equal(again.generator.head.dense.weight, before)
    load_exported(tmp_path, again, only="generator")
    assert torch.equal(again.generator.head.dense.weight, model.generator.head.dense.weight)
    with pytest.raises(InputError, match="holds no generator"):
        load_exported(tmp_path / "discriminator", again, only="generator")


def test_a_run_without_exports_and_its_checkpoint_start_a_model_whole_or_in_part(tmp_path):
    model = model_of()
    meta = {"model": asdict(model.config), "mask_id": model.mask_id}
    place = checkpoint.save(tmp_path, 7, model.state_dict(), {}, meta)
    (tmp_path / "tokenizer.json").write_text(vocabulary_of().to_json())
    for source in (tmp_path, place, place / "model.safetensors"):
        for only in (None, "generator"):
            again = model_of(seed=1)
            initialize(again, source, vocabulary_of(), only)
            weights, taken = again.state_dict(), model.state_dict()
            assert torch.equal(weights["generator.head.dense.weight"], taken["generator.head.dense.weight"])
            head = "discriminator.head.dense.weight"
            assert torch.equal(weights[head], taken[head]) == (only is None), source
            shared = "discriminator.encoder.embeddings.word.weight"
            assert torch.equal(weights[shared], taken[shared]), source


def test_a_folder_written_by_the_stock_class_starts_a_model(tmp_path):
    export(model_of(), tmp_path)
    stock = ElectraForPreTraining.from_pretrained(tmp_path / "discriminator")
    torch.nn.init.normal_(stock.electra.encoder.layer[1].attention.self.key.weight)
    stock.save_pretrained(tmp_path / "stock")
    again = model_of(seed=1)
    load_exported(tmp_path / "stock", again, vocabulary_of())
    width = again.config.discriminator.hidden_size
    key = again.discriminator.encoder.layers[1].qkv.weight[width : 2 * width]
    assert torch.equal(key, stock.electra.encoder.layer[1].attention.self.key.weight)


def test_an_export_replaces_an_export_and_nothing_else(tmp_path):
    export(model_of(use_SBGO=True, **MODERN), tmp_path)  # whose files are the most
    before = (tmp_path / "generator/model.safetensors").read_bytes()
    export(model_of(seed=1), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["discriminator", "generator"]
    assert not (tmp_path / "generator/span_heads.safetensors").exists()
    assert (tmp_path / "generator/model.safetensors").read_bytes() != before
    other = tmp_path / "elsewhere" / "discriminator"
    other.mkdir(parents=True)
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="in the way"):
        export(model_of(), tmp_path / "elsewhere")
    assert [path.name for path in (tmp_path / "elsewhere").rglob("*.txt")] == ["thesis.txt"]
    assert not (tmp_path / "elsewhere" / "generator").exists()


@pytest.mark.parametrize("name", [".git/HEAD", "notes.txt", "onnx/model.onnx", "1_Pooling/mine.json"])
def test_what_a_person_has_put_into_an_export_is_not_replaced(name, tmp_path):
    folder = export(model_of(), tmp_path) / "discriminator"
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=f"{folder}/{name.split('/')[0]}.*: no export of ours has it"):
        export(model_of(seed=1), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_card_that_a_person_has_changed_is_not_replaced(tmp_path):
    card = export(model_of(), tmp_path) / "generator/README.md"
    (card.parent / ".DS_Store").touch()  # nor does it matter that somebody looked in
    export(model_of(), tmp_path)  # an unchanged one is
    card.write_text(card.read_text() + "\nAsk me.\n")
    with pytest.raises(InputError, match=f"{card}: was changed since it was exported, .*; move it or choose"):
        export(model_of(seed=1), tmp_path)
    assert card.read_text().endswith("Ask me.\n")
    # Of an earlier release, which does not tell.
    spoil_config(card.parent, span_electra={"part": "generator"})
    export(model_of(seed=1), tmp_path)


def test_an_export_that_somebody_trained_and_saved_is_theirs(tmp_path):
    folder = export(model_of(), tmp_path) / "discriminator"
    ElectraForPreTraining.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(InputError, match="in the way and no export of ours"):
        export(model_of(), tmp_path)


def test_a_failed_export_leaves_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr("span_electra.hub.export.render_card", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(model_of(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network_takes_its_place_before_both_are_written(tmp_path, monkeypatch):
    export(model_of(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail_at_the_second(part, *_, **__):
        return "" if part == "generator" else 1 / 0

    monkeypatch.setattr("span_electra.hub.export.render_card", fail_at_the_second)
    with pytest.raises(ZeroDivisionError):
        export(model_of(seed=1), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_objective_generator_exports_the_generator_alone(tmp_path):
    export(model_of(objective="generator"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["generator"]


def test_a_generator_alone_is_not_put_beside_another_runs_discriminator(tmp_path):
    export(model_of(), tmp_path)
    before = (tmp_path / "generator/model.safetensors").read_bytes()
    with pytest.raises(InputError, match="discriminator: stands there, and would be opened"):
        export(model_of(objective="generator", seed=1), tmp_path)
    assert (tmp_path / "generator/model.safetensors").read_bytes() == before


def test_weights_that_cannot_be_written_are_an_error_of_the_system(tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("span_electra.hub.folders.save_file", full)
    with pytest.raises(OSError) as caught:
        export(model_of(), tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "generator" / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def spoil_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


REFUSED = {
    "hidden_size is 32, the model's is 16; set discriminator.hidden_size=32": {"hidden_size": 32},
    "vocab_size is 30522, the model's is 300": {"vocab_size": 30522},
    "hidden_act is relu": {"hidden_act": "relu"},
    "model_type is 'bert', wanted is electra": {"model_type": "bert"},
    "its class is ElectraForTokenClassification": {"architectures": ["ElectraForTokenClassification"]},
}


@pytest.mark.parametrize("message", REFUSED)
def test_folders_that_do_not_fit_are_refused_by_name(message, tmp_path):
    folder = export(model_of(), tmp_path) / "discriminator"
    spoil_config(folder, **REFUSED[message])
    with pytest.raises(InputError, match=message) as caught:
        load_exported(folder, model_of())
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_pickles_damage_and_foreign_vocabularies_are_refused(tmp_path):
    folder, model = export(model_of(), tmp_path) / "discriminator", model_of()
    with pytest.raises(InputError, match="vocabulary"):
        load_exported(folder, model, vocabulary_of(last="lion"))
    # Copies: the file they are mapped from is about to be damaged.
    weights = {name: weight.clone() for name, weight in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").write_bytes(b"\x07damaged")
    with pytest.raises(InputError, match="cannot be read"):
        load_exported(folder, model)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="not there"):
        load_exported(folder, model)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="something else than tensors, or is broken"):
        load_exported(folder, model)
    save_file(weights, folder / "model.safetensors")
    load_exported(folder, model)
    with pytest.raises(InputError, match="config.json"):
        load_exported(tmp_path / "nowhere", model)
