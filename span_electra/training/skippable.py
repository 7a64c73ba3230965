"""SGD, RAdam and LAMB whose bad steps are left out on the device itself, as torch's fused optimizers do it.

torch's own RAdam counts its steps on the host, which would have to wait for the device and ask whether the
last one was made; its fused SGD does not take sharded parameters (FSDP).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from span_electra.accelerators import exact_sums_dtype
from span_electra.training.parallel import local_part

RECTIFIED_FROM = 5.0  # effective length of the mean of squares from which RAdam trusts it (Liu et al. 2020)
LARGEST_NORM = 10.0  # of a weight's norm, which LAMB's trust ratio counts no higher (You et al. 2020)


class Skippable(torch.optim.Optimizer):
    """An optimizer that changes nothing, state included, in a step whose `found_inf` is 1.

    A subclass updates one group; no number comes to the host, so every change is multiplied by `go`.
    """

    def __init__(self, groups: Iterable[dict], **defaults: object) -> None:
        # `capturable` is torch's word for counts of steps on the device: loading a state leaves them there.
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "capturable": True, **defaults})
        # float32 scalar: 1 leaves a step out, 0 makes it. The name is that of torch's fused optimizers.
        self.found_inf = torch.zeros((), device=self.param_groups[0]["params"][0].device)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        for group, parameters in self.learning():
            self.update(group, parameters, 1.0 - self.found_inf)

    def learning(self) -> Iterator[tuple[dict, list[Tensor]]]:
        """Each group with its parameters that have gradients; those of a bad step are made zeros."""
        bad = self.found_inf > 0
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in parameters:  # nothing times NaN is NaN
                local_part(parameter.grad).masked_fill_(bad, 0.0)
            if parameters:
                yield group, parameters

    def update(self, group: dict, parameters: list[Tensor], go: Tensor) -> None:
        """Change the parameters of one group, whose gradients are finite, if `go` is 1, and not if 0."""
        raise NotImplementedError

    def means(self, name: str, parameters: list[Tensor]) -> list[Tensor]:
        """This process's part of the running mean `name` of each parameter, 0 at first."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [local_part(self.state[parameter][name]) for parameter in parameters]


def move_means(means: list[Tensor], values: list[Tensor], share: Tensor) -> None:
    """Move running means towards the values by this share of the way: 0 leaves every bit as it is."""
    # Two multiplications, not a lerp, whose weight would have to come to the host.
    torch._foreach_mul_(means, 1.0 - share)
    torch._foreach_add_(means, torch._foreach_mul(values, share))


def decay(weights: list[Tensor], group: dict, go: Tensor) -> None:
    """Decoupled weight decay."""
    if group["weight_decay"]:
        torch._foreach_mul_(weights, 1.0 - go * (group["lr"] * group["weight_decay"]))


def local_parts(parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """This process's parts of parameters and of their gradients."""
    return [local_part(each) for each in parameters], [local_part(each.grad) for each in parameters]


class SGD(Skippable):
    """Gradients added up with momentum, as torch has it: weight decay is a part of the gradient."""

    def update(self, group: dict, parameters: list[Tensor], go: Tensor) -> None:
        weights, gradients = local_parts(parameters)
        momentum = group["momentum"]
        if group["weight_decay"]:
            gradients = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
        if momentum:
            sums = self.means("momentum_buffer", parameters)
            torch._foreach_mul_(sums, 1.0 - go * (1.0 - momentum))
            torch._foreach_add_(sums, torch._foreach_mul(gradients, go))
            gradients = sums
        torch._foreach_add_(weights, torch._foreach_mul(gradients, -group["lr"] * go))


class Adaptive(Skippable):
    """What RAdam and LAMB have in common: running means of gradients and of their squares, and their age."""

    def moments(self, group: dict, parameters: list[Tensor], go: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Take the gradients in; return the means, and the roots of the means of squares plus epsilon."""
        gradients = local_parts(parameters)[1]
        first, second = self.means("exp_avg", parameters), self.means("exp_avg_sq", parameters)
        beta1, beta2 = group["betas"]
        move_means(first, gradients, (1.0 - beta1) * go)
        move_means(second, torch._foreach_mul(gradients, gradients), (1.0 - beta2) * go)
        roots = torch._foreach_sqrt(second)
        torch._foreach_add_(roots, group["eps"])
        return first, roots

    def count(self, parameters: list[Tensor], go: Tensor) -> Tensor:
        """Count the step; return how many each of P parameters has had, [P]."""
        for parameter in parameters:  # not setdefault, which would make a zero to throw away in every step
            if "step" not in self.state[parameter]:
                self.state[parameter]["step"] = torch.zeros_like(go)
        steps = [self.state[parameter]["step"] for parameter in parameters]
        torch._foreach_add_(steps, go, alpha=1.0)  # without alpha torch takes `go` for a number of the host
        # 0 is a first step left out; its update counts for nothing, but must be finite.
        return torch.stack(steps).clamp(min=1.0).to(exact_sums_dtype(go.device))


def filled(beta: float, steps_P: Tensor) -> Tensor:
    """The weight that a running mean gives to what it has seen, 1 - beta^steps, exact while that is small."""
    return -torch.expm1(steps_P * (math.log(beta) if beta else -math.inf))


class RAdam(Adaptive):
    """Adam that goes by the mean of gradients alone until that of squares is of use (Liu et al. 2020)."""

    def update(self, group: dict, parameters: list[Tensor], go: Tensor) -> None:
        weights = local_parts(parameters)[0]
        decay(weights, group, go)
        first, roots = self.moments(group, parameters, go)
        steps_P, (beta1, beta2) = self.count(parameters, go), group["betas"]
        left_P = filled(beta2, steps_P)
        longest = 2.0 / (1.0 - beta2) - 1.0  # the effective length of the mean of squares, at last and now
        length_P = longest - 2.0 * steps_P * (1.0 - left_P) / left_P
        trusted_P = length_P > RECTIFIED_FROM
        length_P = length_P.clamp(min=RECTIFIED_FROM)
        share_P = (length_P - 4.0) * (length_P - 2.0) * longest * left_P / length_P
        share_P = (share_P / max((longest - 4.0) * (longest - 2.0), 1e-12)).sqrt()
        size_P = -group["lr"] * go / filled(beta1, steps_P)
        torch._foreach_reciprocal_(roots)
        torch._foreach_mul_(roots, torch.where(trusted_P, share_P * size_P, 0.0).float().unbind())
        torch._foreach_add_(roots, torch.where(trusted_P, 0.0, size_P).float().unbind())
        torch._foreach_addcmul_(weights, first, roots)


class Lamb(Adaptive):
    """Adam's direction, as long as the weights of each parameter are (You et al. 2020).

    As the implementations that people use, and unlike the paper's last version, it corrects the mean's start.
    """

    def update(self, group: dict, parameters: list[Tensor], go: Tensor) -> None:
        decay(parameters, group, go)
        first, roots = self.moments(group, parameters, go)
        updates = torch._foreach_div(first, roots)
        weight_norms_P = torch.stack(torch._foreach_norm(parameters)).clamp(max=LARGEST_NORM)
        norms_P = torch.stack(torch._foreach_norm(updates))
        ratios_P = torch.where(
            (weight_norms_P > 0) & (norms_P > 0), weight_norms_P / (norms_P + group["eps"]), 1.0
        )
        size_P = -group["lr"] * go * ratios_P / filled(group["betas"][0], self.count(parameters, go))
        torch._foreach_mul_(updates, size_P.float().unbind())
        torch._foreach_add_(parameters, updates)
