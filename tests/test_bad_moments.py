"""A disk that fills up, goes read-only or loses the folder: one line, nothing half-written, and one goes on.

Run: pytest tests/test_bad_moments.py. The disks are small tmpfs mounts; without the right to mount, skipped.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from feature_examples import VOCABULARY, build, text
from run_examples import small_run, write_rows
from shell_examples import exit_code

from span_electra.pretraining.experiment import run_pretraining
from span_electra.pretraining.loader import Batches
from span_electra.text.vocabulary_builder import VocabularyConfig, build_vocabulary
from span_electra.training import checkpoint, loop


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small file system, or mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")

    def mount(options: str) -> Path:
        again = "remount," if place.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this system lets nobody mount a tmpfs")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


def refused(action, capfd) -> str:
    """Run it as a script does; it must end with code 2 and one line, which is returned."""
    capfd.readouterr()
    code = exit_code(action)
    lines = capfd.readouterr().err.splitlines()
    said = [line for line in lines if line.startswith("error: ")]
    assert code == 2 and len(said) == 1 and "Traceback" not in "".join(lines), lines
    return said[0]


def test_features_wait_for_room_and_then_have_the_same_bytes(tmp_path, disk, capfd):
    (tmp_path / "a.txt").write_text(text(4000, 1))
    build(tmp_path / "a.txt", VOCABULARY, tmp_path / "whole.arrow")
    out_file = disk("size=128k") / "f.arrow"
    assert (tmp_path / "whole.arrow").stat().st_size > 128 << 10
    assert "No space left" in refused(lambda: build(tmp_path / "a.txt", VOCABULARY, out_file), capfd)
    assert {path.name for path in out_file.parent.iterdir()} <= {".f.arrow.parts"}
    disk("size=8m")
    build(tmp_path / "a.txt", VOCABULARY, out_file)
    assert out_file.read_bytes() == (tmp_path / "whole.arrow").read_bytes()


def test_a_vocabulary_that_does_not_fit_leaves_none(tmp_path, disk, capfd):
    (tmp_path / "a.txt").write_text(text(2000, 1))
    settings = VocabularyConfig(vocab_size=400)
    place = disk("size=12k")
    said = refused(
        lambda: build_vocabulary(tmp_path / "a.txt", place / "v", "trial", settings) and None, capfd
    )
    assert "No space left" in said
    assert not [path for path in place.rglob("*") if path.is_file()]


def test_a_run_goes_on_where_the_disk_was_full(tmp_path, disk, capfd):
    features = write_rows(tmp_path / "rows.arrow")
    whole = run_pretraining(small_run(features, tmp_path / "whole", save_every="3"))
    size = sum(path.stat().st_size for path in Path(whole.checkpoint).iterdir())
    place = disk(f"size={(size * 2 + (64 << 10)) // 1024}k")  # room for two checkpoints, not for a third
    options = {"save_every": "3", "save_last": 9}

    def train(resume=None):
        run_pretraining(small_run(features, place / "run", resume=resume, **options))

    assert "No space left" in refused(train, capfd)
    assert checkpoint.latest(place / "run") is not None
    disk("size=64m")
    train(resume=place / "run")
    ends = [
        checkpoint.load(checkpoint.latest(folder)).weights for folder in (tmp_path / "whole", place / "run")
    ]
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())


def test_a_disk_that_is_full_when_the_run_tells_how_it_stands_is_named_in_one_line(
    tmp_path, disk, monkeypatch, capfd
):
    features, place, log_metrics = write_rows(tmp_path / "rows.arrow"), disk("size=16m"), loop.log_metrics

    def filled(run, state):
        with suppress(OSError), (place / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(1 << 12))
        while True:  # the last page of the file still takes some lines
            log_metrics(run, state)

    monkeypatch.setattr(loop, "log_metrics", filled)
    said = refused(lambda: run_pretraining(small_run(features, place / "run", log_steps=4)) and None, capfd)
    assert "No space left" in said and str(place / "run") in said
    for line in (place / "run" / "metrics.jsonl").read_text().splitlines(keepends=True):
        assert line.endswith("}\n")


def test_a_disk_that_went_read_only_is_named(tmp_path, disk, capfd):
    (tmp_path / "a.txt").write_text(text(100, 1))
    place = disk("size=4m")
    disk("size=4m,ro")
    features = write_rows(tmp_path / "rows.arrow")
    for action in (
        lambda: build(tmp_path / "a.txt", VOCABULARY, place / "f.arrow") and None,
        lambda: run_pretraining(small_run(features, place / "run")) and None,
    ):
        said = refused(action, capfd)
        assert str(place) in said and "Read-only" in said, said


def test_a_run_folder_deleted_under_the_run_ends_it_in_one_line(tmp_path, monkeypatch, capfd):
    features, folder, log_metrics = write_rows(tmp_path / "rows.arrow"), tmp_path / "run", loop.log_metrics

    def deleting(run, state):
        log_metrics(run, state)
        shutil.rmtree(folder, ignore_errors=True)

    monkeypatch.setattr(loop, "log_metrics", deleting)
    assert "run" in refused(lambda: run_pretraining(small_run(features, folder, log_steps=4)) and None, capfd)


def test_a_thread_of_the_loader_that_fails_ends_the_run_with_its_reason(tmp_path, monkeypatch):
    features, build_batch = write_rows(tmp_path / "rows.arrow"), Batches.build

    def failing(batches, number):
        if number == 4:
            raise OSError(5, "Input/output error", features)
        return build_batch(batches, number)

    monkeypatch.setattr(Batches, "build", failing)
    with pytest.raises(OSError, match="Input/output error"):
        run_pretraining(small_run(features, tmp_path / "run"))
