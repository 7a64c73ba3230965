"""Three texts to try a model on, of the kind it was trained on, so that nobody has to think of one.

A pretraining run keeps validation sentences in examples.json; a fine-tuned one says where its tasks' files
lie. Where these are gone, words of the vocabulary serve: they are of its language at least.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

from span_electra.errors import InputError
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.readers import Example, read_examples
from span_electra.inference.candidates import Candidates
from span_electra.inference.tasks import TaskPredictor
from span_electra.storage import CONFIG, EXAMPLES, read_json, read_object
from span_electra.text.vocabulary import Vocabulary

COUNT = 3
LONGEST = 240  # characters of an example: it must be read at a glance
WORD = re.compile(r"[^\W\d_]{4,}")  # letters alone, in any script


def for_pretrained(folder: str | Path, vocabulary: Vocabulary) -> list[str]:
    """Return a sentence with a misspelt word, one with a [MASK], and one as the generator wrote it."""
    sentences = validation_sentences(Path(folder)) or [own_words(vocabulary)]
    originals = [original for original, _ in sentences]
    misspelt = next(filter(None, map(with_swapped_letters, originals)), originals[0])
    # Three different sentences where there are as many, so that each shows something else.
    others = [text for text in originals if text is not originals[0]] or originals
    mask = vocabulary.special.mask
    masked = next((text for text in (with_mask(other, mask) for other in others) if text), others[0])
    return [misspelt, masked, sentences[-1][1]]


def validation_sentences(folder: Path) -> list[tuple[str, str]]:
    """Short sentences of a run or of an exported part's run: as they were, as the generator wrote them."""
    for place in (folder, folder.parent):
        try:
            found = read_json(place / EXAMPLES)
            texts = [
                ("".join(entry["original"]).strip(), "".join(entry["written"]).strip()) for entry in found
            ]
        except (TypeError, KeyError):  # none there, or none of ours
            continue
        # U+FFFD is a part of a character, which a sentence that was cut at tokens may begin with.
        short = [pair for pair in texts if 0 < len(pair[0]) <= LONGEST and "\ufffd" not in "".join(pair)]
        if short:
            return short[:COUNT]
    return []


def own_words(vocabulary: Vocabulary) -> tuple[str, str]:
    """Some of the vocabulary's first whole words; merges are learnt commonest first."""
    words = [word for word in Candidates(vocabulary).words if len(word) > 1][:8]
    text = " ".join(words) or vocabulary.special.mask
    return text, text


def with_swapped_letters(text: str) -> str | None:
    """The text with two letters of its longest word exchanged. Example: a function -> a fnuction"""
    words = sorted(WORD.finditer(text), key=lambda word: -len(word[0]))
    for word in words:
        for at in range(word.start() + 2, word.end() - 1):
            if text[at] != text[at - 1]:
                return text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
    return None


def with_mask(text: str, mask: str) -> str | None:
    """The text with a mask in the place of the word nearest its middle."""
    words = sorted(WORD.finditer(text), key=lambda word: abs(word.start() + word.end() - len(text)))
    return f"{text[: words[0].start()]}{mask}{text[words[0].end() :]}" if words else None


# --- fine-tuned models ----------------------------------------------------------------------------------


def for_tasks(folder: str | Path, predictor: TaskPredictor) -> list[str]:
    """Return rows of the tasks' own files as the page takes them, a row a task in turn."""
    texts = [typed_out(spec, rows_of(Path(folder), spec)) for spec in predictor.specs]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*texts))
    # Short ones alone: an example is there to be changed by hand.
    found = [text for text in in_turn if text and len(text) <= LONGEST]
    return list(dict.fromkeys(found))[:COUNT] or [own_words(predictor.vocabulary)[0]]


def rows_of(folder: Path, spec: TaskSpec) -> list[Example]:
    """The first rows of a task's dev or train file, where it can still be read."""
    run = folder if (folder / CONFIG).is_file() else folder.parent.parent  # a checkpoint lies two below
    data_dir = read_object(run / CONFIG).get("data_dir")
    if not isinstance(data_dir, str):
        return []
    for split in ("dev", "train"):
        for name in spec.task.files.get(split, ()):
            # With the model's own labels: the train file that they came from may be gone.
            task = replace(spec.task, labels=spec.labels or None)
            try:
                return list(itertools.islice(read_examples(task, Path(data_dir, name)), COUNT))
            except InputError:
                continue  # the file was moved or changed since; an example less is no harm
    return []


def typed_out(spec: TaskSpec, rows: list[Example]) -> list[str]:
    """Rows as one types them into the page, see analysis.text_for; what is to be answered is left out."""
    if spec.type.has_candidates:  # the replies of all rows are the candidates
        replies = [row.texts[-1] for row in rows]
        return ["\n".join([*row.texts[:-1], "", *replies]) for row in rows]
    if spec.type.is_conversation:
        return ["\n".join(row.texts[:-1] or row.texts) for row in rows]
    return ["\n".join(row.texts) for row in rows]
