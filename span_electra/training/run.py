"""A whole training run from plain settings: folder, processes, data, model, loop, and how it ended."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from span_electra.config import TrainingConfig
from span_electra.data.loader import Batches
from span_electra.errors import InputError
from span_electra.model.joint import SpanElectra
from span_electra.training import checkpoint, runfolder
from span_electra.training.clock import seldom
from span_electra.training.devices import Agreement, Place, leave, plan_devices, take_place
from span_electra.training.launch import Interrupted, launch
from span_electra.training.loop import TIME_IS_UP, LoopState, Run, restore, total_steps, train
from span_electra.training.optim import Optimizers, freeze
from span_electra.training.parallel import spread
from span_electra.training.prepare import (
    Data,
    TrainingRun,
    build_model,
    check_same_data,
    commonest_share,
    compiles,
    facts_of,
    initialize_from,
    open_data,
    utilisation,
)
from span_electra.training.runlog import METRIC_NAMES, RunLog
from span_electra.training.signals import Signals

REPORT_EVERY = 60  # seconds at least between two drawings of the report, which take one or two


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    state: str  # finished, or stopped (resumable)
    step: int
    checkpoint: str  # the newest one
    metrics: dict = field(default_factory=dict)  # of the last validation
    best: float | None = None  # of the monitored metric
    exit_code: int = 0  # 0, or 128 + the number of the signal that stopped it


def run_training(settings: TrainingRun) -> RunResult:
    """Train, on as many devices as asked for, until the end or a signal.

    Raises InputError for anything a user can mend, with `out_dir` as it was or resumable. With several
    processes the caller must be a script guarded by `if __name__ == "__main__"`.
    """
    check_monitor(settings.training)
    if settings.training.parallel == "fsdp" and settings.optimizer.optimizer == "lamb":
        raise InputError("optimizer: lamb cannot work on shares of a tensor; use --parallel ddp or adamw")
    plan = plan_devices(settings.training)
    if plan.processes == 1:
        return explain_memory(work, settings, 0, 1, None)
    try:
        result, signal_number = launch(work_spawned, settings, plan.processes)
    except Interrupted as interruption:
        return RunResult("stopped", 0, "", exit_code=128 + interruption.number)
    # The processes got another signal for the terminal's SIGINT; the code is for what the user sent.
    if signal_number and result.exit_code:
        result = replace(result, exit_code=128 + signal_number)
    return result


def check_monitor(config: TrainingConfig) -> None:
    """Refuse a metric that no validation has."""
    if config.monitor not in METRIC_NAMES:
        raise InputError(f"monitor: {config.monitor!r} is no metric; choose from {', '.join(METRIC_NAMES)}")


def work_spawned(settings: TrainingRun, rank: int, world: int, store: str) -> RunResult:
    """The work of a process that we started."""
    return explain_memory(work, settings, rank, world, store)


def explain_memory(function: Callable[..., RunResult], settings: TrainingRun, *place: Any) -> RunResult:
    """Call it; turn running out of memory into a message that says which settings need less."""
    try:
        return function(settings, *place)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        reason = str(error).splitlines()[0] if str(error) else "MemoryError"
        raise InputError(
            f"out of memory ({reason[:120]}): halve --train_batch_size and double "
            "--gradient_accumulation_steps, or try --activation_checkpointing or --precision bf16"
        ) from error


def work(settings: TrainingRun, rank: int, world: int, store: str | None) -> RunResult:
    """One process's part of the run: the same everywhere, but only the leading process writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said already
        plan = plan_devices(settings.training)
    place = take_place(plan, settings.training, rank, world, store)
    folder = Path(settings.out_dir)
    try:
        with Signals(spawned=world > 1) as signals:
            if not place.leads:
                return run_here(settings, place, signals)
            starting_point(settings, place)  # refuses before the lock, which leaves a file
            with runfolder.locked(folder):
                return run_here(settings, place, signals)
    finally:
        leave(place)


def run_here(settings: TrainingRun, place: Place, signals: Signals) -> RunResult:
    """Prepare the folder, the data and the model, then train."""
    folder = Path(settings.out_dir)
    source = starting_point(settings, place)
    data = open_data(settings)
    model = build_model(settings, data)
    saved = checkpoint.load(source) if source else None
    if saved:
        check_same_data(settings, data, saved, str(source))
        checkpoint.restore_weights(model, saved.weights, str(source))
    elif settings.init_from:
        initialize_from(model, settings.init_from)
    agreement = Agreement(place.world)
    run = assemble(settings, place, signals, data, model, agreement)
    state = restore(run, saved, str(source)) if saved else LoopState()
    total = total_steps(run)
    agreement.gather()  # all have read what they need; from here on the folder changes
    if place.leads:
        prepare_folder(folder, settings, data, saved)
    with RunLog(folder, place.leads, state.step, total) as log:
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


def starting_point(settings: TrainingRun, place: Place) -> Path | None:
    """The checkpoint to go on from, if any; the leading process refuses a folder that is taken."""
    source = find_checkpoint(settings) if settings.resume_from else None
    if place.leads:
        check_folder(Path(settings.out_dir), source)
    return source


def find_checkpoint(settings: TrainingRun) -> Path:
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


def prepare_folder(
    folder: Path, settings: TrainingRun, data: Data, saved: checkpoint.Checkpoint | None
) -> None:
    """Clear what a kill left half-done, set an abandoned future aside, and mark the run as running."""
    checkpoint.clear_unfinished(folder)
    step = saved.step if saved else 0
    for moved in checkpoint.set_aside(folder, step):
        warnings.warn(f"set aside: {moved}, which lies beyond step {step}", stacklevel=2)
    runfolder.replace_text(folder / "tokenizer.json", data.train.header.tokenizer_json)
    if settings.config_json:
        runfolder.replace_text(folder / "config.json", settings.config_json + "\n")
    runfolder.write_mark(folder, "running", step)


# --- the run --------------------------------------------------------------------------------------------


def assemble(
    settings: TrainingRun,
    place: Place,
    signals: Signals,
    data: Data,
    model: SpanElectra,
    agreement: Agreement,
) -> Run:
    """Put the run together on this process's device; its log comes later."""
    config = settings.training
    if config.freeze:
        freeze(model, config.freeze)
    model.checkpoint_activations(config.activation_checkpointing)
    model.to(place.device)
    if compiles(config):
        model.compile(dynamic=False)
    network = spread(model, place, config)
    shared = {"rank": place.rank, "world": place.world, "static_shapes": compiles(config)}
    shared["pinned"] = place.device.type == "cuda"
    together = config.gradient_accumulation_steps

    def train_batches(epoch: int, start: int) -> Batches:
        loader, rows = settings.train_loader, data.train_rows
        return Batches(data.train, loader, epoch, start, rows=rows, together=together, **shared)

    def valid_batches() -> Batches:
        return Batches(data.valid, settings.valid_loader, 0, rows=data.valid_rows, **shared)

    def draw() -> None:
        try:  # shares of a model cannot read sentences on one process alone
            settings.picture(settings, data, None if config.parallel == "fsdp" else model)
        except Exception as error:  # whatever a picture lacks, the run goes on
            warnings.warn(f"report.html is not written: {error!r}", stacklevel=2)

    return Run(
        model=model,
        network=network,
        optimizers=Optimizers(model, settings.optimizer),
        place=place,
        config=config,
        optimizer_config=settings.optimizer,
        train_batches=train_batches,
        valid_batches=valid_batches if len(data.valid_rows) else None,
        folder=Path(settings.out_dir),
        facts=facts_of(settings, data),
        signals=signals,
        agreement=agreement,
        commonest_share=commonest_share(data),
        mfu_of=utilisation(settings, data, place),
        after_validation=seldom(draw, REPORT_EVERY) if settings.picture else None,
    )
