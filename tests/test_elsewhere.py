"""Every row of docs/from-elsewhere.md is run. Run: pytest tests/test_elsewhere.py"""

import re
import shlex
from dataclasses import replace

import pytest
from shell_examples import ROOT, SCHEMAS

import argument
from span_electra import elsewhere
from span_electra.commandline import Parser
from span_electra.compose import Layer, compose, leaves
from span_electra.elsewhere import TUNED, find_key, meant, rows
from span_electra.errors import InputError

TRAINERS = (argument.JointTrainingConfig, argument.FinetuneArgs, argument.PredictArgs)
ROWS = rows()
COMMANDS = [row for row in ROWS if re.search(r"\.py\b|^python", row[1] or row[0])]
NAMES = [row for row in ROWS if re.fullmatch(r"[\w-]+( ids)?", row[0]) and not row[0].isupper()]
FILES = [row for row in ROWS if "/" in row[1] or row[1] in ("metrics.jsonl", "config.json")]
VARIABLES = [row for row in ROWS if row[0].isupper()]


def identify(row: tuple) -> str:
    return row[0]


def test_every_line_of_a_table_is_a_row_and_without_the_page_there_are_none(monkeypatch, tmp_path):
    lines = (ROOT / "docs/from-elsewhere.md").read_text().splitlines()
    heads = ("| there | here | |", "|---|---|---|")
    tables = [line for line in lines if line.startswith("|") and line not in heads]
    assert [f"| `{theirs}` | {ours and f'`{ours}`'} | {note} |" for theirs, ours, note in ROWS] == tables
    monkeypatch.setattr(elsewhere, "PAGES", (tmp_path / "none.md",))
    assert rows() == []


def test_every_row_is_of_a_kind_that_is_run():
    run = {row[0] for rows in (COMMANDS, NAMES, FILES, VARIABLES) for row in rows}
    assert not [row for row in ROWS if row[0] not in run]


@pytest.mark.parametrize("row", COMMANDS, ids=identify)
def test_a_command_s_flags_are_flags_here(row):
    theirs, ours, _ = row
    words = shlex.split(ours or theirs)
    script = next(word for word in words if word.endswith(".py"))
    assert (ROOT / script).is_file()
    Parser(SCHEMAS[script], "").read(words[words.index(script) + 1 :])


@pytest.mark.parametrize("row", NAMES, ids=identify)
def test_a_name_is_answered_with_the_setting_that_does_it_here(row):
    theirs, ours, note = row
    name, found = theirs.lstrip("-").replace("-", "_"), 0
    for schema in TRAINERS:
        keys = list(leaves(schema))
        key = find_key(ours, [*keys, "config_file", "preset"]) if ours else None
        if ours and key is None or theirs == "--device ids":
            continue
        found += 1
        if name not in {other.rpartition(".")[2] for other in keys}:
            flag = Parser(schema, "").flags[key] if key else note
            with pytest.raises(InputError) as caught:
                Parser(schema, "").read([f"--{name}", "1"])
            assert flag in str(caught.value) and note in str(caught.value)
            assert str(caught.value).count("\n") == 0
        if name not in keys and key not in ("config_file", "preset"):
            with pytest.raises(InputError) as caught:
                compose(schema, [Layer("x.json", {name: 1})])
            assert repr(key) in str(caught.value) if key else note in str(caught.value)
    assert found or theirs == "--device ids"


@pytest.mark.parametrize("row", [row for row in NAMES if row[2].startswith(TUNED)], ids=identify)
def test_what_fine_tuning_calls_otherwise_is_answered_by_that_name(row):
    theirs, ours, note = row
    keys = list(leaves(argument.FinetuneArgs))
    assert find_key(ours, keys) is None
    assert meant(theirs, keys) == (find_key(note.removeprefix(TUNED).split(" ")[0], keys), "")


def test_what_cannot_be_set_here_is_answered_so_and_what_nothing_is_like_not_at_all():
    keys = list(leaves(argument.FinetuneArgs))
    for name, ours in (("num-heads", "model.discriminator.num_attention_heads"), ("fsdp", "parallel")):
        assert meant(name, keys) == (None, f"that is {ours}, which cannot be set here")
    assert meant("patience", keys) == (None, "")


@pytest.mark.parametrize("schema", [argument.JointTrainingConfig, argument.FinetuneArgs])
def test_a_slip_in_a_name_from_elsewhere_is_answered_as_the_name(schema):
    flags = Parser(schema, "").flags
    for slip, name in (("--learnig_rate", "--learning_rate"), ("--gradient_clip_vall", "gradient_clip_val")):
        assert meant(slip, flags) == meant(name, flags) != (None, "")


def test_of_names_as_near_the_first_of_the_most_needed_is_meant():
    for schema in (argument.JointTrainingConfig, argument.FinetuneArgs):
        flags = Parser(schema, "").flags
        key, _ = meant("--batch_size", flags)
        assert key.rpartition(".")[2] == "train_batch_size"
    for keys in (["a.bone", "a.tone"], ["a.tone", "a.bone"]):
        assert meant("--gone", keys)[0] == keys[0]


@pytest.mark.parametrize("row", VARIABLES, ids=identify)
def test_a_variable_is_read_here(row):
    assert row[1] in (ROOT / "span_electra/compose.py").read_text()


def test_files_of_a_run_lie_where_the_tables_say(tmp_path):
    from run_examples import small_run, write_rows

    from span_electra.pretraining.experiment import run_pretraining

    run = tmp_path / "run"
    features = write_rows(tmp_path / "train.arrow")
    run_pretraining(replace(small_run(features, run, max_steps=1), config_json="{}"))
    missing = [row for row in FILES if not list(run.glob(row[1]))]
    assert not missing


def test_device_ids_in_two_words_or_with_commas():
    parser = Parser(argument.JointTrainingConfig, "")
    for words in (["--device", "ids", "0", "1"], ["--device_ids", "0,1"], ["--device-ids=0,1"]):
        assert parser.read(words) == {"training.device_ids": ["0", "1"]}


def test_spelling_by_hyphens_capitals_and_sections_is_understood():
    keys = list(leaves(argument.JointTrainingConfig))
    assert meant("trainBatchSize", keys)[0] == "train_data.train_batch_size"
    assert meant("model.lr", keys)[0] == "optimizer.lr"
    assert meant("epochs", keys)[0] == "training.epochs"
