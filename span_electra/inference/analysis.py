"""What the playground shows of a text, as plain JSON values: of a pretrained or a fine-tuned model."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from span_electra.errors import InputError
from span_electra.finetuning.encoding import TaskSpec
from span_electra.inference.detection import token_probabilities
from span_electra.inference.predictor import Predictor
from span_electra.inference.records import corrected_record, pairs, rounded
from span_electra.inference.tasks import TaskPredictor, Text, example_of
from span_electra.text.token_spans import read_lines


def analyze(predictor: Predictor, text: str, threshold: float, top_k: int) -> dict[str, Any]:
    """Return what the page shows of a text, as far as the opened networks can tell.

    `text`: the text in one line; `tokens`: [start, end, probability] in its characters, without masks;
    `blanks`: fillings of each [MASK]; `corrected`: the corrected line; `doubted`: the words at or above the
    threshold with the generator's suggestions.
    """
    text = " ".join(text.splitlines())  # a model reads a line; the page's offsets are of this very text
    networks, found = predictor.networks, {"text": text, "tokens": [], "blanks": [], "doubted": []}
    if networks.discriminator:
        line = read_lines(networks.vocabulary, [text])[0]
        share_T = token_probabilities(networks, [line])[0]
        kept_T = line.ids_T != networks.vocabulary.mask_id  # what is still to be written cannot be wrong
        kept_T &= line.ends_T > line.starts_T  # the blank behind a mask, say, has no characters to show
        columns = (values_T[kept_T].tolist() for values_T in (line.starts_T, line.ends_T, share_T))
        cells = zip(*columns, strict=True)
        found["tokens"] = [[start, end, rounded(share)] for start, end, share in cells]
    if networks.generator:
        blanks = predictor.fill([text], top_k)[0].blanks
        found["blanks"] = [pairs(blank.joint or blank.tokens[0], rounded) for blank in blanks]
    if networks.generator and networks.discriminator:
        found |= corrected_record(predictor.correct([text], threshold, top_k)[0])
    return found


# --- fine-tuned models ----------------------------------------------------------------------------------


def task_answers(predictor: TaskPredictor, text: str) -> dict[str, Any]:
    """Return the answer of every task that can read the text: {"text", "answers": [{"task", "type", ...}]}.

    Lines say what belongs together, see `text_for`. Raises InputError where no task can read them.
    """
    # Nobody says which task is meant: every task that can make sense of the lines answers.
    answers = []
    for number, spec in enumerate(predictor.specs):
        given = text_for(spec, text)
        example = example_of(spec, given, predictor.vocabulary)
        if example is None:
            continue
        [answer] = predictor.answers(number, [example])
        shown = {"task": spec.task.name, "type": spec.task.task_type, "kind": type(answer).__name__.lower()}
        shown |= asdict(answer)
        if shown["kind"] == "ranking":
            shown["candidates"] = given[1]
        answers.append(shown)
    if not answers:
        wanted = "; ".join(f"{spec.task.name}: {layout_of(spec)}" for spec in predictor.specs)
        raise InputError(f"no task can read this text; {wanted}")
    return {"text": text, "answers": answers}


def text_for(spec: TaskSpec, text: str) -> Text | None:
    """What the lines of the page say to a task; None where they say nothing to it.

    Example: "A cat.\\nA dog." is a pair to a task of pairs, two turns to a Conversation, one text to others;
    "Hello.\\n\\nHi!\\nNo." is a turn and two candidates where there are such.
    """
    blocks = [block.splitlines() for block in re.split(r"\n\s*\n", text.strip("\n"))]
    lines = [line for block in blocks for line in block]
    if spec.type.has_candidates:
        return (blocks[0], blocks[1]) if len(blocks) == 2 else None
    if spec.type.is_conversation:
        return lines
    if spec.task.pairs is not False and len(lines) == 2:
        return lines[0], lines[1]
    return None if spec.task.pairs else " ".join(lines)


def layout_of(spec: TaskSpec) -> str:
    """How a text for the task is typed into the page."""
    if spec.type.has_candidates:
        return "turns a line each, an empty line, candidates a line each"
    if spec.type.is_conversation:
        return "turns, a line each"
    return "two lines, one for each text" if spec.task.pairs else "a text"
