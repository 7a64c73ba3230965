"""What a run writes about itself: JSON lines, TensorBoard curves, and lines or a bar on the screen.

metrics.jsonl   {"step": 50, "split": "train", "loss": 21.4, ...} a line, whole lines only
log.txt         the lines of the screen: what was begun, how long it takes, validations, warnings
tensorboard/    the same numbers as curves, the settings and validation sentences as text
a tracker       the same again, where one is asked for (track.py)
"""

from __future__ import annotations

import io
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from span_electra import progress
from span_electra.counted import counted
from span_electra.errors import InputError
from span_electra.storage import LOG, METRICS, TENSORBOARD, AppendedFile, write_text
from span_electra.training.track import Tracker

# Fits a terminal of 80 columns, with so many characters of metrics; the rest of them is in the log.
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining} left{postfix}"
ON_THE_BAR = 24
ESTIMATE_AFTER = 10.0  # seconds of steps, of which the first, with what is set up in it, is not one


class RunLog:
    """Writes and prints what a run has to say; on all processes but the main one it does nothing."""

    def __init__(
        self,
        folder: Path,
        *,
        enabled: bool,
        step: int,
        total: int,
        validated: bool = True,
        silent: bool = False,
        shown: Mapping[str, str] | None = None,
        epoch_digits: int = 1,
        tracker: Tracker | None = None,
    ) -> None:
        """`epoch_digits`: digits of the epoch's number in a line on the screen.

        `validated`: whether this step's validation is done; if not, what stands of it is of a dead start.
        `shown`: metric -> its short name in such a line; none: all metrics, as they are named.
        """
        self.enabled, self.folder, self.silent, self.shown = enabled, folder, silent, shown or {}
        self.epoch_digits, self.tracker = epoch_digits, tracker
        self.step, self.total = step, total
        self.timed_from: tuple[float, int] | None = None  # when which step was done: the first of this start
        self.estimated = False
        self.entered = ExitStack()
        if not enabled:
            return
        # A resumed run makes the steps after its checkpoint again, and logs them again.
        cut_after(folder / METRICS, step, validated=validated)
        self.lines, self.log = AppendedFile(folder / METRICS), AppendedFile(folder / LOG)
        self.curves = EventFile(folder / TENSORBOARD, step)
        tqdm.set_lock(threading.RLock())  # its own also serves processes, and leaks when one is killed
        # Without a known end nothing can be said of what is left: tqdm's own line then.
        form = BAR if total else None
        self.bar = tqdm(
            total=total or None,
            initial=step,
            unit="step",
            bar_format=form,
            dynamic_ncols=True,
            disable=silent or None,
        )

    def __enter__(self) -> RunLog:
        if self.enabled and not self.silent:
            self.entered.enter_context(progress.saying(self.pace))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.enabled:
            self.entered.close()
            self.bar.close()
            # While the log is open: it may fail now too.
            self._track(lambda tracker: tracker.close(failed=kind is not None))
            for file in (self.lines, self.log, self.curves):
                file.close()

    def advance(self) -> None:
        """One step is done. Once, after the first seconds, how long the rest will take is said."""
        if not self.enabled:
            return
        self.step += 1
        self.bar.update(1)
        now = time.monotonic()
        if self.timed_from is None:
            self.timed_from = now, self.step
        elif not self.estimated and now - self.timed_from[0] >= ESTIMATE_AFTER:
            self.estimated = True
            self.info(self.pace())

    def expect(self, total: int) -> None:
        """Show so many steps as those of the whole run, which goes by the clock and so did not know it."""
        if self.enabled:
            self.total = self.bar.total = total

    def place(self, step: int) -> str:
        """Example: `step 34 of 1,000`"""
        return f"step {step:,} of {self.total:,}" if self.total else f"step {step:,}"

    def pace(self) -> str:
        """Example: `step 34 of 1,000; 3.1 s a step, about 50 minutes to go`"""
        begun, first = self.timed_from or (0.0, self.step)
        line = self.place(self.step)
        if self.step == first or not self.total:
            return line
        seconds = (time.monotonic() - begun) / (self.step - first)
        left = max(0, self.total - self.step)  # by the clock the total is a guess
        return f"{line}; {seconds:.2g} s a step, {about(seconds * left)} to go"

    def say_start(self, lines: Mapping[str, str]) -> None:
        """Print what is begun, a fact a line, and keep it in the log."""
        if self.enabled:
            self.info("\n".join(f"{name:<10}{text}" for name, text in lines.items()))
            self.log_text(self.step, "start", "\n".join(f"- {name}: {text}" for name, text in lines.items()))

    def log_metrics(self, step: int, split: str, metrics: Mapping[str, float], **extra: Any) -> None:
        """Write the metrics of `split` (train or valid) at this step; `extra` goes into the file alone."""
        if not self.enabled:
            return
        # JSON has no word for infinity or NaN; a line with one would be unreadable for other programs.
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        line = json.dumps({"step": step, "split": split, **finite, **extra}) + "\n"
        if not self.folder.is_dir():  # its open files would still take what nobody can read
            raise InputError(f"{self.folder}: is gone; a run needs its folder, start it again in another")
        self.lines.append(line.encode())
        named = {f"{split}/{name}": value for name, value in finite.items()}
        self.curves.write(step, named)
        self._track(lambda tracker: tracker.log_metrics(step, named))
        texts = self._texts(finite)
        epoch = f"epoch {metrics['epoch']:0{self.epoch_digits}.0f}  " if "epoch" in metrics else ""
        line = f"{epoch}{self.place(step)}  {split}: {'  '.join(texts)}"
        if self.bar.disable or split != "train":
            self.info(line)
        else:
            self.log.append(as_utf8(f"{line}\n"))
            speed = finite.get("tokens_per_second")
            said = [] if speed is None else [f"{tqdm.format_sizeof(speed)} tokens/s"]
            two = texts[:2] if len(", ".join(texts[:2])) <= ON_THE_BAR else texts[:1]
            self.bar.set_postfix_str(", ".join(said + two), refresh=False)

    def _texts(self, metrics: Mapping[str, float]) -> list[str]:
        """The metrics that fit into a line; where none of those is there, all."""
        known = any(name in metrics for name in self.shown if name != "loss")
        # The epoch leads the line, and how many tokens it was tells less than how fast they went.
        others = {name: name for name in metrics if name not in ("epoch", "tokens")}
        names = self.shown if known else others
        return [f"{names[name]} {metrics[name]:.4g}" for name in names if name in metrics]

    def log_text(self, step: int, name: str, text: str) -> None:
        """Keep a text in Markdown: in TensorBoard's text tab, and where the run is tracked."""
        if self.enabled and text:
            self.curves.write_text(step, name, text)
            self._track(lambda tracker: tracker.log_text(step, name, text))

    def _track(self, call: Callable[[Tracker], None]) -> None:
        """Tell the tracker. One that fails (a network, a quota) is left: a training of days goes on."""
        if self.tracker is None:
            return
        try:
            call(self.tracker)
        except Exception as error:
            self.tracker = None
            self.info(f"tracking has ended ({type(error).__name__}: {error}); the run goes on without it")

    def info(self, text: str) -> None:
        """Print a line without breaking the bar, and keep it in the log."""
        if not self.enabled:
            return
        self.log.append(as_utf8(f"{text}\n"))
        if not self.silent:
            tqdm.write(text, file=sys.stderr)
            progress.wait()


def as_utf8(text: str) -> bytes:
    """What is written of a text; bytes of a path in it that are no UTF-8 are escaped."""
    return text.encode(errors="backslashreplace")


def about(seconds: float) -> str:
    """Example: 5400 -> about 90 minutes"""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:,.0f} {unit}"
    return f"about {counted(round(seconds), 'second')}"


# --- TensorBoard --------------------------------------------------------------------------------------


class EventFile(AppendedFile):
    """TensorBoard's event file of a run from `step` on; later steps in earlier files no longer count.

    Its own writer buffers, so that a kill or a full disk leaves half a record, which ends the reading of a
    file; here a record is on its way to the disk, whole, before the call returns. The file's name begins with
    the step, not with the time, so that the files of a resumed run are read in order whatever the clock says.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog  # a second to import

        # A file for each start: the one before may end in half a record.
        number = sum(1 for _ in folder.glob("*tfevents*"))
        super().__init__(folder / f"events.out.tfevents.{step:010d}.{number}")
        self._append_event(file_version="brain.Event:2")
        if step or number:
            # Tells TensorBoard to forget the points beyond this step, which an abandoned future has left.
            self._append_event(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one point to each named curve. Raises OSError naming the file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._append_event(step=step, summary=Summary(value=points))

    def write_text(self, step: int, name: str, text: str) -> None:
        """Append a text, which TensorBoard shows as Markdown. Raises OSError naming the file."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        shown_by = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        content = TensorProto(dtype=DT_STRING, string_val=[as_utf8(text)])
        value = Summary.Value(tag=name, metadata=shown_by, tensor=content)
        self._append_event(step=step, summary=Summary(value=[value]))

    def _append_event(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **event).SerializeToString())
        self.append(record.getvalue())


# --- resuming ------------------------------------------------------------------------------------------


def cut_after(path: Path, step: int, *, validated: bool = True) -> None:
    """Drop lines beyond `step`, and a last line that a kill cut off, so that no step is logged twice.

    Not validated: a validation of this very step is still to come, and drops too.
    """
    if not path.exists():
        return
    # A kill may have cut a character in two; such a line is dropped below.
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and not _lies_beyond(line, step, validated)]
    if kept != lines:
        write_text(path, "".join(kept))


def _lies_beyond(line: str, step: int, validated: bool) -> bool:
    try:
        metrics = json.loads(line)
        to_come = metrics.get("split") == "valid" and not validated
        return metrics["step"] > step or (metrics["step"] == step and to_come)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return True
