"""Fine-tuned models tried on task files. Run: pytest tests/evaluation/test_tasks.py"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from network_examples import exported, vocabulary_of_words
from task_examples import write

from argument import EvaluateArgs, FinetuneArgs
from span_electra.errors import InputError
from span_electra.evaluation.tasks import evaluate_tasks, prepared_rows, task_number
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.stage import finetune
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_file import load_task_file
from span_electra.hub.folders import recorded_sha256
from span_electra.report.scores import tables_of

ROOT = Path(__file__).resolve().parents[2]
TASKS = {
    "mood": {"task_type": "SingleSenClassification", "metrics": ["accuracy", "matthews"]},
    "spelling": {"task_type": "SpellingWords"},
    "reply": {"task_type": "ResponseSelection"},
    "talk": {"task_type": "Conversation"},
}
FILE = {"mood": "{}.tsv", "spelling": "{}/corrupt.txt", "reply": "{}.jsonl", "talk": "{}.jsonl"}
WORDS = ["cat", "dog", "mat", "cats", "dogs", "sleeps", "barks", "on", "the", "bark", "sleep", "un"]


def rows_of(task, first, count):
    """Lines of a task's file; which words they have, their numbers say."""
    words = [(WORDS[n % 12], WORDS[n // 12 % 12]) for n in range(first, first + count)]
    if task == "mood":
        return [f"{n}\t{'good' if n % 3 else 'bad'}\t{a} {b} the" for n, (a, b) in enumerate(words)]
    if task == "spelling":
        return [f"{a} {b}" for a, b in words]
    return [json.dumps([a, b, f"the {a} {b}"]) for a, b in words]


def write_task_file(folder, tasks, files=("train", "dev", "test")):
    sections = {}
    for name in tasks:
        names = {split: FILE[name].format(f"{name}-{split}") for split in files}
        for number, path in enumerate(names.values()):
            write(folder / "data", path, "\n".join(rows_of(name, 30 * number, 24)) + "\n")
            if name == "spelling":  # the benchmark's layout: which words are wrong stands beside
                write(folder / "data", path.replace("corrupt", "correct"), "0 1\n0 0\n" * 12)
        sections[name] = TASKS[name] | {"file_names": names}
    return write(folder, "tasks.yaml", json.dumps(sections))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A run that learnt all four tasks for an epoch; its folder holds tasks.yaml, data/ and run/."""
    folder = tmp_path_factory.mktemp("tuned")
    exported(folder / "model")
    write_task_file(folder, TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = FinetuneArgs(
            task_file="tasks.yaml", out_dir="run", encoder="model", epochs=1, max_seq_len=16, silent=True
        )
        assert finetune(settings) == 0
    return folder


def loads(folder):
    """The sections of the task file."""
    return json.loads((folder / "tasks.yaml").read_text())


def asked(folder, task_file, model="run", **more):
    given = {"model": str(folder / model), "task_file": str(task_file), "data_dir": str(folder / "data")}
    return EvaluateArgs(**given, device="cpu", **more)


def tried(folder, task_file="tasks.yaml", **more):
    """What is said, and what is written."""
    out = folder / "scores.json"
    out.unlink(missing_ok=True)
    said = list(evaluate_tasks(asked(folder, folder / task_file, out_file=str(out), **more)))
    return "".join(said), json.loads(out.read_text())["tasks"]


def test_the_same_files_give_the_numbers_of_fine_tuning(tuned):
    said, found = tried(tuned)
    results = json.loads((tuned / "run" / "results.json").read_text())
    assert set(found) == {f"{task}, {split}" for task in TASKS for split in ("dev", "test")}
    for row, metrics in found.items():
        task, split = row.split(", ")
        wanted = {
            name.replace("recall_at_1", "recall@1 of 10"): v for name, v in results[task][split].items()
        }
        told = {name: value for name, value in metrics.items() if name not in ("rows", "sequence_f1")}
        assert told == pytest.approx(wanted, abs=1e-5), row
        assert metrics["rows"] == 24
    assert "perplexity" in found["talk, dev"] and "recall@1 of 10" in said


def test_lines_with_errors_are_told_beside_the_words(tuned):
    _, found = tried(tuned)
    lines = (tuned / "run" / "predictions" / "spelling-test.tsv").read_text().splitlines()[1:]
    called, wrong = ([("1" in line.split("\t")[at].split()) for line in lines] for at in (1, 2))
    hits = sum(one and other for one, other in zip(called, wrong, strict=True))
    assert found["spelling, test"]["sequence_f1"] == pytest.approx(2 * hits / (sum(called) + sum(wrong)))


def test_the_labels_are_the_models_whatever_the_train_file_has_now(tuned, tmp_path):
    """Prepared from this train file alone, `bad` would be unknown and `good` label 0."""
    named = {"train": "now.tsv", "dev": "mood-dev.tsv"}
    write(tuned / "data", "now.tsv", "1\tgood\tthe cat\n" * 3)
    write(tuned, "now.yaml", json.dumps({"mood": TASKS["mood"] | {"file_names": named}}))
    _, now = tried(tuned, "now.yaml")
    _, before = tried(tuned)
    assert now == {"mood, dev": before["mood, dev"]}


@pytest.mark.parametrize("listed", [{}, {"label_map_or_file": ["bad", "good", "neutral"]}])
def test_a_label_that_the_model_has_not_is_told_as_such(tuned, listed):
    write(tuned / "data", "other.tsv", "1\tgood\tthe cat\n2\tneutral\tthe dog\n")
    section = TASKS["mood"] | {"file_names": {"train": "mood-train.tsv", "dev": "other.tsv"}} | listed
    write(tuned, "other.yaml", json.dumps({"mood": section}))
    said = "line 2: the model did not learn label 'neutral'; it knows bad, good; mend the row, or"
    with pytest.raises(InputError, match=f"other.tsv: {said}"):
        tried(tuned, "other.yaml")


def test_dev_is_split_from_train_as_in_fine_tuning(tuned):
    named = {"train": "mood-train.tsv"}
    write(tuned, "split.yaml", json.dumps({"mood": TASKS["mood"] | {"file_names": named, "val_split": 5}}))
    assert tried(tuned, "split.yaml")[1]["mood, dev"]["rows"] == 5


def test_nothing_is_left_behind_but_the_numbers_as_one_table(tuned):
    before = {path for path in tuned.rglob("*") if path.name != "scores.json"}
    said = list(evaluate_tasks(asked(tuned, tuned / "tasks.yaml")))
    assert said[-1].startswith(str(tuned / "run" / "evaluation.json"))
    after = {path for path in tuned.rglob("*") if path.name != "scores.json"}
    assert after - before == {tuned / "run" / "evaluation.json"}
    tables = tables_of(json.loads((tuned / "run" / "evaluation.json").read_text()))
    assert [row[0] for row in tables[-1].rows[:2]] == ["mood, dev", "mood, test"]


def test_another_task_file_adds_to_the_numbers_of_the_first(tuned, tmp_path):
    out = tmp_path / "scores.json"
    for name in ("mood", "talk"):
        one = write(tmp_path, f"{name}.yaml", json.dumps({name: loads(tuned)[name]}))
        list(evaluate_tasks(asked(tuned, one, out_file=str(out))))
    assert {f"{name}, {split}" for name in ("mood", "talk") for split in ("dev", "test")} == set(
        json.loads(out.read_text())["tasks"]
    )


def test_numbers_of_other_files_of_a_task_are_replaced_and_told(tuned, tmp_path):
    out, data = tmp_path / "scores.json", tuned / "data"
    for name, said in (
        ("mood-dev.tsv", ""),
        ("mood-test.tsv", f"  (in place of those of {data}/mood-dev.tsv)"),
    ):
        named = {"train": "mood-train.tsv", "dev": name}
        one = write(tmp_path, "one.yaml", json.dumps({"mood": TASKS["mood"] | {"file_names": named}}))
        assert [*evaluate_tasks(asked(tuned, one, out_file=str(out)))][-1] == f"{out}{said}"
        assert json.loads(out.read_text())["evaluated on"] == {"mood, dev": str(data / name)}


def test_the_folder_of_the_numbers_is_made_before_they_are(tuned, monkeypatch):
    target = tuned / "new" / "folder" / "scores.json"
    named = asked(tuned, tuned / "split.yaml", out_file=str(target))
    files = {"train": "mood-train.tsv"}
    write(tuned, "split.yaml", json.dumps({"mood": TASKS["mood"] | {"file_names": files, "val_split": 5}}))
    list(evaluate_tasks(named))
    assert "mood, dev" in json.loads(target.read_text())["tasks"]
    (tuned / "a file").write_text("")
    below = asked(tuned, "not read", out_file=str(tuned / "a file" / "scores.json"))
    for wrong in (below, replace(below, out_file=str(tuned / "a file" / "new" / "scores.json"))):
        with pytest.raises(InputError, match="a file.*; name another --out_file"):
            next(evaluate_tasks(wrong))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="folder: cannot be written; name another --out_file"):
        next(evaluate_tasks(named))


def test_what_cannot_be_tried_is_refused(tuned):
    files = {"train": "mood-train.tsv"}
    for name, section, message in (
        ("mod", TASKS["mood"] | {"file_names": files}, "mod: the model did not learn it; it knows mood"),
        ("mood", {"task_type": "Regression", "file_names": files}, "learnt it as SingleSenClassification"),
        ("mood", TASKS["mood"] | {"file_names": files}, "no task has labelled dev or test rows"),
    ):
        write(tuned, "wrong.yaml", json.dumps({name: section}))
        with pytest.raises(InputError, match=message):
            tried(tuned, "wrong.yaml")
    with pytest.raises(InputError, match="no run of fine-tuning"):
        list(evaluate_tasks(asked(tuned, tuned / "tasks.yaml", model="model", out_file="none.json")))


def test_a_checkpoint_in_shares_is_told_from_others():
    def weights_of(*hashes):
        files = {f"shard-{number:05}": {"sha256": value} for number, value in enumerate(hashes)}
        return recorded_sha256({"files": files})[:12]

    assert len({weights_of("a", "b"), weights_of("a", "c"), weights_of("a", "b", "c")}) == 3


@pytest.mark.parametrize("asked", [None, False, True])
@pytest.mark.parametrize("learnt", [None, False, True])
def test_pairs_are_not_asked_of_what_learnt_single_texts(asked, learnt):
    task = Task("t", "Regression", {"train": ("a.tsv",)}, paired=asked)
    specs = (TaskSpec(replace(task, paired=learnt), (), 32),)
    if None in (asked, learnt) or asked == learnt:
        assert task_number(task, specs, "tasks.yaml") == 0
        return
    with pytest.raises(InputError, match="tasks.yaml: t: its files hold (pairs|single texts), and the model"):
        task_number(task, specs, "tasks.yaml")


def test_a_metric_that_the_labels_of_the_run_have_not_is_refused(tmp_path):
    write(tmp_path / "data", "pos.txt", "cat NOUN\nsleeps VERB\n")
    section = {"task_type": "NER", "file_names": {"train": "pos.txt", "dev": "pos.txt"}}
    tasks = write(tmp_path, "tasks.yaml", json.dumps({"pos": section}))
    asked = load_task_file(tasks, tmp_path / "data").tasks
    where = {"data_dir": tmp_path / "data", "folder": tmp_path / "out"}
    specs = (TaskSpec(asked[0], ("NOUN", "VERB"), 32),)
    with pytest.raises(InputError, match="pos.metrics: chunk_f1 needs tags O"):
        next(prepared_rows(asked, [0], specs=specs, vocabulary=vocabulary_of_words(), **where))


def test_what_is_odd_of_the_files_is_told_as_in_fine_tuning(tmp_path, capsys):
    write(tmp_path / "data", "a.tsv", f'1\tgood\t{"the cat " * 30}\n2\tbad\t"the dog"\n3\t1\tdogs\n')
    section = {"task_type": "SingleSenClassification", "file_names": {"train": "a.tsv", "dev": "a.tsv"}}
    section["label_map_or_file"] = ["good", "bad"]
    tasks = write(tmp_path, "tasks.yaml", json.dumps({"mood": section}))
    asked = load_task_file(tasks, tmp_path / "data").tasks
    specs = (TaskSpec(asked[0], ("good", "bad"), 32),)
    where = {"data_dir": tmp_path / "data", "folder": tmp_path / "out"}
    assert [*prepared_rows(asked, [0], specs=specs, vocabulary=vocabulary_of_words(), **where)]
    said = capsys.readouterr().err
    for part in ("longer than 32 tokens", "label is a number", "row has a field in quotes"):
        assert part in said
    assert "max_seq_len" not in said, "the length is the run's own"


def test_the_script(tuned):
    def run(*flags):
        command = [sys.executable, str(ROOT / "evaluate_SE.py"), *flags, "--task_file", "tasks.yaml"]
        return subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, cwd=tuned)

    text = json.loads((tuned / "tasks.yaml").read_text())
    text["mood"]["model_type"] = "BERT"
    write(tuned, "tasks.yaml", json.dumps(text))
    done = run("run", "--data_dir", "data", "--out_file", "script.json")
    assert done.returncode == 0, done.stderr
    assert "note: tasks.yaml: model_type decide nothing here" in done.stderr
    assert "talk, test" in done.stdout and (tuned / "script.json").is_file()
    for wrong, message in (
        (run("run", "--pairs", "x"), "run the script once for each"),
        (run(), "name the folder"),
    ):
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        assert message in wrong.stderr
