"""Our own optimizers make the steps of the papers and of torch, and ask no number of the device.

That they leave a bad step out, and resume, is in test_optim.py. Run: pytest tests/training/test_skippable.py
"""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from span_electra.training.muon import Muon
from span_electra.training.skippable import SGD, Lamb, RAdam


@pytest.mark.parametrize("decayed", [0.0, 0.1])
@pytest.mark.parametrize("name", ["sgd", "radam", "lamb"])
def test_ours_make_the_steps_that_their_papers_and_torch_have(name, decayed):
    torch.manual_seed(0)
    mine = [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.zeros(3))]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in mine]
    rates = {"lr": 0.05, "weight_decay": decayed}
    ours = {
        "sgd": lambda: SGD([{"params": mine, **rates}], momentum=0.9),
        "radam": lambda: RAdam([{"params": mine, **rates}], betas=(0.9, 0.98), eps=1e-8),
        "lamb": lambda: Lamb([{"params": mine, **rates}], betas=(0.9, 0.98), eps=1e-6),
    }[name]()
    reference = {
        "sgd": lambda: torch.optim.SGD(theirs, momentum=0.9, **rates),
        "radam": lambda: torch.optim.RAdam(theirs, betas=(0.9, 0.98), decoupled_weight_decay=True, **rates),
        "lamb": lambda: PlainLamb(theirs, rates | {"betas": (0.9, 0.98), "eps": 1e-6}),
    }[name]()
    for _ in range(20):  # RAdam trusts its squares from the sixth on
        for weight, other in zip(mine, theirs, strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        ours.step()
        reference.step()
        for weight, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(weight, other, rtol=2e-5, atol=1e-6)


class PlainLamb(torch.optim.Optimizer):
    """LAMB, one parameter after the other."""

    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        for weight in group["params"]:
            means = self.state[weight]
            for key, beta, value in zip(
                "mv", group["betas"], (weight.grad, weight.grad.square()), strict=True
            ):
                means[key] = beta * means.get(key, 0.0) + (1 - beta) * value
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            update = means["m"] / (means["v"].sqrt() + group["eps"])
            length, norm = weight.norm().clamp(max=10.0), update.norm()
            ratio = length / (norm + group["eps"]) if length and norm else 1.0
            means["steps"] = means.get("steps", 0) + 1
            weight.sub_(group["lr"] / (1 - group["betas"][0] ** means["steps"]) * ratio * update)


def on_meta(name, count=3):
    """An optimizer of so many matrices on the device "meta", whose tensors have no numbers."""
    matrices = [nn.Parameter(torch.zeros(6, 4, device="meta")) for _ in range(count)]
    group = {"params": matrices, "lr": 0.1, "weight_decay": 0.1, "blocks": 3}
    made = {
        "sgd": lambda: SGD([group], momentum=0.9),
        "radam": lambda: RAdam([group], betas=(0.9, 0.98), eps=1e-8),
        "lamb": lambda: Lamb([group], betas=(0.9, 0.98), eps=1e-8),
        "muon": lambda: Muon([group], momentum=0.9),
    }[name]()
    for matrix in matrices:
        matrix.grad = torch.zeros_like(matrix)
    return made


@pytest.mark.parametrize("name", ["sgd", "radam", "lamb", "muon"])
def test_no_number_of_a_step_comes_to_the_host(name):
    # Whoever asks for a number on "meta", or for a size made of one, fails.
    made = on_meta(name)
    made.step()
    made.step()


class Operators(TorchDispatchMode):
    """Counts operators that compute; on a GPU each is about one launch."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        self.count += not operator.is_view
        return operator(*arguments, **(options or {}))


@pytest.mark.parametrize(("name", "each"), [("sgd", 1), ("radam", 1), ("lamb", 1), ("muon", 3)])
def test_one_more_parameter_is_hardly_more_to_launch(name, each):
    """A model has hundreds: what is done for all at once is one operator; a gradient's reset is not, nor
    the casts, scaling and sum of a Muon matrix."""
    counts = {}
    for parameters in (3, 13):
        made = on_meta(name, parameters)
        made.step()  # its state is made once
        with Operators() as counted:
            made.step()
        counts[parameters] = counted.count
    assert counts[13] - counts[3] <= 10 * each
