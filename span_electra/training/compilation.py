"""torch.compile, piece by piece: what is compiled, where, and what happens where it cannot be.

A whole model would be compiled again for each shape and for validation, minutes each time. All layers of an
encoder are one piece of code, so that its compiled form serves every layer. Beside them modules name methods
of theirs in `compiled_parts`, each a piece: what comes before the layers, and heads, losses and sampling.
"""

from __future__ import annotations

import inspect
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from span_electra.accelerators import find_device
from span_electra.config import TrainingConfig
from span_electra.errors import InputError, reason_of

# Of one piece: widths of rows (at most 8), with and without a padding mask, training and evaluation, for two
# networks or a network and its crops, and up to three kinds of layers: the first, those of a window, others.
SHAPES = 192


def compiles(config: TrainingConfig) -> bool:
    """Whether layers are compiled, and so need batches of static shapes.

    Raises InputError where compilation was asked for and cannot help: on the CPU, whose dropout is compiled
    by numba already.
    """
    on_cuda = find_device(config.device, "device:").type == "cuda"
    # Unasked it is left out where it cannot help; asked for, that is an error.
    if config.compile in ("auto", "off"):
        return config.compile == "auto" and on_cuda
    asked = f"compile: {config.compile}"
    if not on_cuda:
        raise InputError(f"{asked} gains nothing on a CPU and needs a CUDA device; leave it at auto or off")
    if config.compile == "max" and config.parallel == "fsdp":
        raise InputError(
            f"{asked} needs weights that stay where they are, and fsdp moves them; use on, or ddp"
        )
    return True


def uncompiled(config: TrainingConfig) -> AbstractContextManager:
    """A context in which compiled layers run as they are, for shapes that come once."""
    return torch.compiler.set_stance("force_eager") if compiles(config) else nullcontext()


def compiler_fault(device: torch.device) -> str | None:
    """Why torch.compile cannot work on this device, or None; tried with one tiny function.

    It needs a C compiler and Python's headers, which machines without development packages lack.
    """
    try:
        torch.compile(lambda x: x * 2 + 1, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler's stack raises, going on without it
        return reason_of(error)
    finally:
        torch.compiler.reset()
    return None


def compile_layers(model: nn.Module, device: torch.device, config: TrainingConfig) -> None:
    """Compile each layer of every encoder, and the parts that modules name, in place.

    Where the compiler does not work: a warning, and none. Call it before the model is wrapped: shards of
    parameters are gathered outside the compiled code.
    """
    # Tried, not looked for: compilers are there and fail in more ways than can be listed.
    fault = compiler_fault(device)
    if fault is not None:
        warnings.warn(f"torch.compile does not work here ({fault}); going on without it", stacklevel=2)
        return
    # Beyond its limit of shapes torch runs a layer uncompiled. A version older than the keyword has 8.
    options = {"recompile_limit": SHAPES}
    if "recompile_limit" not in inspect.signature(torch.compile).parameters:
        torch._dynamo.config.recompile_limit, options = SHAPES, {}
    if config.compile == "max":
        options["mode"] = "max-autotune"
        prepare_for_graphs(model, accumulates=config.gradient_accumulation_steps > 1)
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    layers = {layer for module in lists for layer in module.children()}
    # dynamic=False: static shapes are few here, and code for any shape is slower than code for one.
    for layer in layers:
        layer.compile(dynamic=False, **options)
    for module in model.modules():
        for name in getattr(module, "compiled_parts", ()):
            setattr(module, name, torch.compile(getattr(module, name), dynamic=False, **options))


def prepare_for_graphs(model: nn.Module, *, accumulates: bool) -> None:
    """Have each call of the model begin a new round of its CUDA graphs, which write over what the last gave.

    Losses, tallies and, without accumulation, gradients are used up before the next call. Learning rates are
    no part of a graph, and dropout's seeds are handed to it at each replay.

    accumulates: gradients are added to over several calls, and so must be copied out of a graph's memory.
    """
    model.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())
    for parameter in model.parameters() if accumulates else ():
        if parameter.requires_grad:
            parameter.register_hook(torch.clone)
