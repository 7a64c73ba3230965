"""A whole training run from plain settings: folder, processes, loop, and how it ended.

What is trained, on which data, is the matter of an experiment, which every process builds for itself.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from span_electra import progress
from span_electra.accelerators import lacks_memory
from span_electra.config import TrainingConfig
from span_electra.cores import under_torchrun
from span_electra.errors import InputError, reason_of
from span_electra.storage import CHECKPOINTS, CONFIG, TOKENIZER, write_text
from span_electra.training import checkpoint, devices, run_folder
from span_electra.training.checkpoint import Checkpoint
from span_electra.training.compilation import compile_layers, compiles
from span_electra.training.consensus import hash_of, raised_together, refuse_differences
from span_electra.training.devices import Agreement, Plan, Process, plan_devices
from span_electra.training.experiment import Experiment, RunSettings
from span_electra.training.launch import Interrupted, launch
from span_electra.training.log import RunLog
from span_electra.training.loop import TIME_IS_UP, Run, restore, train
from span_electra.training.optim import Optimizers
from span_electra.training.parallel import is_sharded, wrap_model
from span_electra.training.plan import (
    LoopState,
    check_by_clock,
    is_over,
    plan_steps,
    recut_epoch,
    what_is_left,
)
from span_electra.training.shards import load_sharded
from span_electra.training.signals import Signals
from span_electra.training.start import start_lines
from span_electra.training.step import Counters
from span_electra.training.track import Tracker, as_table, find_library, open_tracker

Settings = TypeVar("Settings", bound=RunSettings)
# A class or function of a module, so that it can be sent to other processes by its name.
Builder = Callable[[Settings, Process], Experiment]


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    state: str  # finished, or stopped (resumable)
    step: int
    checkpoint: str  # the newest one; empty: none was saved, and the same command begins again
    metrics: dict = field(default_factory=dict)  # of the last validation
    exit_code: int = 0  # 0, or 128 + the number of the signal that stopped it


def run_training(settings: Settings, build: Builder) -> RunResult:
    """Train the experiment that `build` makes of the settings, on as many devices as they ask for.

    Raises InputError for anything a user can mend, with `out_dir` as it was or resumable. With several
    processes the caller must be a script guarded by `if __name__ == "__main__"`.
    """
    if settings.training.parallel == "fsdp" and settings.optimizer.optimizer == "lamb":
        raise InputError("optimizer: lamb does not support --parallel fsdp; use --parallel ddp, or adamw")
    if settings.training.sharded_checkpoints and settings.training.parallel != "fsdp":
        raise InputError(
            "sharded_checkpoints: needs --parallel fsdp; give it, or leave sharded_checkpoints out"
        )
    # Devices are chosen before any process starts: what is not there is said once, not by each.
    plan = plan_devices(settings.training)
    if plan.processes == 1:
        return run_process(settings, build, plan, rank=0, world_size=1, store=None)
    before = newest_in(settings)
    try:
        result, signal_number = launch(partial(run_process, settings, build, plan), plan.processes)
    except Interrupted as interruption:
        # Most likely while they were starting, and nothing has been saved since.
        saved = newest_in(settings)
        step, saved = (0, "") if saved in (None, before) else (checkpoint.step_of(saved), str(saved))
        return RunResult("stopped", step, saved, exit_code=128 + interruption.number)
    # The processes got another signal for the terminal's SIGINT; the code is for what the user sent.
    if signal_number and result.exit_code:
        result = replace(result, exit_code=128 + signal_number)
    return result


def newest_in(settings: RunSettings) -> Path | None:
    """The newest checkpoint in a run's folder, unchecked."""
    return next(checkpoint.in_run(Path(settings.out_dir)), None)


def run_process(
    settings: Settings, build: Builder, plan: Plan, rank: int, world_size: int, store: str | None
) -> RunResult:
    """One process's part of the run: the same everywhere, but only the main process writes.

    Raises InputError that says which settings need less memory when it runs out.
    """
    with devices.switches_kept():
        process = devices.join(plan, settings.training, rank=rank, world_size=world_size, store=store)
        try:
            result = run_locked(settings, build, process, Agreement(process.world_size))
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            raise InputError(
                f"out of memory ({reason_of(error)}): halve --train_batch_size, or batch_max_tokens where "
                "that is set, and let gradients of twice as many batches accumulate; or try "
                "--activation_checkpointing or --precision bf16"
            ) from error
        # Not after an error, which would wait here for processes that wait for this one.
        devices.leave(process)
        return result


def run_locked(settings: Settings, build: Builder, process: Process, agreement: Agreement) -> RunResult:
    """Take the folder, on the main process, and train with the others."""
    spawned, held = process.world_size > 1 and not under_torchrun(), ExitStack()
    with Signals(spawned=spawned, relayed=under_torchrun()) as signals, held:
        with raised_together(agreement):
            if process.is_main_process:
                check_place(settings)  # before the lock, which leaves a file
                # Held until the run ends, by the main process alone: the others never write into the folder.
                held.enter_context(run_folder.locked(Path(settings.out_dir)))
        if not process.is_main_process:
            held.enter_context(progress.saying(progress.silent))
        return run_here(settings, build, process, signals, agreement)


def run_here(
    settings: Settings, build: Builder, process: Process, signals: Signals, agreement: Agreement
) -> RunResult:
    """Build the experiment, put it on this process's device, prepare the folder, then train."""
    # First: it says in which precision to go on.
    saved = load_resumed(settings, process, agreement)
    if saved:
        process = devices.go_on_in(process, settings.training, saved.meta)
    folder = Path(settings.out_dir)
    with raised_together(agreement):
        if process.is_main_process:
            # Once more: nobody can change it now.
            check_folder(folder, saved and saved.folder, settings.resume_command)
        experiment = build(settings, process)
        recut, rescored = compare_with_saved(experiment, settings, saved) if saved else (False, None)
    # Before the optimizers are made: their state lies where the parameters do by then.
    network = place_model(experiment.model, settings.training, process, saved)
    with raised_together(agreement):
        optimizers, state, counters = new_or_restored(experiment, settings, process, saved)
        recut_said = recut_epoch(state, experiment, settings.training) if recut else None
        plan_steps(experiment, settings.training, state)
        refuse_what_cannot_be(settings, saved, state)  # while nothing is written
    # All have read what they need; from here on the folder changes.
    refuse_differences(agreement, {**experiment.metadata(), "loop": asdict(state)})
    with raised_together(agreement):
        # First: a tracker that does not begin leaves the folder as it was.
        tracker = begin_tracking(settings) if process.is_main_process else None
        if process.is_main_process:
            prepare_folder(folder, settings.config_json, experiment.tokenizer_json, state.step)
        run_log = open_log(experiment, settings, process, state, tracker)
    with run_log as log:
        log.log_text(state.step, "settings", as_table(json.loads(settings.config_json or "{}")))
        run = Run(
            experiment=experiment,
            config=settings.training,
            process=process,
            network=network,
            optimizers=optimizers,
            folder=folder,
            signals=signals,
            agreement=agreement,
            log=log,
            counters=counters,
        )
        log.say_start(start_lines(run, state, settings.resume_command))
        if saved:
            say_resumed(run, state, saved.meta, recut_said, rescored)
        stopped = train(run, state)
        return conclude(run, state, stopped)  # within: a tracker takes the last report along


def new_or_restored(
    experiment: Experiment, settings: RunSettings, process: Process, saved: Checkpoint | None
) -> tuple[Optimizers, LoopState, Counters]:
    """Optimizers on the model's parameters, where the run stands, its counters: new ones, or those saved."""
    optimizers = Optimizers(experiment.model, settings.optimizer, experiment.learning_rate, process.precision)
    state, counters = LoopState(), Counters.fresh(process, len(experiment.tally))
    if saved:
        refuse_optimizer(saved, settings)
        state, counters = restore(saved, optimizers, process, tally=len(experiment.tally))
    elif settings.initial_optimizer:
        _, initial = checkpoint.open_at(settings.initial_optimizer, checkpoint.load)
        refuse_optimizer(initial, settings)
        optimizers.load(initial.optimizer, str(initial.folder))
    return optimizers, state, counters


def begin_tracking(settings: RunSettings) -> Tracker | None:
    """The tracker that the settings ask for."""
    name, described = settings.training.track, json.loads(settings.config_json or "{}")
    return open_tracker(name, Path(settings.out_dir), described) if name else None


def open_log(
    experiment: Experiment,
    settings: RunSettings,
    process: Process,
    state: LoopState,
    tracker: Tracker | None,
) -> RunLog:
    """The log of a run that stands at `state`; only on the main process it writes."""
    return RunLog(
        Path(settings.out_dir),
        enabled=process.is_main_process,
        step=state.step,
        total=state.total,
        validated=not state.validation_due,
        silent=settings.silent,
        shown=experiment.shown_metrics,
        epoch_digits=settings.training.num_epoch_digits,
        tracker=tracker,
    )


def say_resumed(run: Run, state: LoopState, meta: dict[str, Any], *others: str | None) -> None:
    """What a resumed run will do, and what is not as it was; `others`: lines on what else is not."""
    left = what_is_left(state, run.config, run.optimizers.config)
    for line in (*others, left, devices.other_device(run.process, meta)):
        if line:
            run.log.info(line)


def place_model(
    model: nn.Module, config: TrainingConfig, process: Process, saved: Checkpoint | None
) -> nn.Module:
    """Put the model on the device, with the weights of `saved`; return what is to be called."""
    if saved and not saved.sharded:
        checkpoint.restore_weights(model, saved.weights, str(saved.folder))
    for module in model.modules():
        if hasattr(module, "checkpointing"):  # an encoder, which makes its layers' activations again then
            module.checkpointing = config.activation_checkpointing
    if not is_sharded(process, config):  # such a model may be larger than a device; wrapping moves it
        model.to(process.device)
    # Before wrapping, so that gathering and reducing stay outside of the compiled code.
    if compiles(config):
        compile_layers(model, process.device, config)
    network = wrap_model(model, process, config)
    if saved and saved.sharded:  # read into the shards that wrapping has made
        saved.optimizer.update(load_sharded(saved.folder, saved.meta["aliases"], model))
    return network


def conclude(run: Run, state: LoopState, stopped: int) -> RunResult:
    """Mark the folder and return how it ended."""
    run.agreement.finish()  # a reduction still under way would not survive the group
    name = "stopped" if stopped else "finished"
    newest = run.folder / CHECKPOINTS / f"step-{state.step:08d}"
    if run.process.is_main_process:
        run_folder.write_mark(run.folder, name, state.step)
        if not stopped:  # by the data at hand: their files may be others by now
            run.experiment.write_report(newest)
    exit_code = 128 + stopped if 0 < stopped < TIME_IS_UP else 0
    return RunResult(name, state.step, checkpoint=str(newest), metrics=state.valid, exit_code=exit_code)


# --- the folder ---------------------------------------------------------------------------------------


def check_place(settings: RunSettings) -> None:
    """Refuse a folder that holds something else, and nothing to go on from, by names and sizes alone."""
    source = None
    if settings.resume_from:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `load_resumed` will say what it passes over
            by_sizes = partial(checkpoint.read_meta, hashed=False)
            source, _ = checkpoint.open_at(settings.resume_from, by_sizes)
    check_folder(Path(settings.out_dir), source, settings.resume_command)


def load_resumed(settings: RunSettings, process: Process, agreement: Agreement) -> Checkpoint | None:
    """The checkpoint to go on from, its shards left on the disk where each process will read its own.

    The main process chooses it, and alone hashes shards that others read: the rest take the one of this name
    and of these very facts. Raises InputError on all where one has another.
    """
    if not settings.resume_from:
        return None
    saved = None
    read = partial(checkpoint.load, leave_shards=is_sharded(process, settings.training))
    with raised_together(agreement):
        if process.is_main_process:
            _, saved = checkpoint.open_at(settings.resume_from, read)
    folder, facts = agreement.gather(saved and (saved.folder, hash_of(saved.meta)))[0]
    with raised_together(agreement):
        if saved is None:
            saved = read(folder, hashed=False)
            # Where its shards lie, their hashes are among its facts.
            if hash_of(saved.meta) != facts:
                raise InputError(
                    f"{folder}: is another checkpoint here than process 0 reads; let all machines see one "
                    "folder"
                )
    return saved


def compare_with_saved(
    experiment: Experiment, settings: RunSettings, saved: Checkpoint
) -> tuple[bool, str | None]:
    """Whether the epoch that a checkpoint stopped inside is cut otherwise now; what is to be said of scores.

    Its scores are taken out of its metadata where this run's cannot be held against them (`same_score`), and
    those of a model that lies in another run's folder, beside which the best of this one might never be kept.
    Raises InputError as `Experiment.check_resume` does.
    """
    meta = saved.meta
    recut = experiment.check_resume(meta, str(saved.folder))
    same = checkpoint.same_score(meta, experiment.metadata())
    if "loop" in meta and not (same and lies_in(saved.folder, Path(settings.out_dir))):
        meta["loop"] |= {"best": None, "metric": None}
    said = "scores were of another metric, or on other rows or masks, until now; the best is found anew"
    return recut, said if "loop" in meta and not same else None


def refuse_optimizer(saved: Checkpoint, settings: RunSettings) -> None:
    """Raise InputError where a checkpoint's optimizer state is of another kind than the run's."""
    config = settings.optimizer
    before = saved.meta.get("optimizer", {}).get("optimizer", config.optimizer)
    # Adam and AdamW remember the same; what others remember would be passed over, and kept for ever.
    if before != config.optimizer and {before, config.optimizer} != {"adam", "adamw"}:
        raise InputError(
            f"{saved.folder}: its optimizer is {before}, this run's {config.optimizer}; give --optimizer "
            f"{before}, or start a new run from its weights alone"
        )


def refuse_what_cannot_be(settings: RunSettings, saved: Checkpoint | None, state: LoopState) -> None:
    """Raise InputError for settings by which no run can begin, now that it is known what would be trained."""
    training = settings.training
    check_by_clock(training, settings.optimizer)
    if training.track:
        find_library(training.track)
    # Gone on with in another folder it would end at once, without a checkpoint to export from.
    if saved and not lies_in(saved.folder, Path(settings.out_dir)) and is_over(state, training):
        left = what_is_left(state, training, settings.optimizer)
        raise InputError(f"{saved.folder}: {left}; its networks as they are: export_SE.py")


def check_folder(folder: Path, source: Path | None, resume_command: str) -> None:
    """Refuse to mix a run with what is in the folder already; `resume_command` is that of the run."""
    state = run_folder.state_of(folder)
    if state == "foreign":
        raise InputError(f"{folder}: is not empty and holds no run of ours; choose another --out_dir")
    if state in ("resumable", "finished") and not (source and lies_in(source, folder)):
        raise InputError(
            f"{folder}: holds a {state} run already; go on: {resume_command}; or choose another --out_dir"
        )


def lies_in(source: Path, run: Path) -> bool:
    """Whether a checkpoint is of this run."""
    # Links and relative names: the same folder may have been named in two ways, and may be on another disk.
    own = (run / CHECKPOINTS).resolve()
    return own in (source.parent.resolve(), source.resolve().parent)


def prepare_folder(folder: Path, config_json: str, tokenizer_json: str, step: int) -> None:
    """Clear what a kill left half-done, set an abandoned future aside, and mark the run as running."""
    # With the lock held, so what is half-written here is nobody's work in progress.
    checkpoint.clear_unfinished(folder)
    for moved in checkpoint.set_aside(folder, step):
        warnings.warn(f"set aside: {moved}, which lies beyond step {step}", stacklevel=2)
    write_text(folder / TOKENIZER, tokenizer_json)
    if config_json:
        write_text(folder / CONFIG, config_json + "\n")
    run_folder.write_mark(folder, "running", step)
