"""The arguments of evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from span_electra.config import DeviceConfig
from span_electra.data_config import TextConfig
from span_electra.schema import Settings, same, setting


@dataclass(frozen=True)
class EvaluationArguments(Settings):
    """What is evaluated, and on what."""

    READ_WITH = {
        "scores": ("pairs",),
        "correction_rows": ("spelling",),
        **dict.fromkeys(("max_seq_len", "text_field", "errors"), ("text",)),
        "data_dir": ("task_file",),
    }

    model: str | None = setting(
        None, "a run or an exported folder; none: the newest run in runs/ (with --task_file name one)"
    )
    pairs: list[str] = setting([], "minimal pairs: .jsonl files, also packed, or folders of them")
    scores: list[str] = setting(
        [], "of pairs: discriminator, pll, pll_l2r; none: all that the model can give"
    )
    spelling: str | None = setting(None, "folder with dev/ and test/, each with corrupt.txt and correct.txt")
    correction_rows: int = setting(200, "lines of each clean-text set that are corrected; 0: none", least=0)
    text: str | None = setting(None, "held-out text: a file, folder, glob, URL or hf:NAME")
    text_field: str = same(TextConfig, "text_field")
    errors: str = same(TextConfig, "errors")
    task_file: str | None = setting(None, "YAML: tasks on which a run of finetune_SE.py is tried")
    data_dir: str = setting("data", "folder that the task file's files lie in")
    max_seq_len: int = setting(128, "tokens of the longest row of --text, [CLS] and [SEP] included", least=3)
    batch_size: int = setting(256, "rows computed together", least=1)
    device: str = same(DeviceConfig, "device", group="")
    out_file: str | None = setting(None, "JSON; none: evaluation.json in the run's folder, else here")
