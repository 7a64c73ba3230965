"""The pretraining stage as a whole: what its script does once the flags are read.

It finds or makes the features, chooses the run folder, trains, exports both networks and says where things
are.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from span_electra.compose import dump
from span_electra.console import command_line
from span_electra.cores import is_leading, under_torchrun
from span_electra.counted import counted, few
from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.pretraining.arguments import PretrainingArguments
from span_electra.pretraining.published import like_published
from span_electra.pretraining.settings import PretrainingSettings
from span_electra.storage import CHECKPOINTS, CONFIG, EXPORTED, empty_parents_go, read_object
from span_electra.text.default_files import feature_path, matches, several_splits

if TYPE_CHECKING:
    from span_electra.hub.model_card import CardFacts
    from span_electra.training.run import RunResult

FEW_STEPS = 300  # a run of fewer has hardly begun: preset tiny leaves the plateau of frequencies about there

# --- which run ------------------------------------------------------------------------------------------


def resumed_run(resume: str | None, checkpoint_path: str | None, output_prefix: str) -> Path | None:
    """The run folder that --resume or --checkpoint_path means, or None."""
    if resume and checkpoint_path:
        raise InputError("--resume and --checkpoint_path: give one of them")
    if resume == "latest":
        return latest_run(Path(output_prefix))
    named = checkpoint_path or resume
    if not named:
        return None
    from span_electra.hub.runs import run_of
    from span_electra.training.checkpoint import refuse_others

    refuse_others(Path(named))
    return run_of(Path(named)) if checkpoint_path else Path(named)


def latest_run(prefix: Path) -> Path:
    """The run of pretraining under `prefix` that was saved last."""
    from span_electra.hub.runs import newest

    # Fine-tuned ones lie there too, and settings of theirs have no networks' sizes.
    files = (path for path in prefix.glob(f"*/{CONFIG}") if isinstance(read_object(path).get("model"), dict))
    run = newest(path.parent for path in files if path.with_name(CHECKPOINTS).is_dir())
    if run is None:
        raise InputError(
            f"--resume latest: no run of pretraining with a checkpoint under {prefix}/; name the folder"
        )
    return run


# --- the stage ----------------------------------------------------------------------------------------


def pretrain(settings: PretrainingArguments, named: Iterable[str] = ()) -> int:
    """Train as `settings` say and export the networks; returns the exit code of the script.

    `named`: the settings, by dotted paths, that flags give.
    """
    from span_electra.hub.export import check_places
    from span_electra.pretraining.data import settings_unread
    from span_electra.pretraining.experiment import run_pretraining
    from span_electra.training.run_folder import forget_if_empty

    is_main = is_leading()
    with ExitStack() as stack:
        if not is_main:  # what is said of files and folders all of them know, and one says it
            stack.enter_context(redirect_stdout(StringIO()))
        # First: rows, model and vocabulary all follow from what is gone on from.
        settings = like_published(settings, named)
        resumed = resumed_run(settings.resume, settings.checkpoint_path, settings.output_prefix)
        folder = run_folder(settings, resumed)
        new = not folder.is_dir()
        check_places(folder, settings.model.objective)
        stack.enter_context(empty_parents_go(folder))
        weights = initial_weights(settings, resumed)
        # Some flags are found not to fit only with the data at hand; they should leave no empty run behind.
        try:
            with place_for_text(settings, replace(run_settings(settings, folder, (), ()), **weights)):
                train, valid = feature_files(settings, folder, stack, resumed=resumed)
            run = replace(run_settings(settings, folder, train, valid), **weights, live_report=True)
            if is_main:
                for said in settings_unread(settings.train_data, train):
                    warnings.warn(said, stacklevel=2)
            result = run_pretraining(run)
        except (InputError, OSError, KeyboardInterrupt):
            if new and is_main:  # another process would find half of it gone
                forget_if_empty(folder)
            raise
        if not is_main:
            return result.exit_code
        # Not of a run that was stopped: whoever wants its networks as they are has export_SE.py.
        if result.state == "finished":
            export(result.checkpoint, folder)
    print(epilogue(folder, result, from_nothing=not run.init_from))
    return result.exit_code


def run_folder(settings: PretrainingArguments, resumed: Path | None) -> Path:
    """The folder of this run: `out_dir`, the `resumed` run's, or <output_prefix>/<experiment_name>."""
    if settings.out_dir:  # named for a resumed run: another folder, which leaves the old run as it was
        return Path(settings.out_dir)
    if resumed is not None:
        return resumed
    return Path(settings.output_prefix, settings.experiment_name or time.strftime("%Y-%m-%d-%H-%M-%S"))


def run_settings(
    settings: PretrainingArguments, folder: Path, train: tuple[str, ...], valid: tuple[str, ...]
) -> PretrainingSettings:
    """The settings of the run, as `run_pretraining` takes them."""
    data, held_out = settings.train_data, settings.valid_data
    loader = replace(
        LoaderConfig.of(data),
        batch_size=data.train_batch_size,
        seed=settings.training.seed,
        workers=settings.workers,
    )
    return PretrainingSettings(
        model=settings.model,
        optimizer=settings.optimizer,
        training=settings.training,
        train_loader=loader,
        # Held-out rows are masked alike, and as they were written, in every validation, or their curve would
        # be noise.
        valid_loader=replace(
            loader,
            batch_size=held_out.valid_batch_size,
            masking="static",
            masking_schedule=[],
            spelling_noise=0.0,
            paired_rows=0.0,
        ),
        train_features=train,
        out_dir=str(folder),
        valid_features=valid,
        train_rows=tuple(data.train_occur),
        valid_rows=tuple(held_out.valid_occur),
        valid_split=tuple(held_out.valid_split),
        initial_optimizer=settings.initial_optimizer,
        config_json=described(settings, train, valid),
    )


def described(settings: PretrainingArguments, train: tuple[str, ...], valid: tuple[str, ...]) -> str:
    """The settings as the run keeps them in config.json, with the features that were found by default.

    A file that lies there when the run is gone on with, and did not when it began, is then none of its own.
    """
    data, held_out = settings.train_data, settings.valid_data
    if not data.train_file and not data.raw_text_dir:
        data = replace(data, train_file=list(train))
    if not held_out.raw_text_dir:
        held_out = replace(held_out, valid_file=list(valid))
    kept = replace(settings, train_data=data, valid_data=held_out)
    return dump(replace(kept, resume=None, checkpoint_path=None, out_dir=None))


# --- data ---------------------------------------------------------------------------------------------


@contextmanager
def place_for_text(settings: PretrainingArguments, run: PretrainingSettings) -> Iterator[None]:
    """Hold the run's folder while raw text becomes features, which may be put there.

    Raises InputError where the run may not have it, before the work and not after it, and where several
    processes would all do it, in one place.
    """
    from span_electra.training.run import check_place
    from span_electra.training.run_folder import locked

    text = settings.train_data.raw_text_dir or settings.valid_data.raw_text_dir
    if not text:
        yield
        return
    if under_torchrun() and os.environ["WORLD_SIZE"] != "1":
        raise InputError(f"{text}: raw text under torchrun; run create_feature_SE.py first")
    check_place(run)
    with locked(Path(run.out_dir)):
        yield


def feature_files(
    settings: PretrainingArguments, folder: Path, stack: ExitStack, *, resumed: Path | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The training and validation features: named, built from raw text, or where the stage before left them.

    Raises InputError naming the command that makes them when there are none.
    """
    from span_electra.features.store import open_features
    from span_electra.pretraining.raw_text import build_from_raw

    data, held_out = settings.train_data, settings.valid_data
    train, valid = tuple(data.train_file), tuple(held_out.valid_file)
    held_out_text = None if valid else held_out.raw_text_dir
    if not train and data.raw_text_dir:
        train = (build_from_raw(settings, folder, "train", data.raw_text_dir, stack, resumed=resumed),)
    if not train:
        if not feature_path("train").exists():
            raise InputError(
                f"{feature_path('train')}: not there; run create_feature_SE.py, or give --train_file"
            )
        train = (str(feature_path("train")),)
        # Only beside features found there too: a named training file has nothing to do with that folder.
        if not (valid or held_out_text) and feature_path("valid").exists():
            valid = (str(feature_path("valid")),)
    elif not (valid or held_out_text or resumed) and (beside := valid_beside(data.train_file)):
        print(f"note: {beside}: left out, as --train_file is named; --valid_file {quote(beside)} takes it")
    if held_out_text:  # as the training rows are: their numbers are of the model that learns from these
        like = open_features(list(train), verify=False)
        valid = (build_from_raw(settings, folder, "valid", held_out_text, stack, like=like),)
    tell_of_named(train, valid)
    return train, valid


def tell_of_named(train: tuple[str, ...], valid: tuple[str, ...]) -> None:
    """Say where training features are of several splits, and where a file is named twice."""
    from span_electra.features.store import find_files

    if several := several_splits(path for name in train for path in matches(name)):
        print(
            f"note: {', '.join(map(str, several))}: features of several splits are all learned from, and "
            "what is to be held out with them; name those of one with --train_file"
        )
    for again in (find_files(names)[1] for names in (train, valid) if names):
        if again:
            print(f"note: {few([str(file) for file in again])}: named twice, read once")


def valid_beside(train: list[str]) -> str | None:
    """The validation features beside named training ones, where both have the names that they are made by.

    Not where they are among the named: as they are, as a pattern's, or by their shards.
    """
    named = [path for name in train for path in matches(name)]
    among = {place for path in named for place in (path.resolve(), *path.resolve().parents)}
    for path in named:
        beside = path.with_name(feature_path("valid").name)
        if path.name == feature_path("train").name and beside.exists() and beside.resolve() not in among:
            return str(beside)
    return None


# --- weights in and out --------------------------------------------------------------------------------


def initial_weights(settings: PretrainingArguments, resumed: Path | None) -> dict[str, str | None]:
    """Where the first weights stand: --generator_path gives the generator alone, --init_from all it holds.

    Those of a run that is gone on with: its checkpoint that is named, or the run, whose latest is meant.
    """
    if settings.generator_path and settings.init_from:
        raise InputError("--init_from and --generator_path: give one of them")
    path = settings.generator_path or settings.init_from
    if settings.model.objective == "discriminator" and not path and not resumed:
        raise InputError("objective discriminator: needs a trained generator; give --generator_path")
    return {
        "resume_from": settings.checkpoint_path or (resumed and str(resumed)),
        "init_from": path,
        "init_only": "generator" if settings.generator_path else None,
    }


def export(checkpoint_folder: str | Path, folder: Path, facts: CardFacts | None = None) -> list[Path]:
    """Write generator/ and discriminator/ into `folder` from a checkpoint, or a run's newest.

    `facts`: what their cards tell besides what checkpoint and run tell of themselves.
    """
    from span_electra.hub.export import export_run
    from span_electra.hub.model_card import CardFacts, checkpoint_facts, model_name
    from span_electra.hub.opening import load_model
    from span_electra.hub.runs import run_of, vocabulary_of_run
    from span_electra.training import checkpoint

    place = Path(checkpoint_folder)
    if (place / CHECKPOINTS).is_dir():  # a run
        place = checkpoint.latest(place, hashed=False) or place
    checkpoint.refuse_others(place)
    model, run = load_model(place), run_of(place)
    facts, started = facts or CardFacts(), read_object(run / CONFIG).get("init_from")
    facts = replace(facts, started_from=model_name(started))
    meta = checkpoint.read_meta(place, hashed=False)  # `load_model` has hashed the files
    return export_run(model, vocabulary_of_run(run), folder, checkpoint_facts(meta, facts), meta)


# --- what to do next ----------------------------------------------------------------------------------


def epilogue(folder: Path, result: RunResult, from_nothing: bool) -> str:
    """Where everything is, how good it is, and what to do next."""
    if result.state != "finished":
        if not result.checkpoint:
            return "stopped before anything was saved; give the same command again"
        resume = command_line("joint_train_span_electra", "--resume", folder)
        words = ("--checkpoint_path", result.checkpoint, "--out_dir", folder / EXPORTED)
        networks = f"its networks as they are: {command_line('export_SE', *words)}"
        return f"stopped at step {result.step:,}; go on: {resume}\n{networks}"
    shown = {
        "generator accuracy": "generator_accuracy",
        "discriminator F1": "discriminator_f1",
        "replaced share": "replaced_share",
    }
    numbers = ", ".join(
        f"{name} {result.metrics[key]:.3f}" for name, key in shown.items() if key in result.metrics
    )
    few = ""
    if from_nothing and result.step < FEW_STEPS:  # the default epochs of a little text, say
        few = "  few steps to learn from nothing: --max_minutes 10 --by_clock makes as many epochs as fit\n"
    return (
        f"\ntrained {counted(result.step, 'step')}; on held-out rows: {numbers or 'not tried'}\n{few}"
        f"{network_lines(folder)}"
        f"  {folder}/report.html     curves, and sentences as the networks see them\n"
        f"  {folder}/metrics.jsonl, tensorboard --logdir {quote(str(folder))}, {folder}/checkpoints\n"
        f"next: {prediction_command(folder)}"
    )


def network_lines(folder: Path) -> str:
    """What the exported networks are for, a line each."""
    there = [part for part in ("discriminator", "generator") if (folder / part).is_dir()]
    # A generator that was trained alone is the encoder, too.
    lines = [
        f'{part:<16}the encoder to fine-tune:  AutoModel.from_pretrained("{folder}/{part}")'
        for part in there[:1]
    ]
    if "generator" in there:
        lines.append(f'generator       fills gaps:  pipeline("fill-mask", model="{folder}/generator")')
    return "".join(f"  {folder}/{line}\n" for line in lines)


def prediction_command(folder: Path) -> str:
    """The command that has a pretrained model read lines."""
    task = "fill" if (folder / "generator").is_dir() else "detect"
    return command_line("predict_SE", folder, "--task", task)
