"""TensorBoard's own reader finds what was written, whatever the clock says; a full disk leaves it whole.

Run: pytest tests/training/test_events.py
"""

import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from span_electra.training import run_folder as runfolder
from span_electra.training.events import Events


def curve(folder, name):
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return [(point.step, point.value) for point in read.Scalars(name)]


def test_a_resumed_run_s_curve_goes_on_from_its_checkpoint_though_the_clock_was_set_back(
    tmp_path, monkeypatch
):
    first = Events(tmp_path, 0)
    for step in (10, 20, 30):
        first.write(step, {"train/loss": step / 2})
    first.close()
    monkeypatch.setattr(time, "time", lambda: 1000.0)  # decades ago
    second = Events(tmp_path, 20)
    second.write(30, {"train/loss": 7.0})
    second.close()
    assert curve(tmp_path, "train/loss") == [(10, 5.0), (20, 10.0), (30, 7.0)]


def test_a_record_that_does_not_fit_is_named_and_leaves_nothing(tmp_path):
    path = tmp_path / "lines"
    file = runfolder.Appended(path)
    file.append(b"one\n")
    whole, file.file = file.file, HalfWriting(file.file)
    with pytest.raises(OSError, match=f"No space left.*{path.name}"):
        file.append(b"two\n")
    assert path.read_bytes() == b"one\n"
    file.file = whole
    file.append(b"three\n")
    file.close()
    assert path.read_bytes() == b"one\nthree\n"


class HalfWriting:
    """A file on a disk that fills up in the middle of a record."""

    def __init__(self, file):
        self.file, self.seek, self.fileno = file, file.seek, file.fileno

    def write(self, record):
        return self.file.write(record[: len(record) // 2])
