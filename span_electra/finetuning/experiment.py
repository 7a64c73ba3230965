"""The fine-tuning experiment: prepared tasks, one network, dev metrics, as the training engine wants them.

A run is kept and resumed as pretraining's are; what its checkpoints say besides names the tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn

from span_electra.counted import counted
from span_electra.errors import InputError
from span_electra.finetuning.batching import ANEW, TaskBatches, TaskRows, check_replies
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.metadata import SCORE, check_same_tasks, kept_shift, measured, order_of
from span_electra.finetuning.predictions import compute_metrics, one_score, predict_rows
from span_electra.finetuning.prepared import Prepared, open_prepared
from span_electra.finetuning.settings import FinetuningSettings
from span_electra.finetuning.task import SPLITS, Task
from span_electra.finetuning.task_model import head_configs, take_heads, take_pretrained
from span_electra.hub.architectures import ARCHITECTURES, record_of
from span_electra.hub.folders import LONGEST, STAMP, ours_in, weights_sha256
from span_electra.hub.opening import Opened, Pretrained, open_model
from span_electra.model.multi_task import TaskBatch, TaskNetwork
from span_electra.storage import read_object
from span_electra.text.vocabulary import Vocabulary
from span_electra.training.checkpoint import META
from span_electra.training.devices import Process
from span_electra.training.start import parameters_line


def check_monitor(settings: FinetuningSettings) -> None:
    """Refuse a metric that no validation of these tasks has, and one that two of them have."""
    splits = {"": "dev", "test_": "test"} if settings.arguments.test_while_train else {"": "dev"}
    known = [
        f"{prefix}{task.name}_{name}"
        for prefix, split in splits.items()
        for task in settings.tasks
        if split in task.files or (split == "dev" and task.val_split)
        for name in task.metrics
    ]
    shared = next((name for name, count in Counter(known).items() if count > 1), None)
    if shared:  # tasks `a` and `test_a`
        raise InputError(f"tasks: two of them would report a metric called {shared}; rename one")
    if settings.training.monitor not in (SCORE, *known):
        raise InputError(
            f"monitor: {settings.training.monitor!r} is no metric of these tasks; choose from {SCORE}, "
            f"{', '.join(known)}"
        )


def check_rows(prepared: Prepared, keys: Mapping[str, str]) -> None:
    """Refuse rows that another command has made anew since this one began: seeds would learn others each."""
    for name, key in keys.items():
        if prepared.key(name) != key:
            raise InputError(
                f"{prepared.folder}: another command prepared {name} anew meanwhile; run each in a folder of "
                "its own"
            )


def encoder_stamp(opened: Opened, pretrained: Pretrained) -> dict[str, Any]:
    """Which weights an encoder has: their hash, and the step of their checkpoint where that is known."""
    place = opened.checkpoint or Path(pretrained.source)
    told = read_object(place / META) if opened.checkpoint else ours_in(place).get(STAMP) or {}
    return {"step": told.get("step"), "weights": weights_sha256(place)}


class Finetuning:
    """Every task's head on one encoder; see `training.experiment.Experiment` for what each part is.

    Raises InputError where encoder, tasks and prepared data do not fit together.
    """

    shown_metrics: Mapping[str, str] = {}
    phase_starts = ()
    token_sum = "tokens"
    validation_size = "--eval_batch_size"

    def __init__(self, settings: FinetuningSettings, process: Process) -> None:
        check_monitor(settings)
        self.settings, self.process = settings, process
        opened = open_model(settings.encoder)
        pretrained = opened.need(settings.arguments.network)
        prepared = open_prepared(settings.prepared)
        check_vocabulary(prepared, pretrained)
        check_rows(prepared, settings.keys)
        check_others(settings.tasks, settings.order.batch_size, process.world_size)
        # All splits now, the cheapest check first: a missing test file must not end a night's training.
        self.rows = {
            split: open_rows(settings.tasks, prepared, pretrained.vocabulary, split) for split in SPLITS
        }
        # Conversations too few to choose replies from are refused now, not at the first validation.
        for split, sources in self.rows.items():
            for source in sources:
                if source is not None and source.spec.type.has_candidates:
                    check_replies(source, training=split == "train")
        self.model, self.heads_said = build_network(settings, pretrained, self.rows["train"])
        self.facts = facts_of(settings, self.model, prepared, pretrained)
        self.facts["encoder_checkpoint"] = encoder_stamp(opened, pretrained)
        self.facts["finetune"] = settings.arguments.finetune  # whether a saved model's heads were left there
        self.facts[LONGEST] = longest_row(settings, pretrained, self.rows["train"])
        self.names = [task.name for task in settings.tasks]
        self.facts["rows"] = {
            name: {split: len(rows[number]) for split, rows in self.rows.items() if rows[number]}
            for number, name in enumerate(self.names)
        }
        # Sums, not means: processes and steps have different numbers of targets.
        self.tally = ("tokens", *(f"{name}:{part}" for name in self.names for part in ("loss", "targets")))
        self.tokenizer_json = pretrained.vocabulary.to_json()

    def train_batches(self, epoch: int, start: int, ticks: int = 0) -> TaskBatches:
        """The epoch's batches, of one task each, from batch `start` on; they know no clock."""
        return TaskBatches(
            self.rows["train"],
            self.settings.order,
            epoch=epoch,
            start=start,
            rank=self.process.rank,
            world=self.process.world_size,
            together=self.settings.training.gradient_accumulation_steps,
        )

    def unused_parameters(self, batch: TaskBatch) -> Iterable[nn.Parameter]:
        """The other tasks' heads."""
        others = [head for number, head in enumerate(self.model.heads) if number != batch.task]
        return chain.from_iterable(head.parameters() for head in others)

    def validate(
        self, stop_requested: Callable[[], bool], epoch: int, start: int, ticks: int
    ) -> dict[str, float] | None:
        """Every task's metrics on dev (and test), and the score: the mean of the first on dev."""
        arguments, metrics, scores = self.settings.arguments, {}, []
        for split in ("dev", "test") if arguments.test_while_train else ("dev",):
            # Dev has the plain names: checkpoints are chosen by them, and test only looks on.
            prefix = "" if split == "dev" else f"{split}_"
            for number, source in enumerate(self.rows[split]):
                if source is None:
                    continue
                size, stop = arguments.eval_batch_size, stop_requested
                tuned = source.spec.task.tuned_threshold
                shift = None if tuned and split == "dev" else self.model.tasks[number].shift
                predicted = predict_rows(
                    self.model, number, source, size, self.process, stop=stop, shift=shift
                )
                if predicted is None:
                    return None
                self.note_of_head(number, shift=predicted.shift)
                found = compute_metrics(predicted, source)
                metrics |= {f"{prefix}{self.names[number]}_{name}": value for name, value in found.items()}
                if split == "dev":
                    scores.append(one_score(*next(iter(found.items()))))
        return metrics | ({SCORE: sum(scores) / len(scores)} if scores else {})

    def note_of_head(self, number: int, **found: Any) -> None:
        """Keep what the rows tell of a task's labels; checkpoints say it beside the weights."""
        heads = list(self.model.tasks)
        heads[number] = replace(heads[number], **found)
        self.model.tasks = tuple(heads)
        self.facts["heads"] = [asdict(head) for head in heads]

    def metrics(self, sums: Mapping[str, float], tokens_per_second: float) -> dict[str, float]:
        """Mean losses: that of the steps, and each task's a target.

        Utilisation is not counted: heads and tasks differ too much in their arithmetic.
        """
        metrics = {"loss": sums["loss"] / sums["steps"]} if sums["steps"] else {}
        for name in self.names:
            if sums[f"{name}:targets"]:
                metrics[f"{name}_loss"] = sums[f"{name}:loss"] / sums[f"{name}:targets"]
        return metrics

    def health_warnings(self, metrics: Mapping[str, float]) -> list[str]:
        """None: what is healthy differs from task to task."""
        return []

    def describe(self) -> dict[str, str]:
        """Network, rows of each task, and what a batch is."""
        settings, config = self.settings, self.model.config
        network = getattr(config, settings.arguments.network)
        begun = "with random weights" if settings.arguments.from_scratch else f"from {settings.encoder}"
        # Of all splits now: whoever has no test rows should see it before the night's training.
        counts = {
            name: ", ".join(f"{rows:,} {split}" for split, rows in splits.items())
            for name, splits in self.facts["rows"].items()
        }
        return {
            "model": f"{config.architecture}, {network.num_hidden_layers} layers of {network.hidden_size}, "
            f"{begun}; {parameters_line(self.model)}",
            "data": "; ".join(f"{name}: {count} rows" for name, count in counts.items()),
            "batches": f"{counted(settings.order.batch_size, 'row')} of one task",
            **({"heads": f"\n{' ' * 10}".join(self.heads_said)} if self.heads_said else {}),
        }

    def write_report(self, checkpoint: Path | None = None) -> str:
        """Nothing: report_SE.py is for pretraining; rows' answers are in predictions/."""
        return ""

    def metadata(self) -> dict[str, Any]:
        """Settings, tasks and data."""
        return self.facts

    def check_resume(self, meta: Mapping[str, Any], source: str) -> bool:
        """Refuse other data or another seed; whether its batches are others now."""
        check_same_tasks(self.facts, meta, source)
        # What it began from; not its own.
        self.facts |= {key: meta.get(key) for key in ("encoder_checkpoint", "finetune")}
        specs = self.settings.tasks
        for number, head in enumerate(meta.get("heads", [])):
            before = replace(specs[number], metrics=tuple(meta["recipes"][number]["task"]["metrics"]))
            self.note_of_head(
                number,
                shift=kept_shift(head.get("shift", 0.0), before, specs[number]),  # until the next validation
                # The weights' own; an earlier version learned numbers as they are.
                target_mean=head.get("target_mean", 0.0),
                target_deviation=head.get("target_deviation", 1.0),
            )
        # At the end of an epoch any order may follow.
        return bool(meta.get("loop", {}).get("batch")) and order_of(meta) != order_of(self.facts)

    def learning_rate(self, parameter: str) -> tuple[str, float]:
        """One group; lower layers learn more slowly where `layer_lr_decay` says so."""
        layers, decay = len(self.model.encoder.layers), self.settings.arguments.layer_lr_decay
        return "network", self.settings.optimizer.lr * rate_share(parameter, layers, decay)


def check_vocabulary(prepared: Prepared, pretrained: Pretrained) -> None:
    """Refuse rows that were made with another vocabulary than the encoder's."""
    ours, theirs = pretrained.vocabulary.sha256, prepared.vocabulary_sha256
    if ours != theirs:
        raise InputError(
            f"{prepared.folder}: prepared with vocabulary {theirs[:12]}, the encoder has {ours[:12]}; "
            "run prepare_tasks_SE.py with this encoder"
        )


def check_others(tasks: tuple[Task, ...], batch_size: int, processes: int) -> None:
    """Refuse batches in which a reply to be retrieved has no other to be told from."""
    for task in tasks:
        if task.type.compares_vectors and batch_size < 2 * processes:
            raise InputError(
                f"train_batch_size: {batch_size} leaves {task.name} ({task.task_type}) no other reply to "
                f"tell the true one from; give {2 * processes} or more"
            )


def check_pooling(tasks: tuple[Task, ...], pretrained: Pretrained) -> None:
    """Refuse a mean of tokens where the exported class could not take it: ELECTRA's reads [CLS] alone."""
    able = " or ".join(name for name, record in ARCHITECTURES.items() if record.pooling_key)
    for task in tasks:
        if task.pooling != "cls" and record_of(pretrained.config, "sequence").pooling_key is None:
            raise InputError(
                f"{task.name}.pooling: {task.pooling} needs an encoder of architecture {able}, and "
                f"{pretrained.source} is {pretrained.config.architecture}; leave it out"
            )


def check_token_types(tasks: tuple[Task, ...], pretrained: Pretrained) -> None:
    """Refuse pairs and turns where the encoder has one token type: the second text's would be none."""
    if not record_of(pretrained.config, "sequence").token_types or pretrained.config.type_vocab_size > 1:
        return
    for task in tasks:
        if task.in_two_types:
            raise InputError(
                f"{task.name}: {task.task_type} needs two token types, and {pretrained.source} has one "
                "(type_vocab_size); take another encoder, or a task of single texts"
            )


# --- the network ----------------------------------------------------------------------------------------


def build_network(
    settings: FinetuningSettings, pretrained: Pretrained, train: Sequence[TaskRows]
) -> tuple[TaskNetwork, list[str]]:
    """The network as it starts, on the CPU: pretrained or from scratch, the heads from the seed.

    train: the rows of each task. Also what is to be said of heads that a saved model may have.
    """
    config = replace(
        pretrained.config,
        hidden_dropout_prob=settings.arguments.dropout,
        attention_probs_dropout_prob=settings.arguments.dropout,
    )
    network = TaskNetwork(config, head_configs(train), settings.training.seed)
    # The seed has made every head already, so that those which nothing is taken for start alike.
    if not settings.arguments.from_scratch:
        take_pretrained(network, pretrained)
    said = take_heads(network, train, settings.encoder) if settings.takes_heads else []
    if settings.arguments.freeze_encoder:
        for task, head in zip(settings.tasks, network.heads, strict=True):
            # A batch of its own would have no gradient at all, whatever the other tasks learn.
            if not any(True for _ in head.parameters()):
                raise InputError(
                    f"freeze_encoder: {task.name} ({task.task_type}) has a head without weights, and would "
                    "learn nothing; leave --freeze_encoder out"
                )
        network.encoder.requires_grad_(False)
    return network, said


def rate_share(parameter: str, layers: int, decay: float) -> float:
    """The share of the learning rate for a parameter: heads 1, the last layer `decay`, and so on down.

    With N `layers`, layer i (from 0) learns at decay^(N - i), embeddings and projection at decay^(N + 1), a
    norm above the last layer as the heads.
    Example: decay .5, two layers -> heads 1, layer 1 .5, layer 0 .25, embeddings .125
    """
    # Lower layers hold what is common to all text; heads are new and have everything to learn (ULMFiT, 3.2).
    # A modern encoder's last norm lies above all layers, next to the heads.
    if not parameter.startswith("encoder.") or parameter.startswith("encoder.final_norm."):
        return 1.0
    below = parameter.removeprefix("encoder.layers.")
    return decay ** (layers + 1 if below == parameter else layers - int(below.partition(".")[0]))


# --- the rows -------------------------------------------------------------------------------------------


def spec_of(task: Task, prepared: Prepared) -> TaskSpec:
    """What the rows of a task were made by."""
    return TaskSpec(task, prepared.tasks[task.name].labels, prepared.max_seq_len, prepared.lowercase)


def open_rows(
    tasks: tuple[Task, ...], prepared: Prepared, vocabulary: Vocabulary, split: str
) -> list[TaskRows | None]:
    """The rows of a split of each task; None where it has none."""
    opened = []
    for task in tasks:
        if task.name not in prepared.tasks:
            raise InputError(
                f"{prepared.folder}: task {task.name!r} is not prepared; run prepare_tasks_SE.py"
            )
        path = prepared.path(task.name, split)
        # None holds the place: rows, heads and tasks go by the same numbers.
        opened.append(TaskRows(path, spec_of(task, prepared), vocabulary) if path else None)
        # A file replaced by hand has other rows than its labels and counts tell of.
        if path and len(opened[-1]) != (rows := prepared.tasks[task.name].rows[split]):
            found = counted(len(opened[-1]), "row")
            raise InputError(f"{path}: {found} where {rows} were; {ANEW}")
    return opened


def longest_row(settings: FinetuningSettings, pretrained: Pretrained, train: Sequence[TaskRows]) -> int:
    """Tokens of the longest row that the network has learned from by the end of the run: here, or before."""
    before = 0 if settings.arguments.from_scratch else pretrained.longest
    if settings.arguments.freeze_encoder:  # the heads alone learn from these rows
        return before
    # Text that is misspelt anew in each epoch has a length that is not known before.
    return max(
        before,
        *(rows.spec.max_seq_len if rows.spec.task.noise else int(rows.lengths_P.max()) for rows in train),
    )


# --- what checkpoints say -------------------------------------------------------------------------------


def facts_of(
    settings: FinetuningSettings, network: TaskNetwork, prepared: Prepared, pretrained: Pretrained
) -> dict:
    """What every checkpoint of the run records of its settings and data."""
    return {
        "vocabulary_sha256": prepared.vocabulary_sha256,
        "encoder": str(Path(pretrained.source).absolute()),
        "from_scratch": settings.arguments.from_scratch,
        "model": asdict(network.config),
        "heads": [asdict(task) for task in network.tasks],
        "recipes": [asdict(spec_of(task, prepared)) for task in settings.tasks],
        "measured": measured(settings.tasks, settings.training.monitor),
        "optimizer": asdict(settings.optimizer),
        "training": asdict(settings.training),
        "prepared": {task.name: prepared.key(task.name) for task in settings.tasks},
        "order": asdict(settings.order),
    }
