"""Synthetic run folders for the tests of the report."""

import json
from pathlib import Path

from span_electra.report.page import make_page

CONFIG = {
    "model": {"objective": "joint", "generator": {"hidden_size": 64}},
    "training": {"seed": 1, "device_ids": []},
    "train_data": {"train_file": ["train.arrow"]},
    "out_dir": None,
}
EXAMPLE = {
    "row": 7,
    "original": [" the", " cat", " sat", " down", "."],
    "written": [" the", " dog", " sat", " up", "."],
    "masked": [False, True, True, True, False],
    "replaced": [False, True, False, True, False],
    "probability": [0.02, 0.93, 0.08, 0.3, 0.71],
    "generator_probability": [None, 0.11, 0.8, 0.02, None],
}
STATISTICS = {
    "splits": {
        "train": {"rows": 900, "tokens": 80000, "masked": 15000, "fill": 0.94, "max_seq_len": 128,
                  "mask_ratio": 0.2, "sources": ["a.txt"], "more_sources": 2},
    },
    "lengths": {"edges": [1, 65, 129], "counts": [40, 860]},
    "spans": {"shares": [0.6, 0.4], "law": [0.55, 0.45], "mean_words": 1.4, "mean_tokens": 1.9,
              "geometric_p": 0.2, "rows": 900},
    "vocabulary": {"type": "BPE", "size": 1000, "sha256": "ab" * 32, "used": 0.99,
                   "tokens_a_word": 1.3, "unknown": 0.0, "commonest_share": 0.05, "commonest": "the"},
}  # fmt: skip


def metrics(step: int, split: str, **changes) -> dict:
    """One line of metrics.jsonl."""
    line = {
        "step": step,
        "split": split,
        "loss": 20.0 - step / 100,
        "generator_loss": 6.0 - step / 200,
        "generator_accuracy": 0.1 + step / 2000,
        "discriminator_loss": 0.3,
        "discriminator_f1": 0.5,
        "discriminator_precision": 0.6,
        "discriminator_recall": 0.4,
        "original_accuracy": 0.97,
        "replaced_share": 0.12,
        "replaced_of_masked": 0.6,
    }
    if split == "train":
        line |= {"epoch": 0, "lr": 1e-4, "tokens": 100_000.0 * step, "tokens_per_second": 2000.0}
    return line | changes


def make_run(folder: Path, **changes) -> Path:
    """A finished run of 100 steps with everything in it; `changes` replace lines, config, examples ..."""
    folder.mkdir(parents=True)
    lines = [metrics(step, split) for step in range(10, 101, 10) for split in ("train", "valid")]
    lines = changes.pop("lines", lines)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    contents = {
        "config": CONFIG,
        "run": {"state": "finished", "step": 100},
        "examples": [EXAMPLE] * 2,
        "statistics": STATISTICS,
        "evaluation": {"spelling": {"f1": 0.512}},
    } | changes
    for name, content in contents.items():
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def write_report(run: Path) -> Path:
    """The run's page, as report_SE.py makes it."""
    return make_page([str(run)])
