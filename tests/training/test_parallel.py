"""A model is wrapped for several processes, or cut into shares (whole runs: test_devices.py).

Run: pytest tests/training/test_parallel.py
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from model_examples import MASK, batch_of, small_config
from torch import nn

from span_electra.config import TrainingConfig
from span_electra.model.electra import SpanElectra
from span_electra.model.encoder import Encoder
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.training.devices import Process
from span_electra.training.launch import launch
from span_electra.training.parallel import full_tensor, no_sync, uses_dropout_keys, wrap_model
from span_electra.training.run import place_model

CPU = torch.device("cpu")


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
    network = place_model(model, config, process, None)
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
        place_model(model, settings, Process(CPU), None)
        encoders = [module for module in model.modules() if isinstance(module, Encoder)]
        assert encoders and all(encoder.checkpointing == asked for encoder in encoders)
