"""What one process does with several devices' answers (processes: test_devices.py).

Run: pytest tests/training/test_parallel.py
"""

from types import SimpleNamespace

import torch
from torch import nn

from span_electra.batch import StepOutput
from span_electra.training.devices import Process
from span_electra.training.parallel import add_outputs, full_tensor, no_sync, uses_dropout_keys


def test_losses_and_tallies_of_devices_add_up():
    parts = [StepOutput(torch.tensor(0.5), torch.tensor([1.0, 2.0])) for _ in range(3)]
    added = add_outputs(parts)
    assert added.loss == 1.5 and added.tally.tolist() == [3.0, 6.0]


def test_gradients_travel_at_the_last_batch_alone():
    asked = []
    network = SimpleNamespace(set_requires_gradient_sync=asked.append)
    with no_sync(network, enabled=True):
        assert asked == [False]
    assert asked == [False, True]
    with no_sync(network, enabled=False):
        assert asked == [False, True]


def test_a_plain_network_draws_by_key_on_the_cpu_and_its_tensors_are_in_one_piece():
    network = nn.Linear(2, 2)
    assert uses_dropout_keys(network, Process(torch.device("cpu")))
    assert full_tensor(network.weight) is network.weight
