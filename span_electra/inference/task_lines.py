"""Lines in, a fine-tuned model's answers out, one line for each and in their order.

A line is a text. For tasks of pairs a TAB stands between the two; conversations are JSON, see `text_of_line`.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from span_electra.counted import counted
from span_electra.errors import InputError
from span_electra.finetuning.decoding import OUTSIDE
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.readers import Example
from span_electra.finetuning.task_types import MISSPELT
from span_electra.inference import lines
from span_electra.inference.records import marked, one_line, written
from span_electra.inference.tasks import (
    Answer,
    Label,
    Labels,
    Number,
    Ranking,
    Reply,
    TaskPredictor,
    Text,
    Words,
    example_of,
)
from span_electra.progress import say_notes


def predict_lines(
    predictor: TaskPredictor,
    names: Sequence[str],
    *,
    in_file: str | None = None,
    out_file: str | None = None,
    output: str = "auto",
) -> None:
    """Answer every line of the file, or of standard input, there or on standard output.

    names: the tasks; none: of each line all that can read it. Raises InputError for an unknown task, for a
    line that a named task, or none at all, can read, and for files as `lines.predict` does.
    """
    asked = predictor.numbers_of(names)
    if out_file and out_file.endswith(".npy"):
        raise InputError(f"--out_file {out_file}: answers are lines; name a .jsonl or .txt file")
    cut = CutLines()
    as_text = output == "text" or (output == "auto" and not out_file and sys.stdout.isatty())
    reads = reads_of([predictor.specs[number] for number in asked])
    hint = "a pair with a TAB between, or a text" if reads.pairs else "a text"
    lines.check_file(
        in_file,
        lambda texts, first: _examples_of_lines(predictor, names, texts, range(first, first + len(texts))),
        reads,
    )
    answer = line_function(predictor, names, as_text, cut)
    lines.deliver(answer, in_file=in_file, out_file=out_file, hint=hint, reads=reads)
    if cut.count:
        say_notes(cut.said(predictor))


def reads_of(specs: Sequence[TaskSpec]) -> lines.Reads:
    """What some of the tasks read besides texts, as `text_of_line` does."""
    return lines.Reads(
        pairs=any(spec.type.takes_pairs and spec.task.pairs is not False for spec in specs),
        lists=any(spec.type.is_conversation or spec.type.by_word for spec in specs),
        candidates=any(spec.type.has_candidates for spec in specs),
    )


@dataclass
class CutLines:
    """Which lines were longer than a row of some task that answered them."""

    count: int = 0
    first: int = 0  # its number
    tasks: set[str] = field(default_factory=set)

    def add(self, number: int, answers: dict[str, Answer]) -> None:
        """Look at the answers to a line. Those by words have read all of it."""
        cut = {name for name, answer in answers.items() if not isinstance(answer, Words) and answer.cut}
        if cut:
            self.first = self.first or number
            self.count += 1
            self.tasks |= cut

    def said(self, predictor: TaskPredictor) -> str:
        """Example: 3 lines were longer than 128 tokens and lost their end (first: line 7)"""
        specs = [spec for spec in predictor.specs if spec.task.name in self.tasks]
        longest = min(map(predictor.longest_row, specs))
        # Of a conversation the newest stays.
        ends = {"beginning" if spec.type.in_turns else "end" for spec in specs}
        lost = f"{'its' if self.count == 1 else 'their'} {' or '.join(sorted(ends))}"
        lines = counted(self.count, "line was", "lines were")
        return f"{lines} longer than {longest} tokens and lost {lost} (first: line {self.first})"


def line_function(
    predictor: TaskPredictor, names: Sequence[str], as_text: bool, cut: CutLines | None = None
) -> lines.LineFunction:
    """Return what turns lines into the lines to write, one for each; it counts the lines it has had.

    cut: is given each line's answers.
    """
    # Over all blocks: an error names the line of the file, not of the block.
    every_number = itertools.count(1)

    def answer(lines: list[str]) -> list[str]:
        numbers = list(itertools.islice(every_number, len(lines)))
        answers = answers_of_lines(predictor, names, lines, numbers)
        for number, found in zip(numbers, answers, strict=True):
            if cut is not None:
                cut.add(number, found)
        if as_text:
            with_names = len(predictor.specs) > 1 and len(names) != 1
            spelling = {spec.task.name for spec in predictor.specs if spec.type.head == "replaced"}
            return [shown(found, with_names, spelling) for found in answers]
        return [record(line, found) for line, found in zip(lines, answers, strict=True)]

    return answer


def answers_of_lines(
    predictor: TaskPredictor, names: Sequence[str], lines: list[str], numbers: Sequence[int]
) -> list[dict[str, Answer]]:
    """Return the answers to each line, by task; `numbers` are the lines' in errors."""
    found: list[dict[str, Answer]] = [{} for _ in lines]
    for task, examples in _examples_of_lines(predictor, names, lines, numbers).items():
        # Some lines of a file may be pairs and some not: each task answers those it can read, in one batch.
        able = [place for place, example in enumerate(examples) if example is not None]
        answers = predictor.answers(task, [examples[place] for place in able])
        for place, answer in zip(able, answers, strict=True):
            found[place][predictor.specs[task].task.name] = answer
    return found


def _examples_of_lines(
    predictor: TaskPredictor, names: Sequence[str], lines: list[str], numbers: Sequence[int]
) -> dict[int, list[Example | None]]:
    """What each line says to each task, by the task's number; None where the task cannot read it."""
    found, asked = {}, predictor.numbers_of(names)
    for task in asked:
        spec = predictor.specs[task]
        examples = [example_of(spec, text_of_line(spec, line), predictor.vocabulary) for line in lines]
        if names and None in examples:
            raise InputError(f"line {numbers[examples.index(None)]}: {predictor.wants(task)}")
        found[task] = examples
    # A line that no task can read is an error: an answer must stand for each line, in its order.
    for number, examples in zip(numbers, zip(*found.values(), strict=True), strict=True):
        if not any(examples):
            raise InputError(f"line {number}: {'; '.join(predictor.wants(task) for task in asked)}")
    return found


def text_of_line(spec: TaskSpec, line: str) -> Text | None:
    """What a line says to a task; None where it cannot be said in a line like this.

    Example: "A cat.\\tA dog." -> ("A cat.", "A dog.") for a task of pairs; '["Hello.", "Hi!"]' -> two turns
    for a Conversation, two words for a task by words; '{"turns": ["Hello."], "candidates": ["Hi!", "No."]}'
    where there are candidates. An empty line is an empty text, pair, or conversation.
    """
    blank = not line.strip()
    if spec.type.has_candidates:
        value = {"turns": [], "candidates": []} if blank else _json(line)
        known = isinstance(value, dict) and set(value) == {"turns", "candidates"}
        return (value["turns"], value["candidates"]) if known else None
    if spec.type.is_conversation and blank:
        return []
    if spec.type.is_conversation or spec.type.by_word:
        # A turn or a word may begin with a bracket; only a list of texts is several.
        value = _json(line)
        listed = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return value if listed else line if spec.type.by_word else [line]
    if spec.task.pairs is not False and line.count("\t") == 1:
        first, second = line.split("\t")
        return first, second
    if spec.task.pairs:
        return ("", "") if blank else None
    return line


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


# --- answers as lines -----------------------------------------------------------------------------------


def record(line: str, answers: dict[str, Answer]) -> str:
    """A line of JSON: {"text": the line, "answers": {task: its record}}."""
    found = _plain({name: asdict(answer) for name, answer in answers.items()})
    return json.dumps({"text": line, "answers": found}, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return written(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def shown(answers: dict[str, Answer], with_names: bool, spelling: Collection[str] = ()) -> str:
    """The answers for the eye, in one line; `spelling`: the tasks whose label 1 says that a word is misspelt.

    Example: "sentiment: 1 97.0%   ner: My name is Ann{B-PER}   typos: teh{.97} cat"
    """
    found = {name: _shown(answer, name in spelling) for name, answer in answers.items()}
    return one_line("   ".join(f"{name}: {text}" if with_names else text for name, text in found.items()))


def _shown(answer: Answer, spelling: bool) -> str:
    match answer:
        case Label(label, share):
            return f"{label} {share:.1%}"
        case Labels(labels, shares):
            return ", ".join(f"{label} {shares[label]:.1%}" for label in labels) or "none"
        case Number(value):
            return f"{value:.4g}"
        case Ranking(scores):
            return f"{1 + scores.index(max(scores))} of {len(scores)}" if scores else "no candidates"
        case Reply(text):
            return text
    words = zip(answer.words, answer.labels, answer.probability, strict=True)
    return " ".join(_marked(*word, spelling) for word in words)


def _marked(word: str, label: str, share: float, spelling: bool) -> str:
    """A word with what is remarkable about it: its tag, or the probability of being misspelt where it is."""
    # By the task, not by the label: tags may be called 0 and 1 too.
    if spelling:
        return marked(word, share) if label == MISSPELT[1] else word
    return word if label == OUTSIDE else f"{word}{{{label}}}"
