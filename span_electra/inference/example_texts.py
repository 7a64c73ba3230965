"""Three texts to try a model on, of the kind it was trained on, so that nobody has to think of one.

A pretraining run keeps validation sentences in examples.json; a fine-tuned one says where its tasks' files
lie. Where these are gone, words of the vocabulary serve: they are of its language at least.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from span_electra.errors import InputError
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.readers import Example, read_examples
from span_electra.hub.runs import run_of
from span_electra.inference.candidates import Candidates, of_letters
from span_electra.inference.correction import core_of
from span_electra.inference.tasks import TaskPredictor
from span_electra.storage import CONFIG, EXAMPLES, read_json, read_object
from span_electra.text.letters import is_mark
from span_electra.text.token_spans import read_lines
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import without_blanks

COUNT = 3
LONGEST = 240  # characters of an example: it must be read at a glance
SHORTEST = 4  # letters of a word that is taken, where blanks part words


def for_pretrained(folder: str | Path, vocabulary: Vocabulary) -> list[str]:
    """Return a sentence with a misspelt word, one with a [MASK], and one as the generator wrote it."""
    sentences = validation_sentences(Path(folder)) or [own_words(vocabulary)]
    originals = [original for original, _ in sentences]
    swapped = (with_swapped_letters(vocabulary, text) for text in originals)
    misspelt = next(filter(None, swapped), originals[0])
    # Three different sentences where there are as many, so that each shows something else.
    others = [text for text in originals if text is not originals[0]] or originals
    masked = next(filter(None, (with_mask(vocabulary, other) for other in others)), others[0])
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


def words_in(vocabulary: Vocabulary, text: str) -> list[tuple[int, int]]:
    """Where words of letters are, without the marks round them: of SHORTEST or more, in scripts that write
    no blanks whatever is a token."""
    found = []
    for start, end in read_lines(vocabulary, [text])[0].word_spans:
        first, last = core_of(text[start:end]) or (0, 0)
        word = text[start + first : start + last]
        if of_letters(word) and (without_blanks(word[0]) or len(word) >= SHORTEST):
            found.append((start + first, start + last))
    return found


def with_swapped_letters(vocabulary: Vocabulary, text: str) -> str | None:
    """The text with two letters of its longest word exchanged. Example: a function -> a fnuction"""
    for start, end in sorted(words_in(vocabulary, text), key=lambda word: word[0] - word[1]):
        bare = without_blanks(text[start])  # words of two letters or three
        for at in range(start + (1 if bare else 2), end - (0 if bare else 1)):
            # A mark stays where it is: elsewhere it might be at no letter.
            if text[at] != text[at - 1] and not (is_mark(text[at]) or is_mark(text[at - 1])):
                return text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
    return None


def with_mask(vocabulary: Vocabulary, text: str) -> str | None:
    """The text with a mask in the place of the word nearest its middle."""
    words = sorted(words_in(vocabulary, text), key=lambda word: abs(sum(word) - len(text)))
    return f"{text[: words[0][0]]}{vocabulary.special.mask}{text[words[0][1] :]}" if words else None


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
    data_dir = read_object(run_of(folder) / CONFIG).get("data_dir")
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
