"""Series of numbers -> charts as SVG text that takes its colours from the page.

Made by matplotlib, without pyplot: no window, no global figure, safe beside a training. It uses stand-in
colours; these become CSS variables afterwards, so that a chart follows light and dark. The page saves a chart
as it shows it, with the colours put back in (page.js), or its numbers, which go along unrounded.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

# Stand-in -> what the page's style sheet calls it. The series' hues (page.css) are Okabe and Ito's, which
# people with any kind of colour blindness can tell apart.
SERIES = ("#010101", "#020202", "#030303", "#040404", "#050505", "#060606")
# Behind the last hue they come again, each time with another pattern of line; page.css has the same.
DASHES = ("solid", (0, (4, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MOST_LABELS = 5  # of two lines each, beside the ends of the curves: more would not fit the height
INK, MUTED, GRID, BAND, PAPER = "#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d", "#0e0e0e"
VARIABLES = {shade: f"var(--series-{number})" for number, shade in enumerate(SERIES, 1)} | {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    BAND: "var(--band)",
    PAPER: "var(--card)",
}
SIZE = (3.75, 2.15)  # inches at 96 pixels: one column of a phone, so that text is never shrunk much
MOST_POINTS = 240  # of a line; neighbours are averaged beyond that


@dataclass(frozen=True)
class Series:
    """One line of a chart; numbers that are not finite leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0  # which of the series' colours
    points: bool = False  # validation: marked points, drawn above the lines
    label: bool = True  # whether its last value stands beside its end
    short: str = ""  # its name there, where its own is too long


@dataclass(frozen=True)
class Chart:
    """What one chart shows."""

    title: str
    series: tuple[Series, ...]
    unit: str = "number"  # number, share or rate
    note: str = ""  # one line under the title
    band: tuple[float, float] | None = None  # what is healthy
    from_zero: bool = False  # whether the axis starts at 0 whatever the data


def show(value: float, unit: str = "number", digits: int = 2) -> str:
    """A number as people read it; `digits`: of a rate, behind its point.

    Example: 0.0731 share -> 7.3%; 12345.6 number -> 12,346; 0.00048 number -> 0.00048
    """
    if not math.isfinite(value):
        return "not finite"
    if unit == "share":
        return f"{value:.1%}"
    if unit == "rate":
        return f"{value:.{digits}e}".replace("e-0", "e-") if value else "0"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def shorten(x: Sequence[float], y: Sequence[float]) -> tuple[list, list]:
    """Average neighbouring points until at most MOST_POINTS are left; the last point is kept as it is."""
    # Means, not every tenth point, say: a single noisy value would stand for all its neighbours.
    each = math.ceil(len(x) / MOST_POINTS)
    if each <= 1:
        return list(x), list(y)
    spans = [slice(first, first + each) for first in range(0, len(x) - 1, each)]
    means = [(sum(x[span]) / len(x[span]), sum(y[span]) / len(y[span])) for span in spans]
    return [mean[0] for mean in means] + [x[-1]], [mean[1] for mean in means] + [y[-1]]


def plot_lines(chart: Chart) -> str:
    """Return the chart of lines and points as an <svg>, with what the pointer shows in `data-points`."""
    figure, axes = blank(chart.unit)
    curves = []
    if chart.band:
        axes.axhspan(*chart.band, color=BAND, linewidth=0, zorder=0)
    for series in chart.series:
        x, y = (list(series.x), list(series.y)) if series.points else shorten(series.x, series.y)
        hue = {"color": shade_of(series), "linestyle": DASHES[series.color // len(SERIES) % len(DASHES)]}
        if series.points:
            style = {"marker": "o", "markersize": 4.2, "markeredgecolor": PAPER, "markeredgewidth": 0.8}
            axes.plot(x, y, linewidth=1.1, zorder=4, **hue, **style)
        else:
            faint = any(other.points for other in chart.series)
            dots = {"marker": "o", "markersize": 3.4, "markevery": alone} if (alone := lone_points(y)) else {}
            axes.plot(x, y, linewidth=1.1 if faint else 1.6, alpha=0.55 if faint else 1, **hue, **dots)
        curves.append((series, x, y))  # as drawn, so that the pointer shows the very points
    axes.set_xlabel("step", fontsize=8.1, color=MUTED, labelpad=2)
    limit_axes(axes, chart, curves)
    label_ends(axes, [entry for entry in curves if entry[0].label and entry[1]], chart.unit)
    # Training and validation log at different steps: the pointer stops at each that anything has a value for.
    steps = sorted({step for _, x, _ in curves for step in x})
    shown = []
    for series, x, y in curves:
        value_at = dict(zip(x, y, strict=True))
        name = series.name or ("valid" if series.points else "train")
        shown.append((name, shade_of(series), [value_at.get(step) for step in steps]))
    data = pointer_data(axes, steps, shown, chart.unit)
    data |= {"x": [f"step {step:,.0f}" for step in steps], "x_name": "step"}
    return themed(figure, chart.title, data | {"x_numbers": [json_number(step) for step in steps]})


def lone_points(y: Sequence[float]) -> list[int]:
    """Places of the numbers without a number beside them, to which no line leads.

    Example: 3, nan, 2, 1 -> [0]
    """
    there = [False, *map(math.isfinite, y), False]
    return [at for at in range(len(y)) if there[at + 1] and not (there[at] or there[at + 2])]


def shade_of(series: Series) -> str:
    """The stand-in for a series' hue."""
    return SERIES[series.color % len(SERIES)]


def limit_axes(axes: Any, chart: Chart, curves: list[tuple[Series, list, list]]) -> None:
    """Fit the axes to the data, not to the band; shares stay between 0 and 1 and start at 0 unless flat."""
    values = [value for _, _, y in curves for value in y if math.isfinite(value)]
    steps = [value for _, x, _ in curves for value in x]
    if not values:
        return
    low, high = min(values), max(values)
    # From 0, unless that would press a nearly flat line into the top of the chart.
    if chart.from_zero or chart.unit in ("share", "rate") or low < 0.4 * high:
        low = min(low, 0.0)
    room = (high - low or abs(high) or 1.0) * 0.08
    top = high + room
    axes.set_ylim(low if low == 0 else low - room, min(top, 1.02) if chart.unit == "share" else top)
    first, last = min(steps), max(steps)
    axes.set_xlim(first, last if last > first else first + 1)


def label_ends(axes: Any, curves: list[tuple[Series, list, list]], unit: str) -> None:
    """Write each series' name and last value beside its end, moved apart where they would overlap.

    Of more than MOST_LABELS none: the page names them in a table, and under the pointer.
    """
    low, high = axes.get_ylim()
    least = (high - low) * 0.19  # two lines of text: the name, and the value
    ends = [(y[-1], series) for series, _, y in curves if math.isfinite(y[-1])]
    if len(ends) > MOST_LABELS:
        return
    # From the lowest up: labels can only be moved apart in the order in which they lie.
    ends.sort(key=lambda end: end[0])
    places = separate([value for value, _ in ends], least, low + least * 0.3, high - least * 0.2)
    for place, (value, series) in zip(places, ends, strict=True):
        axes.annotate(
            f"{series.short or series.name}\n{show(value, unit)}" if series.name else show(value, unit),
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.1,
            color=shade_of(series),
            linespacing=1.05,
            parse_math=False,  # a name is a name, dollars and all
        )


def separate(values: list[float], least: float, low: float, high: float) -> list[float]:
    """Move ascending places until neighbours are `least` apart, within low and high where they fit.

    Example: [1, 1.1], least 1, low 0, high 10 -> [1, 2]
    """
    # Upwards until none overlaps, then down again where that pushed them over the top.
    places = []
    for value in values:
        places.append(max(value, low, places[-1] + least if places else low))
    for number in range(len(places) - 1, -1, -1):
        above = places[number + 1] - least if number + 1 < len(places) else high
        places[number] = min(places[number], above)
    return places


def plot_bars(
    title: str,
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    x_name: str,
    law: Sequence[float] = (),
    unit: str = "number",
) -> str:
    """Return a histogram as an <svg>: bars between edges (one more than bars), and a law as points."""
    figure, axes = blank(unit)
    middles = [(left + right) / 2 for left, right in itertools.pairwise(edges)]
    widths = [(right - left) * 0.86 for left, right in itertools.pairwise(edges)]
    axes.bar(middles, counts, widths, color=SERIES[0], alpha=0.75, linewidth=0)
    shown = [("rows", SERIES[0], counts)]
    if law:
        axes.plot(middles, law, color=SERIES[1], marker="o", markersize=3.4, linewidth=1)
        shown = [("sampled", SERIES[0], counts), ("law", SERIES[1], law)]
        for number, (name, shade, _) in enumerate(shown):
            corner = (0.98, 0.9 - 0.11 * number)
            axes.annotate(name, corner, xycoords="axes fraction", ha="right", fontsize=8.4, color=shade)
    # Never an empty axis: a histogram of nothing has no height to scale by.
    axes.set_ylim(0, max([*counts, *law, 1e-9]) * 1.12)
    axes.set_xlabel(x_name, fontsize=8.1, color=MUTED)
    names = [span_name(left, right) for left, right in itertools.pairwise(edges)]
    data = pointer_data(axes, middles, shown, unit)
    return themed(figure, title, data | {"x": names, "x_name": x_name, "x_numbers": names})


def span_name(left: float, right: float) -> str:
    """Example: 0.5, 1.5 -> 1; 16, 32 -> 16 to 31"""
    first, last = math.ceil(left), math.ceil(right) - 1
    return f"{first:,}" if last <= first else f"{first:,} to {last:,}"


# --- the drawing surface --------------------------------------------------------------------------------


def blank(unit: str) -> tuple[Any, Any]:
    """An empty figure and its axes, in the house's style."""
    from matplotlib.figure import Figure  # half a second to import
    from matplotlib.ticker import MaxNLocator

    figure = Figure(SIZE, dpi=72)
    axes = figure.add_axes((0.13, 0.205, 0.66, 0.755))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=MUTED, pad=4)
    axes.patch.set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    text_of = {
        "number": brief,
        "share": lambda value: f"{100 * value:.3g}%",
        "rate": lambda value: show(value, "rate", digits=1),
    }[unit]
    axes.xaxis.set_major_formatter(lambda value, _: brief(value))
    axes.yaxis.set_major_formatter(lambda value, _: text_of(value))
    return figure, axes


def brief(value: float) -> str:
    """Example: 1500 -> 1.5k, 2000000 -> 2M"""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def pointer_data(
    axes: Any, places: list[float], shown: list[tuple[str, str, Sequence[float | None]]], unit: str
) -> dict[str, Any]:
    """What the page shows under the pointer: at each x, every series' value, as text and as a number.

    shown: name, colour and values of each series; None: it has none there.
    """
    series = [
        {
            "name": name,
            "color": VARIABLES[shade],
            "y": [None if value is None else show(value, unit) for value in values],
            "numbers": [None if value is None else json_number(value) for value in values],
        }
        for name, shade, values in shown
    ]
    return {"at": [across(axes, x) for x in places], "series": series, "top": 0.04, "bottom": 0.8}


def across(axes: Any, x: float) -> float:
    """Where an x of the data lies in the figure, as a share of its width."""
    drawn = axes.figure.transFigure.inverted().transform(axes.transData.transform((x, 0)))
    return round(float(drawn[0]), 4)


def json_number(value: float) -> float | None:
    """Six digits, which is what float32 has; None for what is not finite, as JSON has no word for it."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def themed(figure: Any, title: str, data: dict[str, Any]) -> str:
    """The figure as an <svg> that scales, speaks the page's colours, and says what it is."""
    from matplotlib import rc_context

    sink = io.StringIO()
    # Text stays text, so that it takes the page's font and can be read aloud and found.
    style = {"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}
    with rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that its own font lacks: the page's font has them
        figure.savefig(
            sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None}
        )
    svg = sink.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # An <svg> within HTML needs no namespaces, and each of a dozen charts would bring its own.
    svg = re.sub(r'\s+(?:xmlns:xlink|xmlns|version)="[^"]*"', "", svg)
    svg = re.sub(r"<!--.*?-->|\n\s*", " ", svg, flags=re.DOTALL)
    for shade, variable in VARIABLES.items():
        svg = svg.replace(shade, variable)
    # Each figure's ids become its own: several stand in one page.
    own = re.sub(r"\W", "", title.lower()) + "-"
    svg = re.sub(r'\bid="', f'id="{own}', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', lambda found: found[1] + own, svg).replace("xlink:href", "href")
    svg = re.sub(r'width="[^"]*" height="[^"]*"', "", svg, count=1)  # of the whole: the page decides
    points = escape(json.dumps(data, separators=(",", ":")))
    label = escape(title, quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}" data-points="{points}"', 1)
