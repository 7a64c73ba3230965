"""Parameters and settings -> optimizers, their learning rates, and their state as plain tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from span_electra.config import OptimizerConfig
from span_electra.errors import InputError
from span_electra.training.muon import Muon
from span_electra.training.parallel import sharded_as
from span_electra.training.skippable import SGD, Lamb, RAdam

# --- learning rate ------------------------------------------------------------------------------------


def steps_of(amount: float, total: int) -> int:
    """A number of steps, or, at most 1, a share of all: steps_of(0.1, 500) -> 50; steps_of(20, 500) -> 20."""
    return round(amount * total) if amount <= 1 else round(amount)


def lr_multiplier(done: int, total: int, config: OptimizerConfig) -> float:
    """Return what the peak learning rate is multiplied by in the step after `done` steps of `total`.

    The warm-up rises from 1/warmup to 1, so that no step is made at rate 0; linear, cosine and wsd end just
    above 0. Never negative, whatever `done`.

    Example: linear, 2 of 6 steps warm-up -> .5, 1, 1, .75, .5, .25
    """
    warmup = steps_of(config.warmup, total)
    if done < warmup:
        return (done + 1) / warmup
    progress = min(1.0, (done - warmup) / max(1, total - warmup))
    if config.schedule == "linear":
        return 1.0 - progress
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if config.schedule == "step":
        return config.step_factor ** ((done - warmup) // max(1, steps_of(config.step_size, total)))
    if config.schedule == "wsd":  # warm-up, stable, decay (Hu et al. 2024, MiniCPM, section 4)
        return max(0.0, min(1.0, (total - done) / max(1, steps_of(config.decay, total))))
    assert config.schedule == "constant", config.schedule
    return 1.0


def peak_rates(config: OptimizerConfig) -> dict[str, float]:
    """All peak learning rates of a run, by the settings that give them; see `_groups`.

    Example: muon with AdamW's own -> {"lr": 1e-4, "adamw_lr": 2e-3}
    """
    names = ["generator_lr", "discriminator_lr", "embedding_lr"]
    names += ["adamw_lr"] if config.optimizer == "muon" else []
    own = {name: getattr(config, name) for name in names}
    return {"lr": config.lr} | {name: rate for name, rate in own.items() if rate is not None}


# --- optimizers ---------------------------------------------------------------------------------------


class Optimizers:
    """One optimizer, or Muon and AdamW for one model, driven as one; state travels by parameter name."""

    def __init__(
        self,
        model: nn.Module,
        config: OptimizerConfig,
        learning_rate: Callable[[str], tuple[str, float]] | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """Build the optimizers of the parameters that learn.

        Args:
            learning_rate: a parameter's name -> its group and peak rate; none: one group at `config.lr`.
            precision: of the run's matrix products, for optimizers that make some of their own.
        """
        self.config = config
        # By name and not by place: groups may be cut otherwise in a later release, names stay.
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = _groups(model, config, learning_rate)
        self.optimizers = [_build(kind, groups[kind], config, precision) for kind in groups]
        self.parameters = [parameter for group in self.groups for parameter in group["params"]]
        fused = any(isinstance(one, torch.optim.Adam) for one in self.optimizers)  # AdamW is one too
        # A Mac's looks at `found_inf` from torch 2.13 on; the loop reads a number in each step there anyway.
        self.waits = fused and self.parameters[0].device.type == "mps"

    @property
    def groups(self) -> list[dict]:
        """All parameter groups; asked for anew each time, since loading state replaces them."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def set_lr(self, multiplier: float) -> None:
        """Set every group's learning rate to its peak times this."""
        for group in self.groups:
            group["lr"] = group["peak_lr"] * multiplier

    def step(self, skip: Tensor) -> None:
        """Update the parameters, unless `skip` (float32 scalar) is 1, which is settled on the device."""
        if self.waits and skip.item():
            return
        for optimizer in self.optimizers:
            optimizer.found_inf = skip  # what torch's fused ones, and ours, look at
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Return the state as `<what>:<parameter name>` -> tensor."""
        return {
            f"{key}:{self.names[id(parameter)]}": value
            for optimizer in self.optimizers
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
        }

    def load(self, tensors: dict[str, Tensor], source: str) -> None:
        """Take back what `state` gave. Raises InputError naming `source` when it does not fit."""
        by_name: dict[str, dict[str, Tensor]] = {}
        for label, value in tensors.items():
            key, _, name = label.partition(":")
            by_name.setdefault(name, {})[key] = value
        # State of what does not learn here would be left aside, and be missing from the next checkpoint.
        known = {self.names[id(parameter)] for parameter in self.parameters}
        for name in by_name:
            if name not in known:
                raise InputError(
                    f"{source}: optimizer state for {name!r}, which does not learn in this run; go on with "
                    "what learned before, or start a new run from the weights alone"
                )
        for optimizer in self.optimizers:
            self._load_into(optimizer, by_name, source)

    def _load_into(
        self, optimizer: torch.optim.Optimizer, by_name: dict[str, dict[str, Tensor]], source: str
    ) -> None:
        layout = optimizer.state_dict()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for number, parameter in enumerate(parameters):
            state = by_name.get(self.names[id(parameter)])
            if state is None:
                continue
            for key, value in state.items():
                if value.dim() and value.shape != parameter.shape:
                    raise InputError(
                        f"{source}: {key} of {self.names[id(parameter)]} has shape {tuple(value.shape)}, "
                        f"its parameter {tuple(parameter.shape)}; it belongs to another model"
                    )
            # Step counts are scalars, which every process keeps whole; clones, since what was loaded must not
            # change as we learn on.
            layout["state"][number] = {
                key: (sharded_as(value, parameter) if value.dim() else value).clone()
                for key, value in state.items()
            }
        optimizer.load_state_dict(layout)


class ParameterGroup(NamedTuple):
    """What the parameters of a group have in common."""

    kind: str  # of optimizer
    label: str  # by which rates differ, as `learning_rate` says
    peak_lr: float
    decays: bool
    blocks: int | None  # matrices that each weight is made of, where the optimizer asks


def _groups(
    model: nn.Module, config: OptimizerConfig, learning_rate: Callable[[str], tuple[str, float]] | None
) -> dict[str, list[dict]]:
    """The parameters that learn, by kind of optimizer, as torch's groups."""
    members: dict[ParameterGroup, list[nn.Parameter]] = {}
    blocks = fused_blocks(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = learning_rate(name) if learning_rate else ("", config.lr)
            group = _group_of(name, parameter, config, rate, blocks.get(name, 1))
            members.setdefault(group, []).append(parameter)
    groups: dict[str, list[dict]] = {}
    for group, parameters in members.items():
        options = {
            "params": parameters,
            "lr": group.peak_lr,
            "peak_lr": group.peak_lr,
            "weight_decay": config.weight_decay if group.decays else 0.0,
        }
        if group.blocks:
            options["blocks"] = group.blocks
        groups.setdefault(group.kind, []).append(options)
    return groups


def _group_of(
    name: str, parameter: nn.Parameter, config: OptimizerConfig, rate: tuple[str, float], blocks: int
) -> ParameterGroup:
    """The group of a parameter; `rate`: its label and peak, where settings give it none of its own."""
    label, peak = rate
    # Biases and norms do not decay: pulled to zero they would lose what they are for.
    matrix = parameter.dim() >= 2
    hidden = matrix and ".layers." in name  # heads and projections of embeddings are not the layers'
    kind, own = config.optimizer, config.lr
    if kind == "muon" and not hidden:
        kind = "adamw"  # Muon is for hidden matrices; tables, heads, norms and biases take AdamW
        own = own if config.adamw_lr is None else config.adamw_lr
    if matrix and ".embeddings." in name and config.embedding_lr is not None:
        own = config.embedding_lr
    if own != config.lr:  # such a rate too differs between groups as `learning_rate` says
        peak = own * (peak / config.lr if config.lr else 1.0)
    return ParameterGroup(kind, label, peak, decays=matrix, blocks=blocks if kind == "muon" else None)


def fused_blocks(model: nn.Module) -> dict[str, int]:
    """Weights that are several matrices, one below the other, by name: how many they are.

    Layers say so themselves: `fused = {"qkv": 3}` in a layer's class means that its linear map `qkv` makes
    three things at once.
    """
    return {
        f"{path}.{name}.weight": count
        for path, module in model.named_modules()
        for name, count in getattr(module, "fused", {}).items()
    }


def _build(
    kind: str, groups: list[dict], config: OptimizerConfig, precision: torch.dtype
) -> torch.optim.Optimizer:
    """The optimizer of this kind with each of its explicit settings."""
    betas, epsilon = tuple(config.betas), config.epsilon
    # Fused: one pass over memory, and it takes `found_inf`, so that no host has to wait for the verdict.
    if kind == "adamw":
        return torch.optim.AdamW(groups, betas=betas, eps=epsilon, fused=True)
    if kind == "adam":
        return torch.optim.Adam(groups, betas=betas, eps=epsilon, fused=True)
    if kind == "radam":
        return RAdam(groups, betas=betas, eps=epsilon)
    if kind == "lamb":
        return Lamb(groups, betas=betas, eps=epsilon)
    if kind == "sgd":
        return SGD(groups, momentum=config.momentum)
    assert kind == "muon", kind
    # torch's own iterates in bfloat16, one matrix at a time, which takes seconds a step on a CPU.
    dtype = torch.bfloat16 if precision is torch.bfloat16 else torch.float32
    return Muon(groups, momentum=config.momentum, dtype=dtype)
