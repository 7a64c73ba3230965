"""The parts of a fine-tuning run: rates by layer, the encoder's bits.

Run: pytest tests/finetuning/test_experiment.py
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from finetune_examples import settings_of, write_task
from model_examples import small_config
from network_examples import exported, vocabulary_of_words
from task_examples import write

from span_electra.config import OptimizerConfig
from span_electra.errors import InputError
from span_electra.finetuning import stage
from span_electra.finetuning.arguments import FinetuningArguments
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.experiment import (
    Finetuning,
    check_monitor,
    check_pooling,
    check_token_types,
    longest_row,
    rate_share,
)
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_model import take_pretrained
from span_electra.hub.opening import open_model
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.training.optim import Optimizers


@pytest.mark.parametrize(
    ("flags", "noise", "here", "longest"),
    [
        ({}, {}, 17, 20),
        ({}, {}, 30, 30),
        ({"from_scratch": True}, {}, 17, 17),
        ({"freeze_encoder": True}, {}, 30, 20),
        ({}, {"kind": "artificial"}, 17, 32),  # its rows are made anew in each epoch
    ],
)
def test_a_network_has_learned_rows_as_long_as_they_are_and_not_as_they_may_be(flags, noise, here, longest):
    settings = SimpleNamespace(arguments=FinetuningArguments(**flags))
    spec = TaskSpec(Task("t", "SpellingWords", {}, noise=noise), (), 32)
    rows = [SimpleNamespace(spec=spec, lengths_P=np.array([length, 4])) for length in (5, here)]
    assert longest_row(settings, SimpleNamespace(longest=20), rows) == longest


@pytest.fixture
def start(tmp_path):
    exported(tmp_path / "small")
    return open_model(tmp_path / "small").need("discriminator")


def test_each_layer_has_the_rate_of_the_written_out_table():
    table = {
        "heads.0.score.weight": 1.0,
        "encoder.layers.1.": 0.5,
        "encoder.layers.0.": 0.25,
        "encoder.embeddings.": 0.125,
        "encoder.projection.": 0.125,
        "encoder.final_norm.weight": 1.0,
    }
    assert {name: rate_share(name, 2, 0.5) for name in table} == table


def test_a_loaded_encoder_is_equal_bit_for_bit_after_heads_are_attached(start):
    network = TaskNetwork(start.config, (HeadConfig("sequence", 3), HeadConfig("replaced", 1)), seed=4)
    take_pretrained(network, start)
    found = dict(network.named_parameters())
    for name, weight in start.weights.items():
        own = name if name.startswith("encoder.") else f"heads.1.{name.removeprefix('head.')}"
        assert torch.equal(found[own], weight), name
    assert start.vocabulary.sha256 == vocabulary_of_words().sha256


def test_a_mean_of_tokens_needs_an_encoder_whose_stock_class_takes_it(start):
    task = Task("t", "SingleSenClassification", {}, pooling="mean")
    check_pooling((replace(task, pooling="cls"),), start)
    with pytest.raises(InputError, match="t.pooling: mean needs an encoder of architecture modern"):
        check_pooling((task,), start)


@pytest.mark.parametrize(
    ("kind", "columns", "refused"),
    [
        ("SentencePairClassification", {}, True),
        ("ResponseSelection", {}, True),
        ("Conversation", {}, True),
        ("Regression", {"text": "a", "pair": "b"}, True),
        ("MultiLabelClassification", {"text": ["a", "b"]}, True),
        ("Regression", {"text": "a"}, False),
        ("NER", {}, False),
    ],
)
def test_pairs_and_turns_need_two_token_types(kind, columns, refused, start):
    task = Task("t", kind, {}, columns=columns)
    one_type = replace(start, config=replace(start.config, type_vocab_size=1))
    check_token_types((task,), start)
    check_token_types((task,), replace(start, config=replace(one_type.config, architecture="modern")))
    if not refused:
        check_token_types((task,), one_type)
        return
    with pytest.raises(InputError, match=f"t: {kind} needs two token types, and .*small.* has one"):
        check_token_types((task,), one_type)


def test_an_encoder_of_one_token_type_is_refused_before_rows_are_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported(tmp_path / "small", type_vocab_size=1)
    monkeypatch.setattr(stage, "prepare_tasks", None)
    for kind in ("SentencePairClassification", "Regression"):
        settings = settings_of(tmp_path, {"t": write_task(tmp_path, kind)})
        write(tmp_path / "data", "t/train.tsv", "1\t2\tthe cat\tthe dog\n")  # told by the rows alone
        for run in (lambda of=settings: stage.finetune(of), lambda of=settings: stage.prepare(of)):
            with pytest.raises(InputError, match=f"t: {kind} needs two token types"):
                run()


def test_two_tasks_that_would_share_a_metric_are_refused_where_test_is_measured_too():
    files = {"train": ("x",), "dev": ("y",), "test": ("z",)}
    tasks = tuple(Task(name, "NER", files, metrics=("accuracy",)) for name in ("a", "test_a"))

    def run(test_while_train):
        arguments = SimpleNamespace(test_while_train=test_while_train)
        return SimpleNamespace(arguments=arguments, tasks=tasks, training=SimpleNamespace(monitor="score"))

    check_monitor(run(False))
    with pytest.raises(InputError, match="two of them would report .* test_a_accuracy; rename one"):
        check_monitor(run(True))


def test_a_metric_of_rows_that_are_not_there_is_refused_as_the_best_ones():
    tasks = tuple(
        Task(name, "NER", files, metrics=("accuracy",), val_split=held)
        for name, files, held in (
            ("one", {"train": ("x",), "dev": ("y",)}, 0.0),
            ("two", {"train": ("x",)}, 0.0),
            ("three", {"train": ("x",)}, 0.1),
        )
    )

    def check(monitor):
        arguments, training = SimpleNamespace(test_while_train=True), SimpleNamespace(monitor=monitor)
        check_monitor(SimpleNamespace(arguments=arguments, tasks=tasks, training=training))

    for known in ("score", "one_accuracy", "three_accuracy"):
        check(known)
    for other in ("two_accuracy", "test_one_accuracy"):
        with pytest.raises(InputError, match=f"monitor: '{other}' is no metric"):
            check(other)


def test_losses_by_task():
    sums = {"loss": 6.0, "steps": 3, "a:loss": 8.0, "a:targets": 4, "b:loss": 0.0, "b:targets": 0}
    tasks = SimpleNamespace(names=["a", "b"])
    assert Finetuning.metrics(tasks, sums, 5.0) == {"loss": 2.0, "a_loss": 2.0}


# --- rates by layer -------------------------------------------------------------------------------------


def optimizers_of(network, config, decay):
    layers = len(network.encoder.layers)
    return Optimizers(network, config, lambda name: ("network", config.lr * rate_share(name, layers, decay)))


def rates_of(optimizers):
    """The peak rate of every parameter that learns, by name."""
    return {
        optimizers.names[id(parameter)]: group["peak_lr"]
        for group in optimizers.groups
        for parameter in group["params"]
    }


# layer_lr_decay 0.5 over two layers at lr 0.8: heads, the upper layer, the lower one, what is below both.
LAYER_TABLE = {
    "heads.0.dense": 0.8,
    "heads.0.score": 0.8,
    "heads.1.score": 0.8,
    **{f"encoder.layers.1.{part}": 0.4 for part in ("qkv", "mix", "mix_norm", "up", "down", "down_norm")},
    **{f"encoder.layers.0.{part}": 0.2 for part in ("qkv", "mix", "mix_norm", "up", "down", "down_norm")},
    "encoder.project": 0.1,
    "encoder.embeddings.norm": 0.1,
    "encoder.embeddings.word": 0.1,
    "encoder.embeddings.position": 0.1,
    "encoder.embeddings.token_type": 0.1,
}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_layers_learn_at_the_rates_of_a_written_out_table(name):
    heads = (HeadConfig("sequence", 2), HeadConfig("tokens", 3))
    network = TaskNetwork(small_config(), heads)
    optimizers = optimizers_of(network, OptimizerConfig(name, lr=0.8), 0.5)
    found = rates_of(optimizers)
    expected = {name: LAYER_TABLE[name.rpartition(".")[0]] for name, _ in network.named_parameters()}
    assert found == pytest.approx(expected)
    optimizers.set_lr(0.5)
    assert all(group["lr"] == 0.5 * group["peak_lr"] for group in optimizers.groups)
    decays = {
        optimizers.names[id(parameter)]
        for group in optimizers.groups
        for parameter in group["params"]
        if group["weight_decay"]
    }
    assert decays == {name for name, parameter in network.named_parameters() if parameter.dim() > 1}


def test_a_decay_of_1_is_one_rate_for_all_and_frozen_encoders_have_none():
    network = TaskNetwork(small_config(), (HeadConfig("sequence", 2),))
    config = OptimizerConfig(lr=0.8)
    plain = rates_of(Optimizers(network, config))
    assert rates_of(optimizers_of(network, config, 1.0)) == plain
    assert set(plain.values()) == {0.8}
    network.encoder.requires_grad_(False)
    found = rates_of(optimizers_of(network, config, 0.5))
    assert found and all(name.startswith("heads.") for name in found)
