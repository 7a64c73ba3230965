"""Laws of the charts: the points are where the numbers say, colours are the page's, labels stay apart.

Run: pytest tests/report/test_charts.py
"""

import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from span_electra.report.charts import Chart, Series, plot_bars, plot_lines, separate, shorten, show

EDGES = [0.5, 1.5, 2.5]


def parse(svg):
    root = ElementTree.fromstring(svg)
    return root, json.loads(root.get("data-points"))


def line(y, name="", **more):
    return Series(name, list(range(0, 10 * len(y), 10)), y, **more)


def test_numbers_under_the_pointer_are_the_series(tmp_path):
    _, data = parse(plot_lines(Chart("Loss", (line([3, 2, 1.5], "a"), Series("b", [10], [7], points=True)))))
    assert data["x"] == ["step 0", "step 10", "step 20"]
    assert [series["y"] for series in data["series"]] == [["3", "2", "1.5"], [None, "7", None]]
    assert data["at"] == sorted(data["at"]) and math.isclose(
        data["at"][1] * 2, data["at"][0] + data["at"][2], abs_tol=2e-4
    )


def test_the_line_goes_through_the_numbers():
    root, _ = parse(plot_lines(Chart("Loss", (line([3, 2, 1]),))))
    paths = [entry.get("d") for entry in root.iter("path") if "var(--series-1)" in (entry.get("style") or "")]
    points = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", paths[0])]
    (left, top), (middle, half), (right, bottom) = points
    assert left < middle < right and top < half < bottom  # down the page is down in value
    assert math.isclose(half - top, bottom - half, rel_tol=1e-3)


@pytest.mark.parametrize(
    ("y", "dots"), [([7], 1), ([3, 2], 0), ([3, math.nan, 2, 1], 1), ([math.nan, 3, math.nan, 2], 2), ([], 0)]
)
def test_a_number_without_neighbours_is_seen_though_no_line_leads_to_it(y, dots):
    root, _ = parse(plot_lines(Chart("Loss", (line(y), line([5.0, 6.0], color=1)))))
    marks = [entry for entry in root.iter("use") if "var(--series-1)" in (entry.get("style") or "")]
    assert len(marks) == dots


def test_a_chart_speaks_the_pages_colours_alone_and_keeps_its_text():
    chart = Chart("Share", (line([0.1, 0.2], "F1"),), "share", band=(0.1, 0.3))
    svg = plot_lines(chart)
    assert not re.findall(r"#[0-9a-f]{6}", svg), "a colour that no style sheet can change"
    assert "var(--series-1)" in svg and "var(--band)" in svg and ">F1<" in svg and "20.0%" in svg
    assert "http" not in svg and "<metadata" not in svg


def test_the_same_chart_is_the_same_text_and_two_charts_share_no_id():
    one, two = (Chart(title, (line([1, 2]),)) for title in ("One", "Two"))
    assert plot_lines(one) == plot_lines(one)
    ids = [set(re.findall(r' id="([^"]+)"', plot_lines(chart))) for chart in (one, two)]
    assert ids[0] and not ids[0] & ids[1]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img onerror=x>', "$\\frac{$", "模型&amp;"])
def test_hostile_names_stay_text(name):
    svg = plot_lines(Chart(name, (line([1.0, 2.0], name),)))
    root, data = parse(svg)
    assert {entry.tag for entry in root.iter()} <= {
        "svg",
        "g",
        "path",
        "text",
        "defs",
        "style",
        "use",
        "clipPath",
        "rect",
        "tspan",
    }
    assert data["series"][0]["name"] == name and root.get("aria-label") == name

    class Scripts(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert tag not in ("script", "img") and not any(key.startswith("on") for key, _ in attrs)

    Scripts().feed(svg)


@pytest.mark.parametrize("y", [[], [5.0], [0.0, 0.0], [math.nan, math.nan], [1.0, math.inf, 2.0]])
def test_few_flat_and_unsound_numbers_draw(y):
    parse(plot_lines(Chart("Odd", (line(y, "odd"),))))


def test_long_lines_are_averaged_and_keep_their_end():
    x, y = shorten(list(range(24001)), [float(number % 2) for number in range(24001)])
    assert len(x) <= 241 and x == sorted(x) and (x[-1], y[-1]) == (24000, 0.0)
    assert all(0.4 < value < 0.6 for value in y[:-1])
    assert shorten([1, 2], [3, 4]) == ([1, 2], [3, 4])


def test_labels_are_moved_apart_and_stay_inside():
    assert separate([1, 1.1], 1, 0, 10) == [1, 2]
    places = separate([9.8, 9.9, 10], 1, 0, 10)
    assert places == [8, 9, 10]
    assert separate([], 1, 0, 10) == []


@pytest.mark.parametrize("points", [False, True])
def test_many_series_are_told_apart_and_their_labels_never_leave_the_chart(points):
    for count in (1, 5, 6, 7, 24):
        named = [{"name": f"run {number}", "color": number} for number in range(count)]
        many = [line([told["color"], told["color"] + 1.0], points=points, **told) for told in named]
        root, data = parse(plot_lines(Chart("Loss", tuple(many))))
        styles = [entry.get("style") or "" for entry in root.iter("path")]
        lines = [style for style in styles if "fill: none" in style and "stroke: var(--series" in style]
        looks = {tuple(re.findall(r"series-\d|dasharray: [^;]+", style)) for style in lines}
        assert len(lines) == len(looks) == count, "each in a look of its own"
        labels = [entry for entry in root.iter("text") if "run " in "".join(entry.itertext())]
        assert len(labels) == (count if count <= 5 else 0)
        assert [series["name"] for series in data["series"]] == [series.name for series in many]


def test_bars_show_counts_and_the_law():
    _, data = parse(plot_bars("Spans", EDGES, [0.7, 0.3], law=[0.6, 0.4], x_name="words", unit="share"))
    assert data["x"] == ["1", "2"]
    assert [series["y"] for series in data["series"]] == [["70.0%", "30.0%"], ["60.0%", "40.0%"]]
    _, data = parse(plot_bars("Rows", [1, 17, 33], [2, 5], x_name="tokens"))
    assert data["x"] == ["1 to 16", "17 to 32"]


def test_numbers_read_as_people_write_them():
    assert [show(value) for value in (12345.6, 3.14159, 0.00048, 7)] == ["12,346", "3.14", "0.00048", "7"]
    assert (
        show(0.0731, "share") == "7.3%" and show(5e-4, "rate") == "5.00e-4" and show(math.nan) == "not finite"
    )


def test_the_axis_says_what_it_counts():
    assert ">step<" in plot_lines(Chart("Loss", (line([3, 2]),)))
    assert ">words<" in plot_bars("Spans", EDGES, [0.7, 0.3], x_name="words")


def test_the_numbers_go_along_unrounded_for_a_table():
    _, data = parse(plot_lines(Chart("Loss", (line([math.nan, 0.123456, 1234567.8], "a"),), "share")))
    assert data["x_numbers"] == [0, 10, 20] and data["x_name"] == "step"
    assert data["series"][0]["numbers"] == [None, 0.123456, 1234570.0]
    _, data = parse(plot_bars("Rows", [1, 17, 33], [2, 5], x_name="tokens"))
    assert data["x_numbers"] == ["1 to 16", "17 to 32"] and data["series"][0]["numbers"] == [2, 5]
