"""Trained networks -> numbers without fine-tuning: what evaluate_SE.py does once its flags are read.

The numbers go to a JSON file, section by section, so that a later call adds to what an earlier one found; one
section names the data of each other one. Beside a run's config it is the file whose tables stand in the run's
report.

W words of a set
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from span_electra import progress
from span_electra.console import command_line
from span_electra.data_config import TextConfig
from span_electra.errors import InputError
from span_electra.evaluation.arguments import EvaluationArguments
from span_electra.evaluation.heldout import joint_model, masking_of, score_text
from span_electra.evaluation.metrics import Scores, correction_f1, mean_normalized_edit_distance
from span_electra.evaluation.minimal_pairs import SCORES, Pair, read_pairs, score_pairs
from span_electra.evaluation.spelling import read_pair, score_spelling, sets_below
from span_electra.hub.folders import weights_sha256
from span_electra.hub.networks import Networks, open_networks
from span_electra.hub.runs import newest_run
from span_electra.hub.weights import PARTS
from span_electra.inference.candidates import Candidates
from span_electra.inference.correction import correct
from span_electra.report.scores import Table, tables_of
from span_electra.storage import CHECKPOINTS, CONFIG, EVALUATION, RUN_MARK, read_object, write_text
from span_electra.text.far_files import without_keys
from span_electra.text.vocabulary import Vocabulary

MODEL = "evaluated"  # the section by which a file is known as one of ours
DATA = "evaluated on"  # that which names the data of each other one, and of each row of TASKS
PAIRS, TASKS = "minimal pairs", "tasks"  # the latter of a fine-tuned model
DEV_ROWS = 40  # lines of dev on which a threshold of correction is chosen
# The first, predict_SE.py's own, serves where there is no dev, and where no other does better there.
THRESHOLDS = (0.5, 0.3, 0.1, 0.7)
TOP_K = 5  # candidates tried for a word, as in predict_SE.py


def evaluate(settings: EvaluationArguments) -> Iterator[str]:
    """Score what is asked for, write the JSON and yield what to print, as each part is done.

    Raises InputError when nothing is asked for, a network is needed that the folder lacks, or a file is in
    the way.
    """
    pairs, spelling, text = settings.pairs, settings.spelling, settings.text
    if not pairs and not spelling and not text:
        raise InputError("nothing to evaluate on; give --pairs, --spelling or --text")
    for name in settings.scores:
        if name not in SCORES:
            raise InputError(f"scores: {name!r} is not one of {', '.join(SCORES)}")
    model = Path(settings.model or newest_run())
    target = prepared_target(model, settings.out_file)
    networks = open_networks(model, settings.device, settings.batch_size)
    opened = [network for network in (networks.generator, networks.discriminator) if network]
    digests = [weights_sha256(network.source) for network in opened]
    sections = {MODEL: described(model, networks.vocabulary, digests), DATA: {}}
    jobs: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {}  # on what data, and what gives the numbers
    if pairs:
        read = read_pairs(pairs)
        jobs[PAIRS] = source_of(pairs, read), lambda: pair_scores(networks, read, settings.scores)
    if spelling:
        score = partial(spelling_scores, networks, spelling, settings.correction_rows)
        jobs["spelling"] = str(Path(spelling)), score
    if text:  # by the forward and the masks of training's validation
        # Now: a run that is still training lets the checkpoint go while other parts take their hour.
        joint, masking = joint_model(model, networks), masking_of(model, networks)
        reading = TextConfig.of(settings)
        score = partial(score_text, networks, joint, text, settings.max_seq_len)
        jobs["held-out text"] = without_keys(text), partial(score, masking=masking, reading=reading)
    replaced: list[str] = []
    for name, (source, job) in jobs.items():
        started = time.perf_counter()
        with progress.saying(lambda name=name: f"evaluate: {name}"):
            found = job()
        sections |= found
        sections[DATA] |= dict.fromkeys(found, source)
        replaced += save_sections(target, sections)  # at once: the next part may be refused
        for table in tables_of(found):  # as each part is done: the next may take an hour
            yield table_text(table)
        yield f"{name}: {time.perf_counter() - started:.1f} s\n"
    yield written_line(target, model, replaced)


def source_of(paths: list[str], pairs: list[Pair]) -> str:
    """The files of minimal pairs, and a hash of these: numbers of the same ones are put together."""
    content = repr([replace(pair, place="") for pair in pairs]).encode()
    return f"{' '.join(str(Path(path)) for path in paths)}, {hashlib.sha256(content).hexdigest()[:12]}"


def pair_scores(networks: Networks, pairs: list[Pair], scores: list[str]) -> dict[str, Any]:
    """Minimal pairs under the scores asked for; none asked: those that the opened networks can give."""
    # A generator alone has pseudo-likelihoods, a discriminator alone its own verdict.
    able = [
        name for name in SCORES if (networks.discriminator if name == "discriminator" else networks.generator)
    ]
    return {PAIRS: score_pairs(networks, pairs, scores or able)}


# --- spelling -----------------------------------------------------------------------------------------


def spelling_scores(networks: Networks, folder: str | Path, correction_rows: int) -> dict[str, Any]:
    """Misspelt words and lines found and, where clean text and a generator are at hand, corrected."""
    dev, test = (sets_below(Path(folder, split), labelled=False) for split in ("dev", "test"))
    correctable = test and networks.generator and correction_rows
    # Sets of clean text alone have no labels to find words by.
    labelled = any(sets_below(Path(folder, split), labelled=True) for split in ("dev", "test"))
    found = {"spelling": score_spelling(networks, folder)} if labelled or not correctable else {}
    if correctable:
        found["spelling correction"] = correction_scores(networks, dev, test, correction_rows)
    return found


def correction_scores(
    networks: Networks, dev: dict[str, Path], test: dict[str, Path], rows: int
) -> dict[str, Any]:
    """Correct the first `rows` lines of every test set as predict_SE.py does; the threshold is dev's best."""
    table = Candidates(networks.vocabulary)

    def score(corrupted: list[str], clean: list[str], threshold: float) -> tuple[Scores, float]:
        lines = correct(networks, table, corrupted, threshold=threshold, top_k=TOP_K)
        corrected = [line.corrected for line in lines]
        return correction_f1(corrupted, corrected, clean), mean_normalized_edit_distance(corrected, clean)

    found = {}
    for name, folder in test.items():
        # On a few lines of dev: a threshold picked on the test set would be read off the answers.
        threshold, chosen_on = THRESHOLDS[0], dev.get(name, next(iter(dev.values()), None))
        if chosen_on is not None:
            lines = [texts[: min(rows, DEV_ROWS)] for texts in read_pair(chosen_on)]
            threshold = max(THRESHOLDS, key=lambda cut, lines=lines: score(*lines, cut)[0].f1)
        corrupted, clean = (texts[:rows] for texts in read_pair(folder))
        scores, distance = score(corrupted, clean, threshold)
        found[name] = {
            "correction F1": scores.f1,
            "precision": scores.precision,
            "recall": scores.recall,
            "mean normalised edit distance": distance,
            # A figure above it has made the text worse.
            "distance of leaving all as it is": mean_normalized_edit_distance(corrupted, clean),
            "first lines": len(corrupted),
            "threshold": threshold,
        }
    return found


# --- where it goes ------------------------------------------------------------------------------------


def prepared_target(model: Path, out_file: str | None) -> Path:
    """Where the numbers go: as named, else into a run's or a pair's folder, else here.

    Nothing is made yet, for the command may still be refused. Raises InputError for what is in the way.
    """
    # A single network's folder stays as it was fetched: it may be in a cache of a hub, or read only.
    holds_networks = any((model / part).is_dir() for part in (*PARTS, CHECKPOINTS))
    target = Path(out_file or (model / EVALUATION if holds_networks else EVALUATION))
    # Found out before hours of scoring, not at their end.
    earlier_sections(target)
    place = next(parent for parent in target.parents if os.path.lexists(parent))
    if not place.is_dir():
        raise InputError(f"{place}: is no folder; name another --out_file")
    if not os.access(place, os.W_OK):
        raise InputError(f"{place}: cannot be written; name another --out_file")
    return target


def is_run(model: Path) -> bool:
    """Whether a folder is that of a pretraining, which has a report."""
    config = read_object(model / CONFIG)
    return isinstance(config.get("model"), dict) and (model / RUN_MARK).is_file()


def earlier_sections(target: Path) -> dict[str, Any]:
    """What an earlier call wrote. Raises InputError when something else stands there."""
    if not target.exists():
        return {}
    found = read_object(target)
    if not isinstance(found.get(MODEL), dict):
        raise InputError(f"{target}: stands there and is no evaluation of ours; name another --out_file")
    return found


def save_sections(target: Path, sections: dict[str, Any]) -> list[str]:
    """Write the sections beside those of an earlier call, if they are of the same weights.

    Returns what they replace that is of other weights or other data.
    """
    # Read again: another call may have added to it in the hours since.
    earlier, replaced = earlier_sections(target), []
    # Numbers of other weights under one name would be taken for this model's.
    if earlier and earlier[MODEL].get("weights") != sections[MODEL]["weights"]:
        earlier, replaced = {}, ["what stood there of other weights"]
    merged, before, now = earlier | sections, earlier.get(DATA, {}), sections[DATA]
    merged[DATA] = before | now
    if TASKS in sections:  # of several task files each adds its own
        merged[TASKS] = earlier.get(TASKS, {}) | sections[TASKS]
    if PAIRS in sections and before.get(PAIRS) == now[PAIRS]:  # under other scores
        merged[PAIRS] = joined(earlier[PAIRS], sections[PAIRS])
    there = earlier | earlier.get(TASKS, {})
    for name in [name for name in now if name in there and before.get(name) != now[name]]:
        replaced.append(f"those of {before.get(name, 'data that an earlier version did not name')}")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, json.dumps(merged, indent=1) + "\n")
    return replaced


def joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Two sections that differ in their columns alone, as one.

    Example: {"all": {"pll": 0.6}} and {"all": {"pairs": 9}} -> {"all": {"pll": 0.6, "pairs": 9}}
    """
    deeper = {
        name: joined(before[name], value)
        for name, value in now.items()
        if isinstance(value, dict) and name in before
    }
    return before | now | deeper


def written_line(target: Path, model: Path, replaced: list[str]) -> str:
    """Where the numbers stand, in place of what, and how to see them."""
    gone = f"  (in place of {' and '.join(dict.fromkeys(replaced))})" if replaced else ""
    seen = f"  (to see it: {command_line('report_SE', model)})" if is_run(model) else ""
    return f"{target}{gone}{seen}"


def described(model: str | Path, vocabulary: Vocabulary, digests: list[str], **told: str) -> dict[str, str]:
    """Which model the numbers are of, by the SHA-256 of its weights too; `told`: what else says that."""
    # A folder's name says nothing when it is trained into once more.
    return {
        "model": str(model),
        **told,
        "vocabulary": f"{vocabulary.size:,} tokens, {vocabulary.sha256[:12]}",
        "weights": " and ".join(dict.fromkeys(digest[:12] for digest in digests)),
    }


def table_text(table: Table) -> str:
    """A table for the terminal.

    Example: Table("spelling", ("", "F1"), (("realistic", "0.612"),)) ->
        spelling
                      F1
        realistic  0.612
    """
    lines = [table.columns, *table.rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(table.columns))]
    text = [table.title]
    for first, *rest in lines:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        text.append("  ".join(["  " + first.ljust(widths[0]), *cells]).rstrip())
    if table.left_off:
        text.append(f"  and {table.left_off} more")
    return "\n".join(text) + "\n"
