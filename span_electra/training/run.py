"""A whole training run from plain settings: folder, processes, loop, and how it ended.

What is trained, on which data, is the matter of a function that assembles the run: `prepare.assemble` for
pretraining.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from span_electra.config import OptimizerConfig, TrainingConfig
from span_electra.errors import InputError
from span_electra.pretraining.experiment import assemble as pretraining
from span_electra.training import checkpoint
from span_electra.training import run_folder as runfolder
from span_electra.training.checkpoint import Checkpoint
from span_electra.training.devices import Agreement, Place, leave, plan_devices, take_place
from span_electra.training.launch import Interrupted, launch
from span_electra.training.log import RunLog
from span_electra.training.loop import TIME_IS_UP, LoopState, Run, restore, total_steps, train
from span_electra.training.signals import Signals


class RunSettings(Protocol):
    """What every kind of run has; plain values, to be sent to other processes."""

    out_dir: str
    optimizer: OptimizerConfig
    training: TrainingConfig
    resume_from: str | None  # a checkpoint folder, or a run folder whose latest is meant
    config_json: str  # the settings in the user's terms, stored with the run as config.json


# (settings, place, signals, agreement, checkpoint to go on from and its name) -> the run, but for its log
Assemble = Callable[[Any, Place, Signals, Agreement, Checkpoint | None, str], Run]


@dataclass(frozen=True)
class Job:
    """What a process needs to know of a run."""

    settings: RunSettings
    assemble: Assemble  # a function of a module


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    state: str  # finished, or stopped (resumable)
    step: int
    checkpoint: str  # the newest one
    metrics: dict = field(default_factory=dict)  # of the last validation
    best: float | None = None  # of the monitored metric
    exit_code: int = 0  # 0, or 128 + the number of the signal that stopped it


def run_training(settings: RunSettings, assemble: Assemble = pretraining) -> RunResult:
    """Train, on as many devices as asked for, until the end or a signal.

    Raises InputError for anything a user can mend, with `out_dir` as it was or resumable. With several
    processes the caller must be a script guarded by `if __name__ == "__main__"`.
    """
    if settings.training.parallel == "fsdp" and settings.optimizer.optimizer == "lamb":
        raise InputError("optimizer: lamb cannot work on shares of a tensor; use --parallel ddp or adamw")
    job, plan = Job(settings, assemble), plan_devices(settings.training)
    if plan.processes == 1:
        return explain_memory(work, job, 0, 1, None)
    try:
        result, signal_number = launch(work_spawned, job, plan.processes)
    except Interrupted as interruption:
        return RunResult("stopped", 0, "", exit_code=128 + interruption.number)
    # The processes got another signal for the terminal's SIGINT; the code is for what the user sent.
    if signal_number and result.exit_code:
        result = replace(result, exit_code=128 + signal_number)
    return result


def work_spawned(job: Job, rank: int, world: int, store: str) -> RunResult:
    """The work of a process that we started."""
    return explain_memory(work, job, rank, world, store)


def explain_memory(function: Callable[..., RunResult], job: Job, *place: Any) -> RunResult:
    """Call it; turn running out of memory into a message that says which settings need less."""
    try:
        return function(job, *place)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        reason = str(error).splitlines()[0] if str(error) else "MemoryError"
        raise InputError(
            f"out of memory ({reason[:120]}): halve --train_batch_size and double "
            "--gradient_accumulation_steps, or try --activation_checkpointing or --precision bf16"
        ) from error


def work(job: Job, rank: int, world: int, store: str | None) -> RunResult:
    """One process's part of the run: the same everywhere, but only the leading process writes."""
    settings = job.settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said already
        plan = plan_devices(settings.training)
    place = take_place(plan, settings.training, rank, world, store)
    folder = Path(settings.out_dir)
    try:
        with Signals(spawned=world > 1) as signals:
            if not place.leads:
                return run_here(job, place, signals)
            starting_point(settings, place)  # refuses before the lock, which leaves a file
            with runfolder.locked(folder):
                return run_here(job, place, signals)
    finally:
        leave(place)


def run_here(job: Job, place: Place, signals: Signals) -> RunResult:
    """Assemble the run, prepare the folder, then train."""
    settings = job.settings
    source = starting_point(settings, place)
    saved = checkpoint.load(source) if source else None
    agreement = Agreement(place.world)
    run = job.assemble(settings, place, signals, agreement, saved, str(source))
    state = restore(run, saved, str(source)) if saved else LoopState()
    total = total_steps(run)
    agreement.gather()  # all have read what they need; from here on the folder changes
    if place.leads:
        prepare_folder(run, settings.config_json, state.step)
    with RunLog(run.folder, place.leads, state.step, total, run.silent) as log:
        run.log = log
        stopped = train(run, state)
    return conclude(run, state, stopped)


def conclude(run: Run, state: LoopState, stopped: int) -> RunResult:
    """Mark the folder and say how it ended."""
    run.agreement.settle()
    name = "stopped" if stopped else "finished"
    if run.place.leads:
        runfolder.write_mark(run.folder, name, state.step)
    newest = run.folder / "checkpoints" / f"step-{state.step:08d}"
    exit_code = 128 + stopped if 0 < stopped < TIME_IS_UP else 0
    return RunResult(name, state.step, str(newest), state.valid, state.best, exit_code)


# --- the folder ---------------------------------------------------------------------------------------


def starting_point(settings: RunSettings, place: Place) -> Path | None:
    """The checkpoint to go on from, if any; the leading process refuses a folder that is taken."""
    source = find_checkpoint(settings) if settings.resume_from else None
    if place.leads:
        check_folder(Path(settings.out_dir), source)
    return source


def find_checkpoint(settings: RunSettings) -> Path:
    """The checkpoint that `resume_from` means. Raises InputError when there is none."""
    path = Path(settings.resume_from)
    if (path / checkpoint.META).exists() or checkpoint.STEP_FOLDER.fullmatch(path.name):
        checkpoint.read_meta(path)
        return path
    found = checkpoint.latest(path)
    if found is None:
        raise InputError(f"{path}: holds no whole checkpoint to go on from; start anew in another folder")
    return found


def check_folder(folder: Path, source: Path | None) -> None:
    """Refuse to mix a run with what is in the folder already."""
    state = runfolder.state_of(folder)
    if state == "foreign":
        raise InputError(f"{folder}: is not empty and holds no run of ours; choose another --out_dir")
    inside = source is not None and source.resolve().parent.parent == folder.resolve()
    if state in ("resumable", "finished") and not inside:
        raise InputError(
            f"{folder}: holds a {state} run already; go on with --resume {folder} or choose another"
        )


def prepare_folder(run: Run, config_json: str, step: int) -> None:
    """Clear what a kill left half-done, set an abandoned future aside, and mark the run as running."""
    folder = run.folder
    checkpoint.clear_unfinished(folder)
    for moved in checkpoint.set_aside(folder, step):
        warnings.warn(f"set aside: {moved}, which lies beyond step {step}", stacklevel=2)
    runfolder.replace_text(folder / "tokenizer.json", run.tokenizer_json)
    if config_json:
        runfolder.replace_text(folder / "config.json", config_json + "\n")
    runfolder.write_mark(folder, "running", step)
