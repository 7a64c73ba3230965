"""What a run of fine-tuning is: plain values, chosen from the user's settings by the stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from span_electra.config import OptimizerConfig, TrainingConfig
from span_electra.console import command_line
from span_electra.finetuning.order import Order
from span_electra.finetuning.task import Task
from span_electra.storage import CONFIG


@dataclass(frozen=True)
class FinetuningRun:
    """All that a run of fine-tuning needs; plain values, to be sent to other processes."""

    tasks: tuple[Task, ...]
    prepared: str  # folder of the prepared data
    encoder: str  # a run of either kind, a checkpoint of fine-tuning, an exported folder, a stock ELECTRA's
    optimizer: OptimizerConfig
    training: TrainingConfig
    order: Order
    out_dir: str
    part: str = "discriminator"  # which of a run's two networks
    from_scratch: bool = False  # the same network, started from random weights
    dropout: float = 0.1  # of the encoder
    freeze_encoder: bool = False
    layer_lr_decay: float = 1.0  # each layer learns at this share of the rate of the one above
    eval_batch_size: int = 32
    tests: bool = False  # tell the test metrics at each validation too
    heads: bool = False  # of a fine-tuned encoder also take the heads, task by task
    resume_from: str | None = None
    initial_optimizer: str | None = None
    silent: bool = False
    config_json: str = ""

    @property
    def go_on(self) -> str:
        """The command that goes on with the run once it was stopped."""
        saved = ("--load_saved_model", self.out_dir)
        config = Path(self.out_dir, CONFIG)
        return command_line("finetune_SE", "--config_file", config, *saved, "--resume_train")
