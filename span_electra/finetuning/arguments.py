"""The arguments of fine-tuning and of preparing its data."""

from __future__ import annotations

from dataclasses import dataclass, field

from span_electra.config import CadenceConfig, DeviceConfig, DurationConfig, OptimizerConfig
from span_electra.errors import InputError
from span_electra.schema import Settings, same, setting


@dataclass(frozen=True)
class TaskDataArguments(Settings):
    """Which tasks, and how their rows are cut into tokens."""

    task_file: str = setting("tasks.yaml", "YAML: the tasks, their types and files", group="data")
    data_dir: str = setting("data", "folder of the tasks' files, or of prepared data", group="data")
    encoder: str | None = setting(
        None, "a run or an exported folder; none: the newest run in runs/", group="model"
    )
    do_lower_case: bool = setting(
        False, "fold capital letters first, whatever the vocabulary does", group="data"
    )
    max_seq_len: int = setting(128, "tokens of the longest row, special ones included", least=8, group="data")
    workers: int = setting(2, "processes; more than the machine's cores are not started", least=1)


@dataclass(frozen=True)
class FinetuningArguments(TaskDataArguments, DurationConfig, DeviceConfig, CadenceConfig):
    """All of a fine-tuning run."""

    HIDDEN = ("generator_lr", "discriminator_lr")  # there is one network

    out_dir: str | None = setting(None, "the run's folder; none: runs/finetune-<time>")
    network: str = setting(
        "discriminator",
        "which network of a run is fine-tuned",
        ("discriminator", "generator"),
        group="model",
    )
    from_scratch: bool = setting(
        False, "start the same network from random weights, to compare", group="model"
    )
    epochs: int = same(DurationConfig, "epochs", default=3)
    monitor: str = setting(
        "score", "validation metric that says which is best; score: the mean of each task's first on dev"
    )
    train_batch_size: int = setting(8, "rows of a batch, all devices together", least=1, group="data")
    eval_batch_size: int = setting(32, "rows computed together when validating", least=1, group="data")
    grad_accumulation_steps: int = setting(
        1, "batches whose gradients make one update", least=1, group="optimization"
    )
    log_per_updates: int = setting(10, "updates between two lines of the log; 0: none", least=0)
    save_per_updates: int = setting(0, "updates between two checkpoints; 0: one an epoch", least=0)
    limit_save: int = setting(2, "newest checkpoints to keep, besides the best", least=1)
    silent: bool = setting(False, "print nothing on the way")
    load_saved_model: str | None = setting(
        None, "a run of this script, or a checkpoint, to start from", group="model"
    )
    resume_train: bool = setting(False, "go on with the saved run as if it had never stopped")
    finetune: bool = setting(
        False, "take only the encoder of the saved model, for other tasks", group="model"
    )
    conclude: bool = setting(False, "train no more: results and exports of the saved run's best model")
    eval_while_train: bool = setting(False, "validate on dev at every save, not at the epochs' ends alone")
    test_while_train: bool = setting(False, "measure on test too, whenever dev is")
    freeze_encoder: bool = setting(False, "only the heads learn", group="optimization")
    layer_lr_decay: float = setting(
        1.0, "each layer's rate as a share of that above", least=0, most=1, group="optimization"
    )
    dropout: float = setting(0.1, "dropout of the encoder", least=0, most=0.9, group="model")
    seeds: int = setting(1, "runs with different seeds, reported as mean and deviation", least=1, most=1000)
    seed: int = setting(0, "the first seed: of heads, order, noise and dropout", least=0)
    shuffle_buffer_size: int = setting(0, "rows shuffled together; 0: all of a file", least=0, group="data")
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=3e-4))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.HIDDEN:
            if getattr(self.optimizer, name) is not None:
                raise InputError(
                    f"{name}: fine-tuning has one network; use lr, and layer_lr_decay for layers"
                )
