"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024).

Shapes are in the names:
  N  matrices of a batch   R  their rows, the shorter side   C  their columns
A hidden matrix's gradient is nearly of low rank: a few directions take all of the step. Muon keeps the
directions and makes all of them equally long, which small models reach a given loss sooner with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from span_electra.training.parallel import full_tensor, local_part, sharded_as
from span_electra.training.skippable import Skippable, decay, local_parts, move_means

# Polynomials a x + b x^3 + c x^5 that, one after another, take singular values in [0.01, 1] to 1 +- 0.27:
# each is the minimax one for the interval that the one before leaves (Amsel et al. 2025, "Polar Express").
# Five steps of the usual fixed polynomial end in 1 +- 0.3 too, at five thirds of the price; four minimax ones
# lowered the loss of a generator no further (7.31 after 300 steps; three 7.32, the usual five 7.35).
POLYNOMIALS = (
    (8.0934, -23.6205, 17.4462),
    (3.6366, -2.7219, 0.5365),
    (2.6613, -1.9772, 0.4526),
)
SAFETY = 1.01  # above 1 the polynomials diverge, and rounding must not lead there
WIDE = 2  # columns for each row from which it pays to iterate on the small square matrices alone


class Muon(Skippable):
    """Orthogonalised Nesterov momentum for hidden matrices, [rows, columns] each.

    A group's `blocks` says of how many matrices, one below the other, its parameters are made: a fused
    projection of queries, keys and values has 3, each of which is made orthogonal by itself. Updates are
    scaled to the size that AdamW's have, so that one learning rate serves every shape, and AdamW's other
    parameters too (Liu et al. 2025, "Muon is scalable", section 2.2).

    Args:
        groups: of parameters; `lr`, `weight_decay` (decoupled) and `blocks` in each.
        momentum: share of the past in the running mean of gradients.
        dtype: that matrix products are made in; float32, or bfloat16 where the device is faster with it.
    """

    def __init__(self, groups: Iterable[dict], momentum: float, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(groups, blocks=1, momentum=momentum)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        go = 1.0 - self.found_inf
        learning: list[tuple[Tensor, dict]] = []
        updates: list[Tensor] = []
        for group, parameters in self.learning():
            learning += [(parameter, group) for parameter in parameters]
            weights, gradients = local_parts(parameters)
            move_means(self.means("momentum_buffer", parameters), gradients, (1.0 - group["momentum"]) * go)
            decay(weights, group, go)
            # Nesterov: what one more such step would make of the running mean.
            means = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
            ahead = torch._foreach_lerp([each.grad for each in parameters], means, group["momentum"])
            # Whole, since a shard of a matrix (FSDP) does not tell its singular values.
            updates += [full_tensor(each) for each in ahead]
        directions = orthogonal_blocks(updates, [group["blocks"] for _, group in learning], self.dtype)
        for (parameter, group), direction in zip(learning, directions, strict=True):
            # An orthogonal R x C matrix has entries of RMS 1 / sqrt(C); AdamW's updates have about 0.2.
            longer = max(parameter.shape[0] // group["blocks"], parameter.shape[1])
            shard = local_part(sharded_as(direction * go, parameter))
            local_part(parameter).add_(shard, alpha=-0.2 * math.sqrt(longer) * group["lr"])


def orthogonal_blocks(matrices: list[Tensor], blocks: list[int], dtype: torch.dtype) -> list[Tensor]:
    """The nearest orthogonal matrix of each block of rows of each matrix, in the matrices' own shapes.

    All blocks of one shape go through one batch of products, those that stand upright lying down: at small
    widths the calls, not the arithmetic, are what takes the time.
    """
    by_shape: dict[tuple[int, ...], list[tuple[int, bool, Tensor]]] = {}
    for number, (matrix, count) in enumerate(zip(matrices, blocks, strict=True)):
        block_NRC = matrix.view(count, matrix.shape[0] // count, matrix.shape[1]).to(dtype)
        upright = block_NRC.shape[1] > block_NRC.shape[2]
        block_NRC = block_NRC.mT if upright else block_NRC
        by_shape.setdefault(tuple(block_NRC.shape[1:]), []).append((number, upright, block_NRC))
    found = list(matrices)
    for members in by_shape.values():
        parts = orthogonalize(torch.cat([block_NRC for _, _, block_NRC in members]))
        sizes = [blocks[number] for number, _, _ in members]
        for (number, upright, _), part in zip(members, parts.split(sizes), strict=True):
            part = part.mT if upright else part
            found[number] = part.reshape(matrices[number].shape).to(matrices[number].dtype)
    return found


def orthogonalize(x_NRC: Tensor) -> Tensor:
    """Take all singular values of each matrix, R <= C, to about 1; those near 0 only rise towards it.

    Divided by the root of the Frobenius norm of X X^T, the largest is at most 1, and nearer to 1 than after
    the usual division by the norm of X itself, so that fewer polynomials do. A matrix of zeros stays one.
    """
    x_NRC = x_NRC / power_of_two(x_NRC).to(x_NRC.dtype)  # else squares of squares of gradients would be 0
    gram_NRR = torch.bmm(x_NRC, x_NRC.mT)
    norm_N11 = gram_NRR.flatten(1).float().norm(dim=1).view(-1, 1, 1).clamp(min=1e-30) * SAFETY
    x_NRC = x_NRC / norm_N11.sqrt().to(x_NRC.dtype)
    gram_NRR = gram_NRR / norm_N11.to(x_NRC.dtype)
    # R x R products instead of R x C ones: the wider the matrix, the more that saves.
    if x_NRC.shape[2] >= WIDE * x_NRC.shape[1]:
        return _on_squares(x_NRC, gram_NRR)
    for number, (a, b, c) in enumerate(POLYNOMIALS):
        if number:
            gram_NRR = torch.bmm(x_NRC, x_NRC.mT)
        inner_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
        x_NRC = torch.baddbmm(x_NRC, inner_NRR, x_NRC, beta=a)
    return x_NRC


def power_of_two(x_NRC: Tensor) -> Tensor:
    """The power of two below each matrix's largest entry, float32 [N, 1, 1]; dividing by it loses no bit."""
    largest_N11 = x_NRC.abs().amax(dim=(1, 2), keepdim=True).float().clamp(min=2.0**-126)
    return (largest_N11.view(torch.int32) & 0x7F800000).view(torch.float32)  # its exponent alone


def _on_squares(x_NRC: Tensor, gram_NRR: Tensor) -> Tensor:
    """The same, all polynomials multiplied up as R x R matrices, which meet the wide ones at the end."""
    product_NRR = None
    for number, (a, b, c) in enumerate(POLYNOMIALS):
        inner_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
        inner_NRR.diagonal(dim1=1, dim2=2).add_(a)
        product_NRR = inner_NRR if product_NRR is None else torch.bmm(inner_NRR, product_NRR)
        if number + 1 < len(POLYNOMIALS):  # X X^T of the next X = P X: P (X X^T) P
            gram_NRR = torch.bmm(torch.bmm(inner_NRR, gram_NRR), inner_NRR)
    return torch.bmm(product_NRR, x_NRC)
