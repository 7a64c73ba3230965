"""What lies under the user's own settings of a fine-tuning. Run: pytest tests/finetuning/test_defaults.py"""

import inspect
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from network_examples import exported
from predictor_examples import finetuned

from argument import FinetuneArgs
from span_electra.commandline import parse
from span_electra.compose import dump
from span_electra.config import OptimizerConfig
from span_electra.errors import InputError
from span_electra.finetuning import results, stage
from span_electra.finetuning.defaults import (
    BEGUN,
    CONCLUSION_READS,
    WHICH,
    by_number,
    runs_in,
    stack_layers,
)

pytestmark = pytest.mark.usefixtures("here")

STORED = FinetuneArgs(
    task_file="mine.yaml",
    encoder="small",
    from_scratch=True,
    epochs=7,
    dropout=0.3,
    layer_lr_decay=0.5,
    freeze_encoder=True,
    seed=4,
    optimizer=OptimizerConfig(lr=0.125, schedule="cosine"),
)


def read(*argv: str) -> FinetuneArgs:
    return parse(FinetuneArgs, "", list(argv), stack=stack_layers)


def store(folder: str, settings: FinetuneArgs = STORED) -> None:
    Path(folder).mkdir(parents=True)
    Path(folder, "config.json").write_text(dump(settings))


def mine(**values: object) -> list[str]:
    """The flag for a config file with these settings."""
    Path("mine.json").write_text(json.dumps(values))
    return ["--config_file", "mine.json"]


@pytest.mark.parametrize("what", ["resume_train", "conclude"])
@pytest.mark.parametrize("place", ["run", "run/checkpoints/step-00000001"])
def test_a_saved_run_brings_its_own_settings_and_flags_lie_over_them(what, place):
    store("run")
    named = {"load_saved_model": place, what: True}
    for flags in (
        ["--load_saved_model", place, f"--{what}"],
        ["--config_file", "run/config.json", "--load_saved_model", place, f"--{what}"],  # as it was told
        mine(**named),
    ):
        made = read(*flags)
        assert made == replace(STORED, **named)
        rate = ["--lr", "0.25"] if what == "resume_train" else []
        made = read(*flags, *rate, "--data_dir", "moved")
        assert (made.optimizer.lr, made.data_dir) == (0.25 if rate else 0.125, "moved")
        assert made.optimizer.schedule == "cosine" and made.epochs == 7


def test_a_file_of_the_user_lies_over_the_run(monkeypatch):
    store("run")
    named = {"load_saved_model": "run", "resume_train": "${oc.env:GO_ON}"}
    monkeypatch.setenv("GO_ON", "yes")
    made = read(*mine(**named, epochs=9, optimizer={"lr": 0.5}), "--dropout", "0.2")
    assert (made.epochs, made.optimizer.lr, made.dropout, made.layer_lr_decay) == (9, 0.5, 0.2, 0.5)


@pytest.mark.parametrize("flags", [[], ["--finetune"], ["--no-resume_train"]])
def test_a_run_that_begins_anew_takes_the_defaults(flags):
    store("run")
    made = read("--load_saved_model", "run", *flags)
    assert (made.epochs, made.optimizer, made.from_scratch) == (3, FinetuneArgs().optimizer, False)


def test_of_a_folder_of_seeds_the_first_tells_the_settings():
    for seed in (10, 2):
        store(f"runs/seed-{seed}", replace(STORED, seed=seed))
    assert read("--load_saved_model", "runs", "--conclude").seed == 2
    assert runs_in(Path("runs")) == [Path("runs/seed-2"), Path("runs/seed-10")]
    assert runs_in(Path("runs/seed-2")) == [Path("runs/seed-2")]


def test_seeds_stand_in_the_order_of_their_numbers():
    folders = [Path(f"run/seed-{seed}") for seed in (10, 2, 100, 1)]
    names = [path.name for path in sorted(folders, key=by_number)]
    assert names == ["seed-1", "seed-2", "seed-10", "seed-100"]


@pytest.mark.parametrize("what", ["--resume_train", "--conclude"])
@pytest.mark.parametrize("flag", ["--encoder", "--from_scratch", "--network"])
def test_what_a_run_began_from_is_behind_it(what, flag):
    store("run")
    value = {"--encoder": ["small"], "--network": ["discriminator"]}.get(flag, [])
    with pytest.raises(InputError, match=f"{flag}: a saved run goes on as it began; leave it out"):
        read("--load_saved_model", "run", what, flag, *value)


def test_results_of_a_saved_run_go_into_it():
    store("run", replace(STORED, out_dir="before it was moved"))
    assert read("--load_saved_model", "run", "--resume_train").out_dir is None
    with pytest.raises(InputError, match="--out_dir: --conclude writes into the run itself"):
        read("--load_saved_model", "run", "--conclude", "--out_dir", "other")
    assert read("--load_saved_model", "run", "--resume_train", "--out_dir", "other").out_dir == "other"


def test_a_network_is_asked_of_who_has_it():
    exported(Path("small"))
    with pytest.raises(InputError, match="--network generator: small/discriminator .* name small/generator"):
        read("--encoder", "small/discriminator", "--network", "generator")
    read("--encoder", "small/generator", "--network", "generator")
    with pytest.raises(InputError, match="network: 'generater' is not one of"):
        read("--encoder", "small/generator", "--network", "generater")
    assert read("--encoder", "small", "--network", "generator").network == "generator"
    # Files of settings hold every one, whatever was meant by it.
    read("--encoder", "small/generator", *mine(network="discriminator"))
    finetuned(Path("tuned"), "film")
    with pytest.raises(InputError, match="--network discriminator: tuned holds an encoder alone"):
        read("--load_saved_model", "tuned", "--finetune", "--network", "discriminator")


def test_a_conclusion_refuses_flags_of_training_whatever_their_values():
    """What it reads, its code says: a setting is a field that these modules name."""
    store("run")
    read_there = "".join(inspect.getsource(module) for module in (stage, results))
    for entry in fields(FinetuneArgs):
        if entry.name in (*WHICH, *BEGUN, "out_dir", "optimizer"):
            continue
        value = getattr(STORED, entry.name)  # as the run has it
        flags = [f"--{entry.name}", *([] if isinstance(value, bool) else [str(value)])]
        if entry.name in CONCLUSION_READS:
            assert f".{entry.name}" in read_there
        else:
            with pytest.raises(InputError, match=f"--{entry.name}: --conclude trains no more"):
                read("--load_saved_model", "run", "--conclude", *flags)
    with pytest.raises(InputError, match="--lr: --conclude trains no more"):
        read("--load_saved_model", "run", "--conclude", "--lr", "0.125")


@pytest.mark.parametrize("flag", [["--max_seq_len", "128"], ["--no-do_lower_case"], ["--do_lower_case"]])
def test_flags_of_rows_are_held_against_prepared_ones_even_as_defaults(flag):
    """Rows of 64 tokens would train at 64, without a word."""
    Path("data").mkdir()
    told = {"cut": {"t": {}}, "settings": {"t": {}}, "noted": {"t": {}}}
    task = {"labels": {"t": []}, "rows": {"t": {"train": 2}}, "keys": {"t": "k"}} | told
    settings = {"max_seq_len": 64, "lowercase": flag[0] == "--no-do_lower_case"}
    mark = {"span_electra_prepared": 1, "data_dir": "d", "vocabulary_sha256": "f0"} | settings | task
    Path("data/prepared.json").write_text(json.dumps(mark))
    name = flag[0].removeprefix("--no-").strip("-")
    with pytest.raises(InputError, match=f"{name}: .* but data was prepared with"):
        read(*flag)
    assert read("--max_seq_len", "64").max_seq_len == 64
    assert read().max_seq_len == 128, "a default that nobody wrote says nothing"
    assert read(*flag, "--data_dir", "other").data_dir == "other"


def test_what_is_no_run_of_fine_tuning_is_named():
    step = Path("pretrained/checkpoints/step-00000001")
    store("pretrained")
    step.mkdir(parents=True)
    (step / "meta.json").write_text("{}")
    for folder in ("nowhere", "pretrained"):
        for what in ("--resume_train", "--conclude"):
            with pytest.raises(InputError, match=re.escape(f"{folder}: no run of fine-tuning; name its")):
                read("--load_saved_model", folder, what)
    Path("runs/seed-1/checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="runs: holds a run of each seed; name one"):
        read("--load_saved_model", "runs", "--resume_train")
