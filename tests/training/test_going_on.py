"""Starting from other weights, other settings after a stop, other folders, limits of time.

Run: pytest tests/training/test_going_on.py
"""

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from run_examples import lines_of, small_run, stop_at, write_rows

from span_electra.config import OptimizerConfig
from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.pretraining.experiment import run_pretraining
from span_electra.training import checkpoint, loop, run
from span_electra.training import run_folder as runfolder
from span_electra.training.launch import Interrupted


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("features") / "rows.arrow")


def test_starting_from_other_weights(features, tmp_path):
    first = run_pretraining(small_run(features, tmp_path / "a", epochs=1))
    settings = small_run(features, tmp_path / "b", max_steps=1, optimizer=OptimizerConfig(lr=0.0))
    second = run_pretraining(replace(settings, init_from=first.checkpoint))
    mine, theirs = checkpoint.load(first.checkpoint).weights, checkpoint.load(second.checkpoint).weights
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    with pytest.raises(InputError, match="rows.arrow: cannot be read"):
        run_pretraining(replace(settings, out_dir=str(tmp_path / "c"), init_from=features))


def test_a_used_folder_is_never_written_over(features, tmp_path):
    run_pretraining(small_run(features, tmp_path / "run", epochs=1))
    with pytest.raises(InputError, match="holds a finished run already; go on: .* --resume"):
        run_pretraining(small_run(features, tmp_path / "run"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="holds no run of ours"):
        run_pretraining(small_run(features, tmp_path / "mine"))
    with pytest.raises(InputError, match="holds no whole checkpoint"):
        run_pretraining(small_run(features, tmp_path / "new", resume=tmp_path / "mine"))


def test_lines_and_validations_by_the_epoch(features, tmp_path):
    run_pretraining(small_run(features, tmp_path / "a", epochs=2, log_per_epoch=2, eval_per_epoch=4))
    lines = lines_of(tmp_path / "a")
    assert sum(line["split"] == "train" for line in lines) == 4
    assert sum(line["split"] == "valid" for line in lines) == 8


def test_a_new_run_may_start_with_another_run_s_optimizer_state(features, tmp_path):
    first = run_pretraining(small_run(features, tmp_path / "a", epochs=1))
    state = checkpoint.load(first.checkpoint).optimizer
    settings = small_run(features, tmp_path / "b", max_steps=1, optimizer=OptimizerConfig(lr=0.0))
    second = run_pretraining(replace(settings, initial_optimizer=str(tmp_path / "a")))
    steps = {name: int(value) for name, value in state.items() if name.startswith("step:")}
    after = checkpoint.load(second.checkpoint).optimizer
    assert steps and all(int(after[name]) == count + 1 for name, count in steps.items())


@pytest.mark.parametrize(("before", "now"), [("adamw", "sgd"), ("sgd", "adamw"), ("muon", "adamw")])
def test_the_state_of_another_optimizer_is_refused_by_name(before, now, features, tmp_path):
    run_pretraining(small_run(features, tmp_path / "a", max_steps=1, optimizer=OptimizerConfig(before)))
    other = {"max_steps": 2, "optimizer": OptimizerConfig(now)}
    with pytest.raises(InputError, match=f"its optimizer is {before}, this run's {now}; give --optimizer"):
        run_pretraining(small_run(features, tmp_path / "a", resume=tmp_path / "a", **other))
    with pytest.raises(InputError, match=f"{tmp_path}/a.*its optimizer is {before}"):
        initial = str(tmp_path / "a")
        run_pretraining(replace(small_run(features, tmp_path / "b", **other), initial_optimizer=initial))
    assert not (tmp_path / "b").exists() or not list((tmp_path / "b").glob("checkpoints/*"))


def test_weights_of_another_vocabulary_are_refused_from_a_checkpoint_too(features, tmp_path):
    first = run_pretraining(small_run(features, tmp_path / "a", max_steps=1))
    other = write_rows(tmp_path / "other.arrow", prefix="v")  # as many tokens, and none the same
    for source in (first.checkpoint, str(tmp_path / "a")):
        with pytest.raises(InputError, match="made with vocabulary .*, the features with"):
            run_pretraining(replace(small_run(other, tmp_path / "b", max_steps=1), init_from=source))


# --- going on with other settings -----------------------------------------------------------------------


def test_progress_is_in_epochs_and_a_changed_run_is_planned_anew(features, tmp_path, capsys):
    options = {"loader": LoaderConfig(5), "valid": (0.1,)}  # 54 rows: 11 steps an epoch
    first = run_pretraining(small_run(features, tmp_path / "run", epochs=4, **options))
    assert first.step == 44
    options["loader"] = LoaderConfig(10)  # 6 steps an epoch: 36 in six epochs, fewer than were made
    more = run_pretraining(
        small_run(features, tmp_path / "run", resume=tmp_path / "run", epochs=6, **options)
    )
    assert (more.state, more.step) == ("finished", 44 + 2 * 6)
    said = capsys.readouterr().err
    assert "epoch 4 of 6 done; 2 epochs, 12 steps to go; rate from" in said and "to 0" in said
    rates = [line["lr"] for line in lines_of(tmp_path / "run") if line["step"] > 44 and "lr" in line]
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < rates[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((LoaderConfig(8), 1), (LoaderConfig(4), 1)),
        ((LoaderConfig(4), 1), (LoaderConfig(9), 1)),
        ((LoaderConfig(8), 1), (LoaderConfig(8, batch_max_tokens=60), 1)),
        ((LoaderConfig(4), 1), (LoaderConfig(4), 3)),
        ((LoaderConfig(4), 3), (LoaderConfig(50), 1)),  # nothing is left of the epoch but one batch
        ((LoaderConfig(8), 1), (LoaderConfig(8, bucket_span=2), 1)),
    ],
)
@pytest.mark.parametrize("stop", [2, 9])
def test_batches_may_change_inside_an_epoch_and_progress_is_in_rows(
    features, tmp_path, monkeypatch, capsys, before, after, stop
):
    rows, run = 54, tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, stop)
        options = {"loader": before[0], "gradient_accumulation_steps": before[1]}
        stopped = run_pretraining(small_run(features, run, **options))
    begun = checkpoint.read_meta(Path(stopped.checkpoint))["loop"]
    capsys.readouterr()
    options = {"loader": after[0], "gradient_accumulation_steps": after[1]}
    done = run_pretraining(small_run(features, run, resume=run, **options))
    said = capsys.readouterr().err
    assert f"batches are cut otherwise now: epoch {begun['epoch'] + 1} goes on behind " in said
    behind = int(re.search(r"goes on behind (\d+) of 54 rows", said)[1])
    had = begun["samples"] - rows * begun["epoch"]
    a_step = after[1] * (after[0].batch_size if not after[0].batch_max_tokens else 20)
    assert had <= behind < had + a_step, "less than a step of rows is left out"
    end = checkpoint.read_meta(Path(done.checkpoint))["loop"]
    assert done.state == "finished" and end["epoch"] == 3
    assert end["samples"] == begun["samples"] + (rows - behind) + rows * (2 - begun["epoch"])
    assert done.step == end["total"]


def test_a_run_goes_on_into_another_folder_and_the_old_one_stays(features, tmp_path):
    first = run_pretraining(small_run(features, tmp_path / "old", max_steps=9))
    before = {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()}
    second = run_pretraining(small_run(features, tmp_path / "new", resume=first.checkpoint, max_steps=12))
    assert second.step == 12 and Path(second.checkpoint).parent == tmp_path / "new" / "checkpoints"
    assert {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match="nothing is left.*9 steps done.*larger --max_steps.*export_SE"):
        run_pretraining(small_run(features, tmp_path / "third", resume=first.checkpoint, max_steps=9))
    assert not (tmp_path / "third" / "run.json").exists()


def test_a_run_that_goes_on_in_another_folder_keeps_the_best_of_what_is_there(features, tmp_path):
    options = {"monitor": "loss", "save_every": "99", "eval_every": "2", "save_last": 9}
    first = run_pretraining(small_run(features, tmp_path / "old", max_steps=9, **options))
    file = Path(first.checkpoint, checkpoint.META)
    meta = json.loads(file.read_text())
    meta["loop"]["best"] = 0.0  # of a model that lies in the old folder
    file.write_text(json.dumps(meta))
    settings = small_run(features, tmp_path / "new", resume=first.checkpoint, max_steps=16, **options)
    run_pretraining(settings)
    kept = {path.name: checkpoint.read_meta(path)["metric"] for path in checkpoint.in_run(tmp_path / "new")}
    scores = [line["loss"] for line in lines_of(tmp_path / "new") if line["split"] == "valid"]
    assert "step-00000010" in kept and min(kept.values()) == min(scores)


def test_an_epoch_of_which_other_batches_leave_nothing_is_validated_still(features, tmp_path, monkeypatch):
    run, options = tmp_path / "run", {"epochs": 1, "valid": (0.1,)}
    with monkeypatch.context() as patch:
        stop_at(patch, 13)  # 54 rows are 14 steps of 4
        run_pretraining(small_run(features, run, loader=LoaderConfig(4), **options))
    done = run_pretraining(small_run(features, run, loader=LoaderConfig(27), resume=run, **options))
    assert (done.state, done.step) == ("finished", 13)
    assert [line["step"] for line in lines_of(run) if line["split"] == "valid"] == [13]
    assert done.metrics["loss"] > 0 and not checkpoint.read_meta(Path(done.checkpoint))["loop"]["batch"]


def as_from_a_gpu(saved):
    """Rewrite what a checkpoint says of its run, as if it had been made on a GPU in fp16."""
    file = Path(saved, checkpoint.META)
    meta = json.loads(file.read_text())
    meta |= {"device": "cuda", "precision": "fp16"}
    meta["counters"] |= {"scale": 2.0**20, "good": 7.0}
    meta["order"]["static_shapes"] = True
    file.write_text(json.dumps(meta))


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("max_tokens", [0, 160])
def test_a_run_of_a_gpu_goes_on_on_a_cpu(features, tmp_path, capsys, inside, max_tokens):
    options = {"loader": LoaderConfig(8, batch_max_tokens=max_tokens), "valid": (0.1,), "dropout": 0.0}
    straight = run_pretraining(small_run(features, tmp_path / "a", save_every="1", save_last=30, **options))
    end = checkpoint.load(straight.checkpoint)
    saved = list(checkpoint.in_run(tmp_path / "a"))[1:]  # an epoch ends where no batch of the next was made
    begun = next(path for path in saved if bool(checkpoint.read_meta(path)["loop"]["batch"]) == inside)
    as_from_a_gpu(begun)
    settings = small_run(features, tmp_path / "b", resume=begun, **options)
    resumed = checkpoint.load(run_pretraining(settings).checkpoint)
    said = capsys.readouterr().err
    assert "begun on cuda in fp16, goes on on cpu in fp32" in said
    # There the widths of compiled layers decide which rows fit into a batch.
    assert ("batches are cut otherwise now" in said) == bool(inside and max_tokens)
    if inside and max_tokens:
        return
    assert resumed.meta["step"] == end.meta["step"] and resumed.meta["counters"]["scale"] == 1.0
    assert all(torch.equal(resumed.weights[name], end.weights[name]) for name in end.weights)


def test_a_time_limit_holds_for_one_start_of_the_command(features, tmp_path, monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 0.05
        return now[0]

    monkeypatch.setattr(loop.time, "monotonic", clock)
    made = []
    for resume in (None, tmp_path / "run", tmp_path / "run"):
        settings = small_run(features, tmp_path / "run", resume=resume, max_minutes=0.05, epochs=30)
        made.append(run_pretraining(settings).step)
    steps = [made[0], made[1] - made[0], made[2] - made[1]]
    assert min(steps) > 1 and max(steps) < 3 * min(steps)


@pytest.mark.parametrize("before", [(), (3,)])
@pytest.mark.parametrize("saved", [(), (5,)])
def test_processes_that_a_signal_ended_leave_what_they_have_saved(tmp_path, monkeypatch, before, saved):
    """Most often nothing, as they were starting."""

    def write(steps):
        for step in steps:
            checkpoint.save(tmp_path, step, {"a": torch.zeros(1)}, {}, {})

    def interrupted(*_):
        write(saved)
        raise Interrupted(signal.SIGINT)

    write(before)
    monkeypatch.setattr(run, "launch", interrupted)
    monkeypatch.setattr(run, "plan_devices", lambda config: SimpleNamespace(processes=2))
    result = run.run_training(small_run("rows.arrow", tmp_path), None)
    assert (result.state, result.exit_code) == ("stopped", 128 + signal.SIGINT)
    newest = str(next(checkpoint.in_run(tmp_path))) if saved else ""
    assert (result.step, result.checkpoint) == (sum(saved), newest)


def test_a_folder_of_feature_files_is_a_fine_place_for_a_run(features, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("train.txt", "valid.txt"):
        (folder / name).write_bytes(Path(features).read_bytes())
    assert run_pretraining(small_run(str(folder / "train.txt"), folder, max_steps=1)).state == "finished"


def test_the_newest_run_is_the_one_that_was_saved_last(features, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for number, folder in enumerate(folders):
        meta = Path(run_pretraining(small_run(features, folder, max_steps=1)).checkpoint, checkpoint.META)
        os.utime(meta, (1000.0 + number, 1000.0 + number))
    (folders[0] / "evaluation.json").write_text("{}")
    assert [runfolder.last_saved(folder) for folder in folders] == [1000.0, 1001.0]


def test_a_run_may_begin_where_only_features_and_tokens_lie(features, tmp_path):
    place = tmp_path / "place"
    for name in (
        "train.txt",
        "my rows",
        "shards/features-00000-of-00001.arrow",
        ".x.arrow.parts/part-0.arrow",
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(Path(features).read_bytes())
    for name in ("shards/manifest.json", ".x.arrow.parts/lock", "tokenized/train.txt"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("{}")
    assert runfolder.state_of(place) == "new"
    (place / "shards" / "thesis.txt").write_text("mine")
    assert runfolder.state_of(place) == "foreign"
    (place / "shards" / "thesis.txt").rename(place / "thesis.txt")
    assert runfolder.state_of(place) == "foreign"


def test_rows_held_out_that_were_trained_on_are_told(features, tmp_path):
    def run(epochs, held):
        resume = tmp_path / "a" if epochs > 1 else None
        return run_pretraining(small_run(features, tmp_path / "a", epochs=epochs, valid=held, resume=resume))

    run(1, (0.1,))
    run(2, (0.1,))
    with pytest.warns(UserWarning, match="the rows held out are others now"):
        run(3, (0.2,))
    with pytest.warns(UserWarning, match="goes on with 60 rows, which are not those"):
        run(4, (0.0,))
    with pytest.warns(UserWarning, match="the rows held out are others now"):
        run(5, (0.1,))


def test_a_run_whose_checkpoints_lie_on_another_disk_goes_on(features, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "checkpoints").symlink_to(tmp_path / "disk")
    run_pretraining(small_run(features, tmp_path / "a", max_steps=1))
    assert run_pretraining(small_run(features, tmp_path / "a", max_steps=2, resume=tmp_path / "a")).step == 2
