"""A run folder, read: what `report.py` shows of it.

config.json      the settings            metrics.jsonl    one line a step told, `split` train or valid
run.json         running, stopped ...    examples.json    sentences judged by the model (examples.py)
statistics.json  the data in numbers     evaluation.json  scores without fine-tuning, any nested JSON
Only the first two are needed; a run that has just begun has little else.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from span_electra.errors import InputError
from span_electra.locks import is_held
from span_electra.storage import (
    CONFIG,
    EVALUATION,
    EXAMPLES,
    METRICS,
    RUN_LOCK,
    RUN_MARK,
    STATISTICS,
    read_json,
    read_object,
)

MOST_LINES = 4000  # of each split; a chart is some 300 points wide, and a long run must not slow the report


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds."""

    name: str
    folder: Path
    state: str  # running, stopped, finished, or unknown
    config: dict[str, Any]
    train: list[dict[str, Any]]  # lines of metrics.jsonl, by step
    valid: list[dict[str, Any]]
    examples: list[dict[str, Any]]
    evaluation: Any
    statistics: dict[str, Any]
    marked_step: int  # what run.json says; a run stopped early may have told nothing

    @property
    def step(self) -> int:
        """The last step told or marked."""
        logged = [int(lines[-1]["step"]) for lines in (self.train, self.valid) if lines]
        return max([self.marked_step, *logged])

    @property
    def last_numbers(self) -> dict[str, float]:
        """What the run's health is told by: the last validation, or training where there is none."""
        # The last line alone: what was wrong at first and is not now would only alarm.
        last = (self.valid or self.train or [{}])[-1]
        return {name: value for name, value in last.items() if is_number(value)}

    @property
    def has_verdicts(self) -> bool:
        """Whether the discriminator has learned: before, what it says would look like a finding."""
        alone = self.config["model"].get("objective") == "generator"
        return not alone and "discriminator_recall" in self.last_numbers

    @property
    def commonest_share(self) -> float | None:
        """What always guessing the commonest token would score; None where the data's numbers do not tell."""
        vocabulary = self.statistics.get("vocabulary")
        share = vocabulary.get("commonest_share") if isinstance(vocabulary, dict) else None
        return share if is_number(share) else None

    def latest(self, name: str, split: str) -> float | None:
        """The last value of a metric in the split; None if it was never told."""
        values = [line[name] for line in getattr(self, split) if is_number(line.get(name))]
        return values[-1] if values else None


def is_number(value: Any) -> bool:
    """Whether a value read from JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder. Raises InputError when it is none of ours."""
    folder = Path(folder)
    config = read_object(folder / CONFIG)
    if not isinstance(config.get("model"), dict):
        raise InputError(f"{folder}: no run of pretraining (no config.json of one); name a run's out_dir")
    # All else may be missing, half-written or of another version: a report shows what there is.
    mark, examples = read_object(folder / RUN_MARK), read_json(folder / EXAMPLES)
    examples = examples if isinstance(examples, list) else []
    train, valid = read_metrics(folder / METRICS)
    return RunRecord(
        name=folder.resolve().name,
        folder=folder,
        state=state_of(mark, folder),
        config=config,
        train=train,
        valid=valid,
        examples=[entry for entry in examples if isinstance(entry, dict)],
        evaluation=read_json(folder / EVALUATION),
        statistics=read_object(folder / STATISTICS),
        marked_step=int(mark["step"]) if is_number(mark.get("step")) else 0,
    )


def state_of(mark: dict[str, Any], folder: Path) -> str:
    """What run.json says; of a run that was killed, and could not say it any more, that it is stopped."""
    state = str(mark.get("state", "unknown"))
    return "stopped" if state == "running" and not is_held(folder / RUN_LOCK) else state


def read_metrics(path: Path) -> tuple[list[dict], list[dict]]:
    """Read metrics.jsonl as (train, valid), by step; evenly thinned to MOST_LINES each, the last one kept.

    A line that cannot be read, as the last one of a killed run may be, is passed over.
    """
    try:
        lines = [line for line in path.read_bytes().split(b"\n") if line]
    except OSError:
        return [], []
    # The last one may be half a line, which must not stand for the newest whole one.
    unsure = [lines.pop()] if lines else []
    # Thinned before they are parsed: a run of days has a million lines, and its report is written every hour.
    raw = {name: thin([line for line in lines if _split_of(line) == name]) for name in ("train", "valid")}
    for line in unsure:
        raw[_split_of(line)].append(line)
    return parse_lines(raw["train"]), parse_lines(raw["valid"])


def _split_of(line: bytes) -> str:
    return "valid" if b'"valid"' in line else "train"


def thin(lines: list) -> list:
    """Example: 10,000 lines -> every third, and the last."""
    every = math.ceil(len(lines) / MOST_LINES) or 1
    return lines[::-1][::every][::-1]  # counted from the end, so that the last one stays


def parse_lines(lines: list[bytes]) -> list[dict]:
    """The JSON objects with a step among some lines, by step."""
    parsed = []
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and is_number(entry.get("step")):
            parsed.append(entry)
    # A run that was resumed from an earlier checkpoint writes some steps again, behind later ones.
    return sorted(parsed, key=lambda entry: entry["step"])
