"""Checkpoints come back whole or are recognised as broken; nothing foreign is read or deleted.

Run: pytest tests/training/test_checkpoint.py
"""

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from run_examples import small_run, write_rows
from torch import nn

from span_electra.errors import InputError
from span_electra.hub.runs import best_checkpoint
from span_electra.pretraining.experiment import run_pretraining
from span_electra.training import checkpoint
from span_electra.training import run_folder as runfolder
from span_electra.training.checkpoint import META, MODEL, OPTIMIZER

GONE = (1 << 22) + 1  # no process has this number: Linux' largest is 2^22


def write(run, step, metric=None, value=None):
    value = step if value is None else value
    return checkpoint.save(
        run, step, {"a": torch.full((3,), float(value))}, {"exp_avg:a": torch.ones(3)}, {"metric": metric}
    )


def test_what_is_saved_comes_back_and_shared_tensors_are_stored_once_and_shared_again(tmp_path):
    table = torch.randn(4, 2)
    weights = {"generator.word": table, "discriminator.word": table, "other": torch.arange(3)}
    folder = checkpoint.save(tmp_path, 7, weights, {"step:other": torch.tensor(3.0)}, {"loop": {"epoch": 2}})
    assert folder.name == "step-00000007"
    found = checkpoint.load(folder)
    assert found.meta["step"] == 7 and found.meta["loop"] == {"epoch": 2}
    assert found.weights.keys() == weights.keys()
    assert all(torch.equal(found.weights[name], weights[name]) for name in weights)
    assert found.weights["generator.word"] is found.weights["discriminator.word"]
    assert torch.equal(found.optimizer["step:other"], torch.tensor(3.0))
    assert (folder / MODEL).stat().st_size < 400


def test_latest_passes_over_what_is_cut_altered_or_incomplete_and_names_both(tmp_path):
    good = write(tmp_path, 10)
    broken = write(tmp_path, 20)
    for damage in ("cut", "altered", "missing", "meta"):
        shutil.rmtree(broken)
        write(tmp_path, 20)
        data = (broken / MODEL).read_bytes()
        if damage == "cut":
            (broken / MODEL).write_bytes(data[:-1])
        elif damage == "altered":
            (broken / MODEL).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        elif damage == "missing":
            (broken / OPTIMIZER).unlink()
        else:
            (broken / META).write_text("{")
        with pytest.warns(UserWarning, match="passed over: .*step-00000020.*going on from .*step-00000010"):
            assert checkpoint.latest(tmp_path) == good


def test_latest_of_nothing_is_none_and_of_whole_ones_the_newest_by_number(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    for step in (9, 100_000_000, 11):
        write(tmp_path, step)
    assert checkpoint.latest(tmp_path).name == "step-100000000"


def test_the_same_step_can_be_written_again(tmp_path):
    write(tmp_path, 5, value=1)
    folder = write(tmp_path, 5, value=2)
    assert checkpoint.load(folder).weights["a"][0] == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]


def test_a_full_disk_leaves_what_was_there_and_says_what_to_do(tmp_path, monkeypatch):
    good = write(tmp_path, 5)

    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(InputError, match="step-00000006.*No space left on device.*go on with the run"):
        write(tmp_path, 6)
    assert checkpoint.latest(tmp_path) == good
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [good.name]


def test_retention_keeps_the_newest_the_best_and_whatever_is_not_ours(tmp_path):
    for step, metric in ((1, 0.5), (2, 0.9), (3, 0.1), (4, None), (5, 0.3)):
        newest = write(tmp_path, step, metric)
    foreign = tmp_path / "checkpoints" / "step-00000000"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    (tmp_path / "checkpoints" / "step-00000001" / "note.txt").write_text("mine too")
    checkpoint.retain(tmp_path, last=2, best=1, now={}, higher_is_better=True, newest=newest)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000000", "step-00000001", "step-00000002", "step-00000004", "step-00000005"]
    assert (foreign / "thesis.txt").exists()
    assert [path.name for path in (tmp_path / "checkpoints" / "step-00000001").iterdir()] == ["note.txt"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(4))
def test_a_kill_while_a_checkpoint_goes_leaves_nothing_that_the_next_start_does_not_clear(
    tmp_path, monkeypatch, at
):
    """Whichever of its files is the last to go, and of the folder itself."""
    write(tmp_path, 1)
    newest, left = write(tmp_path, 2), [at]

    def until_killed(remove):
        def removing(*given, **more):
            if not left[0]:
                raise Killed
            left[0] -= 1
            remove(*given, **more)

        return removing

    with monkeypatch.context() as patch:
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, until_killed(getattr(os, name)))
            patch.setattr(Path, name, until_killed(getattr(Path, name)))
        with pytest.raises(Killed):
            checkpoint.retain(tmp_path, last=1, best=0, now={}, higher_is_better=True, newest=newest)
    checkpoint.clear_unfinished(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == [newest]


def test_retention_can_prefer_the_lowest(tmp_path):
    for step, metric in ((1, 0.5), (2, 0.1), (3, 0.9)):
        newest = write(tmp_path, step, metric)
    checkpoint.retain(tmp_path, last=1, best=1, now={}, higher_is_better=False, newest=newest)
    assert [path.name for path in checkpoint.in_run(tmp_path)] == ["step-00000003", "step-00000002"]


def test_scores_by_another_metric_are_none(tmp_path):
    for step, metric, monitor in ((1, 0.0, "accuracy"), (2, 0.5, "loss"), (3, 0.9, "loss")):
        meta = {"metric": metric, "training": {"monitor": monitor}}
        newest = checkpoint.save(tmp_path, step, {"w": torch.zeros(1)}, {}, meta)
    checkpoint.retain(tmp_path, last=1, best=1, now=meta, higher_is_better=False, newest=newest)
    assert [path.name for path in checkpoint.in_run(tmp_path)] == ["step-00000003", "step-00000002"]
    assert best_checkpoint(tmp_path).name == "step-00000002"


def test_scores_that_were_taken_of_something_else_are_none(tmp_path):
    takings = (["t", "f1"], ["t", "f1"], ["t", "accuracy"], ["t", "accuracy"])
    for step, (metric, taken) in enumerate(zip((0.9, 0.8, 0.7, 0.6), takings, strict=True), start=1):
        meta = {"metric": metric, "training": {"monitor": "score"}, "measured": taken}
        newest = checkpoint.save(tmp_path, step, {"w": torch.zeros(1)}, {}, meta)
    assert best_checkpoint(tmp_path).name == "step-00000003"
    checkpoint.retain(tmp_path, last=1, best=1, now=meta, higher_is_better=True, newest=newest)
    assert [path.name for path in checkpoint.in_run(tmp_path)] == ["step-00000004", "step-00000003"]
    # What an earlier version wrote beside them is taken for the same.
    assert checkpoint.score_of({"metric": 0.5}, meta) == 0.5


@pytest.mark.parametrize(
    ("monitor", "mode", "more"),
    [
        ("discriminator_f1", "auto", True),
        ("generator_loss", "auto", False),
        ("chat_perplexity", "auto", False),
        ("loss", "max", True),
        ("accuracy", "min", False),
    ],
)
def test_less_of_a_loss_is_better_unless_one_says_otherwise(monitor, mode, more):
    assert checkpoint.more_is_better(monitor, mode) is more


def test_a_resumed_run_sets_its_old_future_aside_and_clears_half_written_folders(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step)
    (tmp_path / "checkpoints" / f".step-00000004.{GONE}.partial").mkdir()
    (tmp_path / "checkpoints" / "step-00000003").rename(tmp_path / "checkpoints" / ".step-00000003.old")
    checkpoint.clear_unfinished(tmp_path)
    moved = checkpoint.set_aside(tmp_path, after=1)
    assert sorted(path.name for path in moved) == ["step-00000002.aside", "step-00000003.aside"]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000001",
        "step-00000002.aside",
        "step-00000003.aside",
    ]
    for names in (["step-00000003.aside1"], ["step-00000003.aside"]):  # a person may have removed one
        write(tmp_path, 3)
        assert [path.name for path in checkpoint.set_aside(tmp_path, after=2)] == names
        shutil.rmtree(tmp_path / "checkpoints" / "step-00000003.aside")


class Payload:
    def __reduce__(self):
        return (open, ("payload-ran", "w"))


@pytest.mark.parametrize("name", [META, MODEL, OPTIMIZER])
def test_pickle_in_any_file_is_refused_and_does_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path, 1)
    (folder / name).write_bytes(pickle.dumps(Payload()))
    if name != META:  # an attacker writes checksums that fit
        meta = json.loads((folder / META).read_text())
        meta["files"][name] = checkpoint._fingerprint(folder / name)
        (folder / META).write_text(json.dumps(meta))
    with pytest.raises(InputError, match="step-00000001"):
        checkpoint.load(folder)
    assert not (tmp_path / "payload-ran").exists()


def test_links_and_strange_manifests_are_refused(tmp_path):
    folder = write(tmp_path, 1)
    whole = json.loads((folder / META).read_text())
    for change in (
        {"files": {}},
        {"files": {"../../etc/passwd": whole["files"][MODEL], OPTIMIZER: whole["files"][OPTIMIZER]}},
        {"aliases": {"b": "../c"}},
        {"format": 99},
        {"step": "1"},
        {"aliases": None},
    ):
        (folder / META).write_text(json.dumps(whole | change))
        with pytest.raises(InputError, match="step-00000001"):
            checkpoint.load(folder)
    (folder / META).write_text("[" * 100_000)
    with pytest.raises(InputError, match="is no JSON"):
        checkpoint.load(folder)
    (folder / META).write_text(json.dumps(whole))
    (folder / MODEL).rename(tmp_path / "elsewhere")
    (folder / MODEL).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        checkpoint.load(folder)


def test_weights_that_do_not_fit_the_model_are_refused_by_name():
    model = nn.Linear(2, 3)
    good = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    checkpoint.restore_weights(model, good, "here")
    for change, message in (
        ({"weight": torch.zeros(3, 3)}, r"here: tensor 'weight' is \(3, 3\)"),
        ({"weight": good["weight"].double()}, "float64"),
        ({"extra": torch.zeros(1)}, "'extra' is unknown to this model"),
    ):
        with pytest.raises(InputError, match=message):
            checkpoint.restore_weights(model, good | change, "here")
    with pytest.raises(InputError, match="'bias' is missing"):
        checkpoint.restore_weights(model, {"weight": good["weight"]}, "here")


# --- the run folder -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "goes"),
    [
        ((), True),
        (("config.json", "run.lock", "seed-0/run.lock", "seed-1/config.json"), True),
        (("encoder/small/tokenizer.json", "encoder/small/checkpoints/step-00000007/meta.json"), True),
        (("config.json", "notes.txt"), False),
        (("seed-0/log.txt", "seed-1/run.lock"), False),
        (("seed-0/encoder/mine.txt",), False),
    ],
)
def test_a_folder_in_which_nothing_was_trained_goes_and_any_other_stays(names, goes, tmp_path):
    for name in names:
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    before = sorted(tmp_path.rglob("*"))
    runfolder.forget_if_empty(tmp_path / "run")
    assert sorted(tmp_path.rglob("*")) == ([] if goes else before)


def test_a_run_folder_knows_its_state(tmp_path):
    run = tmp_path / "run"
    assert runfolder.state_of(run) == "new"
    run.mkdir()
    (run / "config.json").write_text("{}")
    assert runfolder.state_of(run) == "new"
    write_rows(run / "any name")
    assert runfolder.state_of(run) == "new"
    (run / f".tokenizer.json.{GONE}.partial").write_text("cut off by a kill")
    assert runfolder.state_of(run) == "new"
    (run / "thesis.txt").write_text("mine")
    assert runfolder.state_of(run) == "foreign"
    runfolder.write_mark(run, "running", 0)
    assert runfolder.state_of(run) == "new"
    write(run, 3)
    assert runfolder.state_of(run) == "resumable"
    assert runfolder.state_of(run.rename(tmp_path / "moved")) == "resumable"
    runfolder.write_mark(tmp_path / "moved", "finished", 3)
    assert runfolder.state_of(tmp_path / "moved") == "finished"
    (tmp_path / "file").write_text("")
    assert runfolder.state_of(tmp_path / "file") == "foreign"


def test_a_second_run_is_refused_and_the_lock_of_a_dead_one_is_taken_over(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from span_electra.training.run_folder import locked\n"
        f"with locked(pathlib.Path({str(tmp_path)!r})):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"another run is writing there .process {holder.pid} on"):
            with runfolder.locked(tmp_path):
                pass
        holder.kill()
        holder.wait()
        with runfolder.locked(tmp_path):
            pass


def test_a_resume_reads_each_tensor_file_once(tmp_path, monkeypatch):
    """It once hashed both three times and read them a fourth; with gigabytes each takes minutes."""
    features = write_rows(tmp_path / "rows.arrow")
    run_pretraining(small_run(features, tmp_path / "run", max_steps=3))
    reads = []

    def counted(read):
        def reading(path, *args):
            if Path(path).suffix == ".safetensors":
                reads.append(Path(path).name)
            return read(path, *args)

        return reading

    monkeypatch.setattr(Path, "read_bytes", counted(Path.read_bytes))
    for name in ("_fingerprint", "load_file"):
        monkeypatch.setattr(checkpoint, name, counted(getattr(checkpoint, name)))
    monkeypatch.setattr(checkpoint, "save", lambda *_, **__: tmp_path)  # whose own hashing is another matter
    run_pretraining(small_run(features, tmp_path / "run", resume=tmp_path / "run", max_steps=4))
    assert sorted(reads) == [MODEL, OPTIMIZER]


def test_a_checkpoint_altered_without_a_change_of_size_is_passed_over_at_a_resume(tmp_path):
    features = write_rows(tmp_path / "rows.arrow")
    run_pretraining(small_run(features, tmp_path / "run", max_steps=3, save_every="1"))
    newest = next(checkpoint.in_run(tmp_path / "run"))
    data = bytearray((newest / MODEL).read_bytes())
    data[-1] ^= 1
    (newest / MODEL).write_bytes(data)
    with pytest.warns(UserWarning, match="passed over.*does not match its checksum"):
        found, saved = checkpoint.open_at(tmp_path / "run", checkpoint.load)
    assert checkpoint.step_of(found) == saved.meta["step"] == 2


@pytest.mark.parametrize("state", ["running", "stopped", "finished"])
def test_a_run_without_a_checkpoint_is_begun_again_by_its_own_command(tmp_path, state):
    """The line that the run printed names its folder before anything was saved in it."""
    runfolder.write_mark(tmp_path, state, 0)
    began = "start anew" if state == "finished" else "first checkpoint; give the command that began it again"
    with pytest.raises(InputError, match=f"^{tmp_path}: .*{began}"):
        checkpoint.open_at(tmp_path, checkpoint.read_meta)
