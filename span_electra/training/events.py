"""Numbers -> TensorBoard's event files, a whole record at a time, written before the call returns.

The file's name begins with the step it starts from, not with the time, so that the files of a run that was
stopped and resumed are read in their order whatever the clock says.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path

from span_electra.training.run_folder import Appended


class Events:
    """The event file of a run from `step` on; what earlier files tell of later steps no longer counts."""

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # a second to import

        number = sum(1 for _ in folder.glob("*tfevents*"))
        self.file = Appended(folder / f"events.out.tfevents.{step:010d}.{number}")
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if step:
            start = SessionLog(status=SessionLog.START)
            self._append(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one point to each named curve. Raises OSError naming the file."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._append(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))

    def _append(self, event: object) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self.file.append(record.getvalue())

    def close(self) -> None:
        """Close the file."""
        self.file.close()
