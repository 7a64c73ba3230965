"""What a stage takes when nothing is named: the vocabulary in vocab/, the splits in data/, the features.

Nothing is guessed among several: then the error lists them, and the user names one.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from span_electra.counted import Notes, few
from span_electra.data_config import TextConfig, VocabularyFiles
from span_electra.errors import InputError
from span_electra.storage import TOKENIZER
from span_electra.text.added_tokens import add_tokens
from span_electra.text.dataset import PREFIX, is_dataset
from span_electra.text.inputs import passed_over
from span_electra.text.special_tokens import ROLES
from span_electra.text.vocabulary import Vocabulary, load_vocabulary, vocabulary_files

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "eval": "valid",
    "evaluation": "valid",
    "test": "test",
    "testing": "test",
}
FEATURES_FOLDER = Path("features")
VOCABULARY_FOLDER = Path("vocab")
DATA_FOLDER = Path("data")


@dataclass(frozen=True)
class FoundVocabulary:
    """A vocabulary's type and files."""

    kind: str  # "BPE" or "BERT"
    vocab_file: Path
    merges_file: Path | None


def choose_vocabulary(asked: VocabularyFiles) -> Vocabulary:
    """Open the vocabulary that the user named, or the one in vocab/; a line says what is unusual about it.

    That is a tokenizer brought along, or files of ours, with the words of `add_tokens` as tokens.
    """
    named = {role: getattr(asked, f"{role}_token") for role in ROLES}
    if asked.tokenizer:
        from span_electra.text.own_tokenizer import bring_tokenizer

        if asked.merges_file:
            raise InputError(
                f"merges_file: {asked.tokenizer} brings its own; drop --merges_file or --tokenizer"
            )
        vocabulary = bring_tokenizer(asked.tokenizer, named, asked.vocab_file)
        if asked.tokenizer_type not in (None, vocabulary.kind):
            raise InputError(
                f"tokenizer_type: {asked.tokenizer} is no {asked.tokenizer_type} tokenizer (it is "
                f"{vocabulary.kind}); drop --tokenizer_type"
            )
    elif role := next((role for role in ROLES if named[role]), None):
        raise InputError(
            f"{role}_token: {named[role]!r} is for a --tokenizer, and none is named; name one or drop it"
        )
    else:
        files = find_vocabulary(asked.tokenizer_type, asked.vocab_file, asked.merges_file)
        vocabulary = load_vocabulary(files.kind, files.vocab_file, files.merges_file)
    if asked.add_tokens:
        before, vocabulary = vocabulary.size, add_tokens(vocabulary, asked.add_tokens)
        print(f"{asked.add_tokens}: tokens added: {vocabulary.size - before:,}")
    return vocabulary


def find_vocabulary(
    kind: str | None = None,
    vocab_file: str | Path | None = None,
    merges_file: str | Path | None = None,
) -> FoundVocabulary:
    """Complete what the user named: the type by the file's name, the merges by the vocabulary's.

    vocab_file: a file, or a folder that holds one; None: vocab/.

    Raises InputError if there is none, or more than one to choose from.
    """
    # One in vocab/ is taken; of several none is, since a wrong guess would show only in training.
    if vocab_file is None or Path(vocab_file).is_dir():
        vocab_file = _only_vocabulary(Path(vocab_file or VOCABULARY_FOLDER), kind)
    vocab_file = Path(vocab_file)
    if not vocab_file.exists():
        raise InputError(f"{vocab_file}: No such file or directory; check the path")
    if vocab_file.name == TOKENIZER:
        raise InputError(f"{vocab_file}: is a whole tokenizer; give it with --tokenizer")
    kind = kind or ("BPE" if vocab_file.suffix == ".json" else "BERT")
    if kind == "BPE" and merges_file is None:
        beside = vocab_file.with_name(re.sub(r"vocab\.json$", "merges.txt", vocab_file.name))
        if beside == vocab_file or not beside.is_file():
            raise InputError(f"{vocab_file}: no merges beside it; name them with --merges_file")
        merges_file = beside
    return FoundVocabulary(kind, vocab_file, Path(merges_file) if merges_file else None)


def _only_vocabulary(folder: Path, kind: str | None) -> Path:
    found = []
    for candidate in ("BPE", "BERT"):
        if kind in (None, candidate):
            ending = vocabulary_files(folder, "", candidate)[0].name
            found += sorted(path for path in folder.glob("*" + ending.strip()) if path.is_file())
    if not found:
        wanted = f"{kind} vocabulary" if kind else "vocabulary"
        raise InputError(f"{folder}/: no {wanted} there; run create_vocab_SE.py, or give --vocab_file")
    if len(found) > 1:
        names = ", ".join(repr(path.name) for path in found)
        raise InputError(f"{folder}/: several vocabularies ({names}); name one with --vocab_file")
    return found[0]


def has_text(folder: str | Path) -> bool:
    """Whether a folder is there and holds more than hidden files."""
    folder = Path(folder)
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())


def find_splits(
    folder: str | Path = DATA_FOLDER, text_field: str = "text"
) -> tuple[dict[str, list[Path]], list[str]]:
    """Split -> its text files or folders in `folder`, and notes on what is left out.

    Example: data/train.txt, data/dev.txt.gz, data/notes.txt -> {"train": [...], "valid": [...]}; notes.txt
    belongs to no split and is left out. Without any so named, data/a.txt, data/b.txt -> {"train": [both]}.
    What a walk through the folder would pass over (tables, features, empty files) is no split's.
    Raises InputError if the folder is absent or holds nothing but hidden files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}/: no such folder; run create_vocab_SE.py first, or give --in_file")
    if is_dataset(str(folder)) and not (folder / "dataset_dict.json").exists():  # one split of it
        return {"train": [folder]}, []
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not entries:
        raise InputError(f"{folder}/: empty; put text there, or give --in_file")
    reasons = {path: passed_over(str(path), text_field) for path in entries}
    told = Notes()
    for path, reason in reasons.items():
        if reason:
            told.add(str(path), reason)
    notes = [*told.lines()]
    fit = [path for path in entries if not reasons[path]]
    if not fit:
        return {"train": entries}, notes  # all of it, so that the refusal says why
    splits: dict[str | None, list[Path]] = {}
    for path in fit:
        splits.setdefault(_split_of(path), []).append(path)
    others = splits.pop(None, [])
    if splits and others:
        names = ", ".join(path.name for path in others[:3]) + (", ..." if others[3:] else "")
        notes.append(
            f"{folder}/: {names}: left out, for the names say no split (train, valid, test); rename them, or "
            "name what is to be read with --in_file"
        )
    return splits or {"train": fit}, notes + ([] if splits else _later_words(others))


def plan_features(
    named: list[str], out_file: str | None = None, text_field: str = "text"
) -> tuple[dict[str | Path, list], list[str]]:
    """Feature file -> what it is made of, and notes.

    Texts that are named go into one file: `out_file`, or the place of the split that all their names tell,
    else that of train. Where none is named every split in data/ gets its file, or `out_file` gets the split
    that its name tells, else train.

    Example: ["books/valid.txt"] -> {features/valid.arrow: ["books/valid.txt"]}
    Raises InputError where data/ has no text of the split that `out_file` tells.
    """
    if named:
        found = _named_splits(named, text_field)
        told = {split for _, split in found}
        split = told.pop() if len(told) == 1 else None
        place = out_file or feature_path(split or "train")
        notes = _splits_read_together(found, text_field)
        if _split_of(Path(place)) in ("train", None):  # else the file's name says what the text is for
            fit = [path for path, told in found if not told and not passed_over(str(path), text_field)]
            notes += _later_words(path for path in fit if not str(path).startswith(PREFIX))
        return {place: named}, notes
    splits, notes = find_splits(text_field=text_field)
    if not out_file:
        return {feature_path(name): paths for name, paths in splits.items()}, notes
    split = _split_of(Path(out_file)) or "train"
    if split not in splits:
        raise InputError(
            f"{out_file}: no text in {DATA_FOLDER}/ is of {split} by its name (there is "
            f"{', '.join(sorted(splits))}); name the text with --in_file"
        )
    if others := sorted(splits.keys() - {split}):
        notes.append(
            f"{out_file}: made of {', '.join(map(str, splits[split]))}, and not of {', '.join(others)}; name "
            "what is to be read with --in_file, or drop --out_file to have a file of each"
        )
    return {out_file: splits[split]}, notes


def _named_splits(named: Iterable[str | Path], text_field: str) -> list[tuple[Path, str | None]]:
    """What names stand for, each with its split: that of a folder's own name, else of what is in it."""
    found: list[tuple[Path, str | None]] = []
    for name in map(str, named):
        if name.startswith(PREFIX):  # hf:NAME:config:split
            word = name.rpartition(":")[2] if name.count(":") > 1 else ""
            found.append((Path(name), _split_of(Path(word))))
            continue
        for path in matches(name):
            own, saved = _split_of(path), is_dataset(str(path))  # a saved one is read as a whole
            inside = [entry for entry in sorted(path.glob("[!.]*")) if _split_of(entry) or not own]
            fit = [entry for entry in inside if not passed_over(str(entry), text_field)]
            found += [(path if saved else entry, own or _split_of(entry)) for entry in fit] or [(path, own)]
    return found


def _splits_read_together(found: Iterable[tuple[Path, str | None]], text_field: str) -> list[str]:
    """A note where files and folders are of several splits, which would go into one feature file."""
    several = several_splits(path for path, _ in found if not passed_over(str(path), text_field))
    if not several:
        return []
    return [
        f"{', '.join(map(str, several))}: all splits go into one file, and what is to be held out is "
        "learned from; name one of them. create_feature_SE.py without --in_file makes a file of each in data/"
    ]


def several_splits(paths: Iterable[Path]) -> list[Path]:
    """The first path of each split, by their own names, where these tell more than one; else none."""
    splits: dict[str, Path] = {}
    for path in paths:
        # By its own name: what lies in a folder of one split may tell another.
        if split := _split_of(path):
            splits.setdefault(split, path)
    return [*splits.values()] if len(splits) > 1 else []


def _later_words(paths: Iterable[Path]) -> list[str]:
    """A note where names tell that text is held out in a later word than the first, which alone counts.

    Example: wiki.test.raw and de-dev.txt, but neither latest.txt nor wiki.train.raw
    """
    held = [path for path in paths if {*map(SPLIT_NAMES.get, _words(path)[1:])} & {"valid", "test"}]
    if not held:
        return []
    return [
        f"{few([str(path) for path in held])}: read for training, as only a name's first word tells a split; "
        "rename what is to be held out test..., valid..."
    ]


def matches(name: str) -> list[Path]:
    """What a name stands for: itself, or what it matches as a pattern."""
    # A shell hands over what a pattern matches, which one in a config file does not.
    pattern = glob.has_magic(name) and not os.path.lexists(name)
    return sorted(map(Path, glob.glob(name, recursive=True))) if pattern else [Path(name)]


def _split_of(path: Path) -> str | None:
    # By the first word: train.txt, train-00000-of-00003.parquet, train语料.txt and a folder train/ are of one
    # split, but valência.txt of none.
    return SPLIT_NAMES.get(_words(path)[0])


def _words(path: Path) -> list[str]:
    return [word.lower() for word in re.split(r"[^a-zA-ZÀ-ɏ]", path.name)]


def feature_path(split: str) -> Path:
    """Where the features of a split stand when no place is named."""
    return FEATURES_FOLDER / f"{split}.arrow"


# --- what the next stage must be told -------------------------------------------------------------------


def after_vocabulary(vocab_file: Path, data_dir: str, text: TextConfig) -> list[object]:
    """Flags of create_feature_SE.py for a new vocabulary and its text: those that it would not find bare."""
    words: list[object] = []
    try:
        found = find_vocabulary().vocab_file.resolve()
    except InputError:  # none, or one of several
        found = None
    if found != vocab_file.resolve():
        words += ["--vocab_file", vocab_file]
    if Path(data_dir) != DATA_FOLDER:
        words += ["--in_file", data_dir]
    for entry in fields(text):
        value = getattr(text, entry.name)
        words += [] if value == entry.default else [f"--{entry.name}", value]
    return words


def splits_beside(out_files: Iterable[str | Path]) -> list[Path]:
    """The training and validation features that stand beside new ones, and are not among them."""
    files = {_split_of(Path(path)): Path(path) for path in out_files}
    if None in files:  # of no split: all for training, whatever was made there before
        return []
    folder = next(iter(files.values()))
    beside = (
        folder.with_name(f"{split}{folder.suffix}") for split in ("train", "valid") if split not in files
    )
    return [path for path in beside if path.exists()]


def after_features(
    out_files: Iterable[str | Path], longest: int, most: int, unfit: Container[Path] = ()
) -> list[object] | None:
    """Flags of the trainer for new features, whose splits go by their names; None while training ones lack.

    longest: tokens of a row; `most` is what the trainer's model reads unless told.
    unfit: those beside the new that do not go with them; a bare trainer would take them.
    """
    files = {_split_of(Path(path)): Path(path) for path in out_files}
    beside = splits_beside(out_files)
    files |= {_split_of(path): path for path in beside if path not in unfit}
    train = files.get("train") or files.get(None)
    if train is None:
        return None
    words: list[object] = []
    if train != feature_path("train") or any(path in unfit for path in beside):
        words = ["--train_file", train]
        words += ["--valid_file", files["valid"]] if "valid" in files else []
    return words + (["--max_position_embeddings", longest] if longest > most else [])
