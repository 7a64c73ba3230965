"""What lies under the user's own settings. Run: pytest tests/pretraining/test_defaults.py"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from argument import JointTrainingConfig  # noqa: E402
from span_electra.commandline import parse  # noqa: E402
from span_electra.compose import PRESET_FOLDER, Layer, preset_names  # noqa: E402
from span_electra.errors import InputError  # noqa: E402
from span_electra.pretraining import defaults  # noqa: E402
from span_electra.pretraining.stage import resumed_run, run_folder  # noqa: E402

DEFAULTS = JointTrainingConfig()
TINY = json.loads((ROOT / "configs/tiny.json").read_text())["model"]["discriminator"]["hidden_size"]
FULL = DEFAULTS.model.discriminator.hidden_size


def read(*argv: str) -> JointTrainingConfig:
    return parse(JointTrainingConfig, "", list(argv), stack=defaults.stack_layers)


def write(name: str, values: dict) -> str:
    Path(name).write_text(json.dumps(values))
    return name


def test_without_sizes_and_accelerator_tiny_is_taken_and_said_in_a_line(no_accelerator, capsys):
    assert read().model.discriminator.hidden_size == TINY
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1
    assert "configs/tiny.json" in said.err and "7 hours" in said.err


@pytest.mark.parametrize(
    "flags",
    [
        ["--lr", "0.125"],
        ["--config_file", "rate.json"],
        ["--model.hidden_act", "relu"],
        ["--embedding_size", "32"],
        ["--print_config", "--config_file", "rate.json"],
    ],
)
def test_whoever_names_no_size_gets_tiny_wherever_sizes_would_be_defaults(no_accelerator, flags, capsys):
    write("rate.json", {"optimizer": {"lr": 0.125}})
    if "--print_config" not in flags:
        assert read(*flags).model.discriminator.hidden_size == TINY
        return
    with pytest.raises(SystemExit):
        read(*flags)
    said = capsys.readouterr()
    printed = json.loads(said.out)  # the line about tiny is no part of the config file
    assert printed["model"]["discriminator"]["hidden_size"] == TINY and printed["optimizer"]["lr"] == 0.125
    assert "tiny" in said.err


def test_a_preset_of_other_keys_gets_tiny(no_accelerator, monkeypatch):
    other = Layer("other.json", {"optimizer": {"lr": 0.125}}, is_preset=True)
    layers = defaults.stack_layers({}, [Layer("argument.py", {}), other])
    assert layers[0].values["model"]["discriminator"]["hidden_size"] == TINY and layers[-1] is other


@pytest.mark.parametrize(
    "flags",
    [
        ["--preset", "base"],
        ["--config_file", "full.json"],
        ["--model.discriminator.num_hidden_layers", "3"],
        ["--model.generator.hidden_size", "64"],
    ],
)
def test_whoever_names_sizes_gets_the_rest_as_documented(no_accelerator, flags, capsys):
    write("full.json", asdict(DEFAULTS))
    assert read(*flags).model.discriminator.hidden_size in (FULL, 768)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("accelerator", [False, True])
def test_weights_that_have_learned_are_gone_on_with_by_both_networks_at_once(
    no_accelerator, monkeypatch, accelerator, capsys
):
    monkeypatch.setattr(defaults, "has_accelerator", lambda: accelerator)
    settings = read("--init_from", "published")
    going_on = json.loads((ROOT / "configs/continue.json").read_text())
    optimizer = asdict(settings.optimizer)
    assert {key: optimizer[key] for key in going_on["optimizer"]} == going_on["optimizer"]
    assert not settings.model.generator_first
    # Without an accelerator a run of the default sizes is gone on with by naming nothing.
    assert settings.model.discriminator.hidden_size == (FULL if accelerator else TINY)
    assert read("--init_from", "published", "--lr", "0.125").optimizer.lr == 0.125
    assert read("--init_from", "published", "--preset", "quick").optimizer.lr == 0.003
    adamw = read("--init_from", "published", "--optimizer", "adamw").optimizer
    assert adamw.lr == DEFAULTS.optimizer.lr


@pytest.mark.parametrize(
    "flags", [[], ["--preset", "tiny"], ["--init_from", "published"], ["--config_file", "clock.json"]]
)
def test_by_the_clock_the_epochs_of_our_presets_give_way_and_the_users_do_not(no_accelerator, flags):
    write("clock.json", {"training": {"by_clock": True}})
    clock = ["--max_minutes", "10", *([] if "clock.json" in flags else ["--by_clock"])]
    assert read(*flags, *clock).training.epochs == 1
    assert read(*flags[:2]).training.epochs == 3 if "clock.json" not in flags else True
    with pytest.raises(InputError, match="leave epochs and max_steps out"):
        read(*flags, *clock, "--epochs", "3")


def test_static_masks_need_no_schedule_of_ours_and_none_beside_the_users(no_accelerator):
    assert read("--masking", "static").train_data.masking_schedule == []
    assert read("--preset", "quick", "--masking", "static").train_data.masking_schedule == []
    with pytest.raises(InputError, match="masking_schedule: draws new spans"):
        read("--masking", "static", "--masking_schedule", "0: mask_ratio=0.3")


@pytest.mark.parametrize("value", ["false", "true", None])
def test_what_decides_the_layers_may_come_from_the_environment(no_accelerator, monkeypatch, value):
    clock = write("clock.json", {"training": {"by_clock": "${oc.env:CLOCK,false}", "max_minutes": 9}})
    static = write("static.json", {"train_data": {"masking": "${oc.env:MASKS,dynamic}"}})
    start = write("start.json", {"init_from": "${oc.env:START,null}"})
    if value:
        for name, said in (("CLOCK", value), ("MASKS", "static"), ("START", "published")):
            monkeypatch.setenv(name, said)
    assert read("--config_file", clock).training.epochs == (1 if value == "true" else 3)
    assert bool(read("--config_file", static).train_data.masking_schedule) == (not value)
    assert (read("--config_file", start).model.generator_first == 0) == bool(value)


def test_a_run_to_go_on_with_may_be_named_by_the_environment(no_accelerator, tmp_path, monkeypatch):
    run = tmp_path / "exp/a"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(asdict(replace(DEFAULTS, workers=3))))
    monkeypatch.setenv("RUN", str(run))
    monkeypatch.setenv("PLACE", "exp")
    newest = {"resume": "latest", "output_prefix": "${oc.env:PLACE}"}
    step = "${oc.env:RUN}/checkpoints/step-1"
    for values in ({"resume": "${oc.env:RUN}"}, {"checkpoint_path": step}, newest):
        assert read("--config_file", write("mine.json", values)).workers == 3
    with pytest.raises(InputError, match="mine.json: .*epochs: 'many' is no whole number"):
        read("--config_file", write("mine.json", newest | {"training": {"epochs": "many"}}))


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize(
    "flags",
    [[], ["--optimizer", "sgd"], ["--masking", "static"], ["--max_minutes", "9", "--by_clock"]],
    ids=" ".join,
)
def test_a_presets_file_means_what_its_name_means(no_accelerator, tmp_path, name, flags):
    link = tmp_path / "link.json"
    link.symlink_to(PRESET_FOLDER / f"{name}.json")
    by_name = read("--preset", name, *flags)
    for path in (
        PRESET_FOLDER / f"{name}.json",
        PRESET_FOLDER / f"../{PRESET_FOLDER.name}/{name}.json",
        link,
    ):
        assert read("--config_file", str(path), *flags) == by_name


def test_a_copy_of_a_preset_is_the_users_word(no_accelerator):
    mine = write("mine.json", json.loads((PRESET_FOLDER / "quick.json").read_text()))
    assert read("--config_file", mine, "--optimizer", "sgd").optimizer.lr == 0.003
    with pytest.raises(InputError, match="masking_schedule: draws new spans"):
        read("--config_file", mine, "--masking", "static")


QUICK = str(PRESET_FOLDER / "quick.json")


@pytest.mark.parametrize("below", [[], ["--preset", "tiny"], ["--preset", "quick"], ["--config_file", QUICK]])
def test_rows_of_a_batch_that_are_named_count_and_our_presets_tokens_give_way(no_accelerator, below):
    assert read(*below).train_data.batch_max_tokens == 4096
    data = read(*below, "--train_batch_size", "8").train_data
    assert (data.train_batch_size, data.batch_max_tokens) == (8, 0)
    rows = write("rows.json", {"train_data": {"train_batch_size": 8}})
    if "--config_file" not in below:
        assert read(*below, "--config_file", rows).train_data == data
    tokens = read(*below, "--train_batch_size", "8", "--batch_max_tokens", "512").train_data
    assert tokens.batch_max_tokens == 512
    # Going on with weights has rows of its own, over tiny's tokens.
    going_on = json.loads((PRESET_FOLDER / "continue.json").read_text())["train_data"]
    data = read("--init_from", "published").train_data
    assert (data.train_batch_size, data.batch_max_tokens) == (going_on["train_batch_size"], 0)


def test_named_rows_count_over_tokens_of_the_users_own_and_of_a_resumed_run(no_accelerator):
    both = {"train_data": {"batch_max_tokens": 512, "train_batch_size": 4}}
    Path("run").mkdir()
    write("run/config.json", both)
    for below in (["--config_file", write("both.json", both)], ["--resume", "run"]):
        assert read(*below).train_data.batch_max_tokens == 512
        data = read(*below, "--train_batch_size", "8").train_data
        assert (data.train_batch_size, data.batch_max_tokens) == (8, 0)
        for flags in (["--train_batch_size", "8", "--batch_max_tokens", "64"], ["--batch_max_tokens", "64"]):
            assert read(*below, *flags).train_data.batch_max_tokens == 64
            assert read(*below, *flags[2:], *flags[:2]).train_data.batch_max_tokens == 64, "in any order"


def test_with_an_accelerator_nothing_is_changed(no_accelerator, monkeypatch):
    monkeypatch.setattr(defaults, "has_accelerator", lambda: True)
    assert read() == DEFAULTS


def test_the_estimate_is_of_the_full_size_and_the_epochs_asked_for(monkeypatch):
    monkeypatch.setattr("span_electra.training.clock.matrix_peak", lambda process: 1e12)
    widths = []
    monkeypatch.setattr(
        "span_electra.model.flops.training_flops",
        lambda model, *_: widths.append(model.discriminator.hidden_size) or 1e9,
    )
    layers = [Layer("argument.py", {}), Layer("--epochs", {"training": {"epochs": "3"}})]
    assert defaults.estimated_hours(layers) == pytest.approx(3 * defaults.estimated_hours(layers[:1]))
    assert set(widths) == {FULL}


def test_a_resumed_run_brings_its_own_settings_and_flags_lie_over_them(no_accelerator, tmp_path):
    run = tmp_path / "runs/a"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(asdict(replace(DEFAULTS, workers=3))))
    for flags in (
        ["--resume", str(run)],
        ["--resume", "latest"],
        ["--resume"],
        ["--checkpoint_path", f"{run}/checkpoints/step-1"],
    ):
        made = read(*flags, "--epochs", "5")
        assert (made.workers, made.training.epochs) == (3, 5)
        assert made.model.discriminator.hidden_size == FULL


def test_the_latest_run_is_looked_for_once_and_where_the_users_own_settings_say(no_accelerator, tmp_path):
    for place, workers in (("runs/a", 3), ("exp/b", 4)):
        (tmp_path / place / "checkpoints").mkdir(parents=True)
        # It may have been made under another prefix, and moved.
        stored = replace(DEFAULTS, workers=workers, output_prefix="elsewhere")
        (tmp_path / place / "config.json").write_text(json.dumps(asdict(stored)))
    mine = write("mine.json", {"output_prefix": "exp"})
    for flags, place, workers in (
        (["--resume"], "runs/a", 3),
        (["--resume", "--config_file", mine], "exp/b", 4),
        (["--resume", "--output_prefix", "exp"], "exp/b", 4),
        (["--resume", "--config_file", mine, "--output_prefix", "runs"], "runs/a", 3),
    ):
        made = read(*flags)
        resumed = resumed_run(made.resume, made.checkpoint_path, made.output_prefix)
        assert made.workers == workers and resumed == Path(place)


def test_a_run_to_go_on_with_may_be_named_in_a_file(no_accelerator, tmp_path):
    run = tmp_path / "runs/a"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(asdict(replace(DEFAULTS, workers=3))))
    for values in ({"resume": str(run)}, {"checkpoint_path": f"{run}/checkpoints/step-1"}):
        made = read("--config_file", write("mine.json", values | {"training": {"epochs": 5}}))
        assert (made.workers, made.training.epochs) == (3, 5)
        assert made.model.discriminator.hidden_size == FULL


def test_a_resumed_run_keeps_its_folder_and_another_that_is_named_is_refused(no_accelerator):
    for place in ("runs/a", "other/b"):
        Path(place, "checkpoints").mkdir(parents=True)
        stored = replace(DEFAULTS, experiment_name="first", output_prefix="elsewhere", out_dir="before")
        Path(place, "config.json").write_text(json.dumps(asdict(stored)))
    in_file = write("mine.json", {"resume": "runs/a", "experiment_name": "c"})
    for flags, said in (
        (["--resume", "runs/a", "--experiment_name", "c"], "experiment_name: c"),
        (["--resume", "--experiment_name", "c"], "experiment_name: c"),
        (["--config_file", in_file], "experiment_name: c"),
        (["--resume", "runs/a", "--output_prefix", "other"], "output_prefix: other"),
        (["--checkpoint_path", "runs/a/checkpoints/step-1", "--output_prefix", "x"], "output_prefix: x"),
    ):
        with pytest.raises(InputError, match=f"^{said}: a resumed run keeps its folder; give --out_dir"):
            read(*flags)
    full = write("full.json", asdict(DEFAULTS))  # as --print_config writes it
    for flags, folder in (
        (["--resume", "runs/a", "--experiment_name", "a"], "runs/a"),
        (["--resume", "other/b", "--experiment_name", "b", "--output_prefix", "other"], "other/b"),
        (["--resume", "other/b", "--config_file", full], "other/b"),
        (["--resume", "runs/a", "--experiment_name", "c", "--out_dir", "new"], "new"),
    ):
        made = read(*flags)
        resumed = resumed_run(made.resume, made.checkpoint_path, made.output_prefix)
        assert run_folder(made, resumed) == Path(folder)


@pytest.mark.parametrize("flag", ["init_from", "generator_path", "initial_optimizer", "add_tokens"])
def test_what_a_run_starts_from_is_nothing_for_a_run_that_goes_on(no_accelerator, flag):
    with pytest.raises(InputError, match=f"--{flag}: a resumed run goes on as it was"):
        read("--resume", "runs/a", f"--{flag}", "other")
