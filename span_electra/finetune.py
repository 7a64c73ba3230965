"""Fine-tuning as a whole: what its scripts do once the flags are read.

Data are prepared where they are not yet, each seed has a run of its own, and of every run the best model is
tried on dev and test, its predictions written, and its tasks exported. `settings` is always
argument.FinetuneArgs.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from span_electra.compose import dump
from span_electra.config import TrainingConfig
from span_electra.errors import InputError

RESULTS = "results.json"


# --- preparing ------------------------------------------------------------------------------------------


def prepared_folder(encoder_name: str) -> Path:
    """Where the prepared data of an encoder lie."""
    return Path(f"{encoder_name}_prepared_data")


def prepare(
    encoder: str | None, task_file: str, data_dir: str, lowercase: bool, max_seq_len: int, workers: int
) -> int:
    """Prepare the data of a task file for an encoder, and say what came of it."""
    from span_electra.tasks.encoders import open_encoder
    from span_electra.tasks.prepare import prepare_tasks
    from span_electra.tasks.taskfile import load_task_file
    from span_electra.transfer.networks import newest_run

    pretrained = open_encoder(encoder or newest_run())
    check_length(max_seq_len, pretrained.config.max_position_embeddings, pretrained.source)
    folder = prepared_folder(pretrained.name)
    tasks = load_task_file(task_file, data_dir)
    prepared = prepare_tasks(tasks, data_dir, folder, pretrained.vocabulary, max_seq_len, lowercase, workers)
    for task in tasks.tasks:
        counts = ", ".join(f"{split} {rows:,}" for split, rows in prepared.rows[task.name].items())
        labels = prepared.labels[task.name]
        print(f"{task.name}: {counts}" + (f"; {len(labels)} labels" if labels else ""))
    print(f"prepared with vocabulary {prepared.vocabulary_sha256[:12]} -> {folder}/")
    return 0


def check_length(asked: int, longest: int, source: str) -> None:
    """Refuse rows that the encoder cannot read."""
    if asked > longest:
        raise InputError(f"max_seq_len: {asked} is more than the {longest} positions of {source}; lower it")


# --- fine-tuning ----------------------------------------------------------------------------------------


def finetune(settings: Any) -> int:
    """Fine-tune as `settings` say, once for each seed; returns the exit code of the script."""
    folder = Path(settings.out_dir or Path("runs", time.strftime("finetune-%Y-%m-%d-%H-%M-%S")))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    found = []
    for seed in seeds:
        place = folder / f"seed-{seed}" if settings.seeds > 1 else folder
        code, results = finetune_once(settings, place, seed)
        if results is None:
            return code
        found.append(results)
    if settings.seeds > 1:
        summary = over_seeds(found)
        (folder / RESULTS).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        print(table_of(summary))
    print(f"\n{folder}: {RESULTS}, predictions, checkpoints and exported models")
    return 0


def finetune_once(settings: Any, folder: Path, seed: int) -> tuple[int, dict | None]:
    """One run; returns its exit code, and the results of its best model where it came to its end."""
    from span_electra.tasks.finetuning import assemble
    from span_electra.training.run import run_training

    run = finetuning_run(settings, folder, seed)
    result = run_training(run, assemble)
    if result.state != "finished":
        print(f"stopped at step {result.step:,}; go on: add --load_saved_model {folder} --resume_train")
        return result.exit_code, None
    results = conclude(run, folder)
    if settings.seeds == 1 or not settings.silent:
        print(table_of(results))
    return 0, results


def finetuning_run(settings: Any, folder: Path, seed: int) -> Any:
    """The settings as the task room takes them; data that are not prepared are prepared first."""
    from span_electra.tasks.batching import Order
    from span_electra.tasks.encoders import open_encoder
    from span_electra.tasks.finetuning import FinetuningRun
    from span_electra.tasks.prepare import MARK, prepare_tasks
    from span_electra.tasks.taskfile import load_task_file
    from span_electra.transfer.networks import newest_run

    saved = settings.load_saved_model
    if (settings.resume_train or settings.finetune) and not saved:
        raise InputError("--resume_train and --finetune need --load_saved_model and the folder of a run")
    encoder = str(settings.encoder or saved or newest_run())
    if settings.finetune:
        encoder = saved
    pretrained = open_encoder(encoder, settings.network)
    check_length(settings.max_seq_len, pretrained.config.max_position_embeddings, pretrained.source)
    tasks = load_task_file(settings.task_file, settings.data_dir)
    prepared = Path(settings.data_dir)
    if not (prepared / MARK).is_file():
        prepared = prepared_folder(pretrained.name)
        prepare_tasks(
            tasks, settings.data_dir, prepared, pretrained.vocabulary,
            settings.max_seq_len, settings.do_lower_case, settings.workers,
        )  # fmt: skip
    training = training_config(settings, seed)
    return FinetuningRun(
        tasks=tasks.tasks,
        prepared=str(prepared),
        encoder=encoder,
        optimizer=settings.optimizer,
        training=training,
        order=Order(
            settings.train_batch_size, tasks.sampling, settings.epochs, seed, settings.shuffle_buffer_size
        ),
        out_dir=str(folder),
        part=settings.network,
        from_scratch=settings.from_scratch,
        dropout=settings.dropout,
        freeze_encoder=settings.freeze_encoder,
        layer_lr_decay=settings.layer_lr_decay,
        eval_batch_size=settings.eval_batch_size,
        tests=settings.test_while_train,
        heads_from=saved if saved and not settings.finetune and not settings.resume_train else None,
        resume_from=saved if settings.resume_train else None,
        silent=settings.silent,
        config_json=dump(settings),
    )


def training_config(settings: Any, seed: int) -> TrainingConfig:
    """The loop's settings, in the words of fine-tuning."""
    from span_electra.tasks.finetuning import SCORE

    steps = f"{settings.save_per_updates} steps" if settings.save_per_updates else "1 epoch"
    return TrainingConfig(
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        max_minutes=settings.max_minutes,
        gradient_accumulation_steps=settings.grad_accumulation_steps,
        seed=seed,
        device=settings.device,
        device_ids=settings.device_ids,
        precision=settings.precision,
        compile="off",  # every batch has a width of its own
        activation_checkpointing=settings.activation_checkpointing,
        log_steps=settings.log_per_updates,
        eval_every=steps if settings.eval_while_train else "1 epoch",
        save_every=steps,
        save_last=settings.limit_save,
        monitor=SCORE,
    )


# --- results --------------------------------------------------------------------------------------------


def conclude(run: Any, folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Try the best model on dev and test, write its predictions, export its tasks; returns the metrics.

    They stand by task, split and name.
    """
    import torch

    from span_electra.tasks.finetuning import load_task_model, open_rows
    from span_electra.tasks.outcomes import metrics_of_task, predict_rows, prediction_lines
    from span_electra.tasks.prepare import open_prepared
    from span_electra.tasks.task_export import export_task
    from span_electra.training.devices import Place

    network, recipes, vocabulary, _ = load_task_model(folder)
    device = "cuda" if run.training.device != "cpu" and torch.cuda.is_available() else "cpu"
    network.to(device)
    prepared, results = open_prepared(run.prepared), {recipe.task.name: {} for recipe in recipes}
    (folder / "predictions").mkdir(exist_ok=True)
    for split in ("dev", "test"):
        for number, source in enumerate(open_rows(run.tasks, prepared, vocabulary, split)):
            if source is None:
                continue
            outcome = predict_rows(network, number, source, run.eval_batch_size, Place(torch.device(device)))
            name = recipes[number].task.name
            results[name][split] = metrics_of_task(outcome, source)
            path = folder / "predictions" / f"{name}-{split}.tsv"
            path.write_text("".join(prediction_lines(outcome, source)), encoding="utf-8")
    for number, recipe in enumerate(recipes):
        export_task(network.cpu(), number, recipe, vocabulary, folder / "exported" / recipe.task.name)
    (folder / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def over_seeds(found: list[dict]) -> dict:
    """Mean and deviation of every metric: {task: {split: {metric: {mean, deviation, values}}}}."""
    summary: dict = {}
    for task, splits in found[0].items():
        for split, metrics in splits.items():
            for name in metrics:
                values = [results[task][split][name] for results in found]
                told = {"mean": mean(values), "deviation": stdev(values), "values": values}
                summary.setdefault(task, {}).setdefault(split, {})[name] = told
    return summary


def table_of(results: dict) -> str:
    """The metrics as lines of text, a task a line."""
    lines = []
    for task, splits in results.items():
        told = [
            f"{split} {name} {_number(value)}"
            for split, metrics in splits.items()
            for name, value in metrics.items()
        ]
        lines.append(f"{task}: {', '.join(told) or 'nothing to try it on'}")
    return "\n".join(lines)


def _number(value: float | dict) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.4g} ± {value['deviation']:.2g}"
    return f"{value:.4g}" if math.isfinite(value) else str(value)
