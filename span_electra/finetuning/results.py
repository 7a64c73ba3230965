"""What a run of fine-tuning ends in, finished or stopped: its best model's metrics, predictions, exports."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean, stdev

from span_electra.accelerators import find_device
from span_electra.config import TrainingConfig
from span_electra.errors import InputError
from span_electra.finetuning.experiment import open_rows
from span_electra.finetuning.export import check_places, export_tasks
from span_electra.finetuning.metadata import measured
from span_electra.finetuning.predictions import compute_metrics, predict_rows, prediction_lines
from span_electra.finetuning.prepared import open_prepared
from span_electra.finetuning.settings import FinetuningSettings
from span_electra.finetuning.task_model import load_task_model
from span_electra.progress import say_notes
from span_electra.storage import EXPORTED, PREDICTIONS, RESULTS, write_text
from span_electra.training.checkpoint import same_score
from span_electra.training.devices import Process
from span_electra.training.run import check_place


def check_run(run: FinetuningSettings) -> None:
    """Refuse a run whose folder, or one that its tasks are exported to, holds something else."""
    check_place(run)
    check_places(Path(run.out_dir, EXPORTED), [task.name for task in run.tasks])


def conclude(run: FinetuningSettings) -> dict[str, dict[str, dict[str, float]]]:
    """Evaluate the best model on dev and test, write its predictions, export its tasks; returns the metrics.

    They stand by task, split and name. The best model need not be the last one, so dev is computed again.
    Raises InputError where the prepared data are not those that the run was trained on.
    """
    check_places(Path(run.out_dir, EXPORTED), [task.name for task in run.tasks])
    folder, process = Path(run.out_dir), evaluation_process(run.training)
    model = load_task_model(run.out_dir, run.tasks)
    prepared, results = open_prepared(run.prepared), {task.name: {} for task in run.tasks}
    # Keys are hashes of the data: rows of the same names may have been prepared anew meanwhile.
    if [(task.name, prepared.key(task.name)) for task in run.tasks] != [*model.meta["prepared"].items()]:
        raise InputError(
            f"{folder}: was trained on other data than {prepared.folder} holds, or on tasks in another "
            "order; give those it had"
        )
    if not same_score(model.meta, {"measured": measured(run.tasks, run.training.monitor)}):
        # Of a run that goes on the best is found anew; here there is none but the one that was found.
        say_notes(
            f"{folder}: its best checkpoint is that of other metrics than the task file has first now; "
            "--resume_train finds the best of these"
        )
    model.network.to(process.device)
    (folder / PREDICTIONS).mkdir(exist_ok=True)
    for split in ("dev", "test"):
        for number, source in enumerate(open_rows(run.tasks, prepared, model.vocabulary, split)):
            if source is None:
                continue
            predicted = predict_rows(model.network, number, source, run.arguments.eval_batch_size, process)
            name = run.tasks[number].name
            results[name][split] = compute_metrics(predicted, source)
            lines = "".join(prediction_lines(predicted, source))
            write_text(folder / PREDICTIONS / f"{name}-{split}.tsv", lines)
    model.network.cpu()  # exports are written from there, task by task
    export_tasks(model, folder / EXPORTED, measured=results)
    write_results(folder, results)
    return results


def evaluation_process(training: TrainingConfig) -> Process:
    """The first of the run's devices, in full precision."""
    # Full precision: which label wins must not hang on what training was rounded to.
    device = find_device(training.device, "device:")
    if device.type != "cpu" and device.index is None:
        device = find_device(f"{device.type}:{(training.device_ids or [0])[0]}", "device_ids:")
    return Process(device)


def write_results(folder: Path, results: dict) -> None:
    """Write results.json, whole or not at all."""
    write_text(folder / RESULTS, json.dumps(results, indent=1) + "\n")


def over_seeds(found: list[dict]) -> dict:
    """Mean and deviation of every metric: {task: {split: {metric: {mean, deviation, values}}}}."""
    summary: dict = {}
    for task, splits in found[0].items():
        for split, metrics in splits.items():
            for name in metrics:
                values = [results[task][split][name] for results in found]
                # Perplexity may be infinite, of which the library knows no deviation, nor JSON a number.
                deviation = stdev(values) if all(map(math.isfinite, values)) else None
                entry = {"mean": mean(values), "deviation": deviation, "values": values}
                summary.setdefault(task, {}).setdefault(split, {})[name] = entry
    return summary


def table_of(results: dict) -> str:
    """The metrics as lines of text, a task a line."""
    lines = []
    for task, splits in results.items():
        shown = [
            f"{split} {name} {_number(value)}"
            for split, metrics in splits.items()
            for name, value in metrics.items()
        ]
        lines.append(f"{task}: {', '.join(shown) or 'no dev or test rows'}")
    return "\n".join(lines)


def _number(value: float | dict) -> str:
    if isinstance(value, dict):
        spread = "?" if value["deviation"] is None else f"{value['deviation']:.2g}"
        return f"{value['mean']:.4g} ± {spread}"
    return f"{value:.4g}"
