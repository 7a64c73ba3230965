"""The task file and its errors. Run: pytest tests/finetuning/test_task_file.py"""

import json

import pytest
from task_examples import one_task, task_file, write

from span_electra.errors import InputError
from span_electra.finetuning.metrics import METRICS
from span_electra.finetuning.task import Task, needs_label, split_files
from span_electra.finetuning.task_file import TaskFile, load_task_file
from span_electra.finetuning.task_types import TASK_TYPES

SINGLE = {"task_type": "SingleSenClassification", "file_names": {"train": "a.tsv"}}


def test_a_whole_task_file_is_read(tmp_path):
    write(tmp_path, "data/a.tsv", "1\tx\tA text.\n")
    write(tmp_path, "data/b/dev.tsv", "1\tx\tA text.\n")
    write(tmp_path, "data/tags.txt", "O\nB-PER\n")
    text = """
sampling: annealed
my task, v1.2:
  task_type: SingleSenClassification
  file_names: {train: [a.tsv, b/dev.tsv], dev: b/dev.tsv}
  class_num: 2
  label_map_or_file: {good: 1, bad: 0}
  columns: {text: sentence1, label: label, uid: id}
  metrics: [matthews, accuracy]
  dropout_prob: 0.2
  loss_weight: 2
  limit: 100
7:
  task_type: NER
  file_names: [a.tsv, b/dev.tsv, a.tsv]
  label_map_or_file: tags.txt
  sampling: annealed
"""
    first = Task(
        "my task, v1.2",
        "SingleSenClassification",
        {"train": ("a.tsv", "b/dev.tsv"), "dev": ("b/dev.tsv",)},
        class_num=2,
        labels=("bad", "good"),
        columns={"text": "sentence1", "label": "label", "uid": "id"},
        metrics=("matthews", "accuracy"),
        dropout_prob=0.2,
        loss_weight=2.0,
        limit=100,
        listed=True,
    )
    files = {"train": ("a.tsv",), "dev": ("b/dev.tsv",), "test": ("a.tsv",)}
    second = Task("7", "NER", files, None, ("O", "B-PER"), metrics=("chunk_f1",), listed=True)
    loaded = load_task_file(write(tmp_path, "tasks.yaml", text), tmp_path / "data")
    assert loaded == TaskFile((first, second), "annealed")
    assert split_files(first, "dev", tmp_path) == (tmp_path / "b/dev.tsv",)
    assert split_files(first, "test", tmp_path) == ()


def test_json_and_includes_and_the_environment_are_read(tmp_path, monkeypatch):
    write(tmp_path, "data/a.tsv", "1\tx\tA text.\n")
    write(tmp_path, "single.json", json.dumps(SINGLE, indent="\t"))
    monkeypatch.setenv("TASK_TRAIN", "a.tsv")
    text = json.dumps({"one": "${from_file:single.json}", "two": SINGLE}, indent="\t")
    text = text.replace('"a.tsv"', '"${oc.env:TASK_TRAIN}"')
    loaded = load_task_file(write(tmp_path, "tasks.json", text), tmp_path / "data")
    assert [task.files["train"] for task in loaded.tasks] == [("a.tsv",), ("a.tsv",)]
    monkeypatch.delenv("TASK_TRAIN")
    with pytest.raises(InputError, match="tasks.json: .*TASK_TRAIN"):
        load_task_file(tmp_path / "tasks.json", tmp_path / "data")


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_every_type_has_defaults(tmp_path, task_type):
    task = one_task(tmp_path, task_type)
    assert task.metrics == TASK_TYPES[task_type].metrics[:1] and task.metrics[0] in METRICS
    assert (task.dropout_prob, task.loss_weight, task.limit, task.val_split) == (0.1, 1.0, 0, 0.0)
    assert (task.class_num, task.labels, task.columns, task.noise) == (None, None, {}, {})


def test_the_sampling_of_all_tasks_is_one(tmp_path):
    assert task_file(tmp_path, {"a": SINGLE}).sampling == "proportional"
    assert task_file(tmp_path, {"a": SINGLE}, sampling="square_root").sampling == "square_root"
    annealed = SINGLE | {"sampling": "annealed"}
    assert task_file(tmp_path, {"a": SINGLE, "b": annealed}).sampling == "annealed"
    assert task_file(tmp_path, {"sampling": SINGLE}).tasks[0].name == "sampling"
    with pytest.raises(InputError, match=r"sampling: proportional, a.sampling: annealed: one sampling"):
        task_file(tmp_path, {"a": annealed}, sampling="proportional")
    with pytest.raises(InputError, match="sampling: 'squareroot' is not known; did you mean 'square_root'"):
        task_file(tmp_path, {"a": SINGLE}, sampling="squareroot")


TWICE = {"task_type": "MultiLabelClassification"}
COLUMNS = {"task_type": "MultiLabelClassification", "columns": {"text": "a", "label": ["toxic", "insult"]}}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"task_typ": "NER"}, r"t: unknown key 'task_typ'; did you mean 'task_type'"),
        ({"task_type": "SingleSentence"}, r"'SingleSentence' is not known; did you mean 'SingleSenCl"),
        ({"zzzz": 1}, r"unknown key 'zzzz'; known are task_type, file_names"),
        ({"task_type": None}, "t.task_type: missing"),
        ({"file_names": None}, "t.file_names: missing"),
        ({"task_type": "ner"}, "t.task_type: 'ner' is not known"),
        ({"task_type": ["NER"]}, "is not known"),
        ({"file_names": {"train": "b.tsv"}}, r"t.file_names.train: .*data.b.tsv: no such file; .*--data_dir"),
        ({"file_names": {"train": "../a.tsv"}}, "t.file_names.train: .* leads out of the data folder"),
        ({"file_names": {"train": "."}}, "a folder; name a file"),
        ({"file_names": {"train": ["a.tsv", 3]}}, "t.file_names.train: 3 is no file's name"),
        ({"file_names": {"train": []}}, "an empty list"),
        ({"file_names": {"dev": "a.tsv"}}, "t.file_names.train: missing"),
        ({"file_names": {"train": "a.tsv", "valid": "a.tsv"}}, "unknown key 'valid'; did you mean 'dev'"),
        ({"file_names": {"train": "a.tsv", "val": "a.tsv"}}, "unknown key 'val'; did you mean 'dev'"),
        ({"file_names": {"train": "a.tsv", "Evaluation": "a.tsv"}}, "'Evaluation'; did you mean 'dev'"),
        ({"file_names": {"train": "a.tsv", "tset": "a.tsv"}}, "unknown key 'tset'; did you mean 'test'"),
        ({"file_names": "a.tsv"}, "is no mapping"),
        ({"file_names": ["a.tsv"] * 4}, "4 entries"),
        ({"class_num": 1}, "t.class_num: 1; for SingleSenClassification it is a whole number from 2"),
        ({"class_num": True}, "t.class_num: True"),
        ({"class_num": "2"}, "t.class_num: '2'"),
        ({"class_num": 3, "label_map_or_file": ["a", "b"]}, "t.class_num: 3, but there are 2 labels"),
        ({"task_type": "Conversation", "class_num": 2}, "Conversation has no classes"),
        ({"task_type": "Regression", "class_num": 2}, "t.class_num: 2; for Regression it is 1"),
        ({"task_type": "Regression", "label_map_or_file": ["a", "b"]}, "Regression has no labels to name"),
        ({"label_map_or_file": ["a", "a"]}, "t.label_map_or_file: 'a' stands there twice"),
        ({"label_map_or_file": "labels.txt"}, r"data.labels.txt: No such file .*a file of labels"),
        ({"label_map_or_file": "../tasks.yaml"}, "leads out of the data folder"),
        ({"label_map_or_file": 3}, "t.label_map_or_file: names no labels"),
        ({"columns": ["text"]}, "t.columns: .* is no mapping"),
        ({"columns": {"label": "b"}}, "t.columns: names no text"),
        ({"columns": {"text": "a"}}, "t.columns: names no label"),
        ({"columns": {"text": "a", "labels": "b"}}, "unknown key 'labels'; did you mean 'label'"),
        ({"columns": {"text": 3, "label": "b"}}, "t.columns.text: 3 is no column's name"),
        ({"columns": {"text": ["a", "b"], "label": "c"}}, "takes one column here"),
        (COLUMNS | {"class_num": 6}, "t.class_num: 6, but there are 2 labels; drop it"),
        (COLUMNS | {"label_map_or_file": ["toxic", "rude"]}, "t.columns.label: 'insult' is not known"),
        (TWICE | {"columns": {"text": "a", "label": ["b", "b"]}}, "t.columns: 'b' is named more than once"),
        (TWICE | {"columns": {"text": ["a", "a"], "label": "b"}}, "t.columns: 'a' is named more than once"),
        (TWICE | {"columns": {"text": "a", "pair": "a", "label": "b"}}, "t.columns: 'a' is named more than"),
        ({"columns": {"text": "a", "label": "a"}}, "t.columns: 'a' is named more than once; name each"),
        ({"columns": {"text": "a", "pair": "b", "label": "c"}}, "t.columns.pair: .* has no place for it"),
        ({"metrics": ["f2"]}, "t.metrics: 'f2' is not known"),
        ({"metrics": "acuracy"}, "did you mean 'accuracy'"),
        ({"metrics": []}, "is no list of metrics"),
        ({"metrics": [["accuracy"]]}, r"t.metrics: \['accuracy'\] is not known"),
        ({"metrics": [{"accuracy": None}]}, "t.metrics: .* is not known"),
        ({"dropout_prob": 1}, "t.dropout_prob: 1 is no number of at least 0 and below 1"),
        ({"loss_weight": -1}, "t.loss_weight: -1 is no number"),
        ({"loss_weight": 0}, "0 teaches nothing"),
        ({"limit": 1.5}, "t.limit: 1.5 is no whole number"),
        ({"val_split": -0.1}, "t.val_split: -0.1"),
        ({"val_split": 1.5}, "t.val_split: 1.5 is no share below 1 and no whole number"),
        ({"val_split": 0.1, "file_names": ["a.tsv", "a.tsv"]}, "t.val_split: there is a dev file"),
        ({"noise": {"kind": "artificial"}}, "only SpellingWords and SpellingSequence"),
        ({"task_type": "SpellingWords", "noise": "artificial"}, "t.noise: .* is no mapping"),
        ({"task_type": "SpellingWords", "noise": {"word_shar": 0.3}}, "t.noise: .* mean 'word_share'"),
        (
            {"task_type": "SpellingWords", "noise": {"kind": "realistic", "misspellings": "none.json"}},
            "t.noise.misspellings: .*none.json: no such file",
        ),
        ({"task_type": "SpellingWords", "noise": {"word_share": 7}}, "t.noise: word_share"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_file_and_key(tmp_path, settings, problem):
    with pytest.raises(InputError, match=problem) as caught:
        one_task(tmp_path, **({"task_type": "SingleSenClassification"} | settings))
    assert "tasks.yaml: t" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b", " a", "a\n", "x" * 201])
def test_a_name_that_no_file_takes_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="task's name"):
        task_file(tmp_path, {name: SINGLE})


@pytest.mark.parametrize("name", ["über, v1.2 (neu)", "a:b", "-", "x" * 200])
def test_any_other_name_is_taken(tmp_path, name):
    assert task_file(tmp_path, {name: SINGLE}).tasks[0].name == name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("{}", "no tasks"),
        ("sampling: annealed", "no tasks"),
        ("- a\n- b", "holds no settings"),
        ("t: NER", "t: a task is a mapping"),
        ("t: null", "t: a task is a mapping"),
        ("a: {task_type: NER}\na: {task_type: NER}", "a stands there twice"),
        ("a:\n  task_type: NER\n  limit: 1\n  limit: 2", "a.limit stands there twice"),
        ("t: !!python/object/apply:os.system ['true']", "not valid JSON or YAML"),
        ("t: {task_type: 2020-01-01}", "t.task_type: '2020-01-01' is not known"),
        ("t: {null: 1}", "tasks.yaml"),
        ("true: {task_type: NER}", "True: this task's name is a truth value to YAML; put it in quotes"),
        ("1.10: {task_type: NER}", "1.1: this task's name is a float to YAML; put it in quotes"),
        ("t: {task_type: '${nowhere}'}", "t.task_type"),
        ("t: [", "not valid JSON or YAML"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_tasks_is_refused(tmp_path, text, problem):
    with pytest.raises(InputError, match=problem) as caught:
        load_task_file(write(tmp_path, "tasks.yaml", text), tmp_path)
    assert "tasks.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_every_problem_of_a_file_is_told_at_once(tmp_path):
    text = """
sampling: squareroot
one:
  task_type: NER
  loss_type: CrossEntropyLoss
  metrics: [pearson, acuracy]
  file_names: {train: absent.tsv, dev: gone.tsv}
  columns: {text: a, labels: b}
  dropout_prob: 2
  limitt: 3
two: {task_type: Singel, file_names: {train: absent.tsv}}
"a/b": {task_type: NER, file_names: {train: a.tsv}}
three: {file_names: {train: a.tsv}}
"""
    write(tmp_path, "a.tsv", "My\tO\n")
    with pytest.raises(InputError) as caught:
        load_task_file(write(tmp_path, "tasks.yaml", text), tmp_path)
    message = str(caught.value)
    for problem in (
        "tasks.yaml: 12 problems: ", "'a/b' is no task's name", "one: unknown key 'limitt'", "one.loss_type",
        "one.file_names.train", "one.file_names.dev", "one.columns: unknown key 'labels'",
        "one.metrics: pearson is none of NER", "one.metrics: 'acuracy'",
        "one.dropout_prob", "two.task_type: 'Singel'", "three.task_type: missing", "sampling: 'squareroot'",
    ):  # fmt: skip
        assert problem in message
    assert "\n" not in message


def test_a_task_file_of_multi_task_nlp_is_read_as_what_it_means(tmp_path):
    text = """
conllner:
    model_type: BERT
    config_name: bert-base-uncased
    dropout_prob: 0.2
    label_map_or_file:
    - B-ORG
    - I-ORG
    - O
    loss_type: NERLoss
    task_type: NER
    file_names:
    - a.tsv
    - a.tsv
    - a.tsv
    metrics: [seqeval_F1_score, seqeval_precision, seqeval_recall]
intent:
    model_type: BERT
    config_name: bert-base-uncased
    class_num: 2
    loss_type: CrossEntropyLoss
    task_type: SingleSenClassification
    metrics: [classification_accuracy, classification_f1_score]
    file_names: [a.tsv]
"""
    write(tmp_path, "a.tsv", "1\tx\ta\n")
    loaded = load_task_file(write(tmp_path, "tasks.yml", text), tmp_path)
    assert [task.metrics for task in loaded.tasks] == [
        ("chunk_f1", "chunk_precision", "chunk_recall"), ("accuracy",),
    ]  # fmt: skip
    assert "model_type and config_name decide nothing here; --encoder names" in loaded.notes[0]
    with pytest.raises(
        InputError, match="conllner.loss_type: 'SpanLoss' is .*write NERLoss, or leave it out"
    ):
        load_task_file(write(tmp_path, "tasks.yml", text.replace("NERLoss", "SpanLoss")), tmp_path)


def test_pooling_is_of_heads_on_whole_rows(tmp_path):
    assert one_task(tmp_path, pooling="mean").pooling == "mean"
    with pytest.raises(InputError, match="t.pooling: 'average' is not known"):
        one_task(tmp_path, pooling="average")
    with pytest.raises(InputError, match="t.pooling: NER has no head on whole rows"):
        one_task(tmp_path, "NER", pooling="mean")


def test_a_threshold_is_tuned_where_one_decides_and_there_are_dev_rows(tmp_path):
    assert one_task(tmp_path, val_split=0.2, tuned_threshold=True).tuned_threshold
    assert not one_task(tmp_path).tuned_threshold
    with pytest.raises(InputError, match="t.tuned_threshold: 'yes' is neither true nor false"):
        one_task(tmp_path, val_split=0.2, tuned_threshold="yes")
    with pytest.raises(InputError, match="t.tuned_threshold: needs dev rows; name a dev file"):
        one_task(tmp_path, file_names={"train": "a.tsv"}, tuned_threshold=True)
    with pytest.raises(InputError, match="t.tuned_threshold: Regression decides by no threshold"):
        one_task(tmp_path, "Regression", val_split=0.2, tuned_threshold=True)


def test_columns_of_conll_have_numbers(tmp_path):
    numbers = {"text": 2, "label": 4}
    assert one_task(tmp_path, "NER", columns=numbers).columns == numbers
    for wrong in ({"text": 2, "label": "tag"}, {"text": 1, "label": 2, "uid": 3}):
        with pytest.raises(InputError, match="in CoNLL files give both text and label as column numbers"):
            one_task(tmp_path, "NER", columns=wrong)
    for first in (0, -1):
        with pytest.raises(InputError, match=f"text: {first} is no column's number; the first column is 1"):
            one_task(tmp_path, "NER", columns={"text": first, "label": 3})


def test_an_absent_task_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nope.yaml: no such task file"):
        load_task_file(tmp_path / "nope.yaml", tmp_path)


def test_aliases_that_unfold_without_end_are_refused(tmp_path):
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(InputError, match="more than"):
        load_task_file(write(tmp_path, "tasks.yaml", "\n".join(layers)), tmp_path)


def test_a_folder_serves_spelling_if_it_has_corrupt_txt(tmp_path):
    write(tmp_path, "data/set/corrupt.txt.gz", "x")
    files = {"train": "set"}
    assert one_task(tmp_path, "SpellingWords", file_names=files).files == {"train": ("set",)}
    (tmp_path / "data/set/corrupt.txt.gz").unlink()
    with pytest.raises(InputError, match="a folder without corrupt.txt"):
        one_task(tmp_path, "SpellingWords", file_names=files)


def test_columns_fit_the_type(tmp_path):
    pair = {"text": "a", "pair": "b", "label": "c"}
    both = {"text": ["a", "b"], "label": "c"}
    for task_type in ("SentencePairClassification", "Regression", "MultiLabelClassification"):
        assert one_task(tmp_path, task_type, columns=pair).columns == pair
        assert one_task(tmp_path, task_type, columns=both).columns == both
    with pytest.raises(InputError, match="names no pair"):
        one_task(tmp_path, "SentencePairClassification", columns={"text": "a", "label": "c"})
    several = {"text": "a", "label": ["b", "c"]}
    assert one_task(tmp_path, "MultiLabelClassification", columns=several).columns == several
    with pytest.raises(InputError, match="takes one column"):
        one_task(tmp_path, "NER", columns=several)
    assert one_task(tmp_path, "Conversation", columns={"text": "turns"}).columns == {"text": "turns"}


def test_clean_text_needs_no_label(tmp_path):
    noise = {"kind": "artificial", "word_share": 0.3}
    task = one_task(tmp_path, "SpellingWords", columns={"text": "a"}, noise=noise)
    assert task.noise == noise and not needs_label(task)
    with pytest.raises(InputError, match="names no label"):
        one_task(tmp_path, "SpellingWords", columns={"text": "a"})
