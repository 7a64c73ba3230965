"""Raw text -> features on the way to training, kept for the next run where that is asked for.

What is kept lies beside the text, in the hidden folder `.<its name>.features/`, under a hash of the
vocabulary and all settings; build_features compares the text's own hash. So another run, whatever its folder,
finds it.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from span_electra.cores import available_cores
from span_electra.data_config import ChunkConfig, MaskingConfig, TextConfig
from span_electra.features.build import build_features
from span_electra.features.header import wanted_features
from span_electra.features.parts import settings_key
from span_electra.features.preview import write_tokens
from span_electra.features.store import Features
from span_electra.pretraining.arguments import PretrainingArguments
from span_electra.pretraining.published import fitting_rows, model_vocabulary
from span_electra.storage import link_or_copy
from span_electra.text.dataset import is_dataset
from span_electra.text.default_files import choose_vocabulary, plan_features
from span_electra.text.inputs import is_url


def build_from_raw(
    settings: PretrainingArguments,
    folder: Path,
    split: str,
    text: str,
    stack: ExitStack,
    *,
    resumed: Path | None = None,
    like: Features | None = None,
) -> str:
    """The features of a split from raw text, made, or found where an earlier run kept them.

    With --save_features they are in the run's `folder` too, with --save_tokenized_text the tokens. Kept
    nowhere, they are gone when `stack` closes. `resumed`: the run that is gone on with. `like`: the features
    whose vocabulary, rows and masks these have, whatever the settings say.
    """
    data = settings.train_data
    if like is not None:
        vocabulary, chunking = like.vocabulary, like.header.chunking
        masking = replace(like.header.masking, format=MaskingConfig.format)  # what is new is of the last one
    else:
        # A model's own comes first: the rows of its table are its vocabulary's.
        vocabulary = model_vocabulary(settings, resumed) or choose_vocabulary(data)
        chunking = fitting_rows(ChunkConfig.of(data), settings, resumed)
        masking = MaskingConfig.of(data)
    wanted = wanted_features(
        vocabulary, chunking, masking, seed=settings.training.seed, reading=TextConfig.of(data)
    )
    keeps = data.save_features or data.save_tokenized_text
    # Features of raw text are as large as the text: they are kept when that is asked for.
    in_run, beside = folder / "features" / f"{split}.arrow", place_beside(text, settings_key(wanted))
    if beside and (beside.exists() or keeps):
        out_file = beside
    elif in_run.exists() or keeps:  # tokens are read back as the features they were written from
        out_file = in_run
    else:
        out_file = Path(stack.enter_context(tempfile.TemporaryDirectory()), in_run.name)
        print(
            f"note: {text}: its features lie where temporary files do, and go when this run ends or breaks "
            "off; --save_features keeps them, finished parts too"
        )
    out_file.parent.mkdir(parents=True, exist_ok=True)
    for note in plan_features([text], str(out_file), data.text_field)[1]:
        print(f"note: {note}")
    build_features(
        [text],
        vocabulary,
        out_file,
        wanted,
        workers=available_cores(),
        shown=None if out_file in (in_run, beside) else "used by this run alone (--save_features keeps them)",
    )
    if data.save_features and out_file != in_run:
        link_or_copy(out_file, in_run)
    if data.save_tokenized_text:
        keep_tokens(out_file, folder / "tokenized" / f"{split}.txt")
    return str(in_run if data.save_features else out_file)


def place_beside(text: str, key: str) -> Path | None:
    """Where features of a text are kept for all runs; None where nothing may be written beside it."""
    if is_url(text) or is_dataset(text):
        return None
    path = Path(text).resolve()
    # Hidden: whoever reads the folder of texts, we among them, passes over it.
    folder = path.parent / f".{path.name}.features"
    if not os.access(folder if folder.is_dir() else path.parent, os.W_OK):
        return None
    return folder / f"{key[:16]}.arrow"


def keep_tokens(features: Path, target: Path) -> None:
    """Put the tokens of features into the run's folder; those that are kept beside the text are taken."""
    kept = features.with_suffix(".txt")
    # Older ones are of the features that stood there before, which a run that keeps no tokens replaced.
    if not kept.exists() or kept.stat().st_mtime_ns < features.stat().st_mtime_ns:
        write_tokens(features, kept)
    else:
        print(f"{kept}: the tokenized text, made already")
    link_or_copy(kept, target)
