"""Flags made from dataclasses. Run: pytest tests/test_commandline.py"""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from shell_examples import SCHEMAS, exit_code

from argument import FeatureArgs, FinetuneArgs, JointTrainingConfig, PredictArgs
from span_electra import commandline, progress
from span_electra.commandline import Parser, first_as, parse
from span_electra.compose import leaves
from span_electra.data_config import ChunkConfig, SpanMaskingConfig, TextConfig, VocabularyFiles
from span_electra.errors import InputError

DEFAULTS = JointTrainingConfig()
HELP = Parser(JointTrainingConfig, "").format_help()
SCRIPTS = [name for name in SCHEMAS if name.endswith(".py")]


# Fine-tuning takes no flag for what only pretraining reads; that is tested below.
@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != "finetune_SE.py"])
def test_every_setting_has_a_flag_and_help(script):
    parser = Parser(SCHEMAS[script], "")
    for key, entry in leaves(SCHEMAS[script]).items():
        assert entry.metadata["help"] and parser.flags[key] in parser.format_help(), key


def test_precedence_default_preset_file_flag(tmp_path):
    config = tmp_path / "mine.json"
    config.write_text(json.dumps({"optimizer": {"lr": 0.5}, "model": {"embedding_size": 32}}))
    made = parse(JointTrainingConfig, "", ["--preset", "small", "--config_file", str(config), "--lr", "0.25"])
    assert made.optimizer.lr == 0.25  # the flag over the file over the preset
    assert made.model.embedding_size == 32  # the file over the preset
    assert made.model.discriminator.hidden_size == 256  # the preset over the default
    assert made.training.epochs == JointTrainingConfig().training.epochs


def test_flags_are_taken_as_they_are():
    made = parse(
        JointTrainingConfig, "", ["--train_file", "a b/${HOME}.arrow", "c", "--generator_lr", "none"]
    )
    assert made.train_data.train_file == ["a b/${HOME}.arrow", "c"]
    assert made.optimizer.generator_lr is None
    none = ["--embedding_sharing", "none", "--sequence_objective", "none"]
    assert parse(JointTrainingConfig, "", none).model.embedding_sharing == "none", "a choice of that name"


@pytest.mark.parametrize("percent", ["1.01", "50"])
def test_a_threshold_in_percent_is_no_probability(percent):
    with pytest.raises(InputError, match=r"threshold: .* is too large; the most is 1"):
        parse(PredictArgs, "", ["--threshold", percent])
    assert parse(PredictArgs, "", ["--threshold", "1"]).threshold == 1


def test_the_printed_config_is_a_config_file(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(JointTrainingConfig, "", ["--preset", "tiny", "--lr", "0.125", "--print_config"])
    assert stopped.value.code == 0
    printed = tmp_path / "printed.json"
    printed.write_text(capsys.readouterr().out)
    assert parse(JointTrainingConfig, "", ["--config_file", str(printed)]) == parse(
        JointTrainingConfig, "", ["--preset", "tiny", "--lr", "0.125"]
    )


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--lerning_rate", "1"], "--lerning_rate"),
        (["--epoch", "1"], "did you mean --epochs"),
        (["--lr"], "expected one argument"),
        (["--lr", "fast"], "fast"),
        (["--device_ids", "0", "zero"], "zero"),
        (["--config_file", "nowhere.json"], "nowhere.json"),
        (["stray"], "stray"),
    ],
)
def test_a_bad_flag_is_one_line(argv, words):
    with pytest.raises(InputError) as caught:
        parse(JointTrainingConfig, "", argv)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error, code, line",
    [
        (InputError("x.txt: bad"), 2, "error: x.txt: bad"),
        (
            PermissionError(13, "Permission denied", "/some/where"),
            2,
            "error: /some/where: Permission denied; mend that and run again",
        ),
        (KeyboardInterrupt(), 130, "stopped by the keyboard"),
    ],
)
def test_a_script_fails_in_one_line_with_its_code(error, code, line, capsys):
    def main():
        raise error

    assert exit_code(main) == code
    assert capsys.readouterr().err.strip() == line


@pytest.mark.parametrize(
    ("schema", "flag", "value"),
    [
        (JointTrainingConfig, "model.generator.hidden_size", DEFAULTS.model.generator.hidden_size),
        (
            JointTrainingConfig,
            "model.discriminator.intermediate_size",
            DEFAULTS.model.discriminator.intermediate_size,
        ),
        (FinetuneArgs, "lr", FinetuneArgs().optimizer.lr),
    ],
)
def test_help_tells_the_defaults_of_the_whole_and_not_of_a_sections_class(schema, flag, value):
    told = " ".join(Parser(schema, "").format_help().split())
    assert re.search(rf"--{flag} VALUE [^[]*\[{value}\]", told)


def test_a_list_that_is_given_in_two_parts_is_one():
    words = ["--in_file", "a", "b", "--in_file", "c", "--shards", "2"]
    assert parse(FeatureArgs, "", words).in_file == ["a", "b", "c"]


def test_streams_that_were_closed_are_none_of_our_business(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert exit_code(lambda: print(sys.stdin.isatty(), sys.stdout.isatty(), sys.stdin.read())) == 0
    for name in ("stdin", "stdout", "stderr"):
        getattr(sys, name).close()


@pytest.mark.parametrize(
    "words",
    [
        "The operator 'aten::foo.out' is not currently implemented for the MPS device. If you want it",
        "Could not run 'aten::foo.out' with arguments from the 'XPU' backend. This could be because",
    ],
)
def test_a_device_without_an_operator_is_said_in_a_line(words, capsys):
    def fail(words):
        raise NotImplementedError(words)

    assert exit_code(lambda: fail(words)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "torch lacks aten::foo.out for this device; give --device cpu" in said
    with pytest.raises(NotImplementedError):  # a mistake of ours stays one
        exit_code(lambda: fail(""))


def test_what_stands_first_may_lack_its_flag():
    assert first_as("model", ["runs/a", "--text", "b"]) == ["--model", "runs/a", "--text", "b"]
    assert first_as("model", ["--text", "b"]) == ["--text", "b"]
    assert first_as("model", []) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_usage_shows_what_may_stand_first_which_is_a_run_where_one_is_opened(script):
    parser, name = Parser(SCHEMAS[script], ""), SCHEMAS[script].POSITIONAL
    opens = ("predict_SE.py", "evaluate_SE.py", "report_SE.py", "export_SE.py")
    assert bool(name) == (script in opens)
    if name:
        rest = ["--config_file", "b"]
        assert parser.read(["a", *rest]) == parser.read([f"--{name}", "a", *rest])
        assert f"{script} [{name.upper()}" in parser.format_usage().replace(parser.prog, script)


def test_flags_of_raw_text_stand_under_a_heading_that_says_when_they_act():
    shown = re.search(r"\nraw text, with --raw_text_dir alone:\n(.+?)\n\n", HELP, re.DOTALL)[1]
    under = set(re.findall(r"^  --([\w.]+)", shown, re.MULTILINE))
    text = {
        name
        for kind in (TextConfig, VocabularyFiles, ChunkConfig, SpanMaskingConfig)
        for name in leaves(kind)
    }
    keeping = {"raw_text_dir", "valid_data.raw_text_dir", "save_tokenized_text", "save_features"}
    # Added tokens belong to an exported folder's vocabulary too.
    assert under == text - {"add_tokens"} | keeping


@pytest.mark.parametrize(
    "name, lr, epsilon",
    [
        ("sgd", 0.1, 1e-6),
        ("adam", 1e-3, 1e-8),
        ("radam", 1e-3, 1e-8),
        ("lamb", 1e-3, 1e-6),
        ("adamw", 5e-4, 1e-6),
    ],
)
def test_an_optimizer_brings_its_rate_and_epsilon_where_nobody_named_them(
    name, lr, epsilon, tmp_path, monkeypatch
):
    for flags in ([], ["--preset", "tiny"]):  # a preset's rate is AdamW's
        made = parse(JointTrainingConfig, "", [*flags, "--optimizer.optimizer", name]).optimizer
        assert (made.lr, made.epsilon) == (lr, epsilon)
    config = tmp_path / "mine.json"
    config.write_text(json.dumps({"optimizer": {"lr": 0.5}}))
    flags = ["--config_file", str(config), "--optimizer.optimizer", name, "--epsilon", "0.25"]
    made = parse(JointTrainingConfig, "", flags).optimizer
    assert (made.lr, made.epsilon) == (0.5, 0.25)
    monkeypatch.setenv("CHOSEN", name)
    config.write_text(json.dumps({"optimizer": {"optimizer": "${oc.env:CHOSEN}"}}))
    made = parse(JointTrainingConfig, "", ["--preset", "tiny", "--config_file", str(config)]).optimizer
    assert (made.lr, made.epsilon) == (lr, epsilon)
    config.write_text(json.dumps({"optimizer": {"optimizer": name}}))
    assert parse(FinetuneArgs, "", ["--config_file", str(config)]).optimizer.lr == (
        lr if name != "adamw" else FinetuneArgs().optimizer.lr
    )


def test_another_optimizer_takes_none_of_the_rates_of_a_presets_own():
    made = parse(JointTrainingConfig, "", ["--preset", "quick", "--optimizer", "sgd"])
    assert (made.optimizer.lr, made.optimizer.embedding_lr) == (0.1, None)
    flags = ["--preset", "quick", "--optimizer", "sgd", "--embedding_lr", "0.5"]
    assert parse(JointTrainingConfig, "", flags).optimizer.embedding_lr == 0.5


@pytest.mark.parametrize(
    "words, key, value",
    [
        (["--resume-train", "True"], "resume_train", True),
        (["--resume_train=false"], "resume_train", False),
        (["--resume_train", "no"], "resume_train", False),
        (["--no-resume-train"], "resume_train", False),
        (["--train-batch-size", "4"], "train_batch_size", "4"),
        (["--device_ids", "[0,", "1]"], "device_ids", ["0", "1"]),
    ],
)
def test_plain_meanings_are_understood(words, key, value):
    assert Parser(FinetuneArgs, "").read(words) == {key: value}


def test_all_unknown_keys_of_a_file_are_named_at_once(tmp_path):
    config = tmp_path / "old.json"
    config.write_text(
        json.dumps({"gen_hidden_size": 1, "lr": 1, "mask_id": 3, "optimizer": {"learningRate": 2}})
    )
    with pytest.raises(InputError) as caught:
        parse(JointTrainingConfig, "", ["--config_file", str(config)])
    for words in ("'model.generator.hidden_size'", "'optimizer.lr'", "nothing to set", "did you mean 'lr'"):
        assert words in str(caught.value)


@pytest.mark.parametrize("script", [name for name in SCRIPTS if SCHEMAS[name].FIRST])
@pytest.mark.parametrize("columns", ["80", "200"])
def test_help_fits_and_begins_with_the_most_needed(script, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    schema = SCHEMAS[script]
    text = Parser(schema, "What it does.").format_help()
    assert max(map(len, text.splitlines())) <= min(int(columns), 100)
    heads = [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert heads[1] == "most needed" and len(schema.FIRST) <= 10
    assert "dest" not in text and text.startswith("usage: ") and "\n\n" in text[:200]


def test_what_says_nothing_in_a_script_is_known_and_not_shown(capsys):
    parser = Parser(FinetuneArgs, "")
    for name in ("generator_lr", "discriminator_lr"):
        assert f"--{name}" in parser.names and name not in parser.format_help()
        assert "optimizer." + name not in parser.flags
        with pytest.raises(InputError, match=f"{name}: fine-tuning has one network; use lr"):
            parse(FinetuneArgs, "", [f"--{name}", "1"])
        assert f"--{name}" in Parser(JointTrainingConfig, "").format_help()
    with pytest.raises(InputError) as caught:
        parse(FinetuneArgs, "", ["--generator_l", "1"])
    assert "did you mean --generator_lr" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried\nto"),
        RuntimeError("not enough memory"),
    ],
)
def test_memory_that_runs_out_is_one_line_with_flags_that_scripts_have(error, capsys):
    def main():
        raise error

    assert exit_code(main) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory (") and said.count("\n") == 1
    named = set(re.findall(r"--\w+", said))
    assert named and named <= {name for script in SCRIPTS for name in Parser(SCHEMAS[script], "").names}


def test_an_error_of_ours_is_raised():
    def main():
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        exit_code(main)


def test_a_python_without_our_packages_is_told_how_in_one_line(capsys):
    def main():
        raise ModuleNotFoundError("No module named 'omegaconf'", name="omegaconf")

    assert exit_code(main) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "omegaconf" in said and "requirements.txt" in said and ".venv/bin/activate" in said


@pytest.mark.parametrize(("clone", "way_out"), [(True, "run ./run.sh once"), (False, "pip install .")])
def test_run_sh_is_advised_where_it_is(clone, way_out, monkeypatch):
    monkeypatch.setattr(commandline, "IN_CLONE", clone)
    said = commandline.in_a_line(ModuleNotFoundError(name="omegaconf.errors"))
    assert way_out in said and "omegaconf" in said and ("run.sh" in said) == clone


def test_a_system_without_a_part_of_python_is_told_where_there_is_one(monkeypatch, capsys):
    """Windows: no fcntl, and no timer for signs of life."""
    for name in sys.stdlib_module_names:
        said = commandline.in_a_line(ModuleNotFoundError(name=name))
        assert repr(name) in said and "Linux" in said and "WSL" in said and " -m pip" not in said
    monkeypatch.setattr(progress, "HAS_TIMER", False)
    for name in ("setitimer", "SIGALRM"):
        monkeypatch.delattr(signal, name)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.delitem(sys.modules, "span_electra.locks", raising=False)

    def main():
        with progress.saying(str):
            import span_electra.locks  # noqa: F401

    assert exit_code(main) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "lacks 'fcntl'" in said


@pytest.mark.parametrize(("rank", "said"), [("0", "warning: mind\n"), ("1", "")])
def test_a_warning_is_a_line_of_the_process_that_torchrun_numbers_0(rank, said):
    code = "import warnings\nfrom span_electra.commandline import run_script\n"
    code += "run_script(lambda: warnings.warn('mind', stacklevel=2))"
    ranks = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | ranks, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, said)
