"""The three scripts, one after another, as a user runs them. Run: pytest tests/test_pipeline.py"""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from shell_examples import ROOT, SMALL, book

TINY = ["--preset", "tiny", *SMALL, "--max_position_embeddings", "64"]


def run(script: str, *flags: str, cwd: Path) -> subprocess.CompletedProcess:
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / script), *flags]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the three bare lines have been run, with a small vocabulary and model."""
    place = tmp_path_factory.mktemp("a place")
    (place / "data").mkdir()
    (place / "data/train.txt").write_text(book(600))
    (place / "data/valid.txt").write_text(book(60, seed=1))
    steps = {
        "create_vocab_SE.py": ["--vocab_size", "300", "--min_fre", "1"],
        "create_feature_SE.py": ["--workers", "30", "--max_seq_len", "64"],
        "joint_train_span_electra.py": ["--device_ids", "0", "--out_dir", "runs/first", *TINY],
    }
    for script, flags in steps.items():
        done = run(script, *flags, cwd=place)
        assert done.returncode == 0, f"{script}: {done.stderr}"
    return place


def test_each_stage_leaves_its_files(place):
    names = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    wanted = ["vocab/trial BPE-vocab.json", "vocab/trial BPE-merges.txt", "vocab/tokenizer.json"]
    wanted += ["features/train.arrow", "features/valid.arrow", "runs/first/config.json"]
    wanted += ["runs/first/metrics.jsonl", "runs/first/generator/model.safetensors"]
    wanted += ["runs/first/discriminator/config.json", "runs/first/discriminator/tokenizer.json"]
    assert not [name for name in wanted if name not in names]


def test_the_last_report_has_the_masks_of_the_preset(place):
    """Preset tiny ends with 15% in single tokens, the features have spans and 20%."""
    statistics = json.loads((place / "runs/first/statistics.json").read_text())
    assert {split["mask_ratio"] for split in statistics["splits"].values()} == {0.15}
    for example in json.loads((place / "runs/first/examples.json").read_text()):
        assert not any(both == (True, True) for both in pairwise(example["masked"])), example["masked"]


def test_the_metrics_are_finite_and_the_last_is_a_validation(place):
    lines = [json.loads(line) for line in (place / "runs/first/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["split"] == "valid" and lines[-1]["generator_loss"] < 8
    assert all(value == value for line in lines for value in line.values())


def test_a_used_run_folder_is_refused_and_resuming_a_finished_run_changes_nothing(place):
    before = (place / "runs/first/metrics.jsonl").read_bytes()
    refused = run("joint_train_span_electra.py", "--preset", "tiny", "--out_dir", "runs/first", cwd=place)
    assert refused.returncode == 2 and "--resume runs/first" in refused.stderr
    assert refused.stderr.count("\n") == 1
    resumed = run("joint_train_span_electra.py", "--resume", "runs/first", cwd=place)
    assert resumed.returncode == 0, resumed.stderr
    assert (place / "runs/first/metrics.jsonl").read_bytes() == before


def test_the_older_way_trains_from_raw_text(place):
    flags = ["--train_data.raw_text_dir", "data/train.txt", "--max_seq_len", "32", "--save_features"]
    flags += ["--save_tokenized_text", "--max_steps", "3", "--out_dir", "runs/raw", *TINY]
    done = run("joint_train_span_electra.py", *flags, cwd=place)
    assert done.returncode == 0, done.stderr
    assert (place / "runs/raw/features/train.arrow").exists()
    assert "Ġhouse" in (place / "runs/raw/tokenized/train.txt").read_text()


BAD = {
    "no features": ("joint_train_span_electra.py", ["--preset", "tiny"], "create_feature_SE.py"),
    "no vocabulary": ("create_feature_SE.py", ["--in_file", "x.txt"], "create_vocab_SE.py"),
    "unknown flag": ("create_vocab_SE.py", ["--vocab_sise", "9"], "--vocab_size"),
    "no such file": ("create_vocab_SE.py", ["--data_dir", "nowhere"], "nowhere"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, tmp_path):
    script, flags, words = BAD[case]
    done = run(script, *flags, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())
