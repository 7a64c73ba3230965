"""A run as it stands -> its report.html: curves, the data in numbers, sentences as both networks see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from span_electra.model.electra import SpanElectra
from span_electra.pretraining.experiment import Data, TrainingRun
from span_electra.pretraining.loader import Batches
from span_electra.report.examples import collect_examples, write_examples
from span_electra.report.page import write_report
from span_electra.report.statistics import write_statistics


def picture(settings: TrainingRun, data: Data, model: SpanElectra | None) -> None:
    """Write the run's report; without `model` the sentences stay as they were. Draws no random numbers."""
    folder, held_out = Path(settings.out_dir), len(data.valid_rows) > 0
    if model is not None:
        rows = data.valid_rows if held_out else data.train_rows
        loader = replace(settings.valid_loader, workers=0)
        batch = Batches(data.valid, loader, epoch=0, rows=rows).build(0)
        write_examples(folder, collect_examples(model, batch, data.train.vocabulary))
    write_statistics(folder, data.train, data.valid if held_out else None)
    write_report(folder)
