"""Two thousand steps need no more memory, files, threads or processes than two hundred.

Run: pytest -m slow tests/test_long_life.py
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from run_examples import write_rows

ROOT = Path(__file__).resolve().parent.parent
STEPS, SETTLED = 2000, 500  # allocators and caches have their size by then

WATCHED = """
import json, os, sys, threading
sys.path[:0] = [{tests!r}, {root!r}]
from dataclasses import replace
from run_examples import small_run
from span_electra.training import loop
from span_electra.pretraining.experiment import run_pretraining

def now():
    kilobytes = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
    children = open(f"/proc/self/task/{{os.getpid()}}/children").read().split()
    return [kilobytes, len(os.listdir("/proc/self/fd")), threading.active_count(), len(children)]

seen, log_metrics = {{}}, loop.log_metrics
def watching(run, state):
    log_metrics(run, state)
    seen[state.step] = now()
loop.log_metrics = watching
settings = small_run({features!r}, {folder!r}, log_steps=100, eval_every="100", save_every="100", epochs=400)
run_pretraining(replace(settings, training=replace(settings.training, max_steps={steps})))
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_nothing_grows_over_two_thousand_steps(tmp_path):
    names = {"tests": str(ROOT / "tests"), "root": str(ROOT), "steps": STEPS, "folder": str(tmp_path / "run")}
    code = WATCHED.format(features=write_rows(tmp_path / "rows.arrow"), **names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen = {int(step): counts for step, counts in json.loads(done.stdout.splitlines()[-1]).items()}
    late = [counts for step, counts in seen.items() if step >= SETTLED]
    assert max(seen) == STEPS and len(late) == 16
    memory, files, threads, children = zip(*late, strict=True)
    assert max(memory) < 1.03 * memory[0], memory
    assert len(set(files)) == len(set(children)) == 1, (files, children)
    assert max(threads) - min(threads) <= 1, threads  # a batch may be in preparation
