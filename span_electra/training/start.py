"""What a run says before its first step: on what, with what, how long, and how to stop it and go on."""

from __future__ import annotations

import torch
from torch import nn

from span_electra.accelerators import describe_precision
from span_electra.counted import counted
from span_electra.training.loop import Run
from span_electra.training.optim import peak_rates, steps_of
from span_electra.training.plan import LoopState


def start_lines(run: Run, state: LoopState, resume_command: str) -> dict[str, str]:
    """Facts by name, in the order in which they are told; `resume_command`: what goes on with the run."""
    config, optimizer = run.config, run.optimizers.config
    plan = state.plan
    together = config.gradient_accumulation_steps
    amount = (
        f"{counted(plan.epochs, 'epoch')} of {counted(plan.steps_an_epoch, 'step')}"
        f"{f' of {together} batches' if together > 1 else ''}, {state.total:,} in all"
        f"{' (--max_steps)' if plan.most_steps and state.total == plan.most_steps else ''}"
    )
    if config.by_clock:
        amount = f"{config.max_minutes:g} minutes, over which the schedule is laid"
        amount += f"; {counted(plan.steps_an_epoch, 'step')} an epoch"
    elif config.max_minutes:
        amount += f"; this start ends after {config.max_minutes:g} minutes (--by_clock would fit it all in)"
    own = "".join(f", {name} {rate:g}" for name, rate in peak_rates(optimizer).items() if name != "lr")
    warmup, rates = steps_of(optimizer.warmup, state.total), f"rate {optimizer.lr:g}{own}"
    if not config.by_clock and warmup > state.total:
        rates += f", which a warm-up of {counted(warmup, 'step')} never reaches"
    return run.experiment.describe() | {
        "training": f"{amount}; {optimizer.optimizer}, {rates}",
        "device": device_line(run, resumed=state.step > 0),
        "run": f"{run.folder}/; Ctrl-C or SIGTERM saves and ends it, and this goes on: {resume_command}",
    }


def device_line(run: Run, resumed: bool) -> str:
    """Example: `cpu, 2 threads; bf16 (auto: this CPU multiplies faster in it)`"""
    process = run.process
    device = str(process.device)
    if process.device.type == "cuda":
        device += f" ({torch.cuda.get_device_name(process.device)})"
    elif process.device.type == "cpu":
        device += f", {torch.get_num_threads()} threads"
    several = process.world_size > 1
    many = f"{process.world_size} times " if several else ""
    # A resumed run keeps what it chose before, whatever would be chosen now.
    asked = None if resumed else run.config.precision
    precision = describe_precision(process.precision, process.device, asked, several=several)
    return f"{many}{device}; {precision}"


def parameters_line(model: nn.Module) -> str:
    """How many numbers are learned; what networks share counts once.

    Example: `3.1 M parameters, 2.0 M of them embeddings`
    """
    counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    tables = sum(count for name, count in counts.items() if ".embeddings." in name)
    return f"{sum(counts.values()) / 1e6:.1f} M parameters, {tables / 1e6:.1f} M of them embeddings"
