"""Runs of one fine-tuning under several seeds: where they may lie, and how the rest of them is run."""

from __future__ import annotations

import sys
from pathlib import Path

from span_electra.console import command_line
from span_electra.errors import InputError
from span_electra.finetuning.arguments import FinetuningArguments
from span_electra.finetuning.results import check_run
from span_electra.finetuning.settings import FinetuningSettings
from span_electra.storage import CHECKPOINTS, CONFIG, TOKENIZER, link_or_copy, read_object
from span_electra.training import checkpoint
from span_electra.training.run_folder import ENCODER, state_of


def refuse_taken(settings: FinetuningArguments, folder: Path, runs: list[FinetuningSettings]) -> None:
    """Refuse a folder that holds something else, before anything is prepared or written.

    One that holds some of these runs, after a kill, is told how the rest of them is run.
    """
    if len(runs) > 1 and state_of(folder) != "new":
        states = {run.out_dir: state_of(run.out_dir) for run in runs}
        begun = next((run for run in runs if states[run.out_dir] in ("resumable", "finished")), None)
        if begun is None:
            raise InputError(f"{folder}: is not empty; choose another --out_dir for the runs of all seeds")
        lines = [run.resume_command for run in runs if states[run.out_dir] == "resumable"]
        lines += [new_run_line(settings, begun, run) for run in runs if states[run.out_dir] == "new"]
        listed = "; ".join([*lines, together_line(folder)])
        raise InputError(
            f"{folder}: holds runs of these seeds already; what is left of them, and all together: {listed}; "
            "or choose another --out_dir"
        )
    for run in runs:
        check_run(run)


def rest_lines(settings: FinetuningArguments, runs: list[FinetuningSettings]) -> list[str]:
    """How the seeds after a stopped one, the first of `runs`, are run, and all of them concluded."""
    if settings.seeds == 1:
        return []
    stopped, *others = runs
    lines = [f"and all together: {together_line(Path(stopped.out_dir).parent)}"]
    if others:
        following = new_run_line(settings, stopped, others[0])
        lines.insert(0, f"then the next seed, and so on to {others[-1].training.seed}: {following}")
    return lines


def new_run_line(settings: FinetuningArguments, begun: FinetuningSettings, run: FinetuningSettings) -> str:
    """The command that runs a seed alone, as one that has begun does."""
    # Its file says everything of the others but what a new run alone is given.
    words = ["--config_file", Path(begun.out_dir, CONFIG)]
    # Named or not: by then another run may be the newest, and another checkpoint of it.
    encoder = held_encoder(Path(begun.out_dir).parent) or begun.encoder
    words += ["--load_saved_model" if settings.load_saved_model else "--encoder", encoder]
    words += ["--finetune"] if settings.finetune else []
    words += ["--seed", run.training.seed, "--out_dir", run.out_dir]
    return command_line("finetune_SE", *words)


def together_line(folder: Path) -> str:
    """The command that concludes the runs of all seeds."""
    return command_line("finetune_SE", "--load_saved_model", folder, "--conclude")


# --- what all of them start from ------------------------------------------------------------------------


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


def held_encoder(folder: Path) -> Path | None:
    """The checkpoint that seeds in `folder` start from, where it is held there."""
    held = folder.glob(f"{ENCODER}/*/{CHECKPOINTS}/*/{checkpoint.META}")
    return next((meta.parent for meta in held), None)


def note_other_starts(folder: Path, runs: list[Path]) -> None:
    """Say it where seeds started from different weights: then more than the seed differs between them."""
    metas = [read_object(next(checkpoint.in_run(run), run) / checkpoint.META) for run in runs]
    # From scratch weights are the seed's alone; an older release did not tell what it began with.
    starts = [meta.get("encoder_checkpoint") for meta in metas if not meta.get("from_scratch")]
    if len({start["weights"] for start in starts if start}) > 1:
        print(
            f"note: {folder}: its seeds started from different weights (encoder_checkpoint in their "
            "meta.json), which deviations hold too; name one checkpoint with --encoder for all",
            file=sys.stderr,
        )
