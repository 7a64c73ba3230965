"""Runs of one fine-tuning under several seeds: where they may lie, and how the rest of them is run."""

from __future__ import annotations

from pathlib import Path

from span_electra.console import command_line
from span_electra.errors import InputError
from span_electra.finetuning.arguments import FinetuningArguments
from span_electra.finetuning.settings import FinetuningRun
from span_electra.storage import CONFIG
from span_electra.training.run import check_place
from span_electra.training.run_folder import state_of


def refuse_taken(folder: Path, runs: list[FinetuningRun]) -> None:
    """Refuse a folder that holds something else, before anything is prepared or written."""
    if len(runs) > 1 and state_of(folder) != "new":
        raise InputError(f"{folder}: is not empty; choose another --out_dir for the runs of all seeds")
    for run in runs:
        check_place(run)


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
