"""What one process does with several devices' answers (processes: test_devices.py).

Run: pytest tests/training/test_parallel.py
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from model_examples import MASK, batch_of, small_config
from torch import nn

from span_electra.batch import StepOutput
from span_electra.config import TrainingConfig
from span_electra.model.electra import SpanElectra
from span_electra.model.encoder import Encoder
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.training import parallel
from span_electra.training.devices import Process
from span_electra.training.launch import launch
from span_electra.training.parallel import (
    RowParallel,
    add_outputs,
    full_tensor,
    no_sync,
    uses_dropout_keys,
    wrap_model,
)
from span_electra.training.run import place_model

CPU = torch.device("cpu")


def test_losses_and_tallies_of_devices_add_up():
    parts = [StepOutput(torch.tensor(0.5), torch.tensor([1.0, 2.0])) for _ in range(3)]
    added = add_outputs(parts)
    assert added.loss == 1.5 and added.tally.tolist() == [3.0, 6.0]


def test_gradients_travel_at_the_last_batch_alone():
    asked = []
    network = SimpleNamespace(set_requires_gradient_sync=asked.append)
    for number in range(3):
        with no_sync(network, enabled=number < 2):
            assert asked[-1] is (number == 2)


def test_a_plain_network_draws_by_key_on_the_cpu_and_its_tensors_are_in_one_piece():
    network = nn.Linear(2, 2)
    assert uses_dropout_keys(network, Process(torch.device("cpu")))
    assert full_tensor(network.weight) is network.weight


# --- one process, several devices: two threads on the CPU stand in for two GPUs ---------------------------


@pytest.fixture
def two_replicas(monkeypatch):
    """A model under RowParallel on two stand-in devices that share its weights, and the seeds they get."""
    seeds = []
    monkeypatch.setattr(parallel, "replicate", lambda model, devices, detach: [model] * len(devices))
    monkeypatch.setattr(parallel, "seed_device", lambda device, seed: seeds.append(seed))
    model = SpanElectra(small_config(), MASK)

    def make(precision=torch.float32):
        process = Process(torch.device("cpu"), replica_ids=(0, 1), precision=precision)
        return model, RowParallel(model, process), seeds

    return make


@pytest.mark.parametrize("rows", [1, 5])
def test_two_replicas_give_the_sums_and_gradients_of_one(two_replicas, rows):
    model, network, seeds = two_replicas()
    batch = batch_of(rows=rows, fill=0, padded=True)
    expected = model(batch)
    gradients = torch.autograd.grad(expected.loss, list(model.parameters()), allow_unused=True)
    output = network(batch)
    torch.testing.assert_close(output.loss, expected.loss)
    torch.testing.assert_close(output.tally, expected.tally)
    found = torch.autograd.grad(output.loss, list(model.parameters()), allow_unused=True)
    for mine, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert len(set(seeds)) == len(seeds) == min(rows, 2)  # other dropout masks in each


def test_each_replica_computes_in_the_type_of_the_run(two_replicas):
    model, network, _ = two_replicas(torch.bfloat16)
    seen = []
    layer = model.generator.encoder.layers[0]
    layer.register_forward_hook(lambda *_: seen.append(torch.get_autocast_dtype("cpu")))
    network(batch_of(fill=0))
    assert seen == [torch.bfloat16] * 2


def test_replicas_leave_no_graph_where_none_is_wanted(two_replicas):
    _, network, _ = two_replicas()
    with torch.no_grad():
        assert not network(batch_of(fill=0)).loss.requires_grad


# --- shares of parameters -------------------------------------------------------------------------------


def types_under_fsdp(precision, rank, world, store):
    """Types: of a batch's random numbers; of a weight while it computes, at rest, and of its gradient."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    model, computed = SpanElectra(small_config(), MASK), []
    layer = model.generator.encoder.layers[0]
    layer.register_forward_hook(lambda module, *_: computed.append(next(module.parameters()).dtype))
    model.generator.register_forward_pre_hook(lambda _, given: computed.append(given[1].uniform_S.dtype))
    network = wrap_model(
        model, Process(CPU, rank, world, precision=precision), TrainingConfig(parallel="fsdp")
    )
    with torch.autocast("cpu", precision):
        network(batch_of()).loss.backward()
    weight = next(layer.parameters())
    found = *computed[:2], weight.dtype, weight.grad.dtype
    torch.distributed.destroy_process_group()
    return found


def test_shares_compute_in_the_runs_type_and_are_kept_and_added_in_float32():
    found = launch(partial(types_under_fsdp, torch.bfloat16), 2)[0]
    # Of the batch nothing is rounded: in fp16 its counts of tokens would end at 65,504.
    assert found == (torch.float32, torch.bfloat16, torch.float32, torch.float32)


class Indivisible(SpanElectra):
    """A model that no device can hold at once."""

    def to(self, *_):
        raise AssertionError("the whole model was sent to one device")


def losses_in_shares(rank, world, store):
    """The loss of a model that was placed layer by layer, and of one in one piece."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    model = Indivisible(small_config(), MASK)
    process, config = Process(CPU, rank, world), TrainingConfig(parallel="fsdp")
    network = place_model(model, config, process, None, "")
    found = network(batch_of()).loss.item(), SpanElectra(small_config(), MASK)(batch_of()).loss.item()
    torch.distributed.destroy_process_group()
    return found


def test_shares_are_placed_layer_by_layer_so_that_a_model_need_not_fit_one_device():
    in_shares, whole = launch(losses_in_shares, 2)[0]
    assert in_shares == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("asked", [False, True])
def test_every_encoder_is_told_to_make_activations_again(asked):
    config = small_config(embedding_sharing="none")
    for model in (SpanElectra(config, MASK), TaskNetwork(config, (HeadConfig("sequence", 2),))):
        settings = TrainingConfig(activation_checkpointing=asked, compile="off")
        place_model(model, settings, Process(CPU), None, "")
        encoders = [module for module in model.modules() if isinstance(module, Encoder)]
        assert encoders and all(encoder.checkpointing == asked for encoder in encoders)
