"""Metrics of one or several runs -> the charts of the report."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any

from span_electra.report.charts import Chart, Series, plot_lines
from span_electra.report.health import LEAST_RECALL, LEAST_REPLACED, MOST_REPLACED
from span_electra.report.run_record import RunRecord, is_number

LONGEST_NAME = 11  # letters beside the end of a curve, where a chart has room for no more


@dataclass(frozen=True)
class ChartPlan:
    """What one chart shows: metrics, each with its label."""

    title: str
    metrics: tuple[tuple[str, str], ...]
    note: str
    unit: str = "number"
    band: tuple[float, float] | None = None
    train_only: bool = False
    from_zero: bool = False


PLANS = (
    ChartPlan("Generator loss", (("generator_loss", ""),), "nats a masked token; lower is better"),
    ChartPlan(
        "Generator accuracy", (("generator_accuracy", ""),), "masked tokens filled as they were", "share"
    ),
    ChartPlan("Discriminator loss", (("discriminator_loss", ""),), "nats a token; lower is better"),
    ChartPlan(
        "Finding the replaced tokens",
        (
            ("discriminator_f1", "F1"),
            ("discriminator_precision", "precision"),
            ("discriminator_recall", "recall"),
        ),
        f"by the discriminator; healthy recall: above {LEAST_RECALL:.0%}",
        "share",
    ),
    ChartPlan(
        "Replaced share",
        (("replaced_of_masked", ""),),
        f"of the masked tokens; shaded: healthy, {LEAST_REPLACED:.0%} to {MOST_REPLACED:.0%}",
        "share",
        (LEAST_REPLACED, MOST_REPLACED),
    ),
    ChartPlan(
        "Next-token loss", (("next_token_loss", ""),), "of the generator from left to right, nats a token"
    ),
    ChartPlan("Span-boundary loss, generator", (("SBGO_loss", ""),), "nats a masked token"),
    ChartPlan("Span-boundary loss, discriminator", (("SBPO_loss", ""),), "nats a masked token"),
    ChartPlan("Total loss", (("loss", ""),), "all losses, weighted, as they are minimised"),
    ChartPlan("Learning rate", (("lr", ""),), "of the fastest part", "rate", train_only=True),
    ChartPlan("Speed", (("tokens_per_second", ""),), "tokens a second", train_only=True, from_zero=True),
)


def values_of(lines: list[dict[str, Any]], metric: str) -> tuple[list[float], list[float]]:
    """Steps and values of a metric, from the lines that have it."""
    # Lines that lack a metric are passed over: which ones there are changes with the objective.
    found = [(line["step"], line[metric]) for line in lines if is_number(line.get(metric))]
    return [step for step, _ in found], [value for _, value in found]


def run_chart(run: RunRecord, plan: ChartPlan) -> Chart | None:
    """One run's chart: training as lines, validation as points; None where nothing was told."""
    found = []
    for color, (metric, name) in enumerate(plan.metrics):
        train, valid = values_of(run.train, metric), values_of(run.valid, metric)
        # With three metrics in one chart, training's noisy lines stay only where nothing else is known.
        if train[0] and not (len(plan.metrics) > 1 and len(valid[0]) > 1):
            label = "" if plan.train_only else "train"
            found.append(Series(name or label, *train, color=color, label=not valid[0]))
        if valid[0]:
            # Of one metric, train and valid have a colour each; of several, each metric has one for both.
            shade = color if name else color + 1
            found.append(Series(name or "valid", *valid, color=shade, points=True))
            if not name and train[0]:
                found[-2] = replace(found[-2], label=True)
    if not found:
        return None
    band, note = plan.band, plan.note
    commonest = run.commonest_share
    if plan.title == "Generator accuracy" and commonest is not None:  # below it nothing has been learnt yet
        band, note = (commonest, 1.0), f"shaded: better than always the commonest token, {commonest:.1%}"
    return Chart(plan.title, tuple(found), plan.unit, note, band, from_zero=plan.from_zero)


def compared_chart(runs: list[RunRecord], plan: ChartPlan) -> Chart | None:
    """Several runs in one chart of the plan's first metric: validation, or training where there is none."""
    found = []
    metric, name = plan.metrics[0]
    shorts = short_names([run.name for run in runs])
    for number, run in enumerate(runs):
        train, valid = values_of(run.train, metric), values_of(run.valid, metric)
        validated = bool(valid[0]) and not plan.train_only
        steps, values = valid if validated else train  # without held-out rows there is still training
        if steps:
            marked = validated and len(steps) < 60
            found.append(Series(run.name, steps, values, color=number, points=marked, short=shorts[number]))
    if not found:
        return None
    title = f"{plan.title}: {name}" if name else plan.title
    return Chart(title, tuple(found), plan.unit, plan.note, plan.band, from_zero=plan.from_zero)


def short_names(names: list[str]) -> list[str]:
    """Names of at most LONGEST_NAME letters; long ones without the words that all begin with.

    Example: 2026-11-29-08-15-00, 2026-11-29-17-30-00 -> 08-15-00, 17-30-00
    """
    if max(map(len, names)) <= LONGEST_NAME:
        return names
    # Whole words: the dates of default names would else lose half of an hour that two begin alike.
    common = re.match(r"(.*[\W_])?", os.path.commonprefix(names), re.DOTALL)[0]
    rests = [name[len(common) :] or name for name in names]
    return [rest if len(rest) <= LONGEST_NAME else rest[: LONGEST_NAME - 1] + "…" for rest in rests]


def figures(charts: list[Chart | None]) -> list[dict[str, str]]:
    """Title, note and <svg> of each chart there is."""
    return [
        {"title": chart.title, "note": chart.note, "svg": plot_lines(chart)}
        for chart in charts
        if chart is not None
    ]


def run_figures(run: RunRecord) -> list[dict[str, str]]:
    return figures([run_chart(run, plan) for plan in PLANS])


def compared_figures(runs: list[RunRecord]) -> list[dict[str, str]]:
    return figures([compared_chart(runs, plan) for plan in PLANS])
