"""What a run of pretraining is: plain values, chosen from the user's settings by the stage."""

from __future__ import annotations

from dataclasses import dataclass

from span_electra.config import ModelConfig, OptimizerConfig, TrainingConfig
from span_electra.console import command_line
from span_electra.data_config import LoaderConfig


@dataclass(frozen=True)
class PretrainingSettings:
    """All that a run of pretraining needs; plain values, to be sent to other processes."""

    model: ModelConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    train_loader: LoaderConfig
    valid_loader: LoaderConfig
    train_features: tuple[str, ...]  # files, folders of shards or globs
    out_dir: str
    valid_features: tuple[str, ...] = ()  # none: a split of the training rows, if valid_split asks for one
    train_rows: tuple[int, ...] = (0,)  # use only so many rows, of all or of each file in turn; 0: all
    valid_rows: tuple[int, ...] = (0,)
    valid_split: tuple[float, ...] = (0.0,)  # rows (or, below 1, share) held out, of all or of each file
    resume_from: str | None = None  # a checkpoint folder, or a run folder whose latest is meant
    init_from: str | None = None  # whatever hub.initialize.initialize starts a model from
    init_only: str | None = None  # take this network of it alone
    initial_optimizer: str | None = None  # a checkpoint or run folder whose optimizer state is taken over
    config_json: str = ""  # the settings in the user's terms, stored with the run as config.json
    live_report: bool = False  # write report.html after validations, at most once in REPORT_EVERY
    silent: bool = False  # nothing is printed

    @property
    def resume_command(self) -> str:
        """The command that goes on with the run once it was stopped."""
        return command_line("joint_train_span_electra", "--resume", self.out_dir)
