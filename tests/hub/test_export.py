"""Export: what `transformers` computes from our folders is what we compute.

Run: pytest tests/hub/test_export.py   (what starts from such folders: test_initialize.py)
"""

import errno
import json
import warnings

import pytest
import torch
from export_examples import CASES, MODERN, export, model_of, name_of, spoil_config
from model_examples import VOCAB, batch_of, slot_logits
from safetensors import SafetensorError
from safetensors.torch import load_file

from span_electra.errors import InputError
from span_electra.hub.folders import write_tensors
from span_electra.hub.opening import FACTORS, open_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers
    from transformers import AutoTokenizer, ElectraForPreTraining, pipeline


def stock_of(folder):
    """The class that config.json names, with nothing missing and nothing left over."""
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model, found = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    return model.eval()


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


@pytest.mark.parametrize("changed", ["word", "project", "both", "width"])
def test_factors_of_another_size_are_left_aside(changed, tmp_path):
    """Somebody may have resized the table in place, or the file may be of another model."""
    folder = export(model_of(**MODERN), tmp_path) / "generator"
    factors = load_file(folder / FACTORS)
    word, project = factors["word"], factors["project"]
    other = {
        "word": (word[:-1], project),
        "project": (word, project[:-1]),
        "both": (word[:-1], project[:-1]),
        "width": (word, project[:, :-1]),
    }[changed]
    write_tensors(
        {name: w.contiguous() for name, w in zip(("word", "project"), other, strict=True)}, folder / FACTORS
    )
    pretrained = open_model(folder).need("generator")
    table_VD = load_file(folder / "model.safetensors")["model.embeddings.tok_embeddings.weight"]
    assert torch.equal(pretrained.weights["encoder.embeddings.word.weight"], table_VD)


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
