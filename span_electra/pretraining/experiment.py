"""The ELECTRA experiment: features, both networks, and their losses, as the training engine wants them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from span_electra.config import interval
from span_electra.counted import counted
from span_electra.errors import InputError
from span_electra.hub.folders import FINAL_MASKING, LONGEST
from span_electra.hub.initialize import initialize
from span_electra.hub.opening import load_model
from span_electra.model.batch import TALLY, MaskedBatch
from span_electra.model.electra import SpanElectra
from span_electra.model.flops import training_flops
from span_electra.model.varlen import why_masked
from span_electra.pretraining.course import NOTHING, Course, behind, course_of, describe_course, final_masking
from span_electra.pretraining.data import (
    FREQUENCY_ROWS,
    Data,
    commonest_share,
    open_data,
    sized_model,
    token_counts,
)
from span_electra.pretraining.live_report import write_live_report
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.metrics import (
    SHOWN,
    VALIDATED,
    absent_metrics,
    compute_metrics,
    validation_metrics,
)
from span_electra.pretraining.misspelling import Misspeller
from span_electra.pretraining.next_tokens import candidates_of
from span_electra.pretraining.pairing import check_lengths
from span_electra.pretraining.resume import check_data, check_model, data_facts, longest_row
from span_electra.pretraining.settings import PretrainingSettings
from span_electra.report.health import health_warnings
from span_electra.text.vocabulary import Vocabulary
from span_electra.training.clock import matrix_peak
from span_electra.training.compilation import compiles, uncompiled
from span_electra.training.devices import Process
from span_electra.training.run import RunResult, run_training
from span_electra.training.start import parameters_line

TRIED_ROWS = 16  # of the data, in which one word at least must be there to misspell
REPORT_EVERY = 60  # seconds at least between two reports, which take one or two to write


def run_pretraining(settings: PretrainingSettings) -> RunResult:
    """Train both networks as `settings` say; see `training.run.run_training`."""
    return run_training(settings, Pretraining)


# --- the experiment -------------------------------------------------------------------------------------


def check_monitor(settings: PretrainingSettings, process: Process) -> None:
    """Refuse what is no metric of validations; say it where this model's have it not."""
    training, objective = settings.training, settings.model.objective
    if training.monitor not in VALIDATED:
        raise InputError(
            f"monitor: {training.monitor!r} is no metric of validations; choose from {', '.join(VALIDATED)}"
        )
    missing = training.monitor.startswith(absent_metrics(settings.model))
    if missing and training.save_top_k and process.is_main_process:
        warnings.warn(
            f"monitor: validations of this model (objective {objective}) have no {training.monitor}, so that "
            "no best checkpoint is kept; give --monitor generator_accuracy, say",
            stacklevel=2,
        )


def check_averaging(settings: PretrainingSettings, process: Process) -> None:
    """Say it where averaging is asked for of the discriminator alone."""
    model = settings.model
    # SBPO's predictions are made at masks alone, and would tell a verdict where these are.
    if model.average_span_predictions and not model.use_SBGO and process.is_main_process:
        warnings.warn(
            "average_span_predictions: has no effect without use_SBGO; set use_SBGO, or leave it out",
            stacklevel=2,
        )


class Pretraining:
    """Generator and discriminator on features; see `training.experiment.Experiment` for what each part is.

    Raises InputError where features, model and settings do not fit together.
    """

    tally, shown_metrics = TALLY, SHOWN
    validation_size = "--valid_batch_size, or batch_max_tokens where that is set"
    token_sum = "seen"  # also while the generator learns alone, and the discriminator judges none of them

    def __init__(self, settings: PretrainingSettings, process: Process) -> None:
        check_monitor(settings, process)
        check_averaging(settings, process)
        if settings.train_loader.pack_rows and settings.model.sequence_objective != "none":
            raise InputError(
                "pack_rows: cannot be combined with sequence_objective (it needs one row a line); leave one "
                "of them out"
            )
        model = settings.model
        if "generator" in settings.training.freeze and model.objective == "joint" and model.generator_first:
            raise InputError(
                "freeze: a generator that does not learn cannot learn alone first; give --generator_first 0"
            )
        self.settings, self.process = settings, process
        self.data = open_data(settings)
        if process.is_main_process:
            check_lengths(settings.train_loader.paired_rows, self.data.train.lengths_R[self.data.train_rows])
        # On the CPU, from the seed alone: every process, on whatever device, starts from the same weights.
        self.model = build_model(settings, self.data)
        begun = 0
        if settings.init_from and not settings.resume_from:
            vocabulary = self.data.train.vocabulary
            notes, begun = initialize(self.model, settings.init_from, vocabulary, settings.init_only)
            for note in notes:
                if process.is_main_process and not settings.silent:
                    print(note)
        self._longest = longest_row(self.data, settings, begun=begun)
        # After the weights were taken over: what is frozen is what was named, trained elsewhere.
        if settings.training.freeze:
            freeze(self.model, settings.training.freeze)
        if len(self.data.valid_rows):
            # Refused now, not after an epoch, where a row fits no batch.
            self._validation(Course())
        elif interval("save_every", settings.training.save_every).unit == "evaluations":
            every = settings.training.save_every
            raise InputError(f"save_every: {every}, but no rows are held out; count steps, epochs or minutes")
        self._candidates = candidates_of(self.model.config, self.data)
        self.tokenizer_json = self.data.train.header.tokenizer_json
        self.commonest_share = commonest_share(self.data)
        self._reported = -math.inf  # when the last report was written
        self._behind = NOTHING  # of a resumed run's course

    # --- batches and validation ---

    @cached_property
    def _layout(self) -> dict[str, Any]:
        """How batches lie in this process, of whichever rows."""
        static = compiles(self.settings.training)
        return {
            "rank": self.process.rank,
            "world": self.process.world_size,
            "static_shapes": static,
            "rounded_shapes": not static,
            "pinned": self.process.device.type == "cuda",
            "varlen": self.settings.train_loader.pack_rows and self._why_masked is None,
        }

    def _training(self, epoch: int, start: int, course: Course) -> Batches:
        """Batches of the rows that are learned from."""
        return Batches(
            self.data.train,
            self.settings.train_loader,
            epoch,
            start,
            course=course,
            rows=self.data.train_rows,
            together=self.settings.training.gradient_accumulation_steps,
            crops=self.settings.model.sequence_objective == "contrastive",
            candidates=self._candidates,
            misspeller=self._misspeller,
            **self._layout,
        )

    def _validation(self, course: Course) -> Batches:
        """Batches of the held-out rows, which are well spelt, and predicted among the whole vocabulary."""
        loader, learned = self.settings.valid_loader, self.settings.train_loader
        if self._layout["static_shapes"]:
            # Compiled, it takes training's sizes: each other shape would be compiled anew.
            loader = replace(loader, batch_size=learned.batch_size, batch_max_tokens=learned.batch_max_tokens)
        # Without crops: a second pass costs as much as the first, and its loss hangs on who shares the batch.
        rows = self.data.valid_rows
        return Batches(self.data.valid, loader, 0, 0, course=course, rows=rows, **self._layout)

    @cached_property
    def _why_masked(self) -> str | None:
        """Why rows that share lines are kept apart by a mask; None: attention takes them as they lie."""
        return why_masked(self.model.config, self.process.device, self.process.precision)

    def train_batches(self, epoch: int, start: int, ticks: int = 0) -> Batches:
        """The epoch's batches, from batch `start` on; by the clock, as they are after so many `ticks`."""
        return self._training(epoch, start, self._course.at_epoch(epoch, ticks))

    @cached_property
    def _course(self) -> Course:
        """Which masks hold, and which networks learn, at each step."""

        def count_batches() -> int:
            return len(self._training(0, 0, Course()))

        return course_of(self.settings, count_batches, self.data.train.header.masking, self._behind)

    @property
    def phase_starts(self) -> tuple[int, ...]:
        """Ticks of a run by the clock at which its masks, or the networks that learn, become others."""
        return self._course.phase_starts

    @cached_property
    def _misspeller(self) -> Misspeller | None:
        share, seed = self.settings.train_loader.spelling_noise, self.settings.train_loader.seed
        # Only a discriminator learns from errors; a generator by itself would read them for nothing.
        if not share or self.settings.model.objective == "generator":
            return None
        vocabulary = Vocabulary.from_json(self.tokenizer_json, "the features' tokenizer")
        misspeller, first = Misspeller(vocabulary, share, seed), self.data.train_rows[:TRIED_ROWS]
        if self.process.is_main_process and not misspeller.can_misspell(self.data.train, first):
            warnings.warn(
                f"spelling_noise: {share} misspells nothing: in the first {counted(len(first), 'row')} this "
                "vocabulary can write no word with an error; give 0, or take another vocabulary",
                stacklevel=2,
            )
        return misspeller

    def unused_parameters(self, batch: MaskedBatch) -> Iterable[nn.Parameter]:
        """The discriminator's own parameters, while the generator learns alone; SBGO's, where no span is."""
        unused = set(self._discriminators_own) if batch.generator_alone else set()
        if batch.causal and (span_head := self.model.generator.span_head) is not None:
            unused.update(span_head.parameters())
        return unused

    @cached_property
    def _discriminators_own(self) -> set[nn.Parameter]:
        own = set(self.model.discriminator.parameters()) - set(self.model.generator.parameters())
        return {parameter for parameter in own if parameter.requires_grad}

    def validate(
        self, stop_requested: Callable[[], bool], epoch: int, start: int, ticks: int
    ) -> dict[str, float] | None:
        """The metrics of training, on the held-out rows; the generator's alone until both have learned.

        They are masked as in their file or, where the run has a schedule, always as in its last phase.
        """
        if not len(self.data.valid_rows):
            return {}
        in_epoch = start // self.settings.training.gradient_accumulation_steps
        alone = self._course.alone_before(epoch, in_epoch, ticks)
        batches = self._validation(self._course.for_validation(alone))
        metrics = validation_metrics(self.model, batches, self.process, stop_requested)
        if alone and metrics and self.settings.training.monitor == "loss":
            del metrics["loss"]  # without the discriminator's part it would be the least of the run
        return metrics

    # --- what is said of it ---

    def metrics(self, sums: Mapping[str, float], tokens_per_second: float) -> dict[str, float]:
        """Means and shares of summed counts; see `metrics.compute_metrics`.

        With `mfu` where both networks were trained in all steps: the arithmetic of one alone is not counted.
        """
        metrics = compute_metrics(sums)
        if self._misspeller is not None:
            # Misspelt words count as replaced, but nobody sampled them.
            metrics.pop("replaced_of_masked", None)
        if self.settings.model.objective == "joint" and sums["tokens"] >= sums["seen"]:
            # Of the arithmetic that the model asks for: activations that are computed again do not count.
            # What is hidden is counted, since a schedule may hide other shares than the features.
            masked_share = sums["masked"] / max(sums["tokens"], 1.0)
            flops = training_flops(self.model.config, self._mean_length, masked_share)
            metrics["mfu"] = tokens_per_second * flops / self._peak
        return metrics

    @cached_property
    def _mean_length(self) -> int:
        # Of rows as long as ours are on average: attention costs with the square of the length.
        return round(float(self.data.train.lengths_R[self.data.train_rows].mean()))

    @cached_property
    def _peak(self) -> float:
        return matrix_peak(self.process) * self.process.world_size

    def health_warnings(self, metrics: Mapping[str, float]) -> list[str]:
        """Which shares a healthy run would not have."""
        return health_warnings(metrics, self.commonest_share, tokens=metrics.get("tokens", 0.0))

    def describe(self) -> dict[str, str]:
        """Networks, rows used and held out, their masks, and what a batch is."""
        settings, data, config = self.settings, self.data, self.model.config
        candidates = self._candidates.size if self._candidates else 0
        # Of the model as built, not of the settings: its vocabulary and published sizes are known by now.
        sizes = {name: getattr(config, name) for name in ("generator", "discriminator")}
        networks = [f"{name} {size.num_hidden_layers} x {size.hidden_size}" for name, size in sizes.items()]
        objective = "" if config.objective == "joint" else f", {config.objective} alone learns"
        begun = f", from {settings.init_from}" if settings.init_from else ""
        tokens = int(data.train.lengths_R[data.train_rows].sum())
        # By name: a file that was found beside the training features may be of older text.
        validated_on = f" in {', '.join(settings.valid_features)}" if settings.valid_features else ""
        return {
            "model": f"{config.architecture}, {', '.join(networks)}{objective}{begun}; "
            f"{parameters_line(self.model)}",
            "data": f"{len(data.train_rows):,} of {counted(data.train.rows, 'row')}, {tokens:,} tokens; "
            f"{counted(len(data.valid_rows), 'row')} held out{validated_on}",
            "masks": describe_course(settings, data.train.header.masking, self._behind, candidates),
            "batches": self._describe_batches(),
        }

    def _describe_batches(self) -> str:
        loader = self.settings.train_loader
        if not loader.batch_max_tokens:
            return counted(loader.batch_size, "row")
        said = f"{loader.batch_max_tokens:,} padded tokens, however many rows (batch_max_tokens)"
        if not loader.pack_rows:
            return said
        how = "varlen attention" if self._why_masked is None else f"a mask ({self._why_masked})"
        return f"{said}; rows share lines, kept apart by {how}"

    def write_report(self, checkpoint: Path | None = None) -> str:
        """Write report.html, but not again within a minute before a run's end; return its sentences."""
        early = checkpoint is None and time.monotonic() - self._reported < REPORT_EVERY
        if early or not self.settings.live_report:
            return ""
        model = self.model
        # With FSDP the main process has only shards of the model, which cannot read sentences alone.
        if self.settings.training.parallel == "fsdp":
            model = load_model(checkpoint) if checkpoint else None
        with uncompiled(self.settings.training):  # its few rows have a shape of their own
            sentences = write_live_report(self.settings, self.data, model)
        self._reported = time.monotonic()
        return sentences

    # --- checkpoints and optimizer ---

    def metadata(self) -> dict[str, Any]:
        """Settings, vocabulary, what decides the order of the rows, and the course."""
        settings, base = self.settings, self.data.train.header.masking
        return self._data_facts | {
            "model": asdict(self.model.config),
            "optimizer": asdict(settings.optimizer),
            "training": asdict(settings.training),
            "loader": asdict(settings.train_loader),
            "course": self._course.facts,
            LONGEST: self._longest,
            FINAL_MASKING: (final_masking(settings, base) or base).chosen(),
        }

    @cached_property
    def _data_facts(self) -> dict[str, Any]:
        return data_facts(self.data, self.settings)

    def check_resume(self, meta: Mapping[str, Any], source: str) -> bool:
        """Refuse other networks, vocabulary and, inside an epoch, rows; whether its batches are others now.

        What the run has left of its course it has behind it from now on.
        """
        check_model(self.model.config, meta, source)
        recut = check_data(self._data_facts, meta, source, warn=self.process.is_main_process)
        self._behind = behind(self.settings, meta, source)
        self._longest = longest_row(self.data, self.settings, meta=meta)
        return recut

    def learning_rate(self, parameter: str) -> tuple[str, float]:
        """The network that a parameter belongs to, and that network's peak rate.

        What the two networks share has the generator's name, and so learns at the generator's rate.
        """
        config = self.settings.optimizer
        network = "discriminator" if parameter.startswith("discriminator.") else "generator"
        own = getattr(config, f"{network}_lr")
        return network, config.lr if own is None else own


# --- the model ------------------------------------------------------------------------------------------


def build_model(settings: PretrainingSettings, data: Data) -> SpanElectra:
    """The model as it starts, on the CPU, from the seed alone."""
    config = sized_model(settings.model, data)
    model = SpanElectra(config, data.train.header.mask_id, settings.training.seed)
    if config.output_bias == "frequencies":
        model.init_output_bias(torch.from_numpy(token_counts(data, FREQUENCY_ROWS)))
    return model


def freeze(model: nn.Module, parts: Iterable[str]) -> None:
    """Stop `embeddings`, `generator` or `discriminator` from learning.

    Raises InputError if nothing is left that learns.
    """
    # By the name that it learns under: what both networks share is the generator's, and freezes with it.
    parts = set(parts)
    for name, parameter in model.named_parameters():
        inside = {name.partition(".")[0]} | ({"embeddings"} if ".embeddings." in name else set())
        if inside & parts:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"freeze: {' '.join(sorted(parts))} leaves nothing that learns; freeze less")
