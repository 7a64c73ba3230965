"""Fine-tuning as a whole: what its scripts do once the flags are read.

Data are prepared where they are not yet, each seed has a run of its own, and of every run the best model is
tried on dev and test, its predictions written, and its tasks exported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

from span_electra.compose import compose, config_file
from span_electra.config import TrainingConfig
from span_electra.console import command_line
from span_electra.cores import under_torchrun
from span_electra.errors import InputError
from span_electra.finetuning.arguments import FinetuningArguments, TaskDataArguments
from span_electra.finetuning.experiment import (
    Finetuning,
    check_pooling,
    check_vocabulary,
    open_rows,
    spec_of,
)
from span_electra.finetuning.order import Order
from span_electra.finetuning.predictions import check_metrics
from span_electra.finetuning.prepare import (
    Prepared,
    check_settings,
    is_prepared,
    open_prepared,
    prepare_tasks,
)
from span_electra.finetuning.prepared_notes import check_labels_differ, notes, summary_lines
from span_electra.finetuning.results import conclude, over_seeds, table_of, write_results
from span_electra.finetuning.settings import FinetuningRun
from span_electra.finetuning.task_file import TaskFile, load_task_file
from span_electra.hub.opening import Pretrained, open_model
from span_electra.hub.runs import SEEDS, is_finetuned, newest_run, run_of
from span_electra.storage import CONFIG, RESULTS, RUN_LOCK, empty_parents_go
from span_electra.training import checkpoint
from span_electra.training.run import check_place, run_training
from span_electra.training.run_folder import state_of

# --- preparing ------------------------------------------------------------------------------------------


def prepared_folder(encoder_name: str) -> Path:
    """Where the prepared data of an encoder lie."""
    return Path(f"{encoder_name}_prepared_data")


def prepare(settings: TaskDataArguments) -> int:
    """Prepare the data of a task file for an encoder, and say what came of it."""
    tasks = load_task_file(settings.task_file, settings.data_dir)  # first: an encoder takes a while to open
    for note in tasks.notes:
        print(f"note: {note}", file=sys.stderr)
    encoder = str(settings.encoder or newest_run())
    opened = open_model(encoder)
    opened.check_tokenizer()
    # Both networks of a run have one vocabulary, so that rows are the same whichever will be fine-tuned.
    network = "generator" if [*opened.readers] == ["generator"] else "discriminator"
    pretrained = opened.need(network)
    folder = prepared_folder(pretrained.name)
    with nothing_left_if_refused(folder, tasks):
        prepared = prepare_data(settings, tasks, pretrained, folder)
        check_labels_differ(prepared, tasks.tasks)
    print_summary(prepared, tasks)
    print(f"prepared with vocabulary {prepared.vocabulary_sha256[:12]} -> {folder}/")
    words = ("--task_file", settings.task_file, "--data_dir", folder, "--encoder", encoder)
    words += ("--network", network) if network == "generator" else ()
    print(f"next: {command_line('finetune_SE', *words)}")
    return 0


def prepare_data(
    settings: TaskDataArguments, tasks: TaskFile, pretrained: Pretrained, folder: Path
) -> Prepared:
    """Make what is not there yet of the tasks' rows in `folder`."""
    check_length(settings.max_seq_len, pretrained)
    return prepare_tasks(
        tasks,
        settings.data_dir,
        folder=folder,
        vocabulary=pretrained.vocabulary,
        max_seq_len=settings.max_seq_len,
        lowercase=settings.do_lower_case,
        workers=settings.workers,
    )


def print_summary(prepared: Prepared, tasks: TaskFile) -> None:
    """Print what was prepared, and on the other stream what may be wrong with it."""
    for line in summary_lines(prepared, tasks.tasks):
        print(line)
    for note in notes(prepared, tasks.tasks):
        print(f"note: {note}", file=sys.stderr)


def check_length(asked: int, pretrained: Pretrained) -> None:
    """Refuse rows that the encoder cannot read."""
    longest = pretrained.config.max_position_embeddings
    if asked > longest:
        raise InputError(
            f"max_seq_len: {asked} is more than the {longest} positions of {pretrained.source}; lower it"
        )


# --- fine-tuning ----------------------------------------------------------------------------------------


def finetune(settings: FinetuningArguments) -> int:
    """Fine-tune as `settings` say, once for each seed; returns the exit code of the script.

    What is refused (InputError) leaves no new folder behind.
    """
    # Flags that contradict each other first: nothing has been opened or written yet.
    check_start(settings)
    if settings.conclude:
        return conclude_saved(settings)
    tasks = tasks_of(settings)  # first: an encoder takes a while to open
    for note in tasks.notes:
        print(f"note: {note}", file=sys.stderr)
    folder, encoder = run_folder(settings), str(settings.load_saved_model or settings.encoder or newest_run())
    opened = open_model(encoder)
    opened.check_tokenizer()
    pretrained = opened.need(settings.network)
    data = data_folder(settings, pretrained)
    with nothing_left_if_refused(data, tasks, folder):
        seeds = range(settings.seed, settings.seed + settings.seeds)
        out_dirs = [folder / f"seed-{seed}" for seed in seeds] if settings.seeds > 1 else [folder]
        runs = [
            finetuning_run(settings, tasks, encoder=encoder, data=data, folder=out_dir, seed=seed)
            for seed, out_dir in zip(seeds, out_dirs, strict=True)
        ]
        refuse_taken(folder, runs)  # before rows are prepared, which may take minutes
        keys = ready(settings, tasks, pretrained, data).keys
        runs = [replace(run, keys={task.name: keys[task.name] for task in tasks.tasks}) for run in runs]
        found = []
        for run in runs:
            code, results = finetune_once(run)
            if results is None:
                for line in rest_lines(settings, runs[len(found) :]):
                    print(line)
                return code
            found.append(results)
    if settings.seeds > 1:
        summary = over_seeds(found)
        write_results(folder, summary)
        print(table_of(summary))
    print(f"\n{folder}: {RESULTS}, predictions, checkpoints and exported models")
    print(f"next: {command_line('predict_SE', out_dirs[0])}")
    return 0


def finetune_once(run: FinetuningRun) -> tuple[int, dict | None]:
    """One run; returns its exit code, and the results of its best model where it came to its end."""
    # Results are of a run that came to its end; a stopped one is not yet the best that it will have.
    result = run_training(run, Finetuning)
    if result.state != "finished":
        conclude_it = command_line("finetune_SE", "--load_saved_model", run.out_dir, "--conclude")
        print(f"stopped at step {result.step:,}; go on: {run.go_on}")
        print(f"or take its best model: {conclude_it}")
        return result.exit_code, None
    results = conclude(run)
    if not run.silent:
        print(table_of(results))
    return 0, results


def rest_lines(settings: FinetuningArguments, runs: list[FinetuningRun]) -> list[str]:
    """How the seeds after a stopped one, the first of `runs`, are run, and all of them concluded."""
    if not runs[1:]:
        return []
    # The stopped run's file says everything of the others but what a new run alone is given.
    stopped, following, last = runs[0], runs[1], runs[-1].training.seed
    words = ["--config_file", Path(stopped.out_dir, CONFIG)]
    # Named or not: by then another run may be the newest.
    saved = settings.load_saved_model
    words += ["--load_saved_model", saved] if saved else ["--encoder", stopped.encoder]
    words += ["--finetune"] if settings.finetune else []
    words += ["--seed", following.training.seed, "--out_dir", following.out_dir]
    folder = Path(stopped.out_dir).parent
    return [
        f"then the next seed, and so on to {last}: {command_line('finetune_SE', *words)}",
        f"and all together: {command_line('finetune_SE', '--load_saved_model', folder, '--conclude')}",
    ]


def conclude_saved(settings: FinetuningArguments) -> int:
    """Give a run that was stopped early what one that came to its end has, from its best checkpoint.

    The run's own settings decide which data; of a folder with a run for each seed all are concluded.
    """
    folder = run_folder(replace(settings, resume_train=True, out_dir=None))
    # seed-2 before seed-10, as the runs were made.
    each_seed = sorted((path.parent for path in folder.glob(f"{SEEDS}/{CONFIG}")), key=by_number)
    found = []
    for run in each_seed or [folder]:
        of_tasks = is_finetuned(run) or not any(checkpoint.in_run(run))  # none is told below
        if not (run / CONFIG).is_file() or not of_tasks:
            raise InputError(f"{run}: no run of fine-tuning; name its folder with --load_saved_model")
        # By the run's own file, not by today's flags: other data would be another experiment.
        saved = compose(type(settings), [config_file(run / CONFIG)])
        saved = replace(saved, load_saved_model=str(run), resume_train=True, silent=settings.silent)
        tasks, pretrained = tasks_of(saved), open_model(str(run)).need(saved.network)
        data = data_folder(saved, pretrained)
        ready(saved, tasks, pretrained, data)
        found.append(
            conclude(finetuning_run(saved, tasks, encoder=str(run), data=data, folder=run, seed=saved.seed))
        )
        if not settings.silent:
            print(table_of(found[-1]))
    if len(found) > 1:
        write_results(folder, over_seeds(found))
        print(table_of(over_seeds(found)))
    print(f"\n{folder}: {RESULTS}, predictions and exported models")
    print(f"next: {command_line('predict_SE', (each_seed or [folder])[0])}")
    return 0


def by_number(seed: Path) -> tuple[int, str]:
    """Where the folder of a seed stands among others. Example: seed-2, seed-10"""
    return len(seed.name), seed.name


# --- what to start from, and where ----------------------------------------------------------------------


def check_start(settings: FinetuningArguments) -> None:
    """Refuse flags that contradict each other, and processes that we did not start."""
    # Each would conclude the run, and write its results and exports, in one place.
    if under_torchrun() and os.environ["WORLD_SIZE"] != "1":
        raise InputError("torchrun: fine-tuning starts its own processes; give --device_ids 0 1 instead")
    saved = settings.load_saved_model
    if (settings.resume_train or settings.finetune) and not saved:
        raise InputError("--resume_train and --finetune need --load_saved_model and the folder of a run")
    if settings.resume_train and settings.finetune:
        raise InputError("--resume_train goes on with a run, --finetune starts another; give one of them")
    if settings.conclude and (not saved or settings.resume_train or settings.finetune):
        raise InputError("--conclude needs --load_saved_model and the folder of a run, and nothing else")
    if settings.resume_train and settings.seeds > 1:
        raise InputError(f"--resume_train goes on with one run; name {saved}/seed-... and leave out --seeds")
    if saved and not settings.resume_train:
        for name in ("encoder", "from_scratch"):
            if getattr(settings, name):
                raise InputError(f"--{name}: --load_saved_model has an encoder of its own; give one of them")


def run_folder(settings: FinetuningArguments) -> Path:
    """The folder of the run: `out_dir`, a resumed run's own, or a new one with the time in its name."""
    if settings.out_dir:
        return Path(settings.out_dir)
    if settings.resume_train:
        return run_of(Path(settings.load_saved_model))
    return Path("runs", time.strftime("finetune-%Y-%m-%d-%H-%M-%S"))


def data_folder(settings: FinetuningArguments, pretrained: Pretrained) -> Path:
    """Where the prepared data are, if it is them that --data_dir names, or will be."""
    return Path(settings.data_dir) if is_prepared(settings.data_dir) else prepared_folder(pretrained.name)


def tasks_of(settings: FinetuningArguments) -> TaskFile:
    """The task file, whose files lie in --data_dir, or where those lay that were prepared there."""
    # Prepared data remember where their files lay, so that --data_dir may name either.
    prepared = is_prepared(settings.data_dir)
    data_dir = open_prepared(settings.data_dir).data_dir if prepared else settings.data_dir
    return load_task_file(settings.task_file, data_dir, prepared)


def ready(settings: FinetuningArguments, tasks: TaskFile, pretrained: Pretrained, data: Path) -> Prepared:
    """Prepare what is not prepared; of data that were given prepared, see that they belong together."""
    if is_prepared(settings.data_dir):
        # Rows of another vocabulary or another length would train without a word, and teach nonsense.
        prepared = open_prepared(data)
        check_vocabulary(prepared, pretrained)
        check_length(prepared.max_seq_len, pretrained)
        check_settings(prepared, tasks.tasks)
        check_flags(settings, prepared)
        open_rows(tasks.tasks, prepared, pretrained.vocabulary, "train")
        for task in tasks.tasks:
            if task.name not in prepared.keys:
                raise InputError(f"{data}: {task.name} is not whole there; run prepare_tasks_SE.py again")
    else:
        prepared = prepare_data(settings, tasks, pretrained, data)
    check_labels_differ(prepared, tasks.tasks)
    check_pooling(tasks.tasks, pretrained)
    for task in tasks.tasks:
        check_metrics(spec_of(task, prepared))
    if not settings.silent:
        print_summary(prepared, tasks)
    return prepared


def check_flags(settings: FinetuningArguments, prepared: Prepared) -> None:
    """Refuse flags that say of rows what prepared ones are not; as their defaults are, they say nothing."""
    for name, made in (("max_seq_len", prepared.max_seq_len), ("do_lower_case", prepared.lowercase)):
        asked = getattr(settings, name)
        if asked not in (made, getattr(TaskDataArguments(), name)):
            raise InputError(
                f"{name}: {asked}, but {prepared.folder} was prepared with {made}; leave it out, or run "
                "prepare_tasks_SE.py again"
            )


def refuse_taken(folder: Path, runs: list[FinetuningRun]) -> None:
    """Refuse a folder that holds something else, before anything is prepared or written."""
    if len(runs) > 1 and state_of(folder) != "new":
        raise InputError(f"{folder}: is not empty; choose another --out_dir for the runs of all seeds")
    for run in runs:
        check_place(run)


@contextmanager
def nothing_left_if_refused(data: Path, tasks: TaskFile, run: Path | None = None) -> Iterator[None]:
    """Remove the prepared data and the run's folder again if they were not there and nothing was trained."""
    new = [folder for folder in (data, run) if folder is not None and not folder.exists()]
    with empty_parents_go(run or data):  # `runs/`, which the first run makes
        try:
            yield
        except InputError:
            # A file in the run's folder is a person's, or the work of hours, such as an earlier seed's.
            if run is None or all(path.name == RUN_LOCK or path.is_dir() for path in run.rglob("*")):
                for folder in new:
                    if folder != data or not holds_others(data, tasks):
                        rmtree(folder, ignore_errors=True)
            raise


def holds_others(data: Path, tasks: TaskFile) -> bool:
    """Whether another command has prepared tasks of its own there meanwhile, or is at it."""
    names = {task.name for task in tasks.tasks}
    return data.is_dir() and any(path.is_dir() and path.name not in names for path in data.iterdir())


# --- settings in the words of the rooms -----------------------------------------------------------------


def finetuning_run(
    settings: FinetuningArguments, tasks: TaskFile, encoder: str, data: Path, folder: Path, seed: int
) -> FinetuningRun:
    """The settings of one run as the task room takes them."""
    size, buffer = settings.train_batch_size, settings.shuffle_buffer_size
    return FinetuningRun(
        # Of the package's own class: a script's cannot be found by processes that do not know the script.
        arguments=FinetuningArguments.of(settings),
        tasks=tasks.tasks,
        prepared=str(data),
        encoder=encoder,
        training=training_config(settings, seed),
        order=Order(size, tasks.sampling, settings.epochs, seed, buffer),
        out_dir=str(folder),
    )


def training_config(settings: FinetuningArguments, seed: int) -> TrainingConfig:
    """The loop's settings, in the words of fine-tuning."""
    steps = f"{settings.save_per_updates} steps" if settings.save_per_updates else "1 epoch"
    eval_every = settings.eval_every
    if settings.eval_while_train and eval_every == FinetuningArguments().eval_every:
        eval_every = steps  # at every save, unless a cadence of its own is named
    return replace(
        TrainingConfig.of(settings),
        gradient_accumulation_steps=settings.grad_accumulation_steps,
        seed=seed,
        compile="off",  # every batch has a width of its own
        log_steps=settings.log_per_updates,
        eval_every=eval_every,
        save_every=steps,
        save_last=settings.limit_save,
    )
