"""Our own optimizers make the steps of the papers and of torch, and ask no number of the device.

That they leave a bad step out, and resume, is in test_optim.py. Run: pytest tests/training/test_skippable.py
"""

import pytest
import torch
from torch import nn

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


@pytest.mark.parametrize("name", ["sgd", "radam", "lamb", "muon"])
def test_no_number_of_a_step_comes_to_the_host(name):
    # Tensors on the device "meta" have no numbers: whoever asks for one, or for a size made of one, fails.
    matrices = [nn.Parameter(torch.zeros(6, 4, device="meta")) for _ in range(3)]
    group = {"params": matrices, "lr": 0.1, "weight_decay": 0.1, "blocks": 3}
    made = {
        "sgd": lambda: SGD([group], momentum=0.9),
        "radam": lambda: RAdam([group], betas=(0.9, 0.98), eps=1e-8),
        "lamb": lambda: Lamb([group], betas=(0.9, 0.98), eps=1e-8),
        "muon": lambda: Muon([group], momentum=0.9),
    }[name]()
    for _ in range(2):
        for matrix in matrices:
            matrix.grad = torch.zeros_like(matrix)
        made.step()
