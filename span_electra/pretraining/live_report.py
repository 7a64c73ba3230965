"""A run as it stands -> its report.html: curves, the data in numbers, sentences as both networks see them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from span_electra.model.electra import SpanElectra
from span_electra.pretraining.course import Course, MaskingSchedule, final_masking
from span_electra.pretraining.data import Data
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.settings import PretrainingSettings
from span_electra.report.examples import as_markdown, collect_examples, write_examples
from span_electra.report.page import make_page
from span_electra.report.run_record import read_run
from span_electra.report.statistics import UsedRows, write_statistics


def write_live_report(settings: PretrainingSettings, data: Data, model: SpanElectra | None) -> str:
    """Write the run's report and return its sentences as Markdown. Draws no random numbers.

    Without `model` the page's sentences stay as they were, and none are returned. Sentences and numbers have
    the masks of the run's validations, whichever its features have. What fails is a warning.
    """
    try:
        return _write(settings, data, model)
    except Exception as error:  # whatever a page lacks, a full disk too: a training of days goes on
        warnings.warn(f"report.html is not written: {type(error).__name__}: {error}", stacklevel=2)
        return ""


def _write(settings: PretrainingSettings, data: Data, model: SpanElectra | None) -> str:
    folder, held_out = Path(settings.out_dir), len(data.valid_rows) > 0
    masking = final_masking(settings, data.train.header.masking)
    if model is not None:
        rows = data.valid_rows if held_out else data.train_rows
        # The first batch of epoch 0, the same in every report: sentences can be followed as the model learns.
        loader = replace(settings.valid_loader, workers=0, pack_rows=False)
        course = Course(schedule=None if masking is None else MaskingSchedule.constant(masking))
        batch = Batches(data.valid, loader, epoch=0, rows=rows, course=course).build(0)
        write_examples(folder, collect_examples(model, batch, data.train.vocabulary))
    valid = UsedRows(data.valid, data.valid_rows, masking) if held_out else None
    write_statistics(folder, UsedRows(data.train, data.train_rows, masking), valid)
    make_page([str(folder)])
    run = read_run(folder)
    return "" if model is None else as_markdown(run.examples, with_verdicts=run.has_verdicts)
