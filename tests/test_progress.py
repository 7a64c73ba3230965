"""Signs of life in a pipe: a line now and then whatever the work is at, and no bar.

Run: pytest tests/test_progress.py
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from terminal_examples import COLUMNS, screen_lines

from span_electra import progress

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def ticking(monkeypatch):
    """The timer, which the test rings by hand."""
    monkeypatch.setattr(progress, "FIRST_LINE", 1000.0)
    before = signal.getsignal(signal.SIGALRM)
    progress.start()
    yield lambda: signal.raise_signal(signal.SIGALRM)
    progress.stop()
    signal.signal(signal.SIGALRM, before)


def test_the_innermost_work_speaks_and_who_waits_is_silent(ticking, capfd):
    ticking()
    with progress.saying(lambda: "outer"), progress.saying(lambda: "inner"):
        ticking()
        with progress.saying(progress.silent):
            ticking()
    with progress.saying(lambda: "outer"):
        ticking()
    first, *others = capfd.readouterr().err.splitlines()
    assert "at work for" in first and others == ["inner", "outer"]


def test_a_bar_is_lines_in_a_pipe(ticking, capfd):
    with progress.Bar("features", 100) as bar:
        ticking()
        bar.done(40, 5)
        ticking()
        with progress.Bar("quiet", 10, aloud=False):
            ticking()
    first, second = capfd.readouterr().err.splitlines(keepends=True)
    assert first == "features: at work for 0 s\n", "a share of nothing, again and again, tells nothing"
    assert second.startswith("features: 40% of the text, ") and "\r" not in second


def test_after_something_was_said_the_next_line_waits(ticking):
    assert signal.getitimer(signal.ITIMER_REAL)[0] <= progress.SECONDS_A_LINE
    signal.setitimer(signal.ITIMER_REAL, 1.0, progress.SECONDS_A_LINE)
    progress.wait()
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 1.0
    progress.stop()
    progress.wait()  # a timer that was stopped is not wound up again: it would end the process
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


PROGRAM = """
import time
from span_electra import progress
from span_electra.commandline import run_script
progress.SECONDS_A_LINE = 0.2

def main():
    print("begun")
    from tqdm import tqdm
    for _ in tqdm(range(3)):
        time.sleep(0.25)

run_script(main)
"""


def test_a_script_in_a_pipe_shows_lines_at_once_and_no_library_s_bar():
    done = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert done.stdout.readline() == b"begun\n" and done.poll() is None, (
        "a line is passed on as it is written"
    )
    _, err = done.communicate()
    lines = err.decode().splitlines()
    assert done.returncode == 0 and lines and all("at work for" in line for line in lines), lines


BAR = """
from span_electra.progress import Bar

with Bar("vocabulary", 987_654_321_000) as bar:
    for _ in range(3):
        bar.done(123_456_789_000, 456_789_012)
"""


def test_bars_fit_80_columns_and_are_drawn_in_two_places(capsys):
    bars = [line for line in screen_lines(BAR) if "%|" in line]
    assert all(len(line) <= COLUMNS for line in bars) and bars[-1].endswith("M tokens/s]"), bars
    drawing = [path.name for path in (ROOT / "span_electra").rglob("*.py") if "tqdm(" in path.read_text()]
    assert sorted(drawing) == ["log.py", "progress.py"], "another bar: show that it fits 80 columns too"


def test_notes_are_lines_of_standard_error(capsys):
    progress.say_notes(*("a", "b"))
    progress.say_notes()
    assert capsys.readouterr() == ("", "note: a\nnote: b\n")
