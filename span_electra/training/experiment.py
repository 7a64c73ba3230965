"""What the engine trains: the one seam between the training loop and an objective.

Pretraining and fine-tuning each give an `Experiment`. The engine asks it for batches, losses and metrics, and
knows neither what they mean nor which networks there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from span_electra.config import OptimizerConfig, TrainingConfig


class RunSettings(Protocol):
    """What the settings of every kind of run have; plain values, to be sent to other processes."""

    out_dir: str
    optimizer: OptimizerConfig
    training: TrainingConfig
    resume_from: str | None  # a checkpoint folder, or a run folder whose latest is meant
    initial_optimizer: str | None  # of a new run: a checkpoint or run whose optimizer state is taken over
    config_json: str  # the settings in the user's terms, stored with the run as config.json
    silent: bool  # nothing is printed

    @property
    def resume_command(self) -> str:
        """The command that goes on with the run once it was stopped."""


class Batch(Protocol):
    """This process's share of one batch of all processes."""

    rows_B: Tensor  # the rows' numbers in their file, for error messages

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on that device."""


class EpochBatches(Protocol):
    """The batches of one epoch; its length counts all of them, iteration begins where it was asked to."""

    ends_N: np.ndarray  # rows of the epoch consumed after each batch

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class Experiment(Protocol):
    """A network and an objective, with the data for it. Built anew in every process, from settings alone."""

    # As it starts, on the CPU; its names are those of checkpoints. Called with a batch and `dropout_key`, an
    # int or None, it gives a StepOutput.
    model: nn.Module
    tally: tuple[str, ...]  # names of the sums in a StepOutput's tally, in order
    token_sum: str  # the name of the one whose tokens a run's speed counts
    validation_size: str  # what says how many rows a validation computes together, for error messages
    tokenizer_json: str  # of the vocabulary that the rows were made with, kept in the run folder
    shown_metrics: Mapping[str, str]  # metric -> its short name in a line on the screen; empty: all, as named
    phase_starts: tuple[int, ...]  # ticks of a run by the clock from which on batches are others

    def train_batches(self, epoch: int, start: int, ticks: int = 0) -> EpochBatches:
        """The epoch's batches, from batch `start` on. They follow from (settings, epoch) alone.

        ticks: of a run by the clock (plan.TICKS in all), those that are over; batches follow its course.
        """

    def unused_parameters(self, batch: Batch) -> Iterable[nn.Parameter]:
        """The parameters that learn but have no part in this batch's loss; on all processes the same."""

    def validate(
        self, stop_requested: Callable[[], bool], epoch: int, start: int, ticks: int
    ) -> dict[str, float] | None:
        """Metrics on all held-out rows, empty where there are none; None: a stop was asked for on the way.

        epoch, start, ticks: where training stands, as `train_batches` takes it.
        Called on all processes, in evaluation mode, without gradients; each must ask `stop_requested` equally
        often, since the answer is agreed on by all.
        """

    def metrics(self, sums: Mapping[str, float], tokens_per_second: float) -> dict[str, float]:
        """Sums of the tally, and `loss` over `steps`, of all processes -> means and shares.

        With `mfu`, the model FLOPs utilisation: the share of the devices' matrix peak, where known.
        """

    def health_warnings(self, metrics: Mapping[str, float]) -> list[str]:
        """A sentence for each metric that a healthy run would not have."""

    def describe(self) -> dict[str, str]:
        """What is trained on what, by name: network, rows, batches."""

    def write_report(self, checkpoint: Path | None = None) -> str:
        """Show how the run stands; called on the main process after each validation and when it is finished.

        checkpoint: of a finished run, its last.
        Returns held-out sentences as the model has just read them, in Markdown; empty where none are new.
        """

    def metadata(self) -> dict[str, Any]:
        """What every checkpoint records of settings and data.

        With `measured` where scores of one name may be taken of different things: other ones are set aside.
        """

    def check_resume(self, meta: Mapping[str, Any], source: str) -> bool:
        """Whether the epoch that a checkpoint stopped inside is cut into other batches now.

        Raises InputError, naming `source`, where its metadata belong to data that cannot be gone on with.
        """

    def learning_rate(self, parameter: str) -> tuple[str, float]:
        """The group that a parameter belongs to by its name, and its peak learning rate."""
