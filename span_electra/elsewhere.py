"""Names that people bring from neighbouring systems, and what does it here.

The tables stand in docs/from-elsewhere.md, which is packaged too: one a system, for people and for the hints
behind unknown flags and keys. Every row is run by tests/test_elsewhere.py. What lines of older argument files
set, which argument.py takes, stands here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
# In an installed package the page lies inside it, in a clone beside it.
PAGES = (HERE / "from-elsewhere.md", HERE.parent / "docs" / "from-elsewhere.md")
DISC, GEN = "model.discriminator", "model.generator"
TUNED = "finetune_SE.py: "  # begins a note on what a setting is called in that script
# How like a name must be to be meant, of 1; their names are many, and one that is far says nothing.
NEAR, NEAR_ELSEWHERE = 0.6, 0.8

# Lines of older argument files: their names, and the fields that each sets. The first two were written once
# for all classes, at the top of the file.
GENERAL_DATA_NAMES = {name: (name,) for name in ("max_seq_len", "mask_ratio", "max_span_len")}
GENERAL_NAMES = {
    "hidden_size": (f"{GEN}.hidden_size", f"{DISC}.hidden_size"),
    "embedding_size": ("model.embedding_size",),
    "vocab_size": ("model.vocab_size",),
    "max_seq_len": ("model.max_position_embeddings",),
}
TRAIN_DATA_NAMES = {"out_dir": ("outer.out_dir",), "occu": ("train_occur",)}
VALID_DATA_NAMES = {"out_dir": ("outer.out_dir",), "occu": ("valid_occur",)}
TRAINING_NAMES = GENERAL_NAMES | {
    "gen_hidden_size": (f"{GEN}.hidden_size",),
    "disc_hidden_size": (f"{DISC}.hidden_size",),
    "max_seq_len": ("train_data.max_seq_len", "model.max_position_embeddings"),
    "mask_ratio": ("train_data.mask_ratio",),
    "max_span_len": ("train_data.max_span_len",),
    "use_SBO": ("model.use_SBGO", "model.use_SBPO"),
    "learningRate": ("optimizer.lr",),
    "generator_weight_path": ("generator_path",),
    "epochs": ("training.epochs",),
    "train_batch_size": ("train_data.train_batch_size",),
    "valid_batch_size": ("valid_data.valid_batch_size",),
    "save_dir": ("out_dir",),
    "device_id": ("training.device_ids",),
    "device_ids": ("training.device_ids",),
    "num_workers": ("workers",),
}


def plain(name: str) -> str:
    """A name without what people write differently: `--learning-rate`, `learningRate` -> learningrate."""
    return name.lstrip("-").replace("-", "").replace("_", "").replace(" ", "").lower()


def rows() -> list[tuple[str, str, str]]:
    """The rows of all tables: theirs, ours, and a note.

    Ours is a setting by its key or the end of it, a command, a path in a run's folder, or nothing where the
    note says all.
    """
    lines = [line for page in PAGES if page.is_file() for line in page.read_text("utf-8").splitlines()]
    cells = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines if line.startswith("| `")]
    return [(theirs.strip("`"), ours.strip("`"), note) for theirs, ours, note in cells]


@cache
def synonyms() -> dict[str, tuple[str, str]]:
    """Their names, plain -> ours, and a note; of a name that several systems have, the first's meaning."""
    return {
        plain(theirs): (ours, note)
        for theirs, ours, note in reversed(rows())
        if theirs.split()[0] not in ("python", "python3", "torchrun")
    }


def find_key(name: str, keys: Iterable[str]) -> str | None:
    """The key of `keys` that is `name` or ends with it, if there is one alone."""
    found = [key for key in keys if key == name or key.endswith(f".{name}")]
    return name if name in found else found[0] if len(found) == 1 else None


def meant(name: str, keys: Iterable[str]) -> tuple[str | None, str]:
    """The key that does here what `name` did elsewhere, or the nearest one, and what to say besides.

    `keys`: all settings of the script, dotted. (None, "") where nothing comes near.
    """
    keys, elsewhere = list(keys), ""
    bare = plain(name.rpartition(".")[2])
    # The whole path first, for a table may know it; then its end, as files of other systems nest otherwise.
    for wanted in (plain(name), bare):
        ours, note = synonyms().get(wanted, ("", ""))
        key = find_key(ours, keys) if ours else None
        if ours and key is None:  # in fine-tuning it may have another name
            key, note, elsewhere = find_key(note.partition(TUNED)[2].split(" ")[0], keys), "", ours
        if key or (note and not ours):
            return key, note
        # The same word, written otherwise: trainBatchSize; and a key that belongs into a section.
        same = [key for key in keys if wanted in (plain(key), plain(key.rpartition(".")[2]))]
        if len(same) == 1:
            return same[0], ""
    if elsewhere:
        return None, f"that is {elsewhere}, which cannot be set here"
    return nearest_key(name, keys)


def nearest_key(name: str, keys: list[str]) -> tuple[str | None, str]:
    """The key whose name, here or elsewhere, comes nearest, and what to say besides; of equals the first."""
    written, bare = name.lstrip("-").replace("-", "_"), plain(name)
    near: list[tuple[float, str, str]] = []
    for key in keys:
        likeness = max(_likeness(other, written) for other in (key, key.rpartition(".")[2]))
        near += [(likeness, key, "")] if likeness >= NEAR else []
    for theirs, (ours, note) in synonyms().items():
        key = find_key(ours, keys) if ours else None
        likeness = _likeness(theirs, bare) if key else 0.0
        near += [(likeness, key, note)] if likeness >= NEAR_ELSEWHERE else []
    _, key, note = max(near, key=lambda found: found[0], default=(0.0, None, ""))
    return key, note


def _likeness(one: str, other: str) -> float:
    """From 0 to 1, the latter of the same."""
    return difflib.SequenceMatcher(None, one, other).ratio()
