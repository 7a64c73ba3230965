"""Which runs there are, which are fine-tuned, what they read text with, and which checkpoint is the best."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from span_electra.errors import InputError
from span_electra.hub.weights import PARTS
from span_electra.progress import say_notes
from span_electra.storage import CHECKPOINTS, TOKENIZER, read_object
from span_electra.text.vocabulary import Vocabulary
from span_electra.training import checkpoint
from span_electra.training.run_folder import last_saved
from span_electra.utf8 import read_text

SEEDS = "seed-*"  # folders of a fine-tuning under several seeds, each a run


def run_of(folder: Path) -> Path:
    """The run that a checkpoint is of; of anything else that itself."""
    return folder.parent.parent if folder.parent.name == CHECKPOINTS else folder


def vocabulary_of_run(run: Path) -> Vocabulary:
    """What a run cuts text into tokens with, those that were added to a vocabulary too."""
    path = run / TOKENIZER
    return Vocabulary.from_json(read_text(path), str(path))


def newest(folders: Iterable[Path]) -> Path | None:
    """The folder that was saved last: the one meaning of "newest". Of exports alone, that changed last."""
    return max(folders, key=lambda folder: (last_saved(folder), folder.stat().st_mtime), default=None)


def newest_run(prefix: str | Path = "runs") -> Path:
    """The newest exported run under `prefix`, which is told. Raises InputError when there is none."""
    # Exported ones alone: a run that is still training has nothing to predict with yet.
    run = newest(path.parent for part in PARTS for path in Path(prefix).glob(f"*/{part}"))
    if run is None:
        raise InputError(f"no model named and none in {prefix}/; name a run or an exported folder")
    say_notes(f"no model named; {run} is taken, the newest")
    return run


def newest_talker(prefix: str | Path = "runs") -> Path:
    """The newest run under `prefix` that has a Conversation task, which is told.

    Raises InputError when there is none.
    """
    folders = [
        path.parent
        for pattern in ("*", f"*/{SEEDS}")
        for path in Path(prefix).glob(f"{pattern}/{CHECKPOINTS}")
    ]
    run = newest(
        folder for folder in folders if any(head.get("kind") == "language" for head in heads_of(folder))
    )
    if run is None:
        raise InputError(
            f"no model named and none in {prefix}/ that talks; fine-tune one on a task of type Conversation"
        )
    say_notes(f"no model named; {run} is taken, the newest that talks")
    return run


def is_finetuned(folder: str | Path) -> bool:
    """Whether a folder is a run of fine-tuning or one of its checkpoints.

    Raises InputError for one that holds a run of each of several seeds.
    """
    folder = Path(folder)
    refuse_seeds(folder)
    return bool(heads_of(folder))


def refuse_seeds(folder: Path) -> None:
    """Raise InputError for a folder that holds a run of each of several seeds, and is none itself."""
    seeds = sorted(path.parent for path in folder.glob(f"{SEEDS}/{CHECKPOINTS}"))
    if seeds and not (folder / CHECKPOINTS).is_dir():
        raise InputError(f"{folder}: holds a run of each seed; name one, such as {seeds[0]}")


def heads_of(folder: Path) -> list[dict[str, Any]]:
    """The heads that a checkpoint, or a run's newest readable one, records; none: it is no fine-tuned one.

    Names alone are looked at: what is damaged is found when the model is opened.
    """
    for saved in [folder] if (folder / checkpoint.META).is_file() else checkpoint.in_run(folder):
        if meta := read_object(saved / checkpoint.META):
            return meta.get("heads", [])
    return []


def best_checkpoint(folder: Path) -> Path:
    """A run's checkpoint with the best score, the newest where none has one."""
    scores: dict[Path, Any] = {}
    newest_meta: dict[str, Any] = {}
    for saved in checkpoint.in_run(folder):
        try:
            meta = checkpoint.read_meta(saved)
        except InputError:
            continue  # broken: passed over as in resuming
        newest_meta = newest_meta or meta  # it says what counts
        scores[saved] = checkpoint.score_of(meta, newest_meta)
    if not scores:
        raise InputError(f"{folder}: holds no whole checkpoint; name a folder that finetune_SE.py made")
    training = newest_meta.get("training", {})
    more = checkpoint.more_is_better(training.get("monitor", ""), training.get("monitor_mode", "auto"))
    return next(iter([*checkpoint.best_first(scores, more), *scores]))
