"""The training loop: make a step; once in a while log, validate, save.

A run that was stopped anywhere and resumed ends as one that was never stopped, bit for bit on one device.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from span_electra.accelerators import lacks_memory, memory_statistics, name_precision
from span_electra.config import TrainingConfig, interval
from span_electra.counted import counted
from span_electra.errors import InputError, reason_of
from span_electra.random_keys import subkey
from span_electra.training import checkpoint
from span_electra.training.clock import Clock
from span_electra.training.devices import Agreement, Process
from span_electra.training.experiment import Batch, EpochBatches, Experiment
from span_electra.training.log import RunLog
from span_electra.training.optim import Optimizers, lr_multiplier, peak_rates
from span_electra.training.parallel import gather_tensors, sum_over_processes
from span_electra.training.plan import (
    LoopState,
    elapsed_ticks,
    is_due,
    is_over,
    progress,
    schedule_position,
)
from span_electra.training.signals import Signals
from span_electra.training.step import COUNTED, Counters, train_step

PATIENCE = 10  # steps skipped one after another, for losses that are not finite, that end the run
# Steps between two looks at how many those are, since each makes the host wait; of other devices 1.
LOOK_EVERY = {"cuda": 10, "xpu": 10}
TIME_IS_UP = 1000  # a reason to stop that is no signal; larger than any signal's number
WARMED_UP = 0.3  # share of the run before which metrics say nothing about its health


@dataclass
class Run:
    """All that the loop works with."""

    experiment: Experiment
    config: TrainingConfig
    process: Process
    network: nn.Module  # to be called; the experiment's model, or what wraps it over several devices
    optimizers: Optimizers
    folder: Path
    signals: Signals
    agreement: Agreement
    log: RunLog
    counters: Counters
    clock: Clock = field(default_factory=Clock)
    began: float = field(default_factory=lambda: time.monotonic())  # nobody can set this clock back


def train(run: Run, state: LoopState) -> int:
    """Train until all epochs or steps are done; return 0, or why it stopped before (a signal, TIME_IS_UP).

    Either way the last state is saved as a checkpoint. Raises InputError when losses stay not finite.
    """
    # Seconds of earlier starts count on: intervals in minutes are minutes of training, not of this process.
    config, seconds_before = run.config, state.seconds
    # The rows of the last steps, to be named should all be bad, which is known at the next look.
    recent = deque(maxlen=PATIENCE + max(LOOK_EVERY.values()))
    log_every, eval_every = config.log_interval(config.log_steps), config.eval_interval()
    save_every = interval("save_every", config.save_every)
    run.network.train()
    if state.validation_due:  # a stop cut it short; the run must go on as if it had not
        validate(run, state)
        save_checkpoint(run, state)
        if state.validation_due:
            return stop_requested(run, state)
    last = is_over(state, config)
    while not last:
        # Threads make batches ahead; closing the groups ends them, however this loop is left.
        ticks = elapsed_ticks(state, config)
        batches = run.experiment.train_batches(state.epoch, state.batch, ticks)
        with closing(accumulation_groups(batches, config.gradient_accumulation_steps, state.batch)) as groups:
            for group in run.clock.timed("data", groups):
                before = progress(state, batches)
                train_step(
                    run.experiment,
                    run.network,
                    group,
                    optimizers=run.optimizers,
                    counters=run.counters,
                    process=run.process,
                    key=subkey(config.seed, state.step, run.process.rank),
                    lr_multiplier=lr_multiplier(*schedule_position(state, config), run.optimizers.config),
                )
                count_step(state, len(group), batches)
                # Rows as tensors of the host: a copy back from the device would make it wait.
                recent.append((state.step, [batch.rows_B for batch in group]))
                state.seconds = seconds_before + time.monotonic() - run.began
                run.log.advance()
                last = is_over(state, config)
                stop_if_hopeless(run, state.step, recent, last=last)

                # Once in a while: log, validate, save.
                if log_every.number and (last or is_due(log_every, before, progress(state, batches))):
                    log_metrics(run, state)
                # Asked by every process in every step, whoever wants to stop: a reduction needs all.
                stop, better = stop_requested(run, state), False
                if last or is_due(eval_every, before, progress(state, batches)):
                    better = validate(run, state)
                    stop = stop or stop_requested(run, state)
                # The best so far is saved whatever the cadence: the next step makes another model of it.
                if last or stop or better or is_due(save_every, before, progress(state, batches)):
                    save_checkpoint(run, state)
                # The last step is the run's end whatever was asked, unless its validation is still to come.
                if stop and (state.validation_due or not last):
                    return stop
                if last or phase_changed(run, state, since=ticks):
                    break
    return 0


def phase_changed(run: Run, state: LoopState, since: int) -> bool:
    """Whether the clock has come to another phase, which batches made ahead do not follow."""
    now = schedule_position(state, run.config)[0]
    return run.config.by_clock and any(since < start <= now for start in run.experiment.phase_starts)


def accumulation_groups(batches: EpochBatches, size: int, made: int) -> Iterator[list[Batch]]:
    """The batches of each optimizer step, `made` of the epoch's before; its end flushes what is left.

    Raises InputError where there is none at all, for which the run would ask for ever.
    """
    with closing(iter(batches)) as source:
        group = list(islice(source, size))
        if not group:
            raise InputError(
                f"the checkpoint has made {made} of this epoch's batches, and with these features the epoch "
                f"has only {len(batches)}; go on with the features it was trained on, or start a new run "
                "with --init_from"
            )
        while group:
            yield group
            group = list(islice(source, size))


def count_step(state: LoopState, consumed: int, batches: EpochBatches) -> None:
    """Count a step of `consumed` batches; at the epoch's end the next one begins."""
    before = batches.ends_N[state.batch - 1] if state.batch else 0
    state.step += 1
    state.batch += consumed
    state.epoch_samples = int(batches.ends_N[state.batch - 1])
    state.samples += int(state.epoch_samples - before)
    # A metric is of the very step that was validated; a checkpoint between two validations has none.
    state.metric = None
    if state.batch == len(batches):
        state.epoch, state.batch, state.epoch_samples = state.epoch + 1, 0, 0


# --- stopping -----------------------------------------------------------------------------------------


def own_reason_to_stop(run: Run) -> int:
    """Why this process would stop: the signal it received, TIME_IS_UP, or 0."""
    if run.signals.received:
        return run.signals.received
    if run.config.by_clock:
        return 0  # then the plan ends with the time
    limit = 60 * run.config.max_minutes  # of this start of the command, so that a resumed run has it anew
    return TIME_IS_UP if limit and time.monotonic() - run.began >= limit else 0


def stop_requested(run: Run, state: LoopState) -> int:
    """Why to stop, or 0, as all processes agree; the same reduction settles what time it is."""
    reason, seconds = run.agreement.largest(own_reason_to_stop(run), int(state.seconds))
    state.agreed_seconds = max(state.agreed_seconds, seconds)
    return reason


def stop_if_hopeless(run: Run, step: int, recent: deque, *, last: bool) -> None:
    """At a look, or the run's last step: raise InputError if PATIENCE steps or more until now were skipped.

    It comes on all processes at the same step, and names the steps, their rows and the way out.
    """
    if step % LOOK_EVERY.get(run.process.device.type, 1) and not last:
        return
    in_a_row = int(run.counters.in_a_row)
    if in_a_row < PATIENCE:
        return
    first = step - in_a_row + 1
    bad = [rows_B for made, group in recent if made >= first for rows_B in group]
    rows = sorted({int(row) for rows_B in bad for row in rows_B})
    listed = " ".join(map(str, rows[:20])) + (" ..." if len(rows) > 20 else "")
    good = next(checkpoint.in_run(run.folder), None)
    rates = ", ".join(f"--{name}" for name in peak_rates(run.optimizers.config))
    raise InputError(
        f"steps {first} to {step}: losses or gradients were not finite {in_a_row} times in a row "
        f"(rows {listed}); last good checkpoint: {good or 'none yet'}; lower {rates}, lengthen --warmup "
        "or use --precision fp32"
    )


# --- logging ------------------------------------------------------------------------------------------


def log_metrics(run: Run, state: LoopState) -> None:
    """Log the means since the last line, and warn once of bad ones."""
    experiment, step = run.experiment, state.step
    done, total = schedule_position(state, run.config)
    passed_share = done / total
    if run.config.by_clock and done:
        run.log.expect(round(step / passed_share))
    seconds, state.logged_at = max(state.seconds - state.logged_at, 1e-9), state.seconds
    time_by_part = run.clock.take()
    numbers = sum_over_processes(run.counters.sums, run.process).tolist()
    run.counters.sums.zero_()
    sums = dict(zip((*experiment.tally, *COUNTED), numbers, strict=True))
    tokens = sums[experiment.token_sum]
    speed = tokens / seconds
    state.tokens += tokens
    metrics = experiment.metrics(sums, speed) | {
        # Of the step that was made: after an epoch's last, the state stands at the next one's beginning.
        "epoch": state.epoch if state.batch else state.epoch - 1,
        "lr": max(group["lr"] for group in run.optimizers.groups),
        **memory_statistics(run.process.device),
        "tokens": state.tokens,
        "tokens_per_second": speed,
    }
    if sums["skipped"]:
        metrics["skipped_steps"] = sums["skipped"]
        bad = counted(round(sums["skipped"]), "step")
        run.log.info(f"step {step:,}: {bad} skipped, for losses that were not finite")
    run.log.log_metrics(step, "train", metrics, time=time_by_part)
    if passed_share > WARMED_UP:
        warn_once(run, state, metrics)


def warn_once(run: Run, state: LoopState, metrics: dict[str, float]) -> None:
    """Print each health warning the first time it applies."""
    for sentence in run.experiment.health_warnings(metrics):
        # Its numbers change from line to line; the letters alone say which warning it is.
        topic = "".join(letter for letter in sentence if letter.isalpha())[:30]
        if topic not in state.warned:
            state.warned.append(topic)
            run.log.info(f"health: {sentence}")


# --- validating ---------------------------------------------------------------------------------------


def validate(run: Run, state: LoopState) -> bool:
    """Validate, and remember the monitored metric; a request to stop puts it off to the resumed run.

    Returns whether the model is the best so far, and such ones are kept.
    """
    ticks = elapsed_ticks(state, run.config)
    with run.clock.part("validation"), saved_if_it_fails(run, state), torch.no_grad():
        run.network.eval()
        metrics = run.experiment.validate(
            lambda: bool(stop_requested(run, state)), state.epoch, state.batch, ticks
        )
        run.network.train()
    state.validation_due = metrics is None
    if not metrics:
        return False
    state.evaluations += 1
    run.log.log_metrics(state.step, "valid", metrics)
    state.valid, state.valid_step = metrics, state.step
    state.metric, best_before = metrics.get(run.config.monitor), state.best
    better = max if checkpoint.more_is_better(run.config.monitor, run.config.monitor_mode) else min
    # What is not a number cannot be compared: as the best it would stay so, and all after it count as better.
    known = [value for value in (state.best, state.metric) if value is not None and not math.isnan(value)]
    state.best = better(known, default=None)
    if run.process.is_main_process:
        with run.clock.part("report"):
            sentences = run.experiment.write_report()
            run.log.log_text(state.step, "validation sentences", sentences)
    if not run.config.save_top_k or not interval("save_every", run.config.save_every).number:
        return False
    # Agreed upon, as all must come to save: a metric's last digit may differ between processes.
    improved = torch.tensor(float(state.best != best_before), device=run.process.device)
    return bool(sum_over_processes(improved, run.process) > 0)


@contextmanager
def saved_if_it_fails(run: Run, state: LoopState) -> Iterator[None]:
    """Save where training stands before an error of a validation is raised: both are due at the same steps.

    A resumed run begins with that validation. Raises InputError where memory ran out, with what needs less.
    """
    try:
        yield
    except Exception as error:
        # Of several processes this one alone may have failed: the others wait for it in a sum of the
        # validation, and a save, which all must come to, would wait for ever.
        if alone := run.process.world_size == 1:
            state.validation_due = True
            # The others stay: answers that are not numbers may come of weights that are worth nothing.
            save_checkpoint(run, state, retain=False)
        if not isinstance(error, (MemoryError, RuntimeError)) or not lacks_memory(error):
            raise
        said = f"out of memory in the validation of step {state.step} ({reason_of(error)})"
        then = "go on with the run, which is saved" if alone else "go on from the newest checkpoint"
        raise InputError(f"{said}: halve {run.experiment.validation_size}, and {then}") from error


# --- saving -------------------------------------------------------------------------------------------


def save_checkpoint(run: Run, state: LoopState, *, retain: bool = True) -> None:
    """Write a checkpoint, then delete those that retention does not hold. All processes must come."""
    with run.clock.part("saving"):
        meta = {
            **run.experiment.metadata(),
            "device": run.process.device.type,
            "precision": name_precision(run.process.precision),
            "metric": state.metric,
            "loop": asdict(state),
            # Sums over all processes, so that any number of them can go on.
            "counters": run.counters.to_lists()
            | {"sums": sum_over_processes(run.counters.sums, run.process).tolist()},
        }
        # A shared tensor must be one under all its names, so that it is gathered and stored once.
        weights = run.experiment.model.state_dict(keep_vars=True)
        optimizer, is_main_process = run.optimizers.state(), run.process.is_main_process
        # Gathering needs a whole model on one machine; shards are written where they lie.
        if run.config.sharded_checkpoints and run.process.world_size > 1:
            newest = checkpoint.save_sharded(
                run.folder, state.step, weights, optimizer, meta, is_main_process=is_main_process
            )
        else:
            weights, optimizer = (gather_tensors(tensors, run.process) for tensors in (weights, optimizer))
            if is_main_process:
                newest = checkpoint.save(run.folder, state.step, weights, optimizer, meta)
        if is_main_process and retain:
            config = run.config
            checkpoint.retain(
                run.folder,
                last=config.save_last,
                best=config.save_top_k,
                now=meta,
                higher_is_better=checkpoint.more_is_better(config.monitor, config.monitor_mode),
                newest=newest,
            )


def restore(
    saved: checkpoint.Checkpoint, optimizers: Optimizers, process: Process, *, tally: int
) -> tuple[LoopState, Counters]:
    """Load a checkpoint's optimizer state; return where the run stood, and its counters.

    The weights are in the model already, since optimizers are built on them. Raises InputError.
    """
    try:
        state = LoopState.from_dict(saved.meta["loop"])
        numbers = saved.meta["counters"]
        if saved.meta.get("precision") != name_precision(process.precision):
            numbers = numbers | Counters.first_scale(process)  # the factor on the loss is another type's
        counters = Counters.from_lists(numbers, process, tally)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{saved.folder}: its meta.json holds no loop state of ours ({error})") from error
    if not process.is_main_process:
        counters.sums.zero_()  # they are sums over all processes, to be counted once
    optimizers.load(saved.optimizer, str(saved.folder))
    return state, counters
