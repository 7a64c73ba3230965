"""What a trained model is worth to those who fine-tune it: tasks side by side, by the scripts users call.

    python benchmarks/downstream.py runs/mine --data sets                              every task, one seed
    python benchmarks/downstream.py runs/mine --data sets --tasks pos cola --seeds 3   with mean and spread
    python benchmarks/downstream.py runs/mine --data sets --rows 200                   minutes, to see it run
    python benchmarks/downstream.py runs/mine --data sets --tasks sst2 -- --from_scratch   for finetune_SE.py

Reads a run (or a folder with both exported networks) and a folder of public sets: UD English EWT, WNUT17,
SNIPS, SST-2, CoLA, MRPC, Topical-Chat, and the spelling sets of bastiscode/spell_check, laid out as `JOBS`
names them; sets that are absent are said and left out. Writes task files, runs and predictions into
--work_dir, and takes what it finds there of the same weights, data and settings; folders that it did not make
are left alone. The settings suit small encoders (4 layers of 256). Numbers are of the test sets, by the
checkpoint that is best on dev; processor seconds are a seed's, with preparing and all evaluation.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from learn import run_script, shortened, sizes_of, table

if TYPE_CHECKING:
    from span_electra.hub.opening import Opened

SPLITS = ("train", "dev", "test")
MARK = "benchmark.json"  # in each job's folder, which is ours by it: what its numbers are of, what they took
CORRECTED = 200  # lines of the correction's test set
WORDS, TEXTS = "sed_words/wikidump", "sec/wikidump"  # below spelling/dev and spelling/test


@dataclass(frozen=True)
class Job:
    """A task file, and how a small encoder learns it."""

    tasks: dict[str, dict[str, Any]]  # its sections
    epochs: int
    flags: dict[str, Any] = field(default_factory=dict)  # of finetune_SE.py, beside those of `FLAGS`


# Rates by dev sets; no dropout in the encoder, which a few epochs of a small one do not need.
FLAGS = {
    "lr": 1e-3,
    "train_batch_size": 16,
    "dropout": 0.0,
    "max_seq_len": 128,
    "log_per_updates": 0,
    "workers": 1,
}


# As the encoder was pretrained; no worse than AdamW for these tasks (docs/learning.md has what was tried).
MUON = {"optimizer": "muon", "lr": 3e-3, "adamw_lr": 1e-3}


def splits(folder: str, names: tuple[str, ...] = SPLITS, prefix: str = "") -> dict[str, str]:
    """Files of a set that names them alike. Example: "pos" -> {"train": "pos/train.tsv", ...}"""
    ending = ".jsonl" if folder == "conversation" else ".tsv"
    return {split: f"{folder}/{prefix}{name}{ending}" for split, name in zip(SPLITS, names, strict=True)}


def sentences(folder: str, metrics: list[str], pair: bool = False) -> dict[str, Any]:
    """The section of a set with a label a sentence, or a pair of them."""
    kind = "SentencePairClassification" if pair else "SingleSenClassification"
    columns = {"label": "label", "text": "sentence1"} | ({"pair": "sentence2"} if pair else {})
    return {"task_type": kind, "file_names": splits(folder), "columns": columns, "metrics": metrics}


JOBS = {
    "pos": Job({"pos": {"task_type": "NER", "file_names": splits("pos"), "metrics": ["accuracy"]}}, 3),
    "wnut17": Job(
        {"wnut17": {"task_type": "NER", "file_names": splits("ner/wnut17"), "tuned_threshold": True}}, 2, MUON
    ),
    "slots": Job({"slots": {"task_type": "NER", "file_names": splits("intent/snips", prefix="slots_")}}, 3),
    "spelling": Job(
        {
            "spelling": {
                "task_type": "SpellingWords",
                "file_names": {
                    "train": f"spelling/dev/{WORDS}/realistic",
                    "test": f"spelling/test/{WORDS}/realistic",
                },
                "val_split": 1000,
            }
        },
        2,
        {"max_seq_len": 256, "lr": 2e-4},  # lines are long, and the head is the discriminator's own
    ),
    "sst2": Job({"sst2": sentences("glue-like/sst2", ["accuracy"])}, 3, MUON),
    "cola": Job({"cola": sentences("glue-like/cola", ["matthews"])}, 6, {"lr": 3e-4}),
    "mrpc": Job(
        {"mrpc": sentences("glue-like/mrpc", ["f1", "accuracy"], pair=True)}, 5, {"lr": 3e-4, "dropout": 0.1}
    ),
    "choice": Job(
        {
            "choice": {
                "task_type": "ResponseRetrieval",
                "file_names": splits("conversation", ("train", "valid", "test")),
            }
        },
        30,
        {"max_seq_len": 64, "train_batch_size": 32, "lr": 3e-4},  # told from the batch's others: a large one
    ),
}
CORRECTION = "correction"  # not fine-tuned: both networks as they are
CORRECTION_SET = f"spelling/test/{TEXTS}/realistic"
ON_ROWS = ("SingleSenClassification", "SentencePairClassification")


@dataclass(frozen=True)
class Asked:
    """What the whole table is of."""

    encoder: Path
    data: Path
    work_dir: Path
    seeds: int
    rows: int  # of each file; 0: all
    more: list[str]  # flags for finetune_SE.py
    weights: str  # the encoder's, by their bytes: a folder's name says nothing when it is trained into again
    mean_pooling: bool  # whether the encoder's stock class has heads on whole rows read all tokens

    def made_of(self, **job: Any) -> dict[str, Any]:
        """All that a job's numbers depend on, as JSON gives it back; beside what it says of itself."""
        places = {"encoder": str(self.encoder.resolve()), "data": str(self.data.resolve())}
        asked = {"weights": self.weights, "seeds": self.seeds, "rows": self.rows, "more": self.more}
        return json.loads(json.dumps(places | asked | job))


def weights_of(opened: Opened) -> str:
    """A hash of an opened model's weights."""
    digest = hashlib.sha256()
    for folder in list(opened.folders.values()) or [opened.checkpoint]:
        # Not an optimizer's: what trained on for a step has other weights as well.
        for path in sorted([*folder.glob("model*.safetensors"), *folder.glob("pytorch_model.bin")]):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def took(folder: Path, made_of: dict[str, Any]) -> float | None:
    """Processor seconds that a folder's numbers took; none: they are to be made, there, where nothing is now.

    Ours of anything else are removed, unfinished ones too. Exits where something stands that is not ours.
    """
    mark = folder / MARK
    found = json.loads(mark.read_text()) if mark.is_file() else {}
    if "seconds" in found and found.get("made of") == made_of:
        return found["seconds"]
    if folder.exists() and "made of" not in found:
        # A work_dir may be anything, and `pos` is the name of a set too.
        sys.exit(f"{folder}: stands there and is none of ours; name another --work_dir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mark.write_text(json.dumps({"made of": made_of}))  # at once, so that what is interrupted is known as well
    return None


def note(folder: Path, made_of: dict[str, Any], seconds: float) -> None:
    """Write down that a folder's numbers are all there."""
    (folder / MARK).write_text(json.dumps({"made of": made_of, "seconds": seconds}))


# --- files ----------------------------------------------------------------------------------------------


def files_of(job: Job) -> Iterator[tuple[str, str]]:
    """Each split and file or folder of a job, below the data folder."""
    for task in job.tasks.values():
        for split, names in task["file_names"].items():
            yield from ((split, name) for name in (names if isinstance(names, list) else [names]))


def first_rows(source: Path, target: Path, rows: int) -> None:
    """Copy the first rows of a file, or of a spelling folder's; a blank line ends a row of CoNLL."""
    if source.is_dir():
        for path in source.glob("corr*.txt"):
            first_rows(path, target / path.name, rows)
        return
    text = source.read_text(encoding="utf-8")
    end = "\n\n" if "\n\n" in text else "\n"
    header = source.suffix == ".tsv" and end == "\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(end.join(text.split(end)[: rows + header]) + end, encoding="utf-8")


def data_of(job: Job, asked: Asked, folder: Path) -> Path:
    """The folder that a job reads: the whole sets, or copies of their first rows, in the job's own folder."""
    if not asked.rows:
        return asked.data.resolve()
    for split, name in files_of(job):  # of train the task file says the limit, so that all labels are known
        rows = sys.maxsize - 1 if split == "train" else asked.rows
        first_rows(asked.data / name, folder / "data" / name, rows)
    return (folder / "data").resolve()


def sections_of(job: Job, asked: Asked) -> dict[str, Any]:
    """The task file: heads on whole rows read the mean of the tokens where the encoder's stock class does."""
    sections = {}
    for name, task in job.tasks.items():
        pooled = {"pooling": "mean"} if asked.mean_pooling and task["task_type"] in ON_ROWS else {}
        limited = {"limit": asked.rows} if asked.rows else {}
        split = {"val_split": 0.2} if asked.rows and "val_split" in task else {}
        sections[name] = task | pooled | limited | split
    return sections


# --- running --------------------------------------------------------------------------------------------


def finetuned(name: str, job: Job, asked: Asked) -> tuple[dict[str, Any], float]:
    """Fine-tune on a job as a user would; return its results and the processor seconds of a seed."""
    folder, flags, sections = asked.work_dir / name, FLAGS | job.flags, sections_of(job, asked)
    files = [sizes_of(asked.data / name) for _, name in files_of(job)]
    made_of = asked.made_of(tasks=sections, epochs=job.epochs, flags=flags, files=files)
    seconds = took(folder, made_of)
    if seconds is None:
        task_file = folder / "tasks.json"
        task_file.write_text(json.dumps(sections, indent=1))
        common = ["--encoder", asked.encoder.resolve(), "--task_file", task_file.resolve()]
        prepared = [*common, "--data_dir", data_of(job, asked, folder)]
        prepared += [part for key in ("max_seq_len", "workers") for part in (f"--{key}", flags[key])]
        seconds = run_script("prepare_tasks_SE.py", *prepared, folder=folder)
        [data] = folder.glob("*_prepared_data")
        training = [*common, "--data_dir", data.resolve(), "--out_dir", "run", "--epochs", job.epochs]
        training += [part for key, value in flags.items() for part in (f"--{key}", value)]
        training += ["--seeds", asked.seeds, *asked.more]
        seconds += run_script("finetune_SE.py", *training, folder=folder)
        note(folder, made_of, seconds)
    return json.loads((folder / "run/results.json").read_text()), seconds / asked.seeds


def corrected(asked: Asked) -> tuple[dict[str, Any], float]:
    """Correct the first lines of the test set with both networks as they are; as `finetuned` gives it."""
    folder, source = asked.work_dir / CORRECTION, asked.data / "spelling"
    lines = min(asked.rows or CORRECTED, CORRECTED)
    scores, made_of = folder / "scores.json", asked.made_of(lines=lines, files=sizes_of(source))
    seconds = took(folder, made_of)
    if seconds is None:
        sets = shortened(source, folder / "sets")  # words' too: evaluate_SE.py finds them first
        for split in ("dev", "test"):
            first_rows(source / split / TEXTS / "realistic", sets / split / TEXTS / "realistic", CORRECTED)
        flags = ["--spelling", sets, "--correction_rows", lines]
        seconds = run_script("evaluate_SE.py", asked.encoder, *flags, "--out_file", scores)
        note(folder, made_of, seconds)
    [found] = json.loads(scores.read_text())["spelling correction"].values()
    return {CORRECTION: {"test": {"f1": found["correction F1"]}}}, seconds


def lines_of(results: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Lines of the table: each metric of the test set, over the seeds."""
    lines = []
    for task, found in results.items():
        for metric, value in found["test"].items():
            values = value["values"] if isinstance(value, dict) else [value]
            deviation = f"{stdev(values):.3f}" if len(values) > 1 else "-"
            line = {"task": task, "metric": metric, "mean": mean(values), "spread": deviation}
            lines.append(line | {"seeds": len(values), "processor s": f"{seconds:.0f}"})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="after --: flags for finetune_SE.py",
    )
    parser.add_argument("encoder", type=Path, help="a run, or a folder with generator/ and discriminator/")
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets, as JOBS names them")
    parser.add_argument(
        "--work_dir", type=Path, help="none: runs/downstream/<the run's name>-<of its weights>"
    )
    names = [*JOBS, CORRECTION]
    parser.add_argument("--tasks", nargs="+", default=names, choices=names, metavar="TASK")
    parser.add_argument("--rows", type=int, default=0, help="of each file, the first; 0: all")
    parser.add_argument("--seeds", type=int, default=1)
    # Parted by hand: argparse takes what stands behind `--` for values of the options before it.
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, more = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    from span_electra.hub.opening import open_model

    opened = open_model(given.encoder)
    weights = weights_of(opened)
    # With a piece of the hash: many folders are called `exported`, and one's numbers are not another's.
    named = Path("runs/downstream", f"{given.encoder.resolve().name}-{weights[:8]}")
    asked = Asked(
        encoder=given.encoder,
        data=given.data,
        work_dir=given.work_dir or named,
        seeds=given.seeds,
        rows=given.rows,
        more=more,
        weights=weights,
        mean_pooling=opened.need("discriminator").config.architecture == "modern",
    )
    lines: list[dict[str, Any]] = []
    for name in given.tasks:
        needed = [path for _, path in files_of(JOBS[name])] if name in JOBS else [CORRECTION_SET]
        absent = [path for path in needed if not (given.data / path).exists()]
        if absent:
            print(f"{name}: left out, {given.data / absent[0]} is not there", file=sys.stderr)
            continue
        found = finetuned(name, JOBS[name], asked) if name in JOBS else corrected(asked)
        lines += lines_of(*found)
        print(json.dumps(lines[-1]), file=sys.stderr, flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
