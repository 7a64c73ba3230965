"""Runs of one fine-tuning under several seeds: which have begun, and what all of them start from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
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
from span_electra.hub.opening import Opened, Pretrained, open_model
from span_electra.hub.runs import SEEDS, run_of
from span_electra.hub.weights import PARTS
from span_electra.progress import say_notes
from span_electra.schema import flatten
from span_electra.storage import CHECKPOINTS, CONFIG, TOKENIZER, atomic_file, link_or_copy, read_object
from span_electra.training import checkpoint
from span_electra.training.run_folder import ENCODER, locked, state_of

LEARNED = ("dropout_prob", "loss_weight", "pooling", "metrics", "tuned_threshold")  # of a task's settings
READ = {".json", ".txt", ".model", ".safetensors", ".bin"}  # of a stock folder: tokenizers, settings, weights


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
    for place in (Path(run.out_dir) for run in runs):
        if place.exists():
            with locked(place):  # another command at work there has an encoder of its own beside it
                pass
    for run in runs:
        check_run(gone_on_with(run) if run in begun else run)


def _check_alike(run: FinetuningSettings, start: str) -> None:
    """Refuse a run that began with other settings, or from other weights: more than seeds would differ."""
    place = Path(run.out_dir)
    saved = read_object(next(checkpoint.in_run(place), place) / checkpoint.META)
    learned = _learned(asdict(run.order), json.loads(json.dumps([asdict(task) for task in run.tasks])))
    learned["finetune"] = run.arguments.finetune  # in config.json it is behind the run
    now = flatten(json.loads(run.config_json)) | learned
    # What an earlier state did not record is not held against it: a new setting had its default there.
    told = _learned(saved.get("order", {}), [recipe["task"] for recipe in saved.get("recipes", [])])
    told |= {} if saved.get("finetune") is None else {"finetune": saved["finetune"]}
    usual = flatten(json.loads(dump(FinetuningArguments())))
    before = usual | flatten(read_object(place / CONFIG)) | learned | told
    # What is held may be named itself, where what it was held of has become something else.
    held = Path(run.arguments.encoder or "").resolve().is_relative_to((place.parent / ENCODER).resolve())
    for name, value in now.items():
        if before[name] != value and not (held and name == "encoder"):
            differing = f"{place.name} has {name} {before[name]!r}, this command {value!r}"
            raise InputError(
                f"{place.parent}: holds runs of other settings: {differing}; give that, or another --out_dir"
            )
    began = saved.get("encoder_checkpoint", {}).get("weights")
    if began != start and not run.arguments.from_scratch:  # then it has the encoder's sizes alone
        raise InputError(
            f"{place.parent}: holds runs of other weights: {place.name} did not start from those of "
            f"{run.encoder}; choose another --out_dir"
        )


def _learned(order: Mapping[str, Any], tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """What a task file says of how its tasks are learned, by its own keys; the rows' keys tell the rest."""
    named = {f"{task['name']}.{key}": task[key] for task in tasks for key in LEARNED if key in task}
    return named | {key: order[key] for key in ("sampling",) if key in order}


# --- what all of them start from ------------------------------------------------------------------------


def begun_encoder(folder: Path, named: str | None) -> str | None:
    """What the seeds in `folder` have started from, if it is what is named: the encoder held there.

    Where none is named it may also be what one of them tells: another run may be the newest by now.
    """
    place = Path(named or ".").resolve()
    for held in held_in(folder):
        inner = held.relative_to(folder / ENCODER).parts  # run, run/checkpoints/step or run/network
        if not named:
            return str(held)
        if place.name == inner[0] or place.parts[-len(inner) :] == inner:
            compare_named(held, Path(named))
            return str(held)
    saved = () if named else folder.glob(f"{SEEDS}/{CHECKPOINTS}/*/{checkpoint.META}")
    return next((read_object(meta).get("encoder") for meta in saved), None)


def held_in(folder: Path) -> Iterator[Path]:
    """What seeds may start from in their `folder`: checkpoints, exports, and single networks of these."""
    for run in folder.glob(f"{ENCODER}/*"):
        yield from (meta.parent for meta in run.glob(f"{CHECKPOINTS}/*/{checkpoint.META}"))
        networks = [place for place in (run, *(run / part for part in PARTS)) if (place / CONFIG).is_file()]
        yield from dict.fromkeys([run, *networks] if networks else [])


def compare_named(held: Path, named: Path) -> None:
    """Say it where all seeds start from what is held, though what is named is something else by now.

    Raises InputError where the checkpoint of its name there has other weights: that run was trained anew.
    """
    now, start = None, f"all seeds start from {held}, as the first did"
    with suppress(InputError):  # it may be gone
        now = open_model(named)
    if held.parent.name != CHECKPOINTS:
        if now is None:
            say_notes(f"{named}: is no longer there; {start}")
        elif _exported_weights(now) != _exported_weights(open_model(held)):
            say_notes(f"{named}: has other weights by now; {start}")
        return
    run = run_of(named)
    there = run / CHECKPOINTS / held.name
    recorded = read_object(there / checkpoint.META)
    if recorded.get("files") and recorded_sha256(recorded) != weights_sha256(held):
        raise InputError(
            f"{there}: has other weights than the seeds began from, which are kept in {held}; name that, or "
            "another --out_dir"
        )
    # Of a fine-tuned run its best is opened; exports are of the newest.
    newest = (now and now.checkpoint) or next(checkpoint.in_run(run), there)
    if named == run and newest != there:
        say_notes(f"{run}: is at {newest.name} by now; {start}")
    elif not recorded:
        say_notes(f"{there}: is no longer there; {start}")


def _exported_weights(opened: Opened) -> list[str]:
    """The hashes of the networks in stock folders; none of what was opened at a checkpoint."""
    return [weights_sha256(place) for place in opened.folders.values()]


def hold_encoder(opened: Opened, folder: Path) -> str:
    """Give what all seeds start from a place in their `folder` too, and return that.

    Its run, which may be trained on meanwhile, lets it go. Raises InputError where it has gone already.
    """
    if opened.checkpoint is None:
        return _hold_exports(opened, folder / ENCODER)
    saved = opened.checkpoint
    checkpoint.read_meta(saved, hashed=False)  # whether it is whole
    run = saved.parent.parent
    # Below the name of its run, by which prepared rows and cards know it.
    held = folder / ENCODER / run.resolve().name / CHECKPOINTS / saved.name
    link_or_copy(run / TOKENIZER, held.parent.parent / TOKENIZER)
    # Not by the names in meta.json, which may come from a stranger; that file last: then it is whole.
    for path in (*saved.glob("*.safetensors"), saved / checkpoint.META):
        link_or_copy(path, held / path.name)
    return str(held)


def _hold_exports(opened: Opened, folder: Path) -> str:
    """The same of stock folders, of a run's or of one alone."""
    source = opened.source.resolve()
    held = folder / source.name if source.name not in PARTS else folder / source.parent.name / source.name
    files = [path for place in opened.folders.values() for path in place.iterdir() if path.suffix in READ]
    # Last what networks are found by: then they are whole. Of hubs' caches not the links, which lead nowhere.
    for path in sorted(files, key=lambda path: path.name == CONFIG):
        target = held / path.relative_to(opened.source)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A copy, as others' programs write over their files, and a link would change with them.
        with atomic_file(target) as beside:
            shutil.copyfile(path, beside)
    return str(held)
