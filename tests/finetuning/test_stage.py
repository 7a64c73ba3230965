"""Fine-tuning as a whole: every type of task, resume, transfer, seeds, and what bad input leaves behind.

Run: pytest tests/finetuning/test_stage.py
"""

import json
import math
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from finetune_examples import ROWS, lines_of, settings_of, write_task
from run_examples import stop_at
from safetensors.torch import load_file
from shell_examples import exit_code
from task_examples import write

from span_electra.config import OptimizerConfig
from span_electra.errors import InputError
from span_electra.finetuning.arguments import TaskDataArguments
from span_electra.finetuning.decoding import direction
from span_electra.finetuning.stage import finetune, note_longer_rows, prepare
from span_electra.finetuning.task_model import load_task_model
from span_electra.finetuning.task_types import TASK_TYPES
from span_electra.hub.architectures import architecture_of
from span_electra.hub.runs import best_checkpoint
from span_electra.training import checkpoint

pytestmark = pytest.mark.usefixtures("here")

SINGLE = "SingleSenClassification"
PREPARED = TaskDataArguments(task_file="tasks.yaml", encoder="small", max_seq_len=24, workers=1)


def results_of(folder):
    return json.loads((Path(folder) / "results.json").read_text())


def weights_of(folder):
    return checkpoint.load(next(checkpoint.in_run(Path(folder)))).weights


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("rows, said", [(16, False), (17, True)])
def test_rows_longer_than_the_encoder_was_trained_on_are_noted(rows, said, capsys):
    note_longer_rows(rows, SimpleNamespace(longest=16, source="runs/first"))
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == said
    assert (f"max_seq_len: {rows}, but runs/first was trained on rows of at most 16" in err) is said


# --- every type of task ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_every_type_of_task_is_trained_tried_predicted_and_exported(kind, tmp_path, architecture):
    assert finetune(settings_of(tmp_path, {"t": write_task(tmp_path, kind)}, epochs=1)) == 0
    results = results_of("run")["t"]
    assert set(results) == {"dev", "test"}
    for found in results.values():
        [(metric, value)] = found.items()
        assert math.isfinite(value) and (value >= 1 if metric == "perplexity" else -1 <= value <= 1)
    for split in ("dev", "test"):
        lines = Path(f"run/predictions/t-{split}.tsv").read_text().splitlines()
        assert len(lines) == 1 + ROWS and lines[0] == "uid\tprediction\tlabel"
        uids = [line.split("\t")[0] for line in lines[1:]]
        assert uids == sorted(uids, key=int)
    assert (tmp_path / "run/exported/t/model.safetensors").is_file()
    card = Path("run/exported/t/README.md").read_text()
    assert "Started from `small`." in card and f"| rows of the train | {ROWS} |" in card
    assert all(f'"value": {round(value, 6)}' in card for value in results["test"].values())
    model_type = json.loads(Path("run/exported/t/config.json").read_text())["model_type"]
    assert architecture_of({"model_type": model_type}, "run").name == architecture


def test_a_run_that_reads_the_mean_of_tokens_is_opened_and_exported_so(tmp_path, monkeypatch):
    monkeypatch.setattr("model_examples.ARCHITECTURE", "modern")
    tasks = {
        "a": write_task(tmp_path, SINGLE, "a") | {"pooling": "mean"},
        "b": write_task(tmp_path, SINGLE, "b"),
    }
    assert finetune(settings_of(tmp_path, tasks, epochs=1)) == 0
    assert [task.pooling for task in load_task_model("run").network.tasks] == ["mean", "cls"]
    configs = [json.loads(Path(f"run/exported/{name}/config.json").read_text()) for name in tasks]
    assert [config.get("classifier_pooling", "cls") for config in configs] == ["mean", "cls"]


def test_tasks_of_one_file_are_trained_together_and_each_is_exported(tmp_path):
    tasks = {"a": write_task(tmp_path, SINGLE, "a"), "b": write_task(tmp_path, "NER", "b")}
    assert finetune(settings_of(tmp_path, tasks, epochs=1)) == 0
    assert set(results_of("run")) == {"a", "b"}
    assert {path.name for path in Path("run/exported").iterdir()} == {"a", "b"}


def test_a_separable_task_is_learnt_and_shuffled_labels_are_not(tmp_path):
    task = write_task(tmp_path, SINGLE)
    write(tmp_path / "data", "t/train.tsv", lines_of(SINGLE, 120, seed=9))
    learn = {"epochs": 8, "optimizer": OptimizerConfig(lr=5e-3), "dropout": 0.0}
    assert finetune(settings_of(tmp_path, {"t": task}, **learn)) == 0
    assert results_of("run")["t"]["test"]["accuracy"] == 1.0
    rows = [line.split("\t") for line in lines_of(SINGLE, 120, seed=9).splitlines()]
    dice = torch.Generator().manual_seed(0)
    order = torch.randperm(len(rows), generator=dice).tolist()
    shuffled = [[uid, rows[other][1], text] for (uid, _, text), other in zip(rows, order, strict=True)]
    write(tmp_path / "data", "t/train.tsv", "".join("\t".join(row) + "\n" for row in shuffled))
    assert finetune(settings_of(tmp_path, {"t": task}, out_dir="other", **learn)) == 0
    assert results_of("other")["t"]["test"]["accuracy"] < 0.9


# --- resume and transfer --------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2, 4, 5])
def test_stopped_and_resumed_is_never_stopped(step, tmp_path, monkeypatch, capsys, architecture):
    tasks = {"a": write_task(tmp_path, SINGLE, "a"), "b": write_task(tmp_path, "ResponseSelection", "b")}
    tasks["a"]["sampling"] = "annealed"
    settings = settings_of(tmp_path, tasks, grad_accumulation_steps=2)
    assert finetune(settings) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        assert finetune(replace(settings, out_dir="stopped")) == 128 + signal.SIGTERM
    assert "--load_saved_model stopped --resume_train" in capsys.readouterr().out
    changes = {"load_saved_model": "stopped", "resume_train": True, "out_dir": None}
    assert finetune(replace(settings, **changes)) == 0
    straight, resumed = (checkpoint.load(next(checkpoint.in_run(Path(f)))) for f in ("run", "stopped"))
    assert straight.meta["step"] == resumed.meta["step"] == 8
    assert_same_bits(straight.weights, resumed.weights)
    assert_same_bits(straight.optimizer, resumed.optimizer)
    assert results_of("run") == results_of("stopped")
    assert sorted(path.name for path in tmp_path.glob("*_prepared_data")) == ["small_prepared_data"]


@pytest.mark.parametrize("kind", ["NER", "MultiLabelClassification", SINGLE])
def test_a_threshold_that_dev_decided_is_that_of_results_and_exports(
    kind, tmp_path, monkeypatch, architecture
):
    # A network that learned next to nothing may ask for none.
    monkeypatch.setattr("span_electra.finetuning.predictions.best_shift", lambda metric_at: 1.5)
    task = write_task(tmp_path, kind) | {"tuned_threshold": True}
    assert finetune(settings_of(tmp_path, {"t": task}, epochs=1)) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    [score] = [line["score"] for line in lines if line["split"] == "valid"]
    assert [*results_of("run")["t"]["dev"].values()] == [pytest.approx(score, abs=1e-6)]
    opened, saved = load_task_model("run"), checkpoint.load(checkpoint.latest(Path("run")))
    [spec], [head] = opened.specs, opened.network.tasks
    moved = opened.network.heads[0].score.bias - saved.weights["heads.0.score.bias"]
    assert torch.allclose(moved, torch.from_numpy(1.5 * direction(head.kind, spec.labels)).float(), atol=1e-6)
    assert (
        head.shift == 0.0 and saved.meta["heads"][0]["shift"] == 1.5 and bool(head.orders) == (kind == "NER")
    )
    exported = load_file("run/exported/t/model.safetensors")
    biases = [value for name, value in exported.items() if name.endswith("bias") and len(value) == len(moved)]
    assert any(torch.equal(bias, opened.network.heads[0].score.bias) for bias in biases)


@pytest.mark.parametrize("step", [2, 5])
def test_a_threshold_and_orders_of_tags_are_kept_over_a_stop(step, tmp_path, monkeypatch):
    task = write_task(tmp_path, "NER") | {"tuned_threshold": True}
    settings = settings_of(tmp_path, {"t": task}, save_per_updates=1, limit_save=9, shuffle_buffer_size=0)
    assert finetune(settings) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        finetune(replace(settings, out_dir="other"))
    assert finetune(replace(settings, out_dir=None, load_saved_model="other", resume_train=True)) == 0
    for one in checkpoint.in_run(Path("run")):
        heads = [
            checkpoint.read_meta(Path(run, "checkpoints", one.name))["heads"] for run in ("run", "other")
        ]
        assert heads[0] == heads[1]


def test_processes_that_we_did_not_start_are_refused(tmp_path, torchrun):
    torchrun()
    with pytest.raises(InputError, match="torchrun: .*--device_ids"):
        finetune(settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}))
    assert not Path("run").exists()


def test_any_checkpoint_is_exported_by_the_script(tmp_path, monkeypatch, capsys):
    import export_SE

    tasks = {"a": write_task(tmp_path, SINGLE, "a"), "b": write_task(tmp_path, "Conversation", "b")}
    assert finetune(settings_of(tmp_path, tasks, epochs=1)) == 0
    for source in ("run", str(best_checkpoint(Path("run")))):
        argv = ["export_SE.py", "--checkpoint_path", source, "--out_dir", f"out-{Path(source).name}"]
        monkeypatch.setattr(sys, "argv", argv)
        capsys.readouterr()
        export_SE.main()
        written = capsys.readouterr().out.split()
        assert [Path(folder).name for folder in written] == ["a", "b"]
        for folder in written:
            ours, theirs = Path("run/exported", Path(folder).name), Path(folder)
            ours, theirs = ((place / "model.safetensors").read_bytes() for place in (ours, theirs))
            assert ours == theirs


def test_names_of_repositories_are_checked_before_a_task_is_exported(tmp_path, monkeypatch):
    import export_SE

    assert finetune(settings_of(tmp_path, {"my mood": write_task(tmp_path, SINGLE)}, epochs=1)) == 0
    argv = ["export_SE.py", "--checkpoint_path", "run", "--out_dir", "out", "--push_to_hub", "me/mine"]
    monkeypatch.setattr(sys, "argv", [*argv, "--dry_run"])
    with pytest.raises(InputError, match="me/mine-my mood is no name of a repository"):
        export_SE.main()
    assert not Path("out").exists()


def test_a_resumed_run_keeps_its_seed(tmp_path):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, max_steps=2)
    assert finetune(settings) == 0
    with pytest.raises(InputError, match="go on: .*finetune_SE.py .* --resume_train; or choose another"):
        finetune(settings)
    with pytest.raises(InputError, match="was trained with seed 0, this is 1"):
        finetune(replace(settings, load_saved_model="run", resume_train=True, seed=1))


@pytest.mark.parametrize("change", [{"epochs": 3}, {"grad_accumulation_steps": 2}, {"train_batch_size": 4}])
def test_a_resumed_run_whose_batches_are_others_goes_on_behind_its_rows(change, tmp_path):
    task = write_task(tmp_path, SINGLE) | {"sampling": "annealed"}
    settings = settings_of(tmp_path, {"t": task}, max_steps=2)
    assert finetune(settings) == 0
    settings = replace(settings, load_saved_model="run", resume_train=True, max_steps=0, **change)
    assert finetune(settings) == 0
    assert "batches are cut otherwise now: epoch 1 goes on behind" in Path("run/log.txt").read_text()
    loop = checkpoint.load(next(checkpoint.in_run(Path("run")))).meta["loop"]
    assert (loop["epoch"], loop["batch"], loop["step"]) == (settings.epochs, 0, loop["total"])


def test_a_frozen_encoder_keeps_its_bits_and_the_heads_learn(tmp_path):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, freeze_encoder=True)
    assert finetune(settings) == 0
    start = replace(settings, out_dir="start", optimizer=OptimizerConfig(lr=0.0), epochs=1)
    assert finetune(start) == 0
    learnt, began = load_task_model("run").network, load_task_model("start").network
    assert_same_bits(learnt.encoder.state_dict(), began.encoder.state_dict())
    assert not torch.equal(learnt.heads[0].score.weight, began.heads[0].score.weight)


# --- seeds ----------------------------------------------------------------------------------------------


def test_seeds_are_told_as_mean_and_deviation(tmp_path):
    assert finetune(settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=2, epochs=1)) == 0
    each = [results_of(f"run/seed-{seed}")["t"]["dev"]["accuracy"] for seed in (0, 1)]
    told = results_of("run")["t"]["dev"]["accuracy"]
    assert told["values"] == each and told["mean"] == pytest.approx(sum(each) / 2)


# --- bad input ------------------------------------------------------------------------------------------


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def bad(name, folder):
    """Make one thing wrong; returns the flags that differ and a word of the message."""
    data = folder / "data/t"
    if name == "task file absent":
        return ["--task_file", "none.yaml"], "none.yaml"
    if name == "unknown label":
        write(data, "dev.tsv", "1\tyes\tthe cat\n2\tyse\tthe dog\n")
        return [], "dev.tsv"
    if name == "one label":
        write(data, "train.tsv", "1\tyes\tthe cat\n2\tyes\tthe dog\n")
        task = json.loads((folder / "tasks.yaml").read_text())
        write(folder, "tasks.yaml", json.dumps({"t": task["t"] | {"label_map_or_file": ["no", "yes"]}}))
        return [], "every row has the label 'yes'"
    if name == "encoder absent":
        return ["--encoder", "nowhere"], "nowhere"
    if name == "too long":
        return ["--max_seq_len", "64"], "max_seq_len"
    if name == "used folder":
        write(folder, "used/a.txt", "mine")
        return ["--out_dir", "used"], "used"
    if name == "metric of another type":
        task = json.loads((folder / "tasks.yaml").read_text())
        write(folder, "tasks.yaml", json.dumps({"t": task["t"] | {"metrics": ["pearson"]}}))
        return [], "pearson"
    if name == "another vocabulary":
        assert prepare(PREPARED) == 0
        mark = folder / "small_prepared_data/prepared.json"
        mark.write_text(mark.read_text().replace('"vocabulary_sha256": "', '"vocabulary_sha256": "f00'))
        return ["--data_dir", "small_prepared_data", "--max_seq_len", "24"], "vocabulary f00"
    if name == "too few replies":
        write(data, "dev.tsv", '["hi", "a"]\n')
        task = {"task_type": "ResponseSelection", "file_names": {"train": "t/talk.tsv", "dev": "t/dev.tsv"}}
        write(data, "talk.tsv", lines_of("ResponseSelection"))
        write(folder, "tasks.yaml", json.dumps({"t": task}))
        return [], "conversations"
    if name in ("batch of one reply", "nothing that learns"):
        task = {"task_type": "ResponseRetrieval", "file_names": {"train": "t/talk.tsv"}}
        write(data, "talk.tsv", lines_of("ResponseRetrieval"))
        write(folder, "tasks.yaml", json.dumps({"t": task}))
        if name == "nothing that learns":
            return ["--freeze_encoder"], "freeze_encoder: t (ResponseRetrieval)"
        return ["--train_batch_size", "1"], "train_batch_size: 1 leaves t"
    return {
        "resume alone": (["--resume_train"], "load_saved_model"),
        "parallel": (["--parallel", "dp"], "parallel"),
        "rate of another network": (["--discriminator_lr", "1"], "use lr"),
    }[name]


WRONGS = (
    "task file absent", "unknown label", "one label", "encoder absent", "too long", "used folder",
    "metric of another type",    "another vocabulary", "too few replies", "resume alone", "parallel",
    "rate of another network", "batch of one reply", "nothing that learns",
)  # fmt: skip
REFUSED_BY_THE_RUN = ("too few replies", "batch of one reply", "nothing that learns")


@pytest.mark.parametrize("name", WRONGS)
def test_bad_input_is_one_line_and_leaves_nothing_new(name, tmp_path, capsys):
    import finetune_SE

    settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)})
    flags, word = bad(name, tmp_path)
    usual = {"--task_file": "tasks.yaml", "--data_dir": "data", "--encoder": "small", "--max_seq_len": "32"}
    usual["--out_dir"] = "deep/run"
    usual |= dict(zip(flags[::2], flags[1::2], strict=False))
    before = names_in(tmp_path)
    argv = [part for flag, value in usual.items() for part in (flag, value)]
    capsys.readouterr()
    code = exit_code(finetune_SE.main, "finetune_SE.py", *argv, *flags[len(flags) // 2 * 2 :])
    message = capsys.readouterr().err
    assert code == 2
    assert message.startswith("error: ") and message.count("\n") == 1 and word in message
    # What a run refuses is found when the rows are there, and they are right.
    rows = "small_prepared_data" if name in REFUSED_BY_THE_RUN else "none"
    assert [path for path in names_in(tmp_path) if not path.startswith(rows)] == before


# --- two processes --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(tmp_path, capfd):
    tasks = {"a": write_task(tmp_path, SINGLE, "a"), "b": write_task(tmp_path, "NER", "b")}
    settings = settings_of(tmp_path, tasks, dropout=0.0, grad_accumulation_steps=2)
    tasks = {name: task | {"dropout_prob": 0.0} for name, task in tasks.items()}
    settings = settings_of(tmp_path, tasks, dropout=0.0, grad_accumulation_steps=2)
    assert finetune(settings) == 0
    with pytest.warns(UserWarning, match="2 CPU processes"):
        assert finetune(replace(settings, out_dir="two", device_ids=[0, 1])) == 0
    one, two = weights_of("run"), weights_of("two")
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert "find_unused_parameters" not in capfd.readouterr().err


def test_validations_by_the_epoch_and_a_metric_of_one_task_decide(tmp_path):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, "SingleSenClassification")}, epochs=2)
    own = {"eval_per_epoch": 2, "monitor": "t_accuracy", "save_top_k": 3, "deterministic": True}
    assert finetune(replace(settings, **own)) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert sum(line["split"] == "valid" for line in lines) == 4
    with pytest.raises(InputError, match="monitor: 't_acuracy' is no metric of these tasks; choose"):
        finetune(replace(settings, out_dir="other", monitor="t_acuracy"))
    assert not Path("other").exists()
