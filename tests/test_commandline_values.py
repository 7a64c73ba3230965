"""What a command line gives: lists, none, several files, a model at the wrong place.

Run: pytest tests/test_commandline_values.py
"""

import json
from functools import reduce

import pytest

from argument import JointTrainingConfig, PredictArgs
from span_electra.commandline import Parser, parse
from span_electra.compose import leaves
from span_electra.errors import InputError

LISTS = [key for key, entry in leaves(JointTrainingConfig).items() if str(entry.type).startswith("list")]


@pytest.mark.parametrize("key", [key for key in LISTS if key != "optimizer.betas"])
def test_none_alone_empties_a_list_and_among_others_is_a_name(key):
    flag = Parser(JointTrainingConfig, "").flags[key]
    made = parse(JointTrainingConfig, "", [flag, "none"])
    assert reduce(getattr, key.split("."), made) == []
    if key.endswith("file"):
        made = parse(JointTrainingConfig, "", [flag, "a", "none"])
        assert reduce(getattr, key.split("."), made) == ["a", "none"]


@pytest.mark.parametrize(
    "words, key, value",
    [
        (["--train_occur", "20,000"], "train_data.train_occur", [20_000]),
        (["--train_occur=1,234,567", "5"], "train_data.train_occur", [1_234_567, 5]),
        (["--train_occur", "20,000", "500"], "train_data.train_occur", [20_000, 500]),
        (["--valid_split", "1,000"], "valid_data.valid_split", [1000.0]),
        (["--valid_split", "0.1,0.02"], "valid_data.valid_split", [0.1, 0.02]),
        (["--train_occur", "0,100"], "train_data.train_occur", [0, 100]),
        (["--train_occur", "[1,100]"], "train_data.train_occur", [1, 100]),
        (["--device_ids", "0,1"], "training.device_ids", [0, 1]),
        (["--device_ids", "1,2,3"], "training.device_ids", [1, 2, 3]),
    ],
)
def test_a_comma_of_thousands_is_of_one_number_in_a_list(words, key, value):
    made = parse(JointTrainingConfig, "", words)
    assert reduce(getattr, key.split("."), made) == value


def test_none_where_a_value_is_needed_is_said_so():
    with pytest.raises(InputError, match="^--lr: optimizer.lr: is needed; give a number$"):
        parse(JointTrainingConfig, "", ["--lr", "none"])


def test_each_of_several_config_files_and_presets_counts_the_last_most(tmp_path):
    files = []
    for name, values in (("a", {"lr": 1, "warmup": 2}), ("b", {"lr": 3})):
        (tmp_path / name).write_text(json.dumps({"optimizer": values}))
        files += ["--config_file", str(tmp_path / name)]
    made = parse(JointTrainingConfig, "", [*files, "--preset", "tiny", "--preset", "quick"])
    assert (made.optimizer.lr, made.optimizer.warmup) == (3, 2)
    assert made.model == parse(JointTrainingConfig, "", ["--preset", "quick"]).model


@pytest.mark.parametrize("mark", ["config.json", "generator/config.json", "model.safetensors"])
@pytest.mark.parametrize(
    "words", [["--threshold", "0.5"], ["--task", "fill"], ["--task"], ["--task", "fill", "--top_k", "3"]]
)
def test_a_model_behind_the_flags_is_told_where_it_belongs(words, mark, tmp_path):
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    with pytest.raises(
        InputError, match=f"^{tmp_path}: stands behind .*put it first, or --model {tmp_path}$"
    ):
        Parser(PredictArgs, "").read([*words, str(tmp_path)])
    (tmp_path / mark).unlink()
    Parser(PredictArgs, "").read(["--task", "fill", str(tmp_path)])  # a folder as any: no model
