"""Going on from a published ELECTRA, as stock `transformers` saved it.

Run: pytest tests/pretraining/test_published.py
"""

import json
import shutil
import sys
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from model_examples import batch_of
from network_examples import vocabulary_of_words

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import joint_train_span_electra  # noqa: E402
from argument import JointTrainingConfig  # noqa: E402
from span_electra.commandline import parse  # noqa: E402
from span_electra.config import ModelConfig, NetworkConfig  # noqa: E402
from span_electra.errors import InputError  # noqa: E402
from span_electra.hub.initialize import load_exported  # noqa: E402
from span_electra.hub.opening import Opened, open_model  # noqa: E402
from span_electra.model.corruption import corrupt  # noqa: E402
from span_electra.model.electra import SpanElectra  # noqa: E402
from span_electra.pretraining.defaults import stack_layers  # noqa: E402
from span_electra.pretraining.published import (  # noqa: E402
    like_published,
    model_like,
    model_vocabulary,
    published_folder,
)
from span_electra.pretraining.stage import pretrain  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

RESUMED = ["--resume", "run", "--max_steps", "4", "--epochs", "9"]
PADDED = 64  # rows of the table; the vocabulary has fewer
PLAIN = ModelConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def publish(folder, parts=("generator", "discriminator"), old=True):
    """Stock networks with random weights and vocab.txt; `old`: a pickle of tensors, no `model_type`."""
    vocabulary, stock = vocabulary_of_words(), {}
    rows = -(-vocabulary.size // PADDED) * PADDED
    for part, width in (("generator", 8), ("discriminator", 16)):
        if part not in parts:
            continue
        config = transformers.ElectraConfig(
            vocab_size=rows, embedding_size=16, hidden_size=width, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=40, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        name = {"generator": "ElectraForMaskedLM", "discriminator": "ElectraForPreTraining"}[part]
        stock[part] = getattr(transformers, name)(config).eval()
        with torch.no_grad():
            for weight in stock[part].parameters():
                weight.normal_(0.0, 0.3)
    if len(stock) == 2:  # as ELECTRA was trained: one table of words, positions and types for both
        tables = stock["generator"].electra.embeddings.state_dict()
        stock["discriminator"].electra.embeddings.load_state_dict(tables)
    for part, model in stock.items():
        place = folder / part
        model.save_pretrained(place)
        if old:
            torch.save(model.state_dict(), place / "pytorch_model.bin")
            (place / "model.safetensors").unlink()
            settings = json.loads((place / "config.json").read_text())
            settings.pop("model_type")
            (place / "config.json").write_text(json.dumps(settings))
        (place / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary.tokens_V))
    return stock


@pytest.mark.parametrize("old", [False, True])
@torch.no_grad()
def test_the_loss_at_step_0_is_that_of_the_published_model(old, tmp_path):
    stock, vocabulary = publish(tmp_path, old=old), vocabulary_of_words()
    opened = open_model(tmp_path)
    model = SpanElectra(model_like(opened, PLAIN), vocabulary.mask_id).eval()
    assert model.config.vocab_size % PADDED == 0 and model.config.max_position_embeddings == 40
    load_exported(tmp_path, model, opened.vocabulary)
    batch = batch_of()
    batch = replace(batch, original_BL=batch.original_BL % vocabulary.size)
    generated = model.generate(batch)
    masked_BL = batch.original_BL.flatten().clone()
    hidden_S = batch.slots_S[batch.slot_weight_S > 0]
    masked_BL[hidden_S] = vocabulary.mask_id
    logits_SV = stock["generator"](masked_BL.view_as(batch.original_BL)).logits.flatten(0, 1)[hidden_S]
    expected = F.cross_entropy(logits_SV, batch.original_BL.flatten()[hidden_S], reduction="sum")
    assert generated.scores.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    corrupted = corrupt(batch, generated.scores.sampled_S)
    ours_BL = model.discriminate(batch, corrupted).logits_BL
    assert (ours_BL - stock["discriminator"](corrupted.ids_BL).logits).abs().max() <= 1e-5


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_one_network_alone_gives_its_sizes_and_what_is_shared(part, tmp_path, capsys):
    publish(tmp_path, parts=(part,))
    opened = open_model(tmp_path / part)
    config = model_like(opened, PLAIN)
    alone = {"generator": (8, 32), "discriminator": (8, 16)}[part]
    assert (config.generator.hidden_size, config.discriminator.hidden_size) == alone
    model = SpanElectra(config, opened.vocabulary.mask_id)
    load_exported(tmp_path / part, model)
    assert model.generator.encoder.embeddings is model.discriminator.encoder.embeddings
    settings = replace(JointTrainingConfig(), init_from=str(tmp_path / part))
    assert like_published(settings).model.generator == config.generator
    said = capsys.readouterr().out
    assert "the model takes its sizes" in said and "holds no " in said


def test_only_stock_folders_are_published_models(tmp_path):
    settings = JointTrainingConfig()
    assert published_folder(settings) is None and like_published(settings) is settings
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/config.json").write_text("{}")
    assert published_folder(replace(settings, init_from=str(tmp_path / "run"))) is None
    assert published_folder(replace(settings, init_from=str(tmp_path / "run/x.safetensors"))) is None
    publish(tmp_path)
    assert published_folder(replace(settings, init_from=str(tmp_path))) == tmp_path


def test_a_quarter_never_has_less_than_a_head(tmp_path):
    publish(tmp_path, parts=("discriminator",))
    config = model_like(open_model(tmp_path / "discriminator"), PLAIN)
    assert config.generator == NetworkConfig(8, 2, 1, 12)


@pytest.mark.parametrize(
    "given, refused",
    [
        (["--embedding_size", "8"], "embedding_size: 8, but the weights of .* are for 16; leave it out"),
        (["--model.discriminator.hidden_size", "8"], "discriminator.hidden_size: 8, .* are for 16"),
        (["--max_position_embeddings", "512"], "max_position_embeddings: 512, .* are for 40"),
        (["--embedding_size", "16", "--model.generator_weight", "2", "--vocab_size", "none"], None),
    ],
)
def test_another_size_than_the_model_has_is_refused_where_a_flag_names_it(
    given, refused, tmp_path, monkeypatch
):
    publish(tmp_path, parts=("discriminator",))
    own = ["--model.generator.hidden_size", "12", "--model.generator.num_hidden_layers", "1"]
    argv = ["train", "--init_from", str(tmp_path / "discriminator"), *given, *own]

    def begin(settings, named):
        sizes = like_published(settings, named).model
        assert sizes.generator == NetworkConfig(12, 1, 1, 12)  # the flags', and for the rest a quarter's
        assert sizes.discriminator == NetworkConfig(16, 2, 2, 24)

    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.setattr("span_electra.pretraining.stage.pretrain", begin)
    with pytest.raises(InputError, match=refused) if refused else nullcontext():
        joint_train_span_electra.main()


@pytest.mark.parametrize("word", [None, "undogs"])
def test_one_command_goes_on_from_a_published_model_and_then_without_it(word, tmp_path, monkeypatch, capsys):
    publish(tmp_path / "published")
    (tmp_path / "text").mkdir()
    lines = "the cat sleeps on the mat\nthe undogs bark\nundo the cats\n" * 150
    (tmp_path / "words.txt").write_text(word or "")
    (tmp_path / "text/a.txt").write_text(lines)
    monkeypatch.chdir(tmp_path)
    settings, adding = JointTrainingConfig(), {"add_tokens": "words.txt"} if word else {}
    settings = replace(
        settings,
        init_from="published",
        out_dir="run",
        model=replace(settings.model, discriminator=NetworkConfig(32, 1, 1, 8)),  # the model's own are taken
        train_data=replace(settings.train_data, raw_text_dir="text", train_batch_size=8, **adding),
        training=replace(settings.training, max_steps=2),
        workers=0,
    )
    assert pretrain(settings) == 0
    said = capsys.readouterr().out
    assert "has 40 positions" in said and "weights from published/generator" in said
    exported = open_model("run").need("discriminator")
    assert exported.config.discriminator == NetworkConfig(16, 2, 2, 24)
    assert exported.vocabulary.tokens_V == vocabulary_of_words().tokens_V + ([word] if word else [])
    assert ("words.txt: tokens added: 1" in said) == ("added tokens: 1, whose rows" in said) == bool(word)
    shutil.rmtree("published")
    Path("words.txt").unlink()
    assert pretrain(parse(JointTrainingConfig, "", RESUMED, stack=stack_layers)) == 0
    assert "has 40 positions" in capsys.readouterr().out
    again = open_model("run").need("discriminator")
    assert again.vocabulary.tokens_V == exported.vocabulary.tokens_V
    assert json.loads(Path("run/run.json").read_text())["step"] == 4


def test_its_tokenizer_is_checked_before_text_is_read_with_it(tmp_path, monkeypatch):
    publish(tmp_path)
    monkeypatch.setattr(Opened, "check_tokenizer", lambda opened: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model_vocabulary(replace(JointTrainingConfig(), init_from=str(tmp_path)), None)


@pytest.mark.parametrize("name", ["ElectraModel", "ElectraForSequenceClassification"])
def test_an_encoder_alone_or_of_a_task_is_refused_by_its_class(name, tmp_path):
    publish(tmp_path, parts=("discriminator",), old=False)
    folder = tmp_path / "discriminator"
    settings = json.loads((folder / "config.json").read_text()) | {"architectures": [name]}
    (folder / "config.json").write_text(json.dumps(settings))
    settings = replace(JointTrainingConfig(), init_from=str(folder))
    with pytest.raises(InputError, match=f"class is {name}; wanted is ElectraForMaskedLM or ElectraForPre"):
        like_published(settings)


def test_tokens_cannot_be_added_to_what_is_not_named(tmp_path):
    settings = JointTrainingConfig()
    settings = replace(settings, train_data=replace(settings.train_data, add_tokens="words.txt"))
    with pytest.raises(InputError, match="add_tokens: words.txt extends the vocabulary of raw text"):
        like_published(settings)
