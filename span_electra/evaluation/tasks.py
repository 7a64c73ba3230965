"""A fine-tuned run and a task file -> each task's metrics on dev and test: evaluate_SE.py --task_file.

What the tasks' files hold now is prepared into a temporary folder, with the run's own labels, vocabulary and
length of rows; so a model can be tried on other files than those it was fine-tuned with.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from span_electra import progress
from span_electra.accelerators import find_device
from span_electra.counted import few
from span_electra.errors import InputError
from span_electra.evaluation.arguments import EvaluationArguments
from span_electra.evaluation.metrics import sequence_detection_f1
from span_electra.evaluation.stage import (
    DATA,
    MODEL,
    TASKS,
    described,
    prepared_target,
    save_sections,
    table_text,
    written_line,
)
from span_electra.finetuning.batching import TEST_CANDIDATES, TaskRows
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.experiment import open_rows, spec_of
from span_electra.finetuning.predictions import TaskPredictions, check_metrics, compute_metrics, predict_rows
from span_electra.finetuning.prepare import prepare_tasks
from span_electra.finetuning.prepared_notes import notes
from span_electra.finetuning.task import Task, UnknownLabel
from span_electra.finetuning.task_file import TaskFile, load_task_file
from span_electra.finetuning.task_model import load_task_model
from span_electra.hub.folders import recorded_sha256
from span_electra.report.scores import tables_of
from span_electra.text.vocabulary import Vocabulary
from span_electra.training.devices import Process

# Names that say more than those of task files.
TITLE_OF = {"recall_at_1": f"recall@1 of {TEST_CANDIDATES}"}


def evaluate_tasks(settings: EvaluationArguments) -> Iterator[str]:
    """Try a fine-tuned model on the tasks of a file, write the JSON and yield what to print.

    Its best checkpoint is taken, or the one that is named. Raises InputError for what is no run of
    finetune_SE.py, for tasks that it did not learn, and for data that cannot be read.
    """
    if settings.pairs or settings.spelling or settings.text:
        raise InputError(
            "--task_file tries a fine-tuned model, --pairs, --spelling and --text a pretrained one; "
            "run the script once for each"
        )
    if not settings.model:
        raise InputError("--task_file needs a model: name the folder that finetune_SE.py made")
    model, task_file, data_dir = Path(settings.model), settings.task_file, settings.data_dir
    started = time.perf_counter()
    # What may be refused comes first; evaluation takes minutes.
    target = prepared_target(model, settings.out_file)
    network, specs, vocabulary, meta = load_task_model(model)
    network.to(find_device(settings.device))
    loaded = load_task_file(task_file, data_dir)
    progress.say_notes(*loaded.notes)
    asked = loaded.tasks
    learnt = [task_number(task, specs, str(task_file)) for task in asked]
    step = f"step-{meta['step']:08d}"
    sections = {MODEL: described(model, vocabulary, [recorded_sha256(meta)], checkpoint=step)}
    sections |= {DATA: {}, TASKS: {}}
    process = Process(next(network.parameters()).device)
    with tempfile.TemporaryDirectory(prefix="span_electra_") as folder:
        for number, split, source in prepared_rows(
            asked, learnt, specs=specs, vocabulary=vocabulary, data_dir=data_dir, folder=folder
        ):
            name = f"{source.spec.task.name}, {split}"
            with progress.saying(lambda name=name: f"evaluate: {name}"):
                predicted = predict_rows(network, number, source, settings.batch_size, process)
            sections[TASKS][name] = metrics_of(predicted, source)
            files = source.spec.task.files.get(split) or source.spec.task.files["train"]  # dev, split from it
            sections[DATA][name] = few([str(Path(data_dir, file)) for file in files])
    if not sections[TASKS]:
        raise InputError(f"{task_file}: no task has labelled dev or test rows; name files that have some")
    for table in tables_of(sections[TASKS], TASKS):
        yield table_text(table)
    yield f"tasks: {time.perf_counter() - started:.1f} s\n"
    yield written_line(target, model, save_sections(target, sections))


def task_number(task: Task, specs: tuple[TaskSpec, ...], source: str) -> int:
    """The number of the task in the model. Raises InputError when the model did not learn it."""
    names = [spec.task.name for spec in specs]
    if task.name not in names:
        raise InputError(f"{source}: {task.name}: the model did not learn it; it knows {', '.join(names)}")
    number = names.index(task.name)
    if specs[number].task.task_type != task.task_type:
        raise InputError(
            f"{source}: {task.name}: task_type {task.task_type}, but the model learnt it as "
            f"{specs[number].task.task_type}"
        )
    texts = [each.pairs for each in (task, specs[number].task)]
    if None not in texts and texts[0] != texts[1]:
        kinds = ["pairs" if pairs else "single texts" for pairs in texts]
        raise InputError(f"{source}: {task.name}: its files hold {kinds[0]}, and the model learnt {kinds[1]}")
    return number


def prepared_rows(
    asked: tuple[Task, ...],
    learnt: list[int],
    specs: tuple[TaskSpec, ...],
    vocabulary: Vocabulary,
    data_dir: str | Path,
    folder: str | Path,
) -> Iterator[tuple[int, str, TaskRows]]:
    """Prepare the tasks in `folder`, say what is odd of them, and yield (number in the model, split, rows).

    The train file is read only where dev is split from it: one row of it must do, labels being the model's.
    """
    # The model's labels, in the model's order: those of the new files may be fewer, or others. Numbers of
    # labels are by the list of the file, which must then be in this order.
    tasks = tuple(
        replace(
            task,
            labels=specs[number].labels or None,
            listed=task.listed and task.labels == specs[number].labels,
            limit=task.limit if task.val_split else 1,
        )
        for task, number in zip(asked, learnt, strict=True)
    )
    first = specs[0]  # all tasks of a run share the length of rows and the folding of letters
    try:
        prepared = prepare_tasks(
            TaskFile(tasks),
            data_dir,
            folder=folder,
            vocabulary=vocabulary,
            max_seq_len=first.max_seq_len,
            lowercase=first.lowercase,
        )
    except UnknownLabel as error:  # more labels listed would change nothing: the model has its own
        said = f"the model did not learn label {error.label!r}; it knows {few(error.known)}"
        raise InputError(f"{error.where}: {said}; mend the row, or fine-tune anew with it") from None
    for task in tasks:  # the file's metrics are not those that the run was trained for
        check_metrics(spec_of(task, prepared))
    progress.say_notes(*notes(prepared, tasks, room="the model's rows have this length"))
    opened = {split: open_rows(tasks, prepared, vocabulary, split) for split in ("dev", "test")}
    for position, number in enumerate(learnt):
        for split, sources in opened.items():
            # Heads by the model's numbers: the file may list some of its tasks, in any order.
            if sources[position] is not None:
                yield number, split, sources[position]


def metrics_of(predicted: TaskPredictions, source: TaskRows) -> dict[str, Any]:
    """The task's metrics and number of rows.

    Misspelt words are told by lines too, as the spelling benchmark does.
    """
    found = compute_metrics(predicted, source)
    named = {TITLE_OF.get(name, name): value for name, value in found.items()}
    if source.spec.type.head == "replaced":
        named["sequence_f1"] = sequence_detection_f1(predicted.predictions, predicted.targets)
    return named | {"rows": len(predicted.uids)}
