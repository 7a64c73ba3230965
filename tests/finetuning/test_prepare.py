"""Rows in = rows out, in order, the same bytes for any workers; made anew only when something changed.

Run: pytest tests/finetuning/test_prepare.py
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_examples import lines_of, prepared, sentences, write_task
from task_examples import task_file, write

from span_electra.errors import InputError
from span_electra.finetuning import prepare
from span_electra.finetuning.prepare import HEADER, LOCK
from span_electra.finetuning.prepared import MARK, open_prepared
from span_electra.finetuning.prepared_notes import check_labels_differ

SINGLE = "SingleSenClassification"


def rows_of(made, split, task="t"):
    return [json.loads(line) for line in made.path(task, split).read_text().splitlines()]


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("rows", [1, 2, 23])
def test_rows_in_are_rows_out_in_order_for_any_workers(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "CHUNK", 3)
    monkeypatch.setattr(prepare, "WORTH_PROCESSES", 2)
    monkeypatch.setattr(prepare, "cap_workers", lambda asked: (asked, ""))
    task = write_task(tmp_path, SINGLE) | {"label_map_or_file": ["no", "yes"]}
    write(tmp_path / "data", "t/train.tsv", lines_of(SINGLE, rows))
    found = {workers: prepared(tmp_path, {"t": task}, str(workers), workers=workers) for workers in (1, 2)}
    assert found[1].tasks["t"].rows["train"] == rows
    assert [row["uid"] for row in rows_of(found[2], "train")] == [str(number) for number in range(rows)]
    assert files_in(tmp_path / "1") == files_in(tmp_path / "2")


def test_a_task_is_made_again_only_when_something_changed(tmp_path):
    task = write_task(tmp_path, SINGLE)
    write(tmp_path / "data", "labels.txt", "no\nyes\n")
    task["label_map_or_file"] = "labels.txt"
    key = prepared(tmp_path, {"t": task}).key("t")
    file = tmp_path / "out/t/train.jsonl"
    before = file.stat().st_ino
    assert prepared(tmp_path, {"t": task | {"dropout_prob": 0.3}}).key("t") == key
    assert file.stat().st_ino == before
    seen = {key}

    def made_anew(**settings):
        new = prepared(tmp_path, {"t": task}, **settings).key("t")
        assert new not in seen
        seen.add(new)

    made_anew(max_seq_len=16)
    made_anew(lowercase=True)
    write(tmp_path / "data", "labels.txt", "yes\nno\n")
    made_anew()
    write(tmp_path / "data", "t/dev.tsv", lines_of(SINGLE, seed=77))
    made_anew()
    file.unlink()
    assert prepared(tmp_path, {"t": task}).path("t", "train").is_file()


def test_a_broken_row_is_named_and_changes_nothing(tmp_path):
    task = write_task(tmp_path, SINGLE)
    write(tmp_path / "data", "t/dev.tsv", "1\tyes\tthe cat\n2\tmaybe\tthe dog\n")
    with pytest.raises(InputError, match="dev.tsv: .*2.*maybe"):
        prepared(tmp_path, {"t": task})
    assert not (tmp_path / "out").exists()
    other = write_task(tmp_path, SINGLE, "u")
    prepared(tmp_path, {"u": other})
    before = files_in(tmp_path / "out")
    with pytest.raises(InputError, match="maybe"):
        prepared(tmp_path, {"u": other, "t": task})
    assert files_in(tmp_path / "out") == before and set(Path(tmp_path, "out").iterdir()) == {
        tmp_path / "out" / LOCK,
        tmp_path / "out" / MARK,
        tmp_path / "out/u",
    }


def test_other_tasks_of_the_folder_stay(tmp_path):
    first, second = write_task(tmp_path, SINGLE, "a"), write_task(tmp_path, "NER", "b")
    prepared(tmp_path, {"a": first})
    before = files_in(tmp_path / "out/a")
    assert set(prepared(tmp_path, {"b": second}).tasks) == {"a", "b"}
    assert files_in(tmp_path / "out/a") == before


def test_val_split_moves_rows_without_loss(tmp_path):
    task = write_task(tmp_path, SINGLE)
    whole = rows_of(prepared(tmp_path, {"t": task}), "train")
    del task["file_names"]["dev"]
    made = prepared(tmp_path, {"t": task | {"val_split": 5}})
    train, dev = rows_of(made, "train"), rows_of(made, "dev")
    assert len(dev) == made.tasks["t"].rows["dev"] == 5
    assert sorted(train + dev, key=lambda row: int(row["uid"])) == whole


@pytest.mark.parametrize(
    ("settings", "encoded", "said"),
    [
        (
            {"val_split": 26},
            False,
            "data/t/train.tsv: 26 rows, and val_split 26 of t leaves none",
        ),
        (
            {"val_split": 99, "limit": 7},
            False,
            r"7 rows are read \(limit\), and val_split 99 of t leaves",
        ),
        (
            {"val_split": 0.9, "limit": 1},
            True,
            r"1 row is read \(limit\), and val_split 0.9 of t leaves",
        ),
    ],
)
def test_a_val_split_that_takes_every_row_is_refused_soon(settings, encoded, said, tmp_path, monkeypatch):
    task, write, written = write_task(tmp_path, SINGLE), prepare._write, []
    del task["file_names"]["dev"]
    monkeypatch.setattr(prepare, "_write", lambda *given, **more: written.append(1) or write(*given, **more))
    with pytest.raises(InputError, match=said) as caught:
        prepared(tmp_path, {"t": task | settings})
    assert str(caught.value).endswith("; lower val_split, or name a dev file") and bool(written) == encoded


def test_labels_are_those_of_the_whole_train_file_whatever_the_limit(tmp_path):
    task = write_task(tmp_path, SINGLE) | {"limit": 1}
    made = prepared(tmp_path, {"t": task})
    assert made.tasks["t"].labels == ("no", "yes") and made.tasks["t"].rows["train"] == 1


def test_noise_makes_labels_of_clean_text_and_leaves_those_of_a_benchmark(tmp_path):
    task = write_task(tmp_path, "SpellingWords") | {"noise": {"kind": "artificial"}}
    write(tmp_path / "data", "clean.txt", "\n".join(sentences()) + "\n")
    task["file_names"]["train"] = "clean.txt"
    made = prepared(tmp_path, {"t": task})
    assert set(rows_of(made, "train")[0]) == {"uid", "text"}
    assert "label" in rows_of(made, "dev")[0]


@pytest.mark.parametrize("kind", ["SpellingWords", "SpellingSequence"])
def test_noise_that_makes_no_errors_is_nothing_to_learn(kind, tmp_path):
    write(tmp_path / "data", "clean.txt", "\n".join(sentences()) + "\n")
    task = write_task(tmp_path, kind)
    for number, (noise, train, refused) in enumerate(
        (
            ({"kind": "none"}, "clean.txt", True),
            ({"kind": "artificial", "word_share": 0}, "clean.txt", True),
            ({"white_space_share": 0.1}, "clean.txt", False),
            ({"kind": "white_space"}, "clean.txt", False),
            ({"kind": "none"}, ["clean.txt", "t/dev"], False),  # right rows beside wrong ones
        )
    ):
        section = task | {"noise": noise, "file_names": {"train": train}}
        made = prepared(tmp_path, {"t": section}, f"out-{number}")
        tasks = task_file(tmp_path, {"t": section}).tasks
        if refused:
            with pytest.raises(InputError, match="clean.txt: no row has an error, and the noise of t makes"):
                check_labels_differ(made, tasks)
        else:
            check_labels_differ(made, tasks)


def test_misspellings_are_their_file_s_content_wherever_it_lies(tmp_path):
    task, keys = write_task(tmp_path, "SpellingWords"), []
    for name, content in (("a", "{}"), ("b", "{}"), ("b", '{"the": ["teh"]}')):
        write(tmp_path / "data", f"{name}/words.json", content)
        noise = {"kind": "realistic", "misspellings": f"{name}/words.json"}
        keys.append(prepared(tmp_path, {"t": task | {"noise": noise}}).key("t"))
    assert keys[0] == keys[1] != keys[2]


def test_what_is_noted_of_rows_is_of_each_once_and_kept(tmp_path):
    task = write_task(tmp_path, SINGLE) | {"label_map_or_file": ["no", "yes"]}
    write(tmp_path / "data", "t/train.tsv", '1\t1\t"the cat"\n2\tno\tthe dog\n')
    write(tmp_path / "data", "t/dev.tsv", '1\t0\t"the cat"\n2\t1\t"a ""dog"""\n')
    made = prepared(tmp_path, {"t": task})
    assert made.tasks["t"].noted == open_prepared(made.folder).tasks["t"].noted == {"numbers": 3, "quotes": 3}
    assert [row["label"] for row in rows_of(made, "train") + rows_of(made, "dev")] == [1, 0, 0, 1]


@pytest.mark.parametrize("header", ["编号\t标签\t文本", "номер\tметка\tтекст", "nr\tetykieta\tzdanie"])
@pytest.mark.parametrize("again", [None, "train", "dev"])
def test_a_header_in_any_language_is_told_by_its_label(header, again, tmp_path):
    """Which no row but the files' first ones has; one that a later row has is a label."""
    files = {"train": ["b.tsv", "c.tsv"], "dev": "d.tsv"}
    rows = [f"{number}\t{'yes' if number % 2 else 'no'}\tthe cat" for number in range(9)]
    for name, split in (("b", "train"), ("c", ""), ("d", "dev")):
        later = [header] if split == again else []
        write(tmp_path / "data", f"{name}.tsv", "\n".join([header, *rows, *later]) + "\n")
    section = {"task_type": SINGLE, "file_names": files}
    noted = prepared(tmp_path, {"t": section}).tasks["t"].noted
    told = {key for key in noted if key.startswith(HEADER)}
    assert told == (set() if again else {f"{HEADER}{header.split()[1]}"})


@pytest.mark.parametrize(
    ("kind", "text", "columns"),
    [
        ("SingleSenClassification", "label,text\nx,a cat\ny,dogs\n", {"label": "label", "text": "text"}),
        ("NER", "cat O\n\ndog B-N\n", None),
        ("Conversation", '["a cat", "dogs"]\n["dogs", "a"]\n', None),
    ],
)
def test_rows_without_a_uid_are_numbered_over_all_files_of_a_split(kind, text, columns, tmp_path):
    names = [write(tmp_path / "data", f"{name}.{'csv' if columns else 'txt'}", text).name for name in "ab"]
    section = {"task_type": kind, "file_names": {"train": names[0], "dev": names}, "columns": columns}
    dev = prepared(tmp_path, {"t": section}).path("t", "dev").read_text().splitlines()
    assert [json.loads(line)["uid"] for line in dev] == ["1", "2", "3", "4"]


def test_a_split_of_pairs_beside_single_texts_is_refused(tmp_path):
    task = write_task(tmp_path, "Regression")
    made = prepared(tmp_path, {"t": task})
    assert made.tasks["t"].paired is False and made.tasks["t"].settings.keys().isdisjoint(
        {"paired", "listed"}
    )
    write(tmp_path / "data", "t/test.tsv", "1\t2\tthe cat\tthe dog\n")
    with pytest.raises(InputError, match="test.tsv: line 1: 4 columns where 3 belong"):
        prepared(tmp_path, {"t": task})


def test_a_foreign_folder_is_refused(tmp_path):
    write(tmp_path, "out/mine.txt", "mine")
    with pytest.raises(InputError, match="not empty"):
        prepared(tmp_path, {"t": write_task(tmp_path, SINGLE)})
    assert files_in(tmp_path / "out") == {"mine.txt": b"mine"}


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[1]", b"\xff", b'{"span_electra_prepared": 1, "labels": 3}']
)
def test_a_damaged_mark_is_one_line(damage, tmp_path):
    made = prepared(tmp_path, {"t": write_task(tmp_path, SINGLE)})
    (made.folder / MARK).write_bytes(damage)
    with pytest.raises(InputError, match="prepared.json: no prepared data") as error:
        open_prepared(made.folder)
    assert "\n" not in str(error.value)


def test_what_a_kill_left_of_the_making_is_no_harm(tmp_path):
    write(tmp_path, "out/.making-x/t/train.jsonl", "{")
    assert prepared(tmp_path, {"t": write_task(tmp_path, SINGLE)}).tasks["t"].rows["train"] == 26
    assert replace(open_prepared(tmp_path / "out"), data_dir="").tasks


def test_rows_that_are_too_long_are_counted(tmp_path):
    task = write_task(tmp_path, SINGLE)
    write(
        tmp_path / "data", "t/train.tsv", "1\tno\tthe cat\n2\tyes\t" + "cat " * 31 + "\n3\tno\t" + "cat " * 30
    )
    assert prepared(tmp_path, {"t": task}).tasks["t"].cut == {"train": 1, "dev": 0, "test": 0}
    assert open_prepared(tmp_path / "out").tasks["t"].cut["train"] == 1
    assert prepared(tmp_path, {"t": task}).tasks["t"].cut["train"] == 1, "also where nothing is made anew"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (SINGLE, "1\tyes\tthe cat\n2\tyes\tthe dog\n"),
        ("Regression", "1\t2\tthe cat\n2\t2\tthe dog\n"),
        ("NER", "1\t['O','O']\t['the','cat']\n"),
        ("MultiLabelClassification", "1\tcat,mat\tthe cat\n2\tcat,mat\tthe dog\n"),
    ],
)
def test_a_single_label_of_all_train_rows_is_noted(kind, text, tmp_path):
    task = write_task(tmp_path, kind)
    write(tmp_path / "data", "t/train.tsv", text)
    task["file_names"] = {"train": "t/train.tsv"}
    assert prepared(tmp_path, {"t": task}).tasks["t"].only_label
    write(tmp_path / "data", "t/train.tsv", lines_of(kind))
    assert prepared(tmp_path, {"t": task}).tasks["t"].only_label is None
