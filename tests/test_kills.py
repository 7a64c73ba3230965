"""Killed with SIGKILL at random moments and started again, every stage ends as if it had never been stopped.

Run: pytest -m slow tests/test_kills.py

A nursery process imports everything once and forks a child for each attempt, so that a kill costs a fraction
of a second. Kills fall anywhere in the time that an undisturbed child takes.
"""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from feature_examples import VOCABULARY, text
from run_examples import write_rows
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from span_electra.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent
KILLS = 30

NURSERY = """
import os, sys, pathlib
sys.path[:0] = [{tests!r}, {root!r}]
{job}
for line in sys.stdin:
    child = os.fork()
    if not child:
        sys.stderr = open(os.devnull, "w")
        try:
            job(pathlib.Path(line.strip()))
        finally:
            os._exit(sys.exc_info()[0] is not None)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""

FEATURES = """
from span_electra.data_config import ChunkConfig, MaskingConfig
from span_electra.features import build as features
from span_electra.features.header import wanted_features
from span_electra.text.vocabulary import Vocabulary
vocabulary = Vocabulary.from_json(pathlib.Path({place!r}, "tokenizer.json").read_text())
def job(out):
    out.mkdir(exist_ok=True)
    wanted = wanted_features(vocabulary, ChunkConfig(64), MaskingConfig(), chunk_size=5)
    features.build_features({place!r} + "/text", vocabulary, out / "f.arrow", wanted, progress=False)
"""

VOCABULARIES = """
from span_electra.text import vocabulary_builder as builder
settings = builder.VocabularyConfig(vocab_size=300)
def job(out):
    builder.build_vocabulary({place!r} + "/text", out, "trial", settings)
"""

TRAINING = """
from run_examples import small_run
from span_electra.config import OptimizerConfig
from span_electra.training import run_folder as runfolder
from span_electra.pretraining.experiment import run_pretraining
def job(out):
    resume = out if runfolder.state_of(out) == "resumable" else None
    options = dict(save_every="3", eval_every="5", gradient_accumulation_steps=2, epochs=6, log_steps=2)
    run_pretraining(small_run({place!r} + "/rows.arrow", out, resume=resume, **options))
"""


class Nursery:
    """Runs the job in children that can be killed."""

    def __init__(self, job: str, place: Path) -> None:
        names = {"tests": str(ROOT / "tests"), "root": str(ROOT), "job": job.format(place=str(place))}
        command = [sys.executable, "-c", NURSERY.format(**names)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"OMP_NUM_THREADS": "1"}
        )

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def attempt(self, out: Path, seconds: float | None = None) -> tuple[bool, float]:
        """Run the job, killing it after so many seconds; return whether it came to its end, and its time."""
        self.process.stdin.write(f"{out}\n")
        self.process.stdin.flush()
        child, began = int(self.process.stdout.readline()), time.monotonic()
        if seconds is not None:
            while time.monotonic() - began < seconds and _lives(child):
                time.sleep(0.001)
            subprocess.run(["kill", "-KILL", str(child)], stderr=subprocess.DEVNULL)
        status = int(self.process.stdout.readline())
        assert status in (0, 9), f"the job failed by itself ({status})"
        return status == 0, time.monotonic() - began


def _lives(child: int) -> bool:
    try:
        return Path(f"/proc/{child}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def kill_until_done(nursery: Nursery, place: Path, check) -> int:
    """Kill runs at random moments, each until it is done, and check it; return how many kills hit."""
    nursery.attempt(place / "warm")
    _, usual = nursery.attempt(place / "whole")
    dice, kills, number = random.Random(0), 0, 0
    while kills < KILLS:
        out, done = place / f"killed-{number}", False
        while not done and kills < KILLS:
            done, _ = nursery.attempt(out, dice.uniform(0.02, 1.0) * usual)
            kills += not done
        if not done:
            nursery.attempt(out)
        check(place / "whole", out)
        shutil.rmtree(out)
        number += 1
    return kills


def same_files(whole: Path, killed: Path) -> None:
    names = sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(killed)) for path in killed.rglob("*") if path.is_file())
    for name in names:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def same_run(whole: Path, killed: Path) -> None:
    ends = [checkpoint.load(checkpoint.latest(folder)) for folder in (whole, killed)]
    assert ends[0].meta["step"] == ends[1].meta["step"]
    assert all(torch.equal(weight, ends[1].weights[name]) for name, weight in ends[0].weights.items())
    told = []
    for folder in (whole, killed):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        told.append([(line["step"], line["split"], line["loss"]) for line in lines])
        files = [EventFileLoader(str(path)).Load() for path in (folder / "tensorboard").iterdir()]
        curves = {
            event.step
            for events in files
            for event in events
            for value in event.summary.value
            if "/" in value.tag
        }
        # A kill may lose the last ones, but none of a future that was set aside is left.
        assert curves and curves <= {step for step, *_ in told[-1]}
    assert told[0] == told[1]


def write_text(place: Path, lines: int) -> None:
    (place / "text").mkdir()
    (place / "text" / "a.txt").write_text(text(lines, 1))
    (place / "tokenizer.json").write_text(VOCABULARY.to_json())


@pytest.mark.slow
def test_features_survive_thirty_kills(tmp_path):
    write_text(tmp_path, 1500)
    with Nursery(FEATURES, tmp_path) as nursery:
        assert kill_until_done(nursery, tmp_path, same_files) == KILLS


@pytest.mark.slow
def test_vocabularies_survive_thirty_kills(tmp_path):
    write_text(tmp_path, 3000)
    with Nursery(VOCABULARIES, tmp_path) as nursery:
        assert kill_until_done(nursery, tmp_path, same_files) == KILLS


@pytest.mark.slow
def test_training_survives_thirty_kills(tmp_path):
    write_rows(tmp_path / "rows.arrow")
    with Nursery(TRAINING, tmp_path) as nursery:
        assert kill_until_done(nursery, tmp_path, same_run) == KILLS
