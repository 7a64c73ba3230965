"""Schedules never go negative; every optimizer takes its settings, and resumes exactly.

Run: pytest tests/training/test_optim.py
"""

from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from span_electra.config import OPTIMIZERS, SCHEDULES, OptimizerConfig
from span_electra.errors import InputError
from span_electra.training.optim import Optimizers, lr_multiplier

GO = torch.zeros(())


class TwoNetworks(nn.Module):
    """The names of the joint model: two networks, a table they share, hidden matrices under `layers`."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.generator = nn.ModuleDict({"embeddings": nn.ModuleDict({"word": nn.Embedding(7, 4)})})
        self.generator["layers"] = nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4)])
        self.discriminator = nn.ModuleDict({"embeddings": self.generator["embeddings"]})
        self.discriminator["layers"] = nn.ModuleList([nn.Linear(4, 4)])

    def forward(self, ids):
        states = self.generator["embeddings"]["word"](ids)
        for layer in (*self.generator["layers"], *self.discriminator["layers"]):
            states = layer(states)
        return states.square().sum()


def learning_rate(config):
    """Two groups by the first name, each with its own rate, as pretraining has them."""
    rates = {"generator": config.generator_lr, "discriminator": config.discriminator_lr}

    def of(name):
        group = name.partition(".")[0]
        return group, config.lr if rates[group] is None else rates[group]

    return of


def optimizers_of(model, config):
    return Optimizers(model, config, learning_rate(config))


def learn(model, optimizers, steps, first=0):
    for step in range(first, first + steps):
        optimizers.set_lr(lr_multiplier(step, 20, optimizers.config))
        model(torch.arange(step, step + 3) % 7).backward()
        optimizers.step(GO)
        optimizers.zero_grad()


@given(
    schedule=st.sampled_from(SCHEDULES),
    total=st.integers(1, 200),
    warmup=st.floats(0, 300),
    decay=st.floats(0, 300),
    size=st.floats(0, 300),
)
def test_rates_are_never_negative_nor_above_the_peak(schedule, total, warmup, decay, size):
    config = OptimizerConfig(schedule=schedule, warmup=warmup, decay=decay, step_size=size)
    assert all(0.0 <= lr_multiplier(done, total, config) <= 1.0 for done in range(total + 5))


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.853553, 0.5, 0.146447]),
        ("step", [0.5, 1, 1, 1, 0.1, 0.1]),
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("wsd", [0.5, 1, 1, 1, 1, 0.5]),
    ],
)
def test_each_schedule_written_out(schedule, expected):
    config = OptimizerConfig(schedule=schedule, warmup=2, step_size=2, decay=2)
    assert [lr_multiplier(done, 6, config) for done in range(6)] == pytest.approx(expected, abs=1e-6)


def test_at_most_1_is_a_share_of_all_steps():
    share, steps = OptimizerConfig(warmup=0.1), OptimizerConfig(warmup=50)
    assert [lr_multiplier(done, 500, share) for done in range(500)] == [
        lr_multiplier(done, 500, steps) for done in range(500)
    ]


EXPLICIT = {
    "betas": [0.8, 0.95],
    "epsilon": 1e-3,
    "momentum": 0.5,
    "weight_decay": 0.3,
    "generator_lr": 1e-2,
    "discriminator_lr": 3e-3,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("option", [None, *EXPLICIT])
def test_every_optimizer_takes_every_setting_and_learns(name, option):
    config = OptimizerConfig(name, **({option: EXPLICIT[option]} if option else {}))
    model = TwoNetworks()
    optimizers = optimizers_of(model, config)
    before = [parameter.clone() for parameter in model.parameters()]
    learn(model, optimizers, 8)  # radam adapts from its sixth step on
    assert all((old != new).any() for old, new in zip(before, model.parameters(), strict=True))
    used = {"momentum": ("sgd", "muon")}.get(option, () if option in ("betas", "epsilon") else OPTIMIZERS)
    if option in ("betas", "epsilon"):
        used = ("adamw", "adam", "radam", "lamb")
    if option and name in used:
        plain = TwoNetworks()
        learn(plain, optimizers_of(plain, OptimizerConfig(name)), 8)
        pairs = zip(model.parameters(), plain.parameters(), strict=True)
        assert any((one != other).any() for one, other in pairs), f"{option} changed nothing"


LEAST = {entry.name: entry.metadata["least"] for entry in fields(OptimizerConfig)}
LEAST = {name: float(least) for name, least in LEAST.items() if least is not None}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("option", LEAST)
def test_the_least_that_a_setting_may_be_leaves_weights_numbers(name, option):
    model = TwoNetworks()
    with torch.no_grad():  # gradients whose squares are no numbers any more, beside ones that are 0
        model.discriminator["layers"][0].weight.mul_(1e-12)
        model.discriminator["layers"][0].bias.mul_(1e-12)
    learn(model, optimizers_of(model, OptimizerConfig(name, **{option: LEAST[option]})), 8)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_decay_is_for_matrices_and_groups_have_their_own_rates():
    model = TwoNetworks()
    optimizers = optimizers_of(
        model, OptimizerConfig(generator_lr=0.1, discriminator_lr=0.2, weight_decay=0.3)
    )
    facts = {}
    for group in optimizers.groups:
        for parameter in group["params"]:
            name = optimizers.names[id(parameter)]
            assert name not in facts
            facts[name] = (group["peak_lr"], group["weight_decay"])
    assert facts["generator.embeddings.word.weight"] == (0.1, 0.3)
    assert facts["generator.layers.1.weight"] == (0.1, 0.0)
    assert facts["discriminator.layers.0.weight"] == (0.2, 0.3)
    assert facts["discriminator.layers.0.bias"] == (0.2, 0.0)
    assert len(facts) == len(list(model.parameters()))


def test_adamw_beside_muon_and_the_tables_have_rates_of_their_own_in_the_groups_proportions():
    config = OptimizerConfig("muon", lr=0.1, adamw_lr=0.02, embedding_lr=0.5, discriminator_lr=0.2)
    optimizers = optimizers_of(TwoNetworks(), config)
    peaks = {
        optimizers.names[id(parameter)]: group["peak_lr"]
        for group in optimizers.groups
        for parameter in group["params"]
    }
    assert peaks == pytest.approx(
        {
            "generator.embeddings.word.weight": 0.5,
            "generator.layers.0.weight": 0.1,
            "generator.layers.0.bias": 0.02,
            "generator.layers.1.weight": 0.02,
            "generator.layers.1.bias": 0.02,
            "discriminator.layers.0.weight": 0.2,
            "discriminator.layers.0.bias": 0.04,
        }
    )


def test_muon_takes_hidden_matrices_and_adamw_the_rest():
    optimizers = optimizers_of(TwoNetworks(), OptimizerConfig("muon"))
    kinds = {
        optimizers.names[id(parameter)]: type(part).__name__
        for part in optimizers.optimizers
        for group in part.param_groups
        for parameter in group["params"]
    }
    assert {name for name, kind in kinds.items() if kind == "Muon"} == {
        "generator.layers.0.weight",
        "discriminator.layers.0.weight",
    }
    assert set(kinds.values()) == {"Muon", "AdamW"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_taken_out_and_back_in_goes_on_bit_for_bit(name):
    config = OptimizerConfig(name, lr=0.01)
    straight = TwoNetworks()
    learn(straight, optimizers_of(straight, config), 6)
    stopped = TwoNetworks()
    optimizers = optimizers_of(stopped, config)
    learn(stopped, optimizers, 3)
    state = {label: tensor.clone() for label, tensor in optimizers.state().items()}
    resumed = TwoNetworks()
    resumed.load_state_dict(stopped.state_dict())
    again = optimizers_of(resumed, config)
    again.load(state, "here")
    learn(resumed, again, 3, first=3)
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("mac", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_that_must_be_skipped_changes_nothing(name, mac, monkeypatch):
    model = TwoNetworks()
    optimizers = optimizers_of(model, OptimizerConfig(name))
    if mac and any(isinstance(one, torch.optim.Adam) for one in optimizers.optimizers):  # AdamW is one too
        deaf = property(lambda adam: None, lambda adam, value: None)
        monkeypatch.setattr(torch.optim.Adam, "found_inf", deaf, raising=False)
        optimizers.waits = True
    learn(model, optimizers, 1)
    before = {label: tensor.clone() for label, tensor in (optimizers.state() | model.state_dict()).items()}
    (model(torch.arange(3)) * float("nan")).backward()
    optimizers.step(torch.ones(()))
    after = optimizers.state() | model.state_dict()
    assert all(torch.equal(before[label], after[label]) for label in before)


def test_state_of_another_model_is_refused():
    model = TwoNetworks()
    optimizers = optimizers_of(model, OptimizerConfig())
    with pytest.raises(InputError, match="here: optimizer state for 'other.weight'"):
        optimizers.load({"exp_avg:other.weight": torch.zeros(2)}, "here")
    with pytest.raises(InputError, match=r"exp_avg of generator.layers.0.weight has shape \(2, 2\)"):
        optimizers.load({"exp_avg:generator.layers.0.weight": torch.zeros(2, 2)}, "here")
