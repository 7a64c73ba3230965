"""What weights start from: ELECTRA's truncated normal, or a start whose attention looks at the neighbours.

A masked language model first learns how frequent tokens are and stays there until attention has found the
words around the gaps: on little text that plateau is the whole run. Attention that starts at the neighbours
has nothing to find (the idea is that of Trockman and Kolter, Mimetic Initialization of Self-Attention Layers,
2023; the construction is ours). It changes no architecture: everything learns on from there.

Shapes are in the names:
  E  width of the embeddings   D  width of the layers   H  attention heads   K  width of one head
  L  positions                 F  frequencies; position columns come in pairs (cosine, sine), 2 F of them
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from span_electra.errors import InputError
from span_electra.model.encoder import DisentangledEmbeddings, Encoder
from span_electra.model.rotary import rotation_of

# What weights start from, by the last two parts of their names; everything else is a truncated normal.
INITIAL_VALUES = {"norm.weight": 1.0, "bias": 0.0, "delta.word.weight": 0.0, "delta.position.weight": 0.0}
INITIAL_VALUES["delta.token_type.weight"] = 0.0

MOST_FREQUENCIES = 16  # 32 columns set the neighbours 8 nats apart from noise; more would crowd out the words
PEAK = 8.0  # attention score of the place looked at, in nats; e^8 outweighs a hundred other places
GOLDEN = 0.618034  # multiples of it, modulo 1, spread evenly


def init_normal(model: nn.Module, deviation: float, seed: int) -> None:
    """Give every parameter its start: a normal cut at two deviations, or the constant of `INITIAL_VALUES`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Drawn on the CPU, parameter after parameter: a seed makes the same weights for every device.
            constants = [value for end, value in INITIAL_VALUES.items() if name.endswith(end)]
            if constants:
                weight.fill_(constants[0])
            else:
                low, high = -2 * deviation, 2 * deviation
                nn.init.trunc_normal_(weight, 0.0, deviation, low, high, generator=generator)


@torch.no_grad()
def init_local(encoders: Sequence[Encoder], deviation: float, seed: int) -> None:
    """Let the first layer's heads look at the neighbours; call it after `init_normal`.

    Where positions are a table, it holds waves that queries and keys read; where they are rotations, biases
    of queries and keys suffice. The layers hand on what was read: their matrices start at 1/sqrt(fan-in),
    which keeps variance. Raises InputError when heads are too narrow to hold a wave.
    """
    generator = torch.Generator().manual_seed(seed)
    if encoders[0].rope_theta is None:
        _init_local_absolute(encoders, deviation, generator)
        return
    for encoder in dict.fromkeys(encoders):  # the networks may share one
        _init_local_rotary(encoder, generator)


def _init_local_absolute(encoders: Sequence[Encoder], deviation: float, generator: torch.Generator) -> None:
    """The first columns of the position table hold waves, and carry half of an embedding's variance.

    The projection hands them on unchanged; head by head, queries are keys turned by one place to the left,
    one to the right, two to the left ...
    """
    waves = min(wave_count(encoder) for encoder in encoders)  # one number, since the tables may be shared
    for encoder in encoders:
        write_waves(encoder, waves, deviation)
        # What the first layer reads must outlast the others: post-norm, N sublayers of full strength would
        # halve its variance N times; of strength 1/sqrt(N) they leave a third of it.
        quiet = (2 * len(encoder.layers)) ** -0.5
        for number, layer in enumerate(encoder.layers):
            value_DD = layer.qkv.weight[2 * layer.out_proj.in_features :]
            strengths = {value_DD: 1.0, layer.out_proj.weight: quiet if number else 1.0}
            strengths |= {layer.up.weight: 1.0, layer.down.weight: quiet}
            for weight, strength in strengths.items():
                weight.normal_(0.0, strength * weight.shape[1] ** -0.5, generator=generator)
        look_around(encoder, waves)


def _init_local_rotary(encoder: Encoder, generator: torch.Generator) -> None:
    """The first layer's queries and keys have biases whose score peaks at a head's offsets.

    A constant key b and a constant query a, turned to the places j and i, score the sum over frequencies w_f
    of a_f b_f cos(w_f (j - i) + the angle between them): with a query ahead by w_f * offset, each peaks at
    j - i = offset.
    Contents add to it: their share starts at half strength, so that places are seen first.
    """
    quiet = (2 * len(encoder.layers)) ** -0.5  # so that the residual stream grows no further with depth
    if encoder.project is not None:
        encoder.project.weight.normal_(0.0, encoder.project.in_features**-0.5, generator=generator)
    for layer in encoder.layers:
        strengths = {layer.qkv: 1.0, layer.out_proj: quiet, layer.up: 1.0, layer.down: quiet}
        for linear, strength in strengths.items():
            linear.weight.normal_(0.0, strength * linear.in_features**-0.5, generator=generator)
    first = encoder.layers[0]
    first.qkv.weight[: 2 * first.out_proj.in_features] *= 0.5
    head_size, half = encoder.head_size, encoder.head_size // 2
    bias_3HK = first.qkv.bias.view(3, first.heads, head_size)
    # Half of K frequencies, amplitude^2 / sqrt(K) each, make the peak.
    amplitude = math.sqrt(PEAK * math.sqrt(head_size) / half)
    for head in range(first.heads):
        bias_3HK[1, head, :half] = amplitude
        for offset in offsets(head, first.heads):
            # The angles of place `offset` are its cosines and sines there.
            cos_1F, sin_1F = (
                angles[abs(offset) :]
                for angles in rotation_of(abs(offset) + 1, head_size, encoder.rope_theta, torch.device("cpu"))
            )
            bias_3HK[0, head, :half] += amplitude * cos_1F[0]
            bias_3HK[0, head, half:] += amplitude * sin_1F[0] * (1 if offset > 0 else -1)


def wave_count(encoder: Encoder) -> int:
    """Frequencies that fit the narrowest head and leave three quarters of the embedding to the words."""
    embedding_size, first = base_of(encoder).position.embedding_dim, encoder.layers[0]
    head_size = first.out_proj.in_features // first.heads
    waves = min(MOST_FREQUENCIES, embedding_size // 8, head_size // 2)
    if waves < 1:
        raise InputError(
            f"initialization: local needs embeddings at least 8 wide and heads at least 2 wide, not "
            f"{embedding_size} and {head_size}; choose larger sizes or initialization normal"
        )
    return waves


def frequencies(waves: int) -> Tensor:
    """F angles a place, one in each F-th of (0, pi): two places agree in all only when they are one."""
    number_F = torch.arange(waves, dtype=torch.float64)
    return math.pi * (number_F + (number_F + 1) * GOLDEN % 1) / waves


def write_waves(encoder: Encoder, waves: int, deviation: float) -> None:
    """Write waves as strong as the words into the position table, and let the projection hand them on."""
    position_LE = base_of(encoder).position.weight
    places, width = position_LE.shape
    angle_LF = torch.arange(places, dtype=torch.float64)[:, None] * frequencies(waves)
    wave_LF2 = torch.stack([angle_LF.cos(), angle_LF.sin()], dim=-1)
    position_LE.zero_()
    # F (cos^2 + sin^2) a^2 = E deviation^2: half of the variance.
    position_LE[:, : 2 * waves] = deviation * math.sqrt(width / waves) * wave_LF2.flatten(1)
    if encoder.project is not None:
        project_DE = encoder.project.weight
        rest = project_DE[2 * waves :, 2 * waves :]
        rest.normal_(0.0, rest.shape[1] ** -0.5, generator=torch.Generator().manual_seed(waves))
        project_DE[2 * waves :, : 2 * waves] = 0.0
        project_DE[: 2 * waves, 2 * waves :] = 0.0
        project_DE[: 2 * waves, : 2 * waves] = torch.eye(2 * waves)


def look_around(encoder: Encoder, waves: int) -> None:
    """Set queries and keys of the first layer: head h looks at its `offsets`."""
    first, width = encoder.layers[0], encoder.layers[0].out_proj.in_features
    head_size = width // first.heads
    # Normalised, a wave's square is E / (2 F); F of them, times gain^2 / sqrt(K), shall make the peak.
    gain = math.sqrt(2 * PEAK * math.sqrt(head_size) / base_of(encoder).position.embedding_dim)
    query_HKD = first.qkv.weight[:width].view(first.heads, head_size, width)
    key_HKD = first.qkv.weight[width : 2 * width].view(first.heads, head_size, width)
    for head in range(first.heads):
        key_HKD[head, : 2 * waves, : 2 * waves] = gain * torch.eye(2 * waves)
        turned = sum(rotation(waves, offset) for offset in offsets(head, first.heads))
        query_HKD[head, : 2 * waves, : 2 * waves] = gain * turned


def offsets(head: int, heads: int) -> tuple[int, ...]:
    """Where a head looks. Example: of four heads -1, +1, -2, +2; a single head looks at -1 and +1."""
    if heads == 1:
        return (-1, 1)
    return ((head // 2 + 1) * (1 if head % 2 else -1),)


def rotation(waves: int, offset: int) -> Tensor:
    """The matrix [2 F, 2 F] that turns the waves of place i into those of place i + offset."""
    angle_F = frequencies(waves) * offset
    blocks = [[[c, -s], [s, c]] for c, s in zip(angle_F.cos().tolist(), angle_F.sin().tolist(), strict=True)]
    return torch.block_diag(*(torch.tensor(block) for block in blocks))


def base_of(encoder: Encoder) -> nn.Module:
    """The tables that hold the encoder's embeddings; those of gdes are its base's."""
    embeddings = encoder.embeddings
    return embeddings.base if isinstance(embeddings, DisentangledEmbeddings) else embeddings
