"""The loop: make a step; once in a while tell, try, keep. Stopped anywhere and resumed = never stopped."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from span_electra.batch import Movable
from span_electra.config import OptimizerConfig, TrainingConfig, interval
from span_electra.errors import InputError
from span_electra.model.batch import TALLY
from span_electra.pretraining.health import complaints
from span_electra.pretraining.loader import Batches
from span_electra.random_keys import subkey
from span_electra.training import checkpoint
from span_electra.training.cadence import Progress, passed
from span_electra.training.clock import Clock
from span_electra.training.devices import Agreement, Place
from span_electra.training.log import RunLog, metrics_of
from span_electra.training.optim import Optimizers, rate
from span_electra.training.parallel import add_over_processes, whole
from span_electra.training.signals import Signals
from span_electra.training.step import COUNTED, Counters, train_step

PATIENCE = 10  # steps skipped one after another, for losses that are not finite, that end the run
TIME_IS_UP = 1000  # a wish to stop that is no signal; larger than any signal's number
CLOCK_BITS = 40  # of an answer on which processes agree: the seconds; above them the wish


@dataclass
class LoopState:
    """Where the run stands; with weights, optimizer state and counters it is all that a resumed run needs."""

    step: int = 0  # optimizer steps made
    epoch: int = 0
    batch: int = 0  # batches of the epoch consumed
    samples: int = 0  # rows consumed, of all epochs
    evaluations: int = 0  # validations finished
    agreed: int = 0  # whole seconds spent training, as all processes agree
    seconds: float = 0.0  # spent training
    tokens: float = 0.0  # real tokens seen, as far as told
    told_at: float = 0.0  # `seconds` when last told
    untried: bool = False  # a validation was due and could not be finished
    best: float | None = None  # of the monitored metric
    metric: float | None = None  # of the monitored metric, if tried at this very step
    valid: dict[str, float] = field(default_factory=dict)  # the last validation's metrics
    told: list[str] = field(default_factory=list)  # health warnings given, so that each comes once


@dataclass
class Run:
    """All that the loop works with."""

    model: nn.Module  # to be saved
    network: nn.Module  # to be called; the model, or what spreads it over devices
    optimizers: Optimizers
    place: Place
    config: TrainingConfig
    optimizer_config: OptimizerConfig
    train_batches: Callable[[int, int], Batches]  # (epoch, first batch) -> the epoch's batches
    valid_batches: Callable[[], Batches] | None
    folder: Path
    facts: dict  # what checkpoints record besides: settings, vocabulary, data
    signals: Signals
    agreement: Agreement
    tokenizer_json: str = ""  # of the vocabulary that the rows were made with, kept in the folder
    tally: tuple[str, ...] = TALLY  # names of the sums that the model gives with each loss
    measure: Callable[[dict[str, float]], dict[str, float]] = metrics_of  # sums -> metrics
    tries: Callable[[Run, float], dict[str, float] | None] | None = None  # validates; none: `evaluate`
    silent: bool = False  # nothing is told on the screen
    commonest_share: float = 0.0  # share of the commonest token, for the health warnings
    mfu_of: Callable[[float], float] | None = None  # tokens a second -> share of the devices' peak
    after_validation: Callable[[], None] | None = None  # on the leading process: show how it stands
    clock: Clock = field(default_factory=Clock)
    log: RunLog | None = None
    counters: Counters = field(init=False)

    def __post_init__(self) -> None:
        self.counters = Counters.fresh(self.place, len(self.tally))


def train(run: Run, state: LoopState) -> int:
    """Train until all epochs or steps are done; return 0, or why it stopped before (a signal, TIME_IS_UP).

    Either way the last state is kept as a checkpoint. Raises InputError when losses stay not finite.
    """
    started, spent = time.monotonic(), state.seconds  # monotonic: nobody can set this clock back
    total = total_steps(run)
    bad = deque(maxlen=PATIENCE)
    eval_every = interval("eval_every", run.config.eval_every)
    save_every = interval("save_every", run.config.save_every)
    run.network.train()
    if state.untried:
        try_(run, state)
        keep(run, state)
    while state.epoch < run.config.epochs and state.step < total:
        batches = run.train_batches(state.epoch, state.batch)
        with closing(groups(batches, run.config.gradient_accumulation_steps)) as steps:
            for group in run.clock.waiting("data", steps):
                bad.append([batch.rows_B for batch in group])
                key = subkey(run.config.seed, state.step, run.place.rank)
                share = rate(state.step, total, run.optimizer_config)
                before = progress(state, batches)
                train_step(run.network, run.optimizers, group, run.counters, run.place, key, share)
                advance(state, len(group), batches)
                state.seconds = spent + time.monotonic() - started
                run.log.advance()
                last = state.step == total or state.epoch == run.config.epochs
                # once in a while: tell, try, keep
                if run.config.log_steps and (last or state.step % run.config.log_steps == 0):
                    tell(run, state, total)
                stop = agree(run, state)
                if last or passed(eval_every, before, progress(state, batches)):
                    try_(run, state)
                    stop = stop or agree(run, state)
                if last or stop or passed(save_every, before, progress(state, batches)):
                    keep(run, state)
                if state.step % PATIENCE == 0:
                    end_if_hopeless(run, state, bad)
                if stop and (state.untried or not last):
                    return stop
                if last:
                    break
    return 0


def total_steps(run: Run) -> int:
    """Optimizer steps of the whole run (the first epoch's count stands for each)."""
    each = math.ceil(len(run.train_batches(0, 0)) / run.config.gradient_accumulation_steps)
    steps = each * run.config.epochs
    return min(steps, run.config.max_steps) if run.config.max_steps else steps


def groups(batches: Batches, size: int) -> Iterator[list[Movable]]:
    """The batches of each optimizer step; the epoch's end flushes what is left."""
    with closing(iter(batches)) as source:
        group = []
        for batch in source:
            group.append(batch)
            if len(group) == size:
                yield group
                group = []
        if group:
            yield group


def advance(state: LoopState, consumed: int, batches: Batches) -> None:
    """Count a step; at the epoch's end the next one begins."""
    before = batches.ends_N[state.batch - 1] if state.batch else 0
    state.step += 1
    state.batch += consumed
    state.samples += int(batches.ends_N[state.batch - 1] - before)
    state.metric = None
    if state.batch == len(batches):
        state.epoch, state.batch = state.epoch + 1, 0


def progress(state: LoopState, batches: Batches) -> Progress:
    """How far the run has come."""
    epochs = state.epoch + state.batch / len(batches)
    return Progress(state.step, state.samples, epochs, state.evaluations, state.agreed / 60)


def wish(run: Run, seconds: float) -> int:
    """This process's wish to stop: the signal it received, TIME_IS_UP, or 0."""
    if run.signals.received:
        return run.signals.received
    out_of_time = run.config.max_minutes and seconds >= 60 * run.config.max_minutes
    return TIME_IS_UP if out_of_time else 0


def agree(run: Run, state: LoopState) -> int:
    """Why to stop, or 0, as all processes agree; one question also settles what time it is."""
    answer = run.agreement.ask(wish(run, state.seconds) << CLOCK_BITS | int(state.seconds))
    state.agreed = max(state.agreed, answer % (1 << CLOCK_BITS))
    return answer >> CLOCK_BITS


# --- tell ---------------------------------------------------------------------------------------------


def tell(run: Run, state: LoopState, total: int) -> None:
    """Log the means since the last line, and warn once of what is not healthy. This waits for the device."""
    names = (*run.tally, *COUNTED)
    sums = dict(zip(names, add_over_processes(run.counters.sums, run.place).tolist(), strict=True))
    run.counters.sums.zero_()
    tokens = sums["tokens"] or sums.get("masked", 0.0)
    speed = tokens / max(state.seconds - state.told_at, 1e-9)
    state.tokens, state.told_at = state.tokens + tokens, state.seconds
    metrics = run.measure(sums)
    more = {
        "epoch": state.epoch,
        "lr": max(group["lr"] for group in run.optimizers.groups),
        "tokens": state.tokens,
        "tokens_per_second": speed,
    }
    if sums["skipped"]:
        more["skipped_steps"] = sums["skipped"]
        run.log.say(f"step {state.step:,}: {sums['skipped']:.0f} steps skipped, their losses were not finite")
    if run.mfu_of:
        more["mfu"] = run.mfu_of(speed)
    run.log.write(state.step, "train", metrics | more, time=run.clock.take())
    if state.step > total * 0.3:  # warm-up is over and the first things are learned, or should be
        warn_once(run, state, metrics)


def warn_once(run: Run, state: LoopState, metrics: dict[str, float]) -> None:
    """Say each health warning the first time it applies."""
    for sentence in complaints(metrics, run.commonest_share):
        topic = "".join(letter for letter in sentence if letter.isalpha())[:30]
        if topic not in state.told:
            state.told.append(topic)
            run.log.say(f"health: {sentence}")


# --- try ----------------------------------------------------------------------------------------------


def try_(run: Run, state: LoopState) -> None:
    """Validate, and remember the monitored metric; a wish to stop puts it off to the resumed run."""
    tries = run.tries or (evaluate if run.valid_batches else None)
    if tries is None:
        return
    with run.clock.part("validation"):
        metrics = tries(run, state.seconds)
    state.untried = metrics is None
    if metrics is None:
        return
    state.evaluations += 1
    run.log.write(state.step, "valid", metrics)
    state.valid = metrics
    state.metric = metrics.get(run.config.monitor)
    if state.metric is not None:
        better = max if run.config.monitor_mode == "max" else min
        state.best = state.metric if state.best is None else better(state.best, state.metric)
    if run.after_validation and run.place.leads:
        with run.clock.part("report"):
            run.after_validation()


@torch.no_grad()
def evaluate(run: Run, seconds: float = 0.0) -> dict[str, float] | None:
    """Return the metrics on all held-out rows, each masked as in its file; None if a stop is wished for."""
    sums = torch.zeros(len(TALLY) + 1, dtype=torch.float64, device=run.place.device)
    run.network.eval()
    with closing(iter(run.valid_batches())) as batches:
        for masked in batches:
            with run.place.autocast():
                output = run.model(masked.to(run.place.device, non_blocking=True))
            sums[:-1] += output.tally
            # The loss is a mean over the batch; weighted by tokens, means of batches make the whole's mean.
            sums[-1] += output.loss * masked.token_total.to(run.place.device)
            if run.agreement.ask(wish(run, seconds) << CLOCK_BITS) >> CLOCK_BITS:
                run.network.train()
                return None
    run.network.train()
    totals = add_over_processes(sums, run.place).tolist()
    named = dict(zip(TALLY, totals, strict=False))
    tokens = named["tokens"] or named["masked"]
    return metrics_of(named | {"loss": totals[-1], "steps": tokens})


# --- keep ---------------------------------------------------------------------------------------------


def keep(run: Run, state: LoopState) -> Path:
    """Write a checkpoint, then delete those that retention does not hold. All processes must come."""
    with run.clock.part("saving"):
        weights, optimizer = gather_state(run)
        meta = {
            **run.facts,
            "metric": state.metric,
            "loop": asdict(state),
            "counters": summed_counters(run),
        }
        target = run.folder / "checkpoints" / f"step-{state.step:08d}"
        if run.place.leads:
            checkpoint.save(run.folder, state.step, weights, optimizer, meta)
            config = run.config
            checkpoint.retain(
                run.folder, config.save_last, config.save_top_k, config.monitor_mode == "max", target
            )
    return target


def gather_state(run: Run) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and optimizer state in one piece each; on processes that do not lead they may be left out."""
    weights: dict[str, Tensor] = {}
    pieces: dict[int, Tensor] = {}  # a shared tensor is gathered once and stays shared
    for name, tensor in run.model.state_dict(keep_vars=True).items():
        if id(tensor) not in pieces:
            pieces[id(tensor)] = whole(tensor.detach())
        weights[name] = pieces[id(tensor)]
    return weights, {label: whole(tensor) for label, tensor in run.optimizers.state().items()}


def summed_counters(run: Run) -> dict:
    """The counters as numbers, sums over all processes, so that any number of processes can go on."""
    numbers = run.counters.to_lists()
    numbers["sums"] = add_over_processes(run.counters.sums, run.place).tolist()
    return numbers


def restore(run: Run, state: checkpoint.Checkpoint, source: str) -> LoopState:
    """Put a checkpoint's state into the run and return where it stood. Weights are in the model already."""
    try:
        loop = LoopState(**state.meta["loop"])
        run.counters = Counters.from_lists(state.meta["counters"], run.place)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: its meta.json holds no loop state of ours ({error})") from error
    if not run.place.leads:
        run.counters.sums.zero_()  # they are sums over all processes, to be counted once
    run.optimizers.load(state.optimizer, source)
    return loop


# --- bad moments --------------------------------------------------------------------------------------


def end_if_hopeless(run: Run, state: LoopState, bad: deque) -> None:
    """Raise InputError if the last PATIENCE steps were all skipped, naming their rows and the way out."""
    if run.counters.in_a_row.item() < PATIENCE:
        return
    rows = sorted({int(row) for group in bad for rows_B in group for row in rows_B})
    listed = " ".join(map(str, rows[:20])) + (" ..." if len(rows) > 20 else "")
    good = next(checkpoint.in_run(run.folder), None)
    raise InputError(
        f"step {state.step}: losses or gradients were not finite {PATIENCE} times in a row (rows {listed}); "
        f"last good checkpoint: {good or 'none yet'}; lower --lr, lengthen --warmup or use --precision fp32"
    )
