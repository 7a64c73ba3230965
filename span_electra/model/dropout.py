"""Dropout, and the sums, norms and feed-forward parts round it, made for a small cache and memory.

Shapes are in the names:
  D  width   R  rows of it   P  parts whose sums are added in a fixed order
Every function takes a `key`. None: torch's own operators, its dropout and its generator (what a GPU needs).
An integer, on float32 CPU tensors: the loops of `kernels.py`, whose masks are a pure function of the key, so
that a resumed run draws what it would have drawn and nothing but the key needs to be stored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from span_electra.model.kernels import Mask


class LayerNorm(nn.LayerNorm):
    """torch's, in the type of what it is given; mean and variance are float32 inside.

    Autocast of accelerators makes norms float32, and with them the whole residual stream: twice the memory
    that each layer writes, reads and keeps for its backward pass.
    """

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return super().forward(x)
        weight_D, bias_D = self.weight, self.bias
        if device != "cpu":  # whose norm takes float32 weights beside bf16
            weight_D, bias_D = weight_D.to(x.dtype), None if bias_D is None else bias_D.to(x.dtype)
        with torch.autocast(device, enabled=False):
            return F.layer_norm(x, self.normalized_shape, weight_D, bias_D, self.eps)


def drop(x: Tensor, rate: float, key: int | None) -> Tensor:
    """Set elements to 0 with probability `rate` and scale the rest so that the mean stays."""
    if rate == 0.0:
        return x
    if key is None or not fits(x):
        # torch's own wherever the loops cannot work: a law of the same rate, drawn from its generator.
        return F.dropout(x, rate)
    return Drop.apply(x, rate, key)


def drop_add_norm(x: Tensor, residual: Tensor, norm: nn.LayerNorm, rate: float, key: int | None) -> Tensor:
    """LayerNorm(residual + dropout(x)), shapes [..., D]; overwrites `x`, a product that nobody else needs."""
    if key is None or not fits(x, residual, norm.weight):
        dropped = F.dropout(x, rate) if rate else x
        return norm(residual + dropped)
    return DropAddNorm.apply(x, residual, norm.weight, norm.bias, norm.eps, rate, key)


def activated_linear(
    x: Tensor, activation: Callable[[Tensor], Tensor], linear: nn.Linear, key: int | None
) -> Tensor:
    """linear(activation(x)), keeping x alone: to compute the activations again costs less than their room."""
    if key is None or not fits(x, linear.weight):
        return linear(activation(x))
    return ActivatedLinear.apply(x, linear.weight, linear.bias, activation)


def fits(*tensors: Tensor) -> bool:
    """Can the loops of `kernels.py` work on these?"""
    return all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)


@functools.cache
def compiled_loops() -> ModuleType:
    """Import the loops, late: a run on a GPU never needs numba."""
    import numba

    from span_electra.model import kernels

    # This starts numba's threads, and that sets OpenMP's number of them, which is torch's.
    threads = torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(threads)
    return kernels


def loops(key: int, rate: float) -> tuple[ModuleType, Mask]:
    """Return the compiled loops, on as many threads as torch uses, and the mask of a key."""
    kernels = compiled_loops()
    kernels.use_threads(torch.get_num_threads())
    threshold, scale = np.uint32(rate * 2**32), np.float32(1.0 / (1.0 - rate))
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
    return kernels, kernels.Mask(low, high, threshold, scale)


class Drop(torch.autograd.Function):
    """Dropout that keeps nothing: the backward pass makes the same mask again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, key: int) -> Tensor:
        ctx.mask = rate, key
        return Drop.masked(x, rate, key)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return Drop.masked(grad, *ctx.mask), None, None

    @staticmethod
    def masked(x: Tensor, rate: float, key: int) -> Tensor:
        kernels, mask = loops(key, rate)
        out = torch.empty(x.shape)
        kernels.drop(x.detach().reshape(-1).numpy(), mask, np.uint32(0), out.view(-1).numpy())
        return out


class DropAddNorm(torch.autograd.Function):
    """LayerNorm(residual + dropout(x)) in one pass each way; `x` becomes the normalised sum that is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor,
        weight_D: Tensor,
        bias_D: Tensor,
        epsilon: float,
        rate: float,
        key: int,
    ) -> Tensor:
        kernels, mask = loops(key, rate)
        width = x.shape[-1]
        # Detached: these loops are the forward pass, and autograd must not record what they write over.
        x_RD = x.detach().reshape(-1, width)
        out_RD, inverse_R = torch.empty(x_RD.shape), torch.empty(x_RD.shape[0])
        kernels.drop_add_norm(
            x_RD.numpy(),
            residual.detach().reshape(-1, width).numpy(),
            weight_D.detach().numpy(),
            bias_D.detach().numpy(),
            epsilon=np.float32(epsilon),
            mask=mask,
            out_RD=out_RD.numpy(),
            inverse_R=inverse_R.numpy(),
        )
        # The sum that was normalised and one number a row: the mask comes from the key again.
        ctx.save_for_backward(x_RD, inverse_R, weight_D)
        ctx.mask = rate, key
        return out_RD.view(residual.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        normal_RD, inverse_R, weight_D = ctx.saved_tensors
        rate, key = ctx.mask
        kernels, mask = loops(key, rate)
        grad_RD = grad.reshape(normal_RD.shape).contiguous()
        grad_x_RD, grad_residual_RD = torch.empty(grad_RD.shape), torch.empty(grad_RD.shape)
        # Fixed parts, not one a thread: sums round alike on any number of threads.
        sums_P2D = torch.empty(kernels.PARTS, 2, grad_RD.shape[1])
        kernels.drop_add_norm_backward(
            grad_RD.numpy(),
            normal_RD.numpy(),
            weight_D.detach().numpy(),
            inverse_R.numpy(),
            mask=mask,
            grad_x_RD=grad_x_RD.numpy(),
            grad_residual_RD=grad_residual_RD.numpy(),
            sums_P2D=sums_P2D.numpy(),
        )
        weight_grad_D, bias_grad_D = sums_P2D.sum(0).unbind(0)
        gradients = grad_x_RD.view(grad.shape), grad_residual_RD.view(grad.shape), weight_grad_D, bias_grad_D
        return *gradients, None, None, None


class ActivatedLinear(torch.autograd.Function):
    """A linear layer of activations that are computed again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, activation: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.activation = activation
        return F.linear(activation(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            active = ctx.activation(x)
        flat, active_flat = grad.flatten(0, -2), active.detach().flatten(0, -2)
        (grad_x,) = torch.autograd.grad(active, x, grad @ weight)
        return grad_x, flat.T @ active_flat, flat.sum(0), None
