"""What a run of fine-tuning is: the user's settings, and what the stage has made of them for this run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from span_electra.compose import dump
from span_electra.config import OptimizerConfig, TrainingConfig
from span_electra.console import command_line
from span_electra.finetuning.arguments import FinetuningArguments
from span_electra.finetuning.order import Order
from span_electra.finetuning.task import Task


@dataclass(frozen=True)
class FinetuningSettings:
    """All that a run of fine-tuning needs; plain values, to be sent to other processes."""

    arguments: FinetuningArguments  # as they were given
    tasks: tuple[Task, ...]
    prepared: str  # folder of the prepared data
    encoder: str  # a run of either kind, a checkpoint of fine-tuning, an exported folder, a stock ELECTRA's
    training: TrainingConfig  # with this run's seed
    order: Order
    out_dir: str
    keys: dict[str, str] = field(default_factory=dict)  # of the tasks' rows when the command began
    initial_optimizer = None  # of the engine's settings: heads are new, and have no state to take over

    @property
    def optimizer(self) -> OptimizerConfig:
        return self.arguments.optimizer

    @property
    def silent(self) -> bool:
        return self.arguments.silent

    @property
    def takes_heads(self) -> bool:
        """Whether the heads of a fine-tuned encoder are taken too, task by task."""
        # --finetune: other tasks, so the encoder alone. A resumed run has its own, from its checkpoint.
        saved = bool(self.arguments.load_saved_model)
        return saved and not (self.arguments.finetune or self.arguments.resume_train)

    @property
    def resume_from(self) -> str | None:
        return self.arguments.load_saved_model if self.arguments.resume_train else None

    @property
    def config_json(self) -> str:
        """A config file of this one run, wherever it is moved to."""
        # Of several seeds each has its own: it goes on by itself. What it began from is behind it.
        begun = {"load_saved_model": None, "resume_train": False, "finetune": False}
        alone = begun | {"out_dir": None, "seeds": 1}
        return dump(replace(self.arguments, **alone, seed=self.training.seed))

    @property
    def resume_command(self) -> str:
        """The command that goes on with the run once it was stopped."""
        return command_line("finetune_SE", "--load_saved_model", self.out_dir, "--resume_train")


def gone_on_with(run: FinetuningSettings) -> FinetuningSettings:
    """The same run, gone on with from what it has saved, as `resume_command` does."""
    return replace(run, arguments=replace(run.arguments, load_saved_model=run.out_dir, resume_train=True))
