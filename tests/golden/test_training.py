"""Golden training: first losses, a stored run that is gone on with, exported settings.

Run: pytest tests/golden

A failure says which value moved and what to do. Everything goes through the scripts, as users do.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden_examples import EXPECTED, STORED, check, check_close

ROOT = Path(__file__).resolve().parents[2]


def train(*flags: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "joint_train_span_electra.py"), *flags, "--precision", "fp32"]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def lines_of(run: Path, split: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == split]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the stored features and a run of three steps with the settings of tiny as they were."""
    place = tmp_path_factory.mktemp("golden")
    (place / "features").mkdir()
    shutil.copy(STORED / "features-format-1.arrow", place / "features" / "train.arrow")
    train("--config_file", str(STORED / "tiny.json"), "--out_dir", "runs/tiny", cwd=place)
    return place


@pytest.mark.parametrize("metric", ["generator_loss", "discriminator_loss", "loss"])
def test_the_first_three_losses_of_tiny_stay(place, metric):
    steps = lines_of(place / "runs/tiny", "train")
    assert [line["step"] for line in steps] == [1, 2, 3]
    check_close(f"losses/tiny_{metric}", [line[metric] for line in steps], f"{metric} of the first steps")


@pytest.mark.parametrize("split", ["train", "valid"])
def test_metrics_keep_their_names(place, split):
    """New names may come; those that were stay."""
    found = set().union(*lines_of(place / "runs/tiny", split))
    gone = sorted(set(EXPECTED["metrics"][split]) - found)
    assert not gone, f"metrics are gone: {gone}; users' plots and --monitor name them"


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_an_exported_config_keeps_its_keys(place, network):
    config = json.loads((place / "runs/tiny" / network / "config.json").read_text())
    config.pop("transformers_version", None)
    check(f"exported/{network}", sorted(config), f"the keys of {network}/config.json")


def test_a_stored_run_of_checkpoint_format_1_goes_on_as_it_would_have(place):
    """Stopped at step 4 of 9, in its second epoch, by the version whose format it is."""
    shutil.copytree(STORED / "run-format-1", place / "runs" / "stored")
    train("--resume", "runs/stored", cwd=place)
    steps = lines_of(place / "runs/stored", "train")
    assert [line["step"] for line in steps] == list(range(1, 10))
    check_close(
        "losses/stored_resumed", [line["loss"] for line in steps], "losses after resuming a stored run"
    )
    valid = lines_of(place / "runs/stored", "valid")[-1]
    check_close("losses/stored_valid", [valid["generator_loss"]], "validation after resuming a stored run")
