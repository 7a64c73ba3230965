"""A run folder -> report.html: one file that opens from disk, without network, in light and dark.

The trainer has it made at validations and at the end; `report_SE.py` also puts several runs side by side. The
page is page.html (Jinja2, which escapes every value), page.css and page.js.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from span_electra.counted import counted
from span_electra.errors import InputError, reason_of
from span_electra.report.charts import plot_bars, show
from span_electra.report.curves import compared_figures, run_figures, values_of
from span_electra.report.examples import verdicts
from span_electra.report.health import LEAST_TOKENS, health_warnings, judged
from span_electra.report.run_record import RunRecord, is_number, read_run
from span_electra.report.scores import tables_of
from span_electra.schema import flatten
from span_electra.storage import EXAMPLES, REPORT, STATISTICS, write_text

HERE = Path(__file__).parent
# metric, label, unit, what it is
TILES = (
    ("discriminator_f1", "Discriminator F1", "share", "finding replaced tokens"),
    ("generator_accuracy", "Generator accuracy", "share", "masked tokens restored"),
    ("replaced_of_masked", "Replaced", "share", "of the masked tokens"),
    ("loss", "Total loss", "number", "weighted, per token"),
    ("tokens_per_second", "Tokens a second", "number", "in training"),
)


def make_page(run_folders: list[str], out_file: str | None = None) -> Path:
    """One run's page, in its folder unless `out_file` says where, or several runs' page; returns where it is.

    Raises InputError when no folder is named, one is no run of ours or holds a damaged file; OSError when the
    page cannot be written.
    """
    if not run_folders:
        raise InputError("no run named; give a run's folder: python report_SE.py runs/first")
    runs = [read_run(folder) for folder in run_folders]
    if len({run.name for run in runs}) < len(runs):  # of one name in several places
        runs = [replace(run, name=str(run.folder)) for run in runs]
    # Made in full before anything is written: an error must not cost the page that stands there.
    if len(runs) > 1:
        target, page = Path(out_file or "comparison.html"), comparison_page(runs)
    else:
        target, page = Path(out_file or runs[0].folder / REPORT), run_page(runs[0])
    replace_page(target, page)
    return target


def replace_page(target: Path, page: str) -> None:
    """Write the page beside its place and rename it, so that a browser never reads half a page.

    Raises InputError when something that is no report of ours stands there.
    """
    # Known by a line of its head; the folder of a run is a person's, who may have put a page there.
    if target.exists() and b'name="generator" content="SpanELECTRA report"' not in target.read_bytes()[:2000]:
        raise InputError(
            f"{target}: stands there and is no report of ours; move it or name another --out_file"
        )
    # Names of files are bytes to the system, and need not be UTF-8.
    write_text(target, page.encode("utf-8", "backslashreplace").decode())


# --- pages ----------------------------------------------------------------------------------------------


def run_page(run: RunRecord) -> str:
    tokens = tokens_seen(run)
    with reading(run.folder / EXAMPLES):
        examples = examples_of(run)
    with reading(run.folder / STATISTICS):
        data = data_of(run)
    return render(
        title=run.name,
        heading=run.name,
        lead=lead_of(run),
        state=run.state,
        tiles=tiles_of(run),
        warnings=health_warnings(run.last_numbers, run.commonest_share or 0.0, tokens=tokens),
        judged=judged(run.last_numbers),
        early=f"{LEAST_TOKENS:,}" if tokens < LEAST_TOKENS else "",
        charts=run_figures(run),
        examples=examples,
        shown_text=shown_text(run),
        with_verdicts=run.has_verdicts,
        speed=speed_of(run),
        data=data,
        tables=tables_of(run.evaluation),
        settings=settings_of(run),
    )


def comparison_page(runs: list[RunRecord]) -> str:
    return render(
        title=f"{len(runs)} runs",
        heading="Runs side by side",
        lead=f"{len(runs)} runs; validation where there is one, else training",
        state="compared",
        charts=compared_figures(runs),
        compared=compared_of(runs),
        tables=[table for run in runs for table in tables_of(run.evaluation, run.name)],
    )


def render(**parts: Any) -> str:
    """Fill the page's template; every value is escaped but the charts, which `charts.py` made."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    # Escaped by default: text, names and settings come from anywhere, and the page is opened in a browser.
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    # The page may run this very script and nothing else, and may load nothing.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The template is strict, so that a misspelt name is found by the first test; these it asks of all pages.
    empty = dict.fromkeys(("tiles", "examples", "speed", "compared"))
    template = environment.get_template("page.html")
    return template.render(
        **empty | parts, style=Markup(style), script=Markup(script), script_hash=digest, svg=Markup
    )


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Raise InputError naming the file, where something else stands in it than we write."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: damaged, or of another version ({type(error).__name__}: {reason_of(error)}); move it "
            "away, and the page is made without it"
        ) from error


# --- parts of one run -----------------------------------------------------------------------------------


def lead_of(run: RunRecord) -> str:
    """One line under the name: how far, on how much."""
    words = [f"step {run.step:,}"]
    tokens = run.latest("tokens", "train")
    if tokens:
        words.append(f"{show(tokens)} tokens seen")
    epoch = run.latest("epoch", "train")
    if epoch is not None:  # counted from 0
        number = round(epoch) + 1
        words.append(counted(number, "epoch") if run.state == "finished" else f"epoch {number}")
    seconds = training_seconds(run)
    if seconds:
        words.append(f"{duration(seconds)} of training")
    return " · ".join(words)


def tiles_of(run: RunRecord) -> list[dict[str, str]]:
    """The numbers one looks for first; validation's where there is one."""
    tiles = []
    for metric, label, unit, note in TILES:
        value, split = latest_metric(run, metric)
        if value is not None:
            tiles.append({"label": label, "value": show(value, unit), "note": note, "split": split})
    return tiles


def latest_metric(run: RunRecord, metric: str) -> tuple[float | None, str]:
    """The last value of a metric and its split: validation's where there is one."""
    value = run.latest(metric, "valid")
    return (run.latest(metric, "train"), "train") if value is None else (value, "valid")


def tokens_seen(run: RunRecord) -> float:
    """Tokens seen by the last training line; of a run that logged none, as many as would be enough."""
    tokens = run.latest("tokens", "train")
    return LEAST_TOKENS if tokens is None else tokens


def shown_text(run: RunRecord) -> str:
    """Which rows the sentences are of: held out where any are, which the statistics beside them tell."""
    splits = run.statistics.get("splits")
    if isinstance(splits, dict) and "valid" not in splits:
        return "Rows of training, as none are held out, as the model sees them."
    return "Held-out text, as the model sees it."


def examples_of(run: RunRecord) -> list[dict[str, Any]]:
    """Each sentence's tokens with what is counted of them."""
    shown = []
    for example in run.examples:
        tokens = verdicts(example)
        # Counted by the verdicts that are shown, so that numbers and colours cannot contradict each other.
        found = [token["verdict"] for token in tokens]
        masked = [token for token in tokens if token["masked"]]
        shown.append(
            {
                "row": example["row"],
                "tokens": tokens,
                "masked": len(masked),
                "restored": sum(not token["replaced"] for token in masked),
                "hits": found.count("hit"),
                "misses": found.count("miss"),
                "false_alarms": found.count("false-alarm"),
            }
        )
    return shown


def training_seconds(run: RunRecord) -> float:
    """Time from the first token to the last line told, summed from the speeds."""
    seconds, before = 0.0, 0.0
    # From speeds, not from times of day: a run that was stopped over night did not train then.
    for line in run.train:
        speed, tokens = line.get("tokens_per_second"), line.get("tokens")
        if is_number(speed) and is_number(tokens) and speed > 0:
            seconds += max(0.0, tokens - before) / speed
            before = tokens
    return seconds


def duration(seconds: float) -> str:
    """Example: 42 -> 42 s; 312 -> 5 min 12 s; 7500 -> 2 h 5 min"""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600:,} h {seconds % 3600 // 60} min"


def speed_of(run: RunRecord) -> dict[str, Any]:
    """Tokens a second, MFU and the time of each part, as far as the run tells them.

    Read from training's lines: `tokens_per_second`, `mfu` (share of the device's peak), and `time`, a mapping
    of parts (data, generator, ...) to seconds since the line before.
    """
    # The median: the first lines of a run tell of warming up and compiling.
    speeds = sorted(values_of(run.train, "tokens_per_second")[1])
    facts = []
    if speeds:
        facts.append(("Tokens a second, median", show(speeds[len(speeds) // 2])))
        facts.append(("Slowest and fastest told", f"{show(speeds[0])} to {show(speeds[-1])}"))
    mfu = run.latest("mfu", "train")
    if mfu is not None:
        facts.append(("Model FLOPs utilisation", show(mfu, "share")))
    spent: Counter[str] = Counter()
    for line in run.train:
        times = line.get("time")
        for name, seconds in times.items() if isinstance(times, dict) else ():
            if is_number(seconds):
                spent[name] += seconds
    total = spent.total()
    # Of a long run not every line is kept; those that are stand for all of its training.
    scale = max(1.0, training_seconds(run) / total) if total else 1.0
    parts = [
        {
            "name": name,
            "seconds": duration(scale * value),
            "share": show(value / total, "share"),
            "width": round(100 * value / total, 1),
        }
        for name, value in spent.most_common()
        if total > 0
    ]
    return {"facts": facts, "parts": parts}


def data_of(run: RunRecord) -> dict[str, Any] | None:
    """The data's figures and numbers; None where statistics.json has not been written."""
    found = run.statistics
    if not found:
        return None
    # Written by the trainer, so that a report needs no features, which may lie on another machine.
    lengths, spans, words = found["lengths"], found["spans"], found["vocabulary"]
    unit = spans.get("unit", "whole words")  # earlier releases do not tell
    charts = [
        {
            "title": "Row lengths",
            "note": "rows by tokens, [CLS] and [SEP] included",
            "svg": plot_bars("Row lengths", lengths["edges"], lengths["counts"], x_name="tokens"),
        },
        {
            "title": "Span lengths",
            "note": f"in {unit}, against the geometric law (p = {spans['geometric_p']:g})",
            "svg": plot_bars(
                "Span lengths",
                [number + 0.5 for number in range(len(spans["law"]) + 1)],
                spans["shares"],
                x_name=unit,
                law=spans["law"],
                unit="share",
            ),
        },
    ]
    vocabulary = [
        ("Type", {"BPE": "byte-level BPE", "BERT": "WordPiece"}.get(words["type"], words["type"])),
        ("Tokens", f"{words['size']:,}"),
        ("Used by the text", show(words["used"], "share")),
        ("Tokens a word", f"{words['tokens_a_word']:.2f}"),
        ("Unknown tokens", show(words["unknown"], "share")),
        ("Commonest token", f"“{words['commonest']}” ({show(words['commonest_share'], 'share')})"),
        ("SHA-256", words["sha256"][:12]),
    ]
    splits = [split_cells(name, split) for name, split in found["splits"].items()]
    means = f"{spans['mean_words']:.2f} words, {spans['mean_tokens']:.2f} tokens a span on average"
    return {"charts": charts, "splits": splits, "vocabulary": vocabulary, "means": means}


def split_cells(name: str, split: dict[str, Any]) -> dict[str, Any]:
    """What the page's table says of a split, as text: the template would end in a traceback of its own."""
    files = split.get("rows_in_files", split["rows"])  # earlier releases do not tell
    more = split.get("more_sources")
    return {
        "name": name,
        "rows": f"{split['rows']:,}",
        "of": "" if files == split["rows"] else f"of {files:,}",
        "cells": (
            *(f"{split['tokens']:,}", show(split["fill"], "share")),
            # Earlier releases tell the limit alone.
            *(str(split.get("longest", split["max_seq_len"])), f"{split['mask_ratio']:.0%}"),
        ),
        "sources": ", ".join(split["sources"]) + (f" and {more} more" if more else ""),
    }


def settings_of(run: RunRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for key, value in flatten(run.config).items():
        head, _, rest = key.partition(".")
        name, shown = (head, rest) if rest else ("run", head)
        sections.setdefault(name, []).append((shown, setting_text(value)))
    return list(sections.items())


def setting_text(value: Any) -> str:
    """Example: None -> –; [0, 1] -> 0 1; true -> yes"""
    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(setting_text, value)) if isinstance(value, list) else str(value)


# --- parts of several runs ------------------------------------------------------------------------------


def compared_of(runs: list[RunRecord]) -> dict[str, Any]:
    """Last numbers of each run, and the settings in which they differ."""
    numbers = []
    for metric, label, unit, _ in TILES:
        values = [latest_metric(run, metric)[0] for run in runs]
        numbers.append((label, ["–" if value is None else show(value, unit) for value in values]))
    numbers.append(("Steps", [f"{run.step:,}" for run in runs]))
    numbers.append(("Training", [duration(training_seconds(run)) for run in runs]))
    settings = [flatten(run.config) for run in runs]
    different = [
        (key, [setting_text(flat.get(key)) for flat in settings])
        for key in dict.fromkeys(key for flat in settings for key in flat)  # in the files' own order
        # Compared as JSON, since lists and mappings have no hash.
        if len({json.dumps(flat.get(key)) for flat in settings}) > 1
    ]
    return {"names": [(run.name, run.state) for run in runs], "numbers": numbers, "different": different}
