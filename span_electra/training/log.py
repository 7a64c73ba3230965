"""What a run tells: metrics from counts, as JSON lines, TensorBoard curves and a progress bar.

metrics.jsonl   {"step": 50, "split": "train", "loss": 21.4, ...} a line, whole lines only
tensorboard/    the same numbers as curves
"""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from span_electra.errors import InputError
from span_electra.model.batch import TALLY
from span_electra.training.events import Events
from span_electra.training.run_folder import Appended, replace_text

METRICS = "metrics.jsonl"
SHOWN = {  # what fits into a line on the screen
    "loss": "loss",
    "generator_loss": "gen",
    "discriminator_loss": "disc",
    "generator_accuracy": "gen acc",
    "discriminator_f1": "F1",
    "discriminator_precision": "P",
    "discriminator_recall": "R",
    "replaced_share": "replaced",
    "tokens_per_second": "tok/s",
}


def metrics_of(sums: Mapping[str, float]) -> dict[str, float]:
    """Turn summed counts (batch.TALLY, and `loss` summed over `steps`) into means and shares.

    A share of nothing is left out, so that no metric is a guess. F1, precision and recall are those of the
    discriminator's finding replaced tokens; replaced_share is of all tokens; losses are nats a token.
    """
    tokens, masked, replaced, hits = (sums[name] for name in ("tokens", "masked", "replaced", "hits"))
    shares = {
        "loss": (sums.get("loss", 0.0), sums.get("steps", 0.0)),
        "generator_loss": (sums["generator_loss"], masked),
        "generator_accuracy": (sums["generator_correct"], masked),
        "discriminator_loss": (sums["discriminator_loss"], tokens),
        "discriminator_precision": (hits, sums["flagged"]),
        "discriminator_recall": (hits, replaced),
        "discriminator_f1": (2 * hits, sums["flagged"] + replaced),
        "discriminator_accuracy": (tokens - sums["flagged"] - replaced + 2 * hits, tokens),
        "original_accuracy": (tokens - replaced - sums["flagged"] + hits, tokens - replaced),
        "replaced_share": (replaced, tokens),
        "replaced_of_masked": (replaced, masked if tokens else 0.0),
    }
    metrics = {name: above / below for name, (above, below) in shares.items() if below}
    for name in ("SBGO_loss", "SBPO_loss"):
        if sums[name]:
            metrics[name] = sums[name] / masked
    return metrics


METRIC_NAMES = tuple(metrics_of(dict.fromkeys((*TALLY, "loss", "steps"), 0.9)))


class RunLog:
    """Writes what a run tells; on all processes but the leading one it writes nothing."""

    def __init__(self, folder: Path, leads: bool, step: int, total: int, silent: bool = False) -> None:
        self.leads, self.folder, self.silent = leads, folder, silent
        if not leads:
            return
        cut_after(folder / METRICS, step)
        self.lines = Appended(folder / METRICS)
        self.curves = Events(folder / "tensorboard", step)
        tqdm.set_lock(threading.RLock())  # its own also serves processes, and leaks when one is killed
        self.bar = tqdm(total=total, initial=step, unit="step", dynamic_ncols=True, disable=silent or None)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self.leads:
            self.bar.close()
            self.lines.close()
            self.curves.close()

    def advance(self) -> None:
        """One step is done."""
        if self.leads:
            self.bar.update(1)

    def write(self, step: int, split: str, metrics: Mapping[str, float], **more: Any) -> None:
        """Tell the metrics of `split` (train or valid) at this step."""
        if not self.leads:
            return
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        line = json.dumps({"step": step, "split": split, **finite, **more}) + "\n"
        if not self.folder.is_dir():  # its open files would still take what nobody can read
            raise InputError(f"{self.folder}: is gone; a run needs its folder, start it again in another")
        self.lines.append(line.encode())
        self.curves.write(step, {f"{split}/{name}": value for name, value in finite.items()})
        names = SHOWN if any(name in finite for name in SHOWN if name != "loss") else dict.fromkeys(finite)
        shown = "  ".join(f"{names[name] or name} {finite[name]:.4g}" for name in names if name in finite)
        if self.bar.disable:
            self.say(f"step {step:,} of {self.bar.total:,}  {split}: {shown}")
        elif split == "train":
            self.bar.set_postfix_str(shown, refresh=False)
        else:
            self.say(f"step {step:,}  {split}: {shown}")

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        if self.leads and not self.silent:
            tqdm.write(text, file=sys.stderr)


def cut_after(path: Path, step: int) -> None:
    """Drop lines beyond `step`, and a last line that a kill cut off, so that no step is told twice."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
    if kept != lines:
        replace_text(path, "".join(kept))


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf
