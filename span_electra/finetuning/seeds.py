"""Runs of one fine-tuning under several seeds: which have begun, and what all of them start from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from span_electra.compose import dump
from span_electra.errors import InputError
from span_electra.finetuning.arguments import FinetuningArguments
from span_electra.finetuning.experiment import encoder_stamp
from span_electra.finetuning.results import check_run
from span_electra.finetuning.settings import FinetuningSettings, gone_on_with
from span_electra.hub.folders import recorded_sha256, weights_sha256
from span_electra.hub.opening import Opened, Pretrained
from span_electra.hub.runs import SEEDS, run_of
from span_electra.progress import say_notes
from span_electra.schema import flatten
from span_electra.storage import CHECKPOINTS, CONFIG, TOKENIZER, link_or_copy, read_object
from span_electra.training import checkpoint
from span_electra.training.run_folder import ENCODER, state_of

LEARNED = ("dropout_prob", "loss_weight", "pooling", "metrics", "tuned_threshold")  # of a task's settings


def refuse_taken(
    folder: Path, runs: list[FinetuningSettings], opened: Opened, pretrained: Pretrained
) -> None:
    """Refuse a folder that holds something else, before anything is prepared or written.

    Of several runs those that have begun may lie there, if they began as they would now.
    """
    if len(runs) == 1:
        return check_run(runs[0])
    # A kill before the first seed began leaves the encoder alone there.
    other = state_of(folder) != "new" and [*folder.glob("*")] != [folder / ENCODER]
    if other and not any(Path(run.out_dir).exists() for run in runs):
        raise InputError(f"{folder}: is not empty; choose another --out_dir for the runs of all seeds")
    begun = [run for run in runs if state_of(run.out_dir) in ("resumable", "finished")]
    start = encoder_stamp(opened, pretrained)["weights"] if begun else None
    for run in begun:
        _check_alike(run, start)
    for run in runs:
        check_run(gone_on_with(run) if run in begun else run)


def _check_alike(run: FinetuningSettings, start: str) -> None:
    """Refuse a run that began with other settings, or from other weights: more than seeds would differ."""
    place = Path(run.out_dir)
    saved = read_object(next(checkpoint.in_run(place), place) / checkpoint.META)
    learned = _learned(asdict(run.order), json.loads(json.dumps([asdict(task) for task in run.tasks])))
    now = flatten(json.loads(run.config_json)) | learned
    # What an earlier state did not record is not held against it: a new setting had its default there.
    told = _learned(saved.get("order", {}), [recipe["task"] for recipe in saved.get("recipes", [])])
    usual = flatten(json.loads(dump(FinetuningArguments())))
    before = usual | flatten(read_object(place / CONFIG)) | learned | told
    for name, value in now.items():
        if before[name] != value:
            differing = f"{place.name} has {name} {before[name]!r}, this command {value!r}"
            raise InputError(
                f"{place.parent}: holds runs of other settings: {differing}; give that, or another --out_dir"
            )
    began = saved.get("encoder_checkpoint", {}).get("weights")
    if began != start and not run.arguments.from_scratch:  # then it has the encoder's sizes alone
        raise InputError(
            f"{place.parent}: holds runs of other weights: {place.name} did not start from those of "
            f"{run.encoder}; name its encoder, or another --out_dir"
        )


def _learned(order: Mapping[str, Any], tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """What a task file says of how its tasks are learned, by its own keys; the rows' keys tell the rest."""
    named = {f"{task['name']}.{key}": task[key] for task in tasks for key in LEARNED if key in task}
    return named | {key: order[key] for key in ("sampling",) if key in order}


# --- what all of them start from ------------------------------------------------------------------------


def begun_encoder(folder: Path, named: str | None) -> str | None:
    """What the seeds in `folder` have started from, if it is what is named: the checkpoint held there.

    Where none is named it may also be what one of them tells: another run may be the newest by now.
    """
    place = Path(named or ".").resolve().parts
    for meta in folder.glob(f"{ENCODER}/*/{CHECKPOINTS}/*/{checkpoint.META}"):
        run = meta.parts[-4]
        if not named:
            return str(meta.parent)
        if place[-1] == run or place[-3:] == (run, CHECKPOINTS, meta.parent.name):
            compare_named(meta.parent, Path(named))
            return str(meta.parent)
    saved = () if named else folder.glob(f"{SEEDS}/{CHECKPOINTS}/*/{checkpoint.META}")
    return next((read_object(meta).get("encoder") for meta in saved), None)


def compare_named(held: Path, named: Path) -> None:
    """Say it where all seeds start from what is held, though the run that is named is elsewhere by now.

    Raises InputError where the checkpoint of its name there has other weights: that run was trained anew.
    """
    run = run_of(named)
    there = run / CHECKPOINTS / held.name
    recorded = read_object(there / checkpoint.META)
    if recorded.get("files") and recorded_sha256(recorded) != weights_sha256(held):
        raise InputError(
            f"{there}: has other weights than the seeds began from, which are kept in {held}; name that, or "
            "another --out_dir"
        )
    newest = next(checkpoint.in_run(run), there)
    if named == run and newest != there:
        say_notes(f"{run}: is at {newest.name} by now; all seeds start from {held}, as the first did")
    elif not recorded:
        say_notes(f"{there}: is no longer there; all seeds start from {held}, as the first did")


def hold_encoder(saved: Path, folder: Path) -> str:
    """Give the checkpoint that all seeds start from a place in their `folder` too, and return that.

    Its run, which may be training still, lets it go meanwhile. Raises InputError where it has gone already.
    """
    checkpoint.read_meta(saved, hashed=False)  # whether it is whole
    run = saved.parent.parent
    # Below the name of its run, by which prepared rows and cards know it.
    held = folder / ENCODER / run.resolve().name / CHECKPOINTS / saved.name
    link_or_copy(run / TOKENIZER, held.parent.parent / TOKENIZER)
    # Not by the names in meta.json, which may come from a stranger; that file last: then it is whole.
    for path in (*saved.glob("*.safetensors"), saved / checkpoint.META):
        link_or_copy(path, held / path.name)
    return str(held)
