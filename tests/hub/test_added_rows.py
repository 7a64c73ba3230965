"""Rows of added tokens: the mean of their pieces', all else as it was.

Run: pytest tests/hub/test_added_rows.py
"""

import warnings
from dataclasses import replace

import pytest
import torch
from network_examples import random_model, vocabulary_of_words
from tokenizers import Tokenizer

from span_electra.errors import InputError
from span_electra.hub.export import export_run
from span_electra.hub.initialize import load_exported
from span_electra.model.electra import SpanElectra
from span_electra.text.added_tokens import add_tokens, pieces_of
from span_electra.text.vocabulary import Vocabulary

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

OLD, WORDS = vocabulary_of_words(), ("undogs", "catmat")


def extended(folder, *words):
    (folder / "words.txt").write_text("\n".join(words))
    return add_tokens(OLD, folder / "words.txt")


def with_rows(model, rows):
    """A model of other weights, and with so many rows of words."""
    return SpanElectra(replace(model.config, vocab_size=rows), OLD.mask_id, seed=5).eval()


@torch.no_grad()
@pytest.mark.parametrize("padding", [0, 1, 40])  # rows of the old tables that no token has
def test_new_rows_are_means_and_old_tokens_are_judged_as_before(architecture, padding, tmp_path):
    new = extended(tmp_path, *WORDS)
    before = with_rows(random_model(embedding_sharing="none"), OLD.size + padding)
    before.generator.head.bias.normal_()
    export_run(before, OLD, tmp_path / "old")
    after = with_rows(before, max(OLD.size + padding, new.size))
    notes, _ = load_exported(tmp_path / "old", after, new)
    assert "added tokens: 2, whose rows start from the mean" in notes[0]
    tables = {
        name: [model.get_parameter(name) for model in (before, after)]
        for name in (
            "generator.encoder.embeddings.word.weight",
            "discriminator.encoder.embeddings.word.weight",
            "generator.head.bias",
        )
    }
    for old_table, new_table in tables.values():
        assert torch.equal(old_table[: OLD.size], new_table[: OLD.size])
        for row, word in enumerate(WORDS, start=OLD.size):
            pieces = pieces_of(OLD, word)
            assert len(pieces) > 1 and torch.allclose(new_table[row], old_table[pieces].mean(0))
    ids_1L, logits = torch.tensor([OLD.tokenizer.encode("the cats sleep on the mat").ids]), []
    for model in (before, after):
        states_1LD = model.generator.encoder(ids_1L, None)
        logits.append(model.generator.head(states_1LD, model.generator.encoder)[..., : OLD.size])
    assert torch.allclose(*logits, atol=1e-6)


@torch.no_grad()
def test_every_table_with_a_row_a_token_grows_by_one_rule(architecture, tmp_path):
    """Also the span-boundary head's bias, which stands in a file of its own."""
    new, heads = extended(tmp_path, *WORDS), {"use_SBGO": True, "use_SBPO": True}
    before = random_model(**heads)
    export_run(before, OLD, tmp_path / "old")
    after = with_rows(before, new.size)
    load_exported(tmp_path / "old", after, new)
    tables = {name: w for name, w in before.generator.named_parameters() if w.shape[:1] == (OLD.size,)}
    assert {"head.bias", "span_head.bias"} < tables.keys()
    for name, table in tables.items():
        longer = after.generator.get_parameter(name)
        assert torch.allclose(longer[: OLD.size], table, atol=1e-6), name
        for row, token in enumerate(new.tokens_V[OLD.size :], start=OLD.size):
            assert torch.allclose(longer[row], table[pieces_of(OLD, token)].mean(0), atol=1e-6), name


@torch.no_grad()
def test_the_extended_model_opens_in_stock_transformers(architecture, tmp_path):
    new, before = extended(tmp_path, *WORDS), random_model(layer_norm_eps=1e-5)
    export_run(before, OLD, tmp_path / "old")
    model = with_rows(before, new.size)
    load_exported(tmp_path / "old", model, new)
    export_run(model, new, tmp_path / "new")
    place = tmp_path / "new/generator"
    tokenizer = transformers.AutoTokenizer.from_pretrained(place, local_files_only=True)
    stock = transformers.AutoModelForMaskedLM.from_pretrained(place, local_files_only=True).eval()
    asked = tokenizer("the undogs sleep on the catmat", return_tensors="pt")
    assert {OLD.size, OLD.size + 1} <= set(asked["input_ids"][0].tolist())
    states_1LD = model.generator.encoder(asked["input_ids"], None)
    ours = model.generator.head(states_1LD, model.generator.encoder)
    assert (stock(**asked).logits - ours).abs().max() <= 1e-5


def test_a_token_without_pieces_starts_from_the_unknown_ones_row(tmp_path):
    """One of a tokenizer that was brought along, which we did not add."""
    tokenizer = Tokenizer.from_str(OLD.to_json())
    tokenizer.add_tokens(["\u00ad"])
    new, before = Vocabulary.from_json(tokenizer.to_str()), random_model()
    export_run(before, OLD, tmp_path / "old")
    after = with_rows(before, new.size)
    load_exported(tmp_path / "old", after, new)
    name = "generator.encoder.embeddings.word.weight"
    assert torch.equal(after.get_parameter(name)[OLD.size], before.get_parameter(name)[OLD.unk_id])


def test_other_added_tokens_are_no_extension(tmp_path):
    model, there = random_model(), extended(tmp_path, *WORDS)
    export_run(with_rows(model, there.size), there, tmp_path / "there")
    other = extended(tmp_path, "barkmat", *WORDS)
    with pytest.raises(InputError, match="made with vocabulary .*, the features with"):
        load_exported(tmp_path / "there", with_rows(model, other.size), other)
