"""Runs that are followed elsewhere: by stand-ins, and by the libraries themselves, offline, where installed.

Run: pytest tests/training/test_track.py
"""

import importlib.util
import json
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_examples import small_run, write_rows

from span_electra.errors import InputError
from span_electra.pretraining.experiment import run_pretraining
from span_electra.training import track
from span_electra.training.log import RunLog
from span_electra.training.run_folder import state_of
from span_electra.training.track import as_table, find_library, flat_settings, identity_of, open_tracker

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"model": {"seed": 1, "freeze": []}, "out_dir": None}
# A run and its resumption, in a process of its own: the libraries keep threads and state.
FOLLOWED = """
import sys
from pathlib import Path
from span_electra.training.track import open_tracker
name, folder = sys.argv[1], Path(sys.argv[2])
for step in (1, 2):
    tracker = open_tracker(name, folder, {"model": {"seed": 1}, "freeze": []})
    tracker.log_metrics(step, {"train/loss": 1.0 / step})
    tracker.log_text(step, "validation sentences", "a **b** <c>")
    tracker.close()
"""


class Recorder:
    """A tracker that remembers, or one that is broken from some call on."""

    def __init__(self, broken=None):
        self.calls, self.broken = [], broken

    def _note(self, *call):
        self.calls.append(call)
        if call[0] == self.broken:
            raise ConnectionError("no network")

    def log_metrics(self, step, values):
        self._note("metrics", step, dict(values))

    def log_text(self, step, name, text):
        self._note("text", step, name, text)

    def close(self, *, failed=False):
        self._note("close", *(["failed"] if failed else []))


def test_the_log_tells_the_tracker_what_it_tells_tensorboard(tmp_path):
    recorder = Recorder()
    with RunLog(tmp_path, enabled=True, step=0, total=2, silent=True, tracker=recorder) as log:
        log.log_metrics(1, "train", {"loss": 2.0, "odd": float("nan")})
        log.log_text(1, "settings", as_table(SETTINGS))
        log.log_text(1, "validation sentences", "")
    assert recorder.calls == [
        ("metrics", 1, {"train/loss": 2.0}),
        ("text", 1, "settings", as_table(SETTINGS)),
        ("close",),
    ]


@pytest.mark.parametrize(("call", "calls"), [("metrics", 1), ("close", 3)])
def test_a_tracker_that_fails_does_not_end_the_run(tmp_path, capsys, call, calls):
    broken = Recorder(broken=call)
    with RunLog(tmp_path, enabled=True, step=0, total=2, tracker=broken) as log:
        for step in (1, 2):
            log.log_metrics(step, "train", {"loss": 2.0})
    assert len(broken.calls) == calls
    assert "tracking has ended (ConnectionError: no network)" in capsys.readouterr().err
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_tensorboard_reads_the_texts(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path, enabled=True, step=0, total=2, silent=True) as log:
        log.log_text(3, "settings", "| a | b |")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (found,) = events.Tensors("settings")
    assert found.step == 3 and found.tensor_proto.string_val == [b"| a | b |"]
    assert events.SummaryMetadata("settings").plugin_data.plugin_name == "text"


def test_settings_are_flat_and_a_table():
    assert flat_settings(SETTINGS) == {"model.seed": 1, "model.freeze": "[]", "out_dir": "none"}
    assert as_table({"a": "x|y"}) == "| setting | value |\n|---|---|\n| a | x&#124;y |" and as_table({}) == ""


def test_a_run_keeps_its_identity_and_another_of_that_name_has_its_own(tmp_path):
    folders = [tmp_path / place / "runs" / "mein Lauf é" for place in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    first, second = map(identity_of, folders)
    assert re.fullmatch(r"runs-mein-Lauf-\w{8}", first) and first != second
    assert identity_of(folders[0].rename(tmp_path / "moved")) == first


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="--track wandb: .*pip install wandb"):
        find_library("wandb")


def test_a_library_that_does_not_begin_is_told_in_a_line_and_leaves_no_run(tmp_path, monkeypatch):
    def init(**given):
        Path(given["dir"], "wandb/run-1").mkdir(parents=True)
        raise ConnectionError("nobody is\nlogged in")

    monkeypatch.setattr(track, "find_library", lambda name: SimpleNamespace(init=init))
    refused = pytest.raises(InputError, match="--track wandb: nobody is logged in; see docs/ecosystem.md")
    with refused:
        open_tracker("wandb", tmp_path, SETTINGS)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("span_electra.training.run.find_library", lambda name: None)
    run = small_run(write_rows(tmp_path / "train"), tmp_path / "run", track="wandb")
    with refused:
        run_pretraining(run)
    assert state_of(tmp_path / "run") == "new" and not (tmp_path / "run/run.json").exists()


@pytest.mark.parametrize("failed", [False, True])
def test_the_report_goes_along_as_an_artefact_and_how_the_run_ended(tmp_path, monkeypatch, failed):
    (tmp_path / "report.html").write_text("page")
    said = []
    artifact = SimpleNamespace(add_file=lambda path: said.append(("file", path)))
    library = SimpleNamespace(
        init=lambda **given: said.append(("init", given["config"], given["resume"])),
        Artifact=lambda name, type: artifact,
        log_artifact=lambda given: said.append(("artifact", given is artifact)),
        finish=lambda exit_code: said.append(("finish", exit_code)),
    )
    monkeypatch.setattr(track, "find_library", lambda name: library)
    open_tracker("wandb", tmp_path, SETTINGS).close(failed=failed)
    assert said == [
        ("init", flat_settings(SETTINGS), "allow"),
        ("file", str(tmp_path / "report.html")),
        ("artifact", True),
        ("finish", int(failed)),
    ]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_the_library_itself_offline(name, tmp_path):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"pip install {name}")
    run = tmp_path / "run"
    run.mkdir()
    (run / "report.html").write_text("page")
    offline = {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWED, name, str(run)],
        cwd=tmp_path,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    if name == "wandb":
        assert len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 2
    elif name == "mlflow":
        with sqlite3.connect(tmp_path / "mlflow.db") as database:
            runs = database.execute("select count(*) from runs").fetchone()
            steps = database.execute("select step, value from metrics order by step").fetchall()
            params = dict(database.execute("select key, value from params").fetchall())
        assert runs == (1,) and steps == [(1, 1.0), (2, 0.5)], "the resumed run goes on as the same one"
        assert params == {"model.seed": "1", "freeze": "[]"}
        assert list(tmp_path.rglob("report.html"))[1:], "a copy of the report is among the artefacts"
    else:
        stored = (path for path in (tmp_path / "trackio" / "artifacts").rglob("*") if path.is_file())
        assert "page" in [path.read_text() for path in stored], "the report is an artefact"


def test_a_training_run_is_followed_with_settings_metrics_and_sentences(tmp_path, monkeypatch):
    recorder, handed = Recorder(), []
    monkeypatch.setattr(
        recorder, "close", lambda **_: handed.append(Path(tmp_path, "run/report.html").read_text())
    )
    opened = []
    monkeypatch.setattr("span_electra.training.run.find_library", lambda name: None)
    monkeypatch.setattr(
        "span_electra.training.run.open_tracker", lambda *given: opened.append(given) or recorder
    )
    settings = json.dumps({"model": {}, "training": {"track": "wandb"}})
    run = small_run(write_rows(tmp_path / "train"), tmp_path / "run", epochs=1, track="wandb")
    run_pretraining(replace(run, config_json=settings, live_report=True))
    assert opened[0][0] == "wandb" and opened[0][2] == json.loads(settings)
    kinds = [call[0] for call in recorder.calls]
    assert "metrics" in kinds
    assert handed == [(tmp_path / "run/report.html").read_text()], "the last report is the one that goes"
    texts = [call[2] for call in recorder.calls if call[0] == "text"]
    assert texts == ["settings", "start", "validation sentences"]


def test_a_run_that_ends_by_an_error_is_told_as_failed(tmp_path):
    recorder = Recorder()
    with pytest.raises(InputError), RunLog(tmp_path, enabled=True, step=0, total=2, tracker=recorder):
        raise InputError("out of memory")
    assert recorder.calls == [("close", "failed")]
