"""Laws of the curves: training as lines, validation as points, nothing invented.

Run: pytest tests/report/test_curves.py
"""

from dataclasses import replace

import pytest
from report_examples import make_run, metrics

from span_electra.report.curves import (
    PLANS,
    compared_chart,
    compared_figures,
    run_chart,
    run_figures,
    short_names,
)
from span_electra.report.run_record import read_run


def plan(title):
    return next(plan for plan in PLANS if plan.title == title)


def test_each_split_is_drawn_where_it_was_told(tmp_path):
    lines = [metrics(10, "train"), metrics(20, "train"), metrics(20, "valid", generator_loss=4.5)]
    run = read_run(make_run(tmp_path / "r", lines=lines))
    train, valid = run_chart(run, plan("Generator loss")).series
    assert (train.x, train.y, train.points) == ([10, 20], [5.95, 5.9], False)
    assert (valid.x, valid.y, valid.points) == ([20], [4.5], True)


def test_what_was_never_told_gives_no_chart(tmp_path):
    run = read_run(make_run(tmp_path / "r"))
    assert run_chart(run, plan("Span-boundary loss, generator")) is None
    titles = [figure["title"] for figure in run_figures(run)]
    assert "Learning rate" in titles and len(titles) == len(PLANS) - 3
    assert run_figures(replace(run, train=[], valid=[])) == []


def test_gaps_in_a_metric_are_left_out(tmp_path):
    lines = [metrics(step, "train") for step in (10, 20, 30)]
    del lines[1]["discriminator_f1"]
    lines[2]["discriminator_f1"] = None
    chart = run_chart(read_run(make_run(tmp_path / "r", lines=lines)), plan("Finding the replaced tokens"))
    assert [series.x for series in chart.series] == [[10], [10, 20, 30], [10, 20, 30]]


def test_the_healthy_floor_of_accuracy_is_the_datas_own(tmp_path):
    run = read_run(make_run(tmp_path / "r"))
    assert run_chart(run, plan("Generator accuracy")).band == (0.05, 1.0)
    assert run_chart(replace(run, statistics={}), plan("Generator accuracy")).band is None


def test_runs_side_by_side_keep_their_colour_when_one_lacks_a_metric(tmp_path):
    bare = [metrics(10, "train")]
    del bare[0]["loss"]
    runs = [read_run(make_run(tmp_path / name)) for name in "ac"]
    runs.insert(1, read_run(make_run(tmp_path / "b", lines=bare)))
    chart = compared_chart(runs, plan("Total loss"))
    assert [(series.name, series.color) for series in chart.series] == [("a", 0), ("c", 2)]
    assert len(compared_figures(runs)) == len(PLANS) - 3


def test_runs_without_held_out_rows_are_lines_side_by_side_too(tmp_path):
    lines = [metrics(step, "train") for step in (10, 20)]
    runs = [read_run(make_run(tmp_path / name, lines=lines)) for name in "ab"]
    assert [series.points for series in compared_chart(runs, plan("Total loss")).series] == [False, False]


def test_default_names_of_one_day_are_told_apart_and_whole_under_the_pointer(tmp_path):
    names = ["2026-11-29-08-15-00", "2026-11-29-08-40-00"]
    runs = [read_run(make_run(tmp_path / name)) for name in names]
    chart = compared_chart(runs, plan("Total loss"))
    assert [series.name for series in chart.series] == names
    assert [series.short for series in chart.series] == ["15-00", "40-00"]
    svg = compared_figures(runs)[0]["svg"]
    assert all(name in svg for name in names) and ">40-00<" in svg


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["a", "b"], ["a", "b"]),
        (["2026-11-29-08-15-00", "2026-11-29-17-30-00"], ["08-15-00", "17-30-00"]),
        (["baseline", "a very long name"], ["baseline", "a very lon…"]),
        (["the same long name"] * 2, ["name", "name"]),
        (["run-", "run-with-something"], ["run-", "with-somet…"]),
    ],
)
def test_names_beside_curves_are_short(names, short):
    assert short_names(names) == short
