"""A run as it stands -> its report.html: curves, the data in numbers, sentences as both networks see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from span_electra.config import LoaderConfig
from span_electra.model.electra import SpanElectra
from span_electra.pretraining.data import Data
from span_electra.pretraining.loader import Batches
from span_electra.report.examples import collect_examples, write_examples
from span_electra.report.page import write_report
from span_electra.report.statistics import UsedRows, write_statistics


def write_live_report(folder: Path, data: Data, loader: LoaderConfig, model: SpanElectra | None) -> None:
    """Write the run's report; without `model` the sentences stay as they were. Draws no random numbers."""
    held_out = len(data.valid_rows) > 0
    if model is not None:
        rows = data.valid_rows if held_out else data.train_rows
        # The first batch of epoch 0, the same in every report: sentences can be followed as the model learns.
        batch = Batches(data.valid, replace(loader, workers=0, pack_rows=False), epoch=0, rows=rows).build(0)
        write_examples(folder, collect_examples(model, batch, data.train.vocabulary))
    valid = UsedRows(data.valid, data.valid_rows) if held_out else None
    write_statistics(folder, UsedRows(data.train, data.train_rows), valid)
    write_report(folder)
