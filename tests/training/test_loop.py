"""Stopped anywhere and resumed = never stopped; what is logged, validated and saved, and when; bad moments.

Run: pytest tests/training/test_loop.py
"""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_examples import (
    assert_resumed_is_straight,
    assert_same_end,
    break_losses,
    lines_of,
    small_run,
    stop_at,
    write_rows,
)
from torch.utils._python_dispatch import TorchDispatchMode

from span_electra import accelerators
from span_electra.config import OPTIMIZERS, OptimizerConfig
from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.hub.model_card import own_metrics
from span_electra.hub.opening import load_model
from span_electra.pretraining.experiment import Pretraining, run_pretraining
from span_electra.training import checkpoint, loop, run_folder
from span_electra.training import step as step_module
from span_electra.training.devices import Process


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("features") / "rows.arrow")


# --- exact resume -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stopped_and_resumed_is_never_stopped_for_each_optimizer(features, tmp_path, monkeypatch, optimizer):
    options = {
        "optimizer": OptimizerConfig(optimizer, lr=5e-3),
        "gradient_accumulation_steps": 2,
        "loader": LoaderConfig(6, workers=2),
    }
    straight = run_pretraining(small_run(features, tmp_path / "a", **options))
    assert straight.state == "finished" and straight.step == 15  # 54 rows: 9 batches, 5 steps, 3 times
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        stopped = run_pretraining(small_run(features, tmp_path / "b", **options))
    assert (stopped.state, stopped.exit_code, stopped.step) == ("stopped", 128 + signal.SIGTERM, 7)
    folder = (tmp_path / "b").rename(tmp_path / "moved")
    resumed = run_pretraining(small_run(features, folder, resume=folder, **options))
    assert_same_end(straight, resumed)
    assert lines_of(tmp_path / "a") == lines_of(folder)
    assert resumed.metrics == straight.metrics


def test_a_resumed_run_that_monitors_another_metric_begins_its_best_anew(features, tmp_path):
    first = run_pretraining(small_run(features, tmp_path, epochs=1, monitor="generator_accuracy"))
    settings = small_run(features, tmp_path, epochs=2, monitor="loss", resume=first.checkpoint)
    meta = checkpoint.read_meta(Path(run_pretraining(settings).checkpoint))
    assert meta["loop"]["best"] == meta["metric"] > 1, "no accuracy, which would be the least loss for ever"


@pytest.mark.parametrize("step", [1, 5, 6, 10, 14])
def test_stopped_at_any_step_epoch_ends_included(features, tmp_path, monkeypatch, step, architecture):
    options = {"gradient_accumulation_steps": 2, "loader": LoaderConfig(6)}
    straight = run_pretraining(small_run(features, tmp_path / "a", **options))
    with monkeypatch.context() as patch:
        stop_at(patch, step, signal.SIGUSR1)
        assert (
            run_pretraining(small_run(features, tmp_path / "b", **options)).exit_code == 128 + signal.SIGUSR1
        )
    resumed = run_pretraining(small_run(features, tmp_path / "b", resume=tmp_path / "b", **options))
    assert_same_end(straight, resumed)
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")


def test_crops_are_the_same_after_a_stop(features, tmp_path, monkeypatch, architecture):
    def run(folder, **options):
        settings = small_run(features, tmp_path / folder, gradient_accumulation_steps=2, **options)
        model = replace(settings.model, sequence_objective="contrastive", sequence_crop=0.5)
        return run_pretraining(replace(settings, model=model))

    straight = assert_resumed_is_straight(run, tmp_path, monkeypatch, step=5)
    assert "contrastive_loss" not in straight.metrics, "held-out rows are not cropped"
    trained = [line for line in lines_of(tmp_path / "a") if line["split"] == "train"]
    assert trained and all(line["contrastive_loss"] > 0 for line in trained)


def test_a_validation_that_a_signal_cuts_short_is_made_up_for(features, tmp_path, monkeypatch):
    straight = run_pretraining(small_run(features, tmp_path / "a"))
    validate, asked = Pretraining.validate, []

    def ask_and_validate(experiment, stop_requested, *place):
        if not asked:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))
        return validate(experiment, stop_requested, *place)

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "validate", ask_and_validate)
        stopped = run_pretraining(small_run(features, tmp_path / "b"))
    assert stopped.state == "stopped" and not [
        line for line in lines_of(tmp_path / "b") if line["split"] == "valid"
    ]
    resumed = run_pretraining(small_run(features, tmp_path / "b", resume=tmp_path / "b"))
    assert_same_end(straight, resumed)
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")


def test_a_validation_that_is_cut_short_twice_is_still_made_up_for(features, tmp_path, monkeypatch):
    straight = run_pretraining(small_run(features, tmp_path / "a", max_steps=3))
    validate = Pretraining.validate

    def stopped_while_validating(experiment, stop_requested, *place):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(experiment, stop_requested, *place)

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "validate", stopped_while_validating)
        for resume in (None, tmp_path / "b"):
            stopped = run_pretraining(small_run(features, tmp_path / "b", max_steps=3, resume=resume))
            assert stopped.state == "stopped" and stopped.exit_code == 128 + signal.SIGTERM
    resumed = run_pretraining(small_run(features, tmp_path / "b", max_steps=3, resume=tmp_path / "b"))
    assert_same_end(straight, resumed)
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")
NO_NUMBERS = InputError("its answers are not numbers")


@pytest.mark.parametrize(
    ("error", "said"),
    [(OUT_OF_MEMORY, "step 7 .*: halve --valid_batch_size"), (NO_NUMBERS, "not numbers")],
)
def test_a_validation_that_fails_loses_no_training(features, tmp_path, monkeypatch, error, said):
    options = {"save_every": "3", "save_last": 1}
    straight = run_pretraining(small_run(features, tmp_path / "a", **options))

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "validate", fail)
        for resume in (None, tmp_path / "b"):
            with pytest.raises(InputError, match=said):
                run_pretraining(small_run(features, tmp_path / "b", resume=resume, **options))
    saved = [checkpoint.step_of(folder) for folder in checkpoint.in_run(tmp_path / "b")]
    assert saved == [7, 6], "weights whose answers are no numbers replace none"
    resumed = run_pretraining(small_run(features, tmp_path / "b", resume=tmp_path / "b", **options))
    assert_same_end(straight, resumed)
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")


def test_a_damaged_checkpoint_is_passed_over_and_the_end_is_the_same(features, tmp_path, monkeypatch):
    options = {"save_every": "4", "save_last": 5}
    straight = run_pretraining(small_run(features, tmp_path / "a", **options))
    with monkeypatch.context() as patch:
        stop_at(patch, 10)
        stopped = run_pretraining(small_run(features, tmp_path / "b", **options))
    weights = Path(stopped.checkpoint) / checkpoint.MODEL
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="step-00000010.*going on from .*step-00000008|set aside"):
        resumed = run_pretraining(small_run(features, tmp_path / "b", resume=tmp_path / "b", **options))
    assert_same_end(straight, resumed)
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")


def test_out_of_time_stops_with_a_checkpoint(features, tmp_path):
    result = run_pretraining(small_run(features, tmp_path / "run", max_minutes=1e-9))
    assert (result.state, result.exit_code, result.step) == ("stopped", 0, 1)
    assert run_folder.state_of(tmp_path / "run") == "resumable"


def test_a_precision_that_was_measured_stays_that_of_the_run(features, tmp_path, monkeypatch):
    options = {"precision": "auto", "epochs": 2}
    monkeypatch.setattr(accelerators, "bf16_speedup", lambda: 5.0)
    straight = run_pretraining(small_run(features, tmp_path / "a", **options))
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        stopped = run_pretraining(small_run(features, tmp_path / "b", **options))
    assert checkpoint.load(stopped.checkpoint).meta["precision"] == "bf16"
    monkeypatch.setattr(accelerators, "bf16_speedup", lambda: 0.2)  # another machine, or a busy one
    resumed = run_pretraining(small_run(features, tmp_path / "b", resume=tmp_path / "b", **options))
    assert checkpoint.load(resumed.checkpoint).meta["precision"] == "bf16"
    assert_same_end(straight, resumed)
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")


# --- log, validate, save ------------------------------------------------------------------------------


def test_a_metric_that_is_no_number_is_never_the_best(features, tmp_path, monkeypatch):
    values = iter([float("nan"), 0.5, 0.7, 0.6])
    monkeypatch.setattr(Pretraining, "validate", lambda *_: {"loss": next(values)})
    options = {"monitor": "loss", "eval_every": "1", "save_every": "99", "save_last": 99, "max_steps": 4}
    run_pretraining(small_run(features, tmp_path / "run", **options))
    saved = [checkpoint.step_of(folder) for folder in checkpoint.in_run(tmp_path / "run")]
    assert saved == [4, 2]  # the last, and the best when it was made


def test_a_run_shorter_than_every_interval_still_tells_tries_and_keeps(features, tmp_path):
    long = {"log_steps": 1000, "eval_every": "1000", "save_every": "1000", "epochs": 1}
    result = run_pretraining(small_run(features, tmp_path / "run", **long))
    assert [line["split"] for line in lines_of(tmp_path / "run")] == ["train", "valid"]
    assert checkpoint.latest(tmp_path / "run") == Path(result.checkpoint)
    assert run_folder.state_of(tmp_path / "run") == "finished"


def test_intervals_in_steps_and_at_epoch_ends(features, tmp_path):
    run_pretraining(
        small_run(features, tmp_path / "a", log_steps=0, eval_every="1 epoch")
    )  # 7 steps an epoch
    assert [(line["step"], line["split"]) for line in lines_of(tmp_path / "a")] == [
        (7, "valid"),
        (14, "valid"),
        (21, "valid"),
    ]
    run_pretraining(
        small_run(features, tmp_path / "b", log_steps=8, eval_every="10", save_every="5", save_last=9)
    )
    told = [(line["step"], line["split"]) for line in lines_of(tmp_path / "b")]
    assert told == [(8, "train"), (10, "valid"), (16, "train"), (20, "valid"), (21, "train"), (21, "valid")]
    kept = sorted(checkpoint.step_of(path) for path in checkpoint.in_run(tmp_path / "b"))
    assert kept == [5, 10, 15, 20, 21]
    saved = [checkpoint.read_meta(path) for path in checkpoint.in_run(tmp_path / "b")]
    assert sorted(meta["step"] for meta in saved if own_metrics(meta)) == [10, 20, 21], "of weights validated"


def test_a_line_names_the_epoch_of_its_step_the_last_of_an_epoch_too(features, tmp_path):
    run_pretraining(small_run(features, tmp_path / "run", log_steps=1))
    epochs = [line["epoch"] for line in lines_of(tmp_path / "run") if line["split"] == "train"]
    assert epochs == [0] * 7 + [1] * 7 + [2] * 7


def test_max_steps_ends_the_run_and_the_schedule(features, tmp_path):
    result = run_pretraining(small_run(features, tmp_path / "run", max_steps=4))
    assert result.step == 4 and lines_of(tmp_path / "run")[-1]["step"] == 4


def test_accumulated_batches_make_the_step_of_one_large_batch(features, tmp_path):
    options = {"dropout": 0.0, "epochs": 1, "valid": (0,)}
    sorted_rows = {"bucket_span": 1000}
    one = run_pretraining(
        small_run(features, tmp_path / "a", loader=LoaderConfig(60, **sorted_rows), **options)
    )
    loader = LoaderConfig(10, **sorted_rows)
    six = run_pretraining(
        small_run(features, tmp_path / "b", loader=loader, gradient_accumulation_steps=6, **options)
    )
    assert one.step == six.step == 1
    first, second = (checkpoint.load(result.checkpoint) for result in (one, six))
    for name, moment in first.optimizer.items():
        assert torch.allclose(moment, second.optimizer[name], atol=1e-6), name


def test_the_model_learns_and_can_be_rebuilt_from_its_checkpoint(features, tmp_path):
    result = run_pretraining(small_run(features, tmp_path / "run", dropout=0.0, epochs=20, log_steps=20))
    told = [line for line in lines_of(tmp_path / "run") if line["split"] == "train"]
    assert told[-1]["loss"] < told[0]["loss"] - 5
    model = load_model(result.checkpoint)
    weights = checkpoint.load(result.checkpoint).weights
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


# --- bad moments --------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_skips_its_step_and_is_counted(features, tmp_path, monkeypatch):
    break_losses(monkeypatch, {3})
    result = run_pretraining(small_run(features, tmp_path / "run"))
    lines = [line for line in lines_of(tmp_path / "run") if line["split"] == "train"]
    assert sum(line.get("skipped_steps", 0) for line in lines) == 1
    saved = checkpoint.load(result.checkpoint)
    assert all(tensor.isfinite().all() for tensor in saved.weights.values())


@pytest.mark.parametrize(("look_every", "last", "most"), [(1, 17, 99), (10, 20, 99), (10, 19, 19)])
def test_losses_that_stay_not_finite_end_the_run(features, tmp_path, monkeypatch, look_every, last, most):
    """At the next look or the last step, naming steps, rows, the last good checkpoint and the way out."""
    monkeypatch.setitem(loop.LOOK_EVERY, "cpu", look_every)  # 10 as on a GPU, where each look waits
    break_losses(monkeypatch, set(range(8, 100)))
    muon = OptimizerConfig("muon", adamw_lr=1e-3, discriminator_lr=1e-3)
    options = {"optimizer": muon, "loader": LoaderConfig(1), "save_every": "5", "max_steps": most}
    settings = small_run(features, tmp_path / "run", **options)
    batches = list(Pretraining(settings, Process(torch.device("cpu"))).train_batches(0, 0))
    rows = " ".join(map(str, sorted(batch.rows_B.item() for batch in batches[7:last])))
    bad, good = rf"steps 8 to {last}: .* {last - 7} times in a row \(rows {rows}\)", "checkpoint: .*step-00"
    with pytest.raises(InputError, match=rf"{bad}; last good {good}.*; lower --lr, --discriminator_lr, --ad"):
        run_pretraining(settings)
    for folder in checkpoint.in_run(tmp_path / "run"):
        assert all(tensor.isfinite().all() for tensor in checkpoint.load(folder).weights.values())


class Waits(TorchDispatchMode):
    """Remembers operators that need a number of the device, or a size made of one, on the host."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        name = operation.overloadpacket.__name__
        picks = arguments[1] if name in ("index", "index_put", "index_put_") else ()
        if any(
            waits in name for waits in ("_local_scalar_dense", "nonzero", "masked_select", "unique")
        ) or any(pick is not None and pick.dtype is torch.bool for pick in picks):
            self.seen.append(str(operation))
        return operation(*arguments, **(options or {}))


@pytest.fixture
def waits(monkeypatch):
    """Operators that waited in the steps of runs."""
    honest, seen = step_module.train_step, []

    def watched(*arguments, **options):
        with Waits(seen):
            honest(*arguments, **options)

    monkeypatch.setattr(loop, "train_step", watched)
    return seen


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_never_waits_for_the_device(features, tmp_path, waits, optimizer):
    options = {"max_steps": 2, "dropout": 0.0, "valid": (0,)}
    optimizer = OptimizerConfig(optimizer, lr=1e-3)
    run_pretraining(small_run(features, tmp_path / "run", optimizer=optimizer, **options))
    assert not waits


@pytest.mark.parametrize(
    ("loader", "changes"),
    [
        ({"spelling_noise": 0.3}, {"sequence_objective": "contrastive", "local_attention": 4}),
        ({"batch_max_tokens": 96, "pack_rows": True}, {"use_SBGO": True, "use_SBPO": True}),
        ({}, {"use_SBGO": True, "average_span_predictions": True, "embedding_sharing": "gdes"}),
        ({"paired_rows": 0.3}, {"generator_first": 0.9, "next_token_share": 0.9, "use_SBGO": True}),
        ({}, {"generator_first": 0.9, "next_token_share": 1.0, "next_token_candidates": 12}),
    ],
)
def test_nor_does_it_whatever_is_trained(features, tmp_path, waits, architecture, loader, changes):
    settings = small_run(
        features, tmp_path / "run", max_steps=2, dropout=0.0, loader=LoaderConfig(8, **loader)
    )
    run_pretraining(replace(settings, model=replace(settings.model, **changes)))
    assert not waits


def test_a_boolean_index_is_seen_to_wait():
    seen, numbers = [], torch.zeros(3)
    with Waits(seen):
        numbers[numbers > 0]
        numbers.sum().item()
    assert seen == ["aten.index.Tensor", "aten._local_scalar_dense.default"]


def test_memory_that_runs_out_names_the_settings_that_need_less(features, tmp_path, monkeypatch):
    def no_memory(*arguments, **options):
        raise OUT_OF_MEMORY

    monkeypatch.setattr(loop, "train_step", no_memory)
    with pytest.raises(InputError, match="out of memory.*--train_batch_size"):
        run_pretraining(small_run(features, tmp_path / "run"))


def test_settings_that_do_not_fit_are_refused(features, tmp_path):
    for unknown in ("glory", "next_token_loss", "contrastive_loss"):  # the last two are training's alone
        with pytest.raises(InputError, match=f"monitor: '{unknown}' is no metric of validations"):
            run_pretraining(small_run(features, tmp_path / "a", monitor=unknown))
    with pytest.raises(InputError, match="lamb does not support --parallel fsdp"):
        run_pretraining(
            small_run(features, tmp_path / "a", optimizer=OptimizerConfig("lamb"), parallel="fsdp")
        )
    other = write_rows(tmp_path / "other.arrow", prefix="v")
    settings = replace(small_run(features, tmp_path / "a"), valid_features=(other,))
    with pytest.raises(InputError, match="other.arrow: made with vocabulary .*create_feature_SE.py"):
        run_pretraining(settings)
    settings = small_run(features, tmp_path / "a")
    with pytest.raises(InputError, match="max_position_embeddings: 12 is less"):
        run_pretraining(replace(settings, model=replace(settings.model, max_position_embeddings=12)))
    with pytest.raises(InputError, match="vocab_size: 9 is less"):
        run_pretraining(replace(settings, model=replace(settings.model, vocab_size=9)))


def test_resuming_inside_an_epoch_with_other_rows_is_refused(features, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        run_pretraining(small_run(features, tmp_path / "run"))
    with pytest.raises(InputError, match="inside an epoch with rows 54, now it is 48"):
        run_pretraining(small_run(features, tmp_path / "run", resume=tmp_path / "run", valid=(0.2,)))
