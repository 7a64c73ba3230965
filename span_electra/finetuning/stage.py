"""Fine-tuning as a whole: what its scripts do once the flags are read.

Data are prepared where they are not yet, each seed has a run of its own, and of every run the best model is
tried on dev and test, its predictions written, and its tasks exported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote

from span_electra.config import TrainingConfig
from span_electra.console import command_line
from span_electra.cores import under_torchrun
from span_electra.errors import InputError
from span_electra.finetuning.arguments import FinetuningArguments, TaskDataArguments
from span_electra.finetuning.defaults import BEGUN, OF_ROWS, runs_in
from span_electra.finetuning.experiment import (
    Finetuning,
    check_pooling,
    check_token_types,
    check_vocabulary,
    open_rows,
    spec_of,
)
from span_electra.finetuning.order import Order
from span_electra.finetuning.predictions import check_metrics
from span_electra.finetuning.prepare import check_settings, prepare_tasks
from span_electra.finetuning.prepared import Prepared, is_prepared, open_prepared
from span_electra.finetuning.prepared_notes import check_labels_differ, check_made_so, notes, summary_lines
from span_electra.finetuning.results import conclude, over_seeds, table_of, write_results
from span_electra.finetuning.seeds import begun_encoder, hold_encoder, refuse_taken
from span_electra.finetuning.settings import FinetuningSettings, gone_on_with
from span_electra.finetuning.task_file import TaskFile, load_task_file
from span_electra.hub.opening import Pretrained, open_model
from span_electra.hub.runs import newest_run, run_of
from span_electra.progress import say_notes
from span_electra.storage import CONFIG, RESULTS, empty_parents_go
from span_electra.training import checkpoint
from span_electra.training.run import run_training
from span_electra.training.run_folder import forget_if_empty, state_of

# --- preparing ------------------------------------------------------------------------------------------


def prepared_folder(encoder_name: str) -> Path:
    """Where the prepared data of an encoder lie."""
    return Path(f"{encoder_name}_prepared_data")


def prepare(settings: TaskDataArguments) -> int:
    """Prepare the data of a task file for an encoder, and say what came of it."""
    tasks = load_task_file(settings.task_file, settings.data_dir)  # first: an encoder takes a while to open
    say_notes(*tasks.notes)
    encoder = str(settings.encoder or newest_run())
    opened = open_model(encoder)
    opened.check_tokenizer()
    # Both networks of a run have one vocabulary, so that rows are the same whichever will be fine-tuned.
    network = "generator" if [*opened.readers] == ["generator"] else "discriminator"
    pretrained = opened.need(network)
    folder = prepared_folder(pretrained.name)
    prepared = prepare_data(
        settings, tasks, pretrained, folder, check=lambda made: check_labels_differ(made, tasks.tasks)
    )
    note_longer_rows(settings.max_seq_len, pretrained)
    print_summary(prepared, tasks)
    print(f"prepared with vocabulary {prepared.vocabulary_sha256[:12]} -> {folder}/")
    words = ("--task_file", settings.task_file, "--data_dir", folder, "--encoder", encoder)
    words += ("--network", network) if network == "generator" else ()
    print(f"next: {command_line('finetune_SE', *words)}")
    return 0


def prepare_data(
    settings: TaskDataArguments,
    tasks: TaskFile,
    pretrained: Pretrained,
    folder: Path,
    check: Callable[[Prepared], None],
) -> Prepared:
    """Make what is not there yet of the tasks' rows in `folder`, if they pass the check."""
    check_encoder(settings.max_seq_len, tasks, pretrained)
    return prepare_tasks(
        tasks,
        settings.data_dir,
        folder=folder,
        vocabulary=pretrained.vocabulary,
        max_seq_len=settings.max_seq_len,
        lowercase=settings.do_lower_case,
        workers=settings.workers,
        check=check,
    )


def print_summary(prepared: Prepared, tasks: TaskFile) -> None:
    """Print what was prepared, and on the other stream what may be wrong with it."""
    for line in summary_lines(prepared, tasks.tasks):
        print(line)
    say_notes(*notes(prepared, tasks.tasks))


def check_encoder(max_seq_len: int, tasks: TaskFile, pretrained: Pretrained) -> None:
    """Refuse rows that the encoder cannot read, and tasks that it cannot learn."""
    longest = pretrained.config.max_position_embeddings
    if max_seq_len > longest:
        raise InputError(
            f"max_seq_len: {max_seq_len} is more than the {longest} positions of {pretrained.source}; "
            "lower it"
        )
    check_pooling(tasks.tasks, pretrained)
    check_token_types(tasks.tasks, pretrained)


def note_longer_rows(max_seq_len: int, pretrained: Pretrained) -> None:
    """Say it where rows are longer than any that the encoder was trained on: it has to learn their ends."""
    if max_seq_len > pretrained.longest:
        say_notes(
            f"max_seq_len: {max_seq_len}, but {pretrained.source} was trained on rows of at most "
            f"{pretrained.longest}; what lies behind is new to it"
        )


# --- fine-tuning ----------------------------------------------------------------------------------------


def finetune(settings: FinetuningArguments) -> int:
    """Fine-tune as `settings` say, once for each seed; returns the exit code of the script.

    What is refused (InputError) leaves no new run behind.
    """
    # Flags that contradict each other first: nothing has been opened or written yet.
    check_start(settings)
    if settings.conclude:
        return conclude_saved(settings)
    tasks, folder = tasks_of(settings), run_folder(settings)  # first: an encoder takes a while to open
    named = settings.load_saved_model or settings.encoder
    begun = begun_encoder(folder, named) if settings.seeds > 1 else None
    encoder = str(begun or named or newest_run())
    opened = open_model(encoder)
    opened.check_tokenizer()
    pretrained = opened.need(settings.network)
    if not settings.resume_train and not settings.from_scratch:
        encoder = str(opened.checkpoint or encoder)  # of a run that is still training, the newest by now
    data, new = data_folder(settings, pretrained), not folder.exists()
    runs = runs_of(settings, tasks, encoder=encoder, data=data, folder=folder)
    refuse_taken(folder, runs, opened=opened, pretrained=pretrained)  # before minutes of preparing rows
    rows = with_rows(settings, tasks, pretrained)
    keys = {task.name: rows.key(task.name) for task in tasks.tasks}
    if not settings.from_scratch:
        note_longer_rows(rows.max_seq_len, pretrained)
    with empty_parents_go(folder / CONFIG):  # `runs/`, which the first run makes
        try:
            if settings.seeds > 1 and not (begun or settings.from_scratch):
                encoder = hold_encoder(opened, folder)
            return finetune_all(folder, [replace(run, encoder=encoder, keys=keys) for run in runs])
        except InputError:
            if new:
                forget_if_empty(folder)
            raise


def finetune_all(folder: Path, runs: list[FinetuningSettings]) -> int:
    """The runs of all seeds, one behind another, what has begun gone on with; returns the exit code."""
    found = []
    for run in runs:
        state = state_of(run.out_dir) if len(runs) > 1 else "new"  # a single run does what its flags say
        if state == "finished":
            code, results = 0, concluded(run)
        else:
            code, results = finetune_once(gone_on_with(run) if state == "resumable" else run)
        if results is None:
            if len(runs) > 1:
                again = f"the same command with --out_dir {quote(str(folder))}"
                print(f"{again} goes on with it, and runs the seeds that are left")
            return code
        found.append(results)
    say_results(folder, [Path(run.out_dir) for run in runs], found)
    return 0


def finetune_once(run: FinetuningSettings) -> tuple[int, dict | None]:
    """One run; returns its exit code, and the results of its best model where it came to its end."""
    # Results are of a run that came to its end; a stopped one is not yet the best that it will have.
    result = run_training(run, Finetuning)
    if result.state != "finished":
        if not result.checkpoint:
            print("stopped before anything was saved; give the same command again")
            return result.exit_code, None
        conclude_it = command_line("finetune_SE", "--load_saved_model", run.out_dir, "--conclude")
        print(f"stopped at step {result.step:,}; go on: {run.resume_command}")
        print(f"or take its best model: {conclude_it}")
        return result.exit_code, None
    return 0, concluded(run)


def concluded(run: FinetuningSettings) -> dict:
    """The results of a run's best model, printed too."""
    results = conclude(run)
    if not run.silent:
        print(table_of(results))
    return results


def conclude_saved(settings: FinetuningArguments) -> int:
    """Give a run that was stopped early what one that came to its end has, from its best checkpoint.

    `settings`: the run's own, but where the user says otherwise. Of a folder of seeds all are concluded.
    """
    tasks, folder, found = tasks_of(settings), Path(settings.load_saved_model), []
    every = runs_in(folder)
    runs = [run for run in every if any(checkpoint.in_run(run))] or every[:1]  # of none is told why
    for run in every:
        if run not in runs:
            say_notes(f"{run}: has no checkpoint yet, and is left out")
    opened = [open_model(str(run)) for run in runs]  # all, before the first is concluded
    for run, model in zip(runs, opened, strict=True):
        data = with_rows(settings, tasks, model.need(settings.network)).folder
        saved = run_settings(settings, tasks, encoder=str(run), data=data, folder=run, seed=settings.seed)
        found.append(concluded(saved))
    say_results(folder, runs, found)
    return 0


def say_results(folder: Path, runs: list[Path], found: list[dict]) -> None:
    """Write and print what all runs came to together, where they are several, and say what is next."""
    if len(found) > 1:
        write_results(folder, over_seeds(found))
        print(table_of(over_seeds(found)))
    print(f"\n{folder}: {RESULTS}, predictions, checkpoints and exported models")
    print(f"next: {command_line('predict_SE', runs[0])}")


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
        raise InputError(
            "--conclude needs --load_saved_model and the folder of a run; leave out --resume_train and "
            "--finetune"
        )
    if settings.conclude and run_of(Path(saved)) != Path(saved):
        raise InputError(
            f"{saved}: --conclude takes the best checkpoint of a run; name {run_of(Path(saved))}, or export "
            "this one with export_SE.py"
        )
    if settings.resume_train and settings.seeds > 1:
        raise InputError(f"--resume_train goes on with one run; name {saved}/seed-... and leave out --seeds")
    if saved and not (settings.resume_train or settings.conclude):
        for name in BEGUN:
            if getattr(settings, name) != getattr(FinetuningArguments(), name):
                raise InputError(f"--{name}: --load_saved_model has an encoder of its own; give one of them")


def run_folder(settings: FinetuningArguments) -> Path:
    """The folder of the run: `out_dir`, a resumed run's own, or one by the time."""
    if settings.out_dir:
        return Path(settings.out_dir)
    if settings.resume_train:
        return run_of(Path(settings.load_saved_model))
    return Path("runs", time.strftime("finetune-%Y-%m-%d-%H-%M-%S"))


def data_folder(settings: FinetuningArguments, pretrained: Pretrained) -> Path:
    """Where the prepared data are, if it is them that --data_dir names, or will be."""
    return Path(settings.data_dir) if is_prepared(settings.data_dir) else prepared_folder(pretrained.name)


def tasks_of(settings: FinetuningArguments) -> TaskFile:
    """The task file, whose files lie in --data_dir, or where those lay that were prepared there.

    What is odd in it is said.
    """
    if not is_prepared(settings.data_dir):
        tasks = load_task_file(settings.task_file, settings.data_dir)
        say_notes(*tasks.notes)
        return tasks
    # Prepared data remember where their files lay, so that --data_dir may name either.
    prepared = open_prepared(settings.data_dir)
    labels = {name: made.labels for name, made in prepared.tasks.items()}
    loaded = load_task_file(settings.task_file, prepared.data_dir, labels)
    say_notes(*loaded.notes)
    # Told by the rows, as the files may be gone; of those that are not there it is refused later.
    paired = {name: made.paired for name, made in prepared.tasks.items()}
    tasks = tuple(replace(task, paired=paired.get(task.name)) for task in loaded.tasks)
    return replace(loaded, tasks=tasks)


def with_rows(settings: FinetuningArguments, tasks: TaskFile, pretrained: Pretrained) -> Prepared:
    """The rows of the tasks, as `rows_of` has them, and said what they are."""
    rows = rows_of(settings, tasks, pretrained, data_folder(settings, pretrained))
    if not settings.silent:
        print_summary(rows, tasks)
    return rows


def rows_of(settings: FinetuningArguments, tasks: TaskFile, pretrained: Pretrained, data: Path) -> Prepared:
    """Prepare what is not prepared; of data that were given prepared, see that they belong together.

    Raises InputError for rows that cannot teach their tasks, or be measured as these want.
    """

    def check(made: Prepared) -> None:
        check_labels_differ(made, tasks.tasks)
        for task in tasks.tasks:
            check_metrics(spec_of(task, made))

    if not is_prepared(settings.data_dir):
        return prepare_data(settings, tasks, pretrained, data, check)
    # Rows of another vocabulary or another length would train without a word, and teach nonsense.
    prepared = open_prepared(data)
    check_vocabulary(prepared, pretrained)
    check_encoder(prepared.max_seq_len, tasks, pretrained)
    check_settings(prepared, tasks.tasks)
    # As defaults are, they say nothing; of flags defaults.py asks before.
    usual = TaskDataArguments()
    given = {name: value for name in OF_ROWS if (value := getattr(settings, name)) != getattr(usual, name)}
    check_made_so(prepared, given)
    open_rows(tasks.tasks, prepared, pretrained.vocabulary, "train")
    for task in tasks.tasks:
        if prepared.key(task.name) is None:
            raise InputError(f"{data}: {task.name} is not whole there; run prepare_tasks_SE.py again")
    check(prepared)
    return prepared


# --- settings in the words of the rooms -----------------------------------------------------------------


def runs_of(
    settings: FinetuningArguments, tasks: TaskFile, *, encoder: str, data: Path, folder: Path
) -> list[FinetuningSettings]:
    """The run of each seed: in `folder`, or in a folder there where they are several."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    folders = [folder / f"seed-{seed}" for seed in seeds] if settings.seeds > 1 else [folder]
    return [
        run_settings(settings, tasks, encoder=encoder, data=data, folder=out_dir, seed=seed)
        for seed, out_dir in zip(seeds, folders, strict=True)
    ]


def run_settings(
    settings: FinetuningArguments, tasks: TaskFile, encoder: str, data: Path, folder: Path, seed: int
) -> FinetuningSettings:
    """The settings of one run as the task room takes them."""
    size, buffer = settings.train_batch_size, settings.shuffle_buffer_size
    return FinetuningSettings(
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
