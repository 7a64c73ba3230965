"""What lies under the flags, which run is resumed, where it goes.

Run: pytest tests/pretraining/test_stage.py
"""

import json
import os
import sys
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from feature_examples import SPECIAL, build
from run_examples import write_rows

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from argument import JointTrainingConfig  # noqa: E402
from span_electra.commandline import parse  # noqa: E402
from span_electra.compose import Layer, compose  # noqa: E402
from span_electra.data_config import ChunkConfig, MaskingConfig  # noqa: E402
from span_electra.errors import InputError  # noqa: E402
from span_electra.features.store import open_features  # noqa: E402
from span_electra.locks import is_held  # noqa: E402
from span_electra.pretraining import stage as pretrain  # noqa: E402
from span_electra.pretraining.defaults import stack_layers  # noqa: E402
from span_electra.text.vocabulary import assemble  # noqa: E402
from span_electra.training.run import RunResult  # noqa: E402
from span_electra.training.run_folder import locked, write_mark  # noqa: E402

DEFAULTS = JointTrainingConfig()
OLDER_WAY = Layer("argument.py", {})


def make_run(folder: Path, **settings) -> Path:
    saved = folder / "checkpoints" / "step-00000001"
    saved.mkdir(parents=True)
    (saved / "meta.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps(asdict(replace(DEFAULTS, **settings))))
    return folder


def test_latest_is_the_run_saved_last_whatever_is_written_into_others(no_accelerator, tmp_path):
    old, new = make_run(tmp_path / "runs/z"), make_run(tmp_path / "runs/a")
    os.utime(old / "checkpoints/step-00000001/meta.json", (1, 1))
    (old / "evaluation.json").write_text("{}")
    assert pretrain.latest_run(tmp_path / "runs") == new
    tuned = make_run(tmp_path / "runs/tuned")  # of finetune_SE.py, saved last of all
    for settings in ({"encoder": "runs/a"}, {"model": "runs/a"}):
        (tuned / "config.json").write_text(json.dumps(settings))
        assert pretrain.latest_run(tmp_path / "runs") == new


@pytest.mark.parametrize(
    "given, words",
    [
        ({"resume": "a", "checkpoint_path": "b"}, "give one of them"),
        ({"resume": "a", "init_from": "b"}, "init_from"),
        ({"resume": "latest"}, "no run of pretraining with a checkpoint"),
        ({"resume": "nowhere"}, "is nowhere the folder of a run"),
    ],
)
def test_what_contradicts_itself_is_refused(no_accelerator, given, words):
    with pytest.raises(InputError, match=words):
        stack_layers(given, [OLDER_WAY, *(Layer(f"--{key}", {key: value}) for key, value in given.items())])


def test_the_run_folder_is_named_or_made_of_prefix_and_name(no_accelerator, tmp_path):
    named = replace(DEFAULTS, out_dir="here")
    made = replace(DEFAULTS, output_prefix="there", experiment_name="first")
    assert pretrain.run_folder(named, None) == Path("here")
    assert pretrain.run_folder(made, None) == Path("there/first")
    assert pretrain.run_folder(DEFAULTS, None).parent == Path("runs")


def test_what_is_in_the_way_of_an_export_is_told_before_anything_is_trained(no_accelerator, tmp_path):
    run = make_run(tmp_path / "runs/old")
    (run / "generator").mkdir()
    (run / "generator/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="runs/old/generator: is in the way and no export of ours"):
        pretrain.pretrain(replace(DEFAULTS, resume=str(run)))


def test_a_resumed_run_s_own_folder_is_none_that_was_named(no_accelerator, tmp_path):
    old = make_run(tmp_path / "runs/old", out_dir="runs/old")
    layers = stack_layers({"resume": str(old)}, [OLDER_WAY])
    assert not any("out_dir" in layer.values for layer in layers)


@pytest.mark.parametrize("out_dir", [None, "new"])
def test_the_latest_run_stays_the_one_though_another_is_saved_meanwhile(tmp_path, monkeypatch, out_dir):
    old, later = make_run(tmp_path / "runs/old"), make_run(tmp_path / "runs/later")

    def refuse(run):
        assert (run.resume_from, run.out_dir) == (str(old), out_dir or str(old))
        raise InputError("refused")

    monkeypatch.setattr(pretrain, "latest_run", lambda prefix, runs=[later, old]: runs.pop())
    monkeypatch.setattr("span_electra.pretraining.experiment.run_pretraining", refuse)
    data = replace(DEFAULTS.train_data, train_file=[write_rows(tmp_path / "rows.arrow")])
    with pytest.raises(InputError, match="refused"):
        pretrain.pretrain(replace(DEFAULTS, train_data=data, resume="latest", out_dir=out_dir))


@pytest.fixture
def stopped_after_sizes(monkeypatch):
    def stop_after(settings, named):
        print("sizes taken over")
        raise InputError("stopped")

    monkeypatch.setattr(pretrain, "like_published", stop_after)


def test_a_rank_without_torchrun_is_nobodys(stopped_after_sizes, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "a")
    with pytest.raises(InputError, match="stopped"):
        pretrain.pretrain(DEFAULTS)
    assert capsys.readouterr().out


@pytest.mark.parametrize(("rank", "said"), [("0", "sizes taken over\n"), ("1", "")])
def test_of_several_processes_one_says_what_the_model_takes_over(
    stopped_after_sizes, torchrun, capsys, rank, said
):
    torchrun(RANK=rank)
    with pytest.raises(InputError, match="stopped"):
        pretrain.pretrain(DEFAULTS)
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_several_processes_one_clears_what_a_refused_run_left(tmp_path, monkeypatch, torchrun, rank):
    def refuse(run):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.lock").touch()
        raise InputError("refused")

    monkeypatch.setattr("span_electra.pretraining.experiment.run_pretraining", refuse)
    torchrun(RANK=rank)
    data = replace(DEFAULTS.train_data, train_file=[write_rows(tmp_path / "rows.arrow")])
    with pytest.raises(InputError, match="refused"):
        pretrain.pretrain(replace(DEFAULTS, train_data=data, out_dir=str(tmp_path / "run")))
    assert (tmp_path / "run").exists() == (rank == "1")


@pytest.mark.parametrize("valid", ["named", "beside", "absent"])
@pytest.mark.parametrize("train", ["named", "found"])
def test_validation_features_beside_named_ones_are_taken_by_name_alone(
    tmp_path, monkeypatch, capsys, train, valid
):
    monkeypatch.chdir(tmp_path)
    Path("features").mkdir()
    Path("features/train.arrow").touch()
    if valid != "absent":
        Path("features/valid.arrow").touch()
    data = replace(DEFAULTS.train_data, train_file=["features/train.arrow"] if train == "named" else [])
    held_out = replace(DEFAULTS.valid_data, valid_file=["features/valid.arrow"] if valid == "named" else [])
    settings = replace(DEFAULTS, train_data=data, valid_data=held_out)
    found = pretrain.feature_files(settings, tmp_path / "run", ExitStack(), resumed=None)
    taken = valid == "named" or (train, valid) == ("found", "beside")
    assert found == (("features/train.arrow",), ("features/valid.arrow",) if taken else ())
    said = capsys.readouterr().out
    assert ("--valid_file features/valid.arrow" in said) == ((train, valid) == ("named", "beside"))
    assert said.count("\n") == bool(said)


@pytest.mark.parametrize(
    "train, notes",
    [
        (["features/*.arrow"], ["several splits"]),
        (["features/test.arrow", "features/train.arrow", "features/valid.arrow"], ["several splits"]),
        (["features/train.arrow", "features/train.arrow", "features/t*n.arrow"], ["left out", "named twice"]),
        (["features/t*n.arrow"], ["left out"]),
        (["features/valid.arrow"], []),
        (["shards/train.arrow", "shards/valid.arrow/*.arrow"], []),
    ],
)
def test_what_named_features_are_is_told_and_no_more(tmp_path, monkeypatch, capsys, train, notes):
    monkeypatch.chdir(tmp_path)
    for name in ("features/train", "features/valid", "features/test", "shards/train", "shards/valid.arrow/0"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(f"{name}.arrow").touch()
    settings = replace(DEFAULTS, train_data=replace(DEFAULTS.train_data, train_file=train))
    assert pretrain.feature_files(settings, tmp_path / "run", ExitStack(), resumed=None)[0] == tuple(train)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(notes) and all(note in line for note, line in zip(notes, said, strict=True))


@pytest.mark.parametrize("later", [(), ("valid",), ("train", "valid")])
def test_features_that_a_run_found_are_named_in_its_settings_and_others_are_none_of_its_own(
    no_accelerator, tmp_path, monkeypatch, later
):
    """Whatever lies at the default places by the time it is gone on with."""
    taken = []

    def train(run):
        taken.append((run.train_features, run.valid_features))
        if not run.resume_from:
            make_run(tmp_path / "run")
            (tmp_path / "run/config.json").write_text(run.config_json)
        raise InputError("refused")

    monkeypatch.setattr("span_electra.pretraining.experiment.run_pretraining", train)
    for given in ({"out_dir": "run"}, {"resume": "run"}):
        layers = [Layer("--" + name, {name: value}) for name, value in given.items()]
        settings = compose(JointTrainingConfig, stack_layers(given, [OLDER_WAY, *layers]))
        for name in ("train",) if "out_dir" in given else later:
            Path("features").mkdir(exist_ok=True)
            write_rows(f"features/{name}.arrow")
        with pytest.raises(InputError, match="refused"):
            pretrain.pretrain(settings)
    assert taken == [(("features/train.arrow",), ())] * 2


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("keeps", [{}, {"save_features": True}, {"save_tokenized_text": True}])
@pytest.mark.parametrize("state", ["foreign", "finished", "running", "stopped", "held"])
def test_raw_text_becomes_no_features_for_a_folder_that_the_run_may_not_have(
    no_accelerator, tmp_path, monkeypatch, state, keeps
):
    run = tmp_path / "run"
    if state in ("foreign", "held"):
        run.mkdir()
    if state == "foreign":
        (run / "thesis.txt").write_text("mine")
    elif state != "held":
        make_run(run)
        write_mark(run, state, 1)
    monkeypatch.setattr(pretrain, "feature_files", lambda *_, **__: pytest.fail("they are made"))
    data = replace(DEFAULTS.train_data, raw_text_dir="text", **keeps)
    settings = replace(DEFAULTS, train_data=data, out_dir=str(run))
    words = {"foreign": "holds no run of ours", "held": "another run is writing there"}
    with locked(run) if state == "held" else nullcontext():
        before = files_in(tmp_path)
        with pytest.raises(InputError, match=words.get(state, "run already; go on: ")):
            pretrain.pretrain(settings)
        assert files_in(tmp_path) == before


@pytest.mark.parametrize("ended", [InputError("refused"), KeyboardInterrupt()])
@pytest.mark.parametrize("part", ["train_data", "valid_data"])
def test_a_folder_is_held_while_raw_text_becomes_features_and_goes_where_none_were_made(
    no_accelerator, tmp_path, tmp_path_factory, monkeypatch, part, ended
):
    def build(*given, **more):
        assert is_held(tmp_path / "runs/a/run.lock")
        raise ended

    monkeypatch.setattr("span_electra.pretraining.raw_text.build_from_raw", build)
    learned = [write_rows(tmp_path_factory.mktemp("made") / "rows.arrow")] if part == "valid_data" else []
    settings = replace(DEFAULTS, train_data=replace(DEFAULTS.train_data, train_file=learned))
    settings = replace(settings, **{part: replace(getattr(settings, part), raw_text_dir="text")})
    with pytest.raises(type(ended)):
        pretrain.pretrain(replace(settings, out_dir=str(tmp_path / "runs/a")))
    assert not list(tmp_path.iterdir())


def test_validation_text_becomes_features_as_the_named_training_ones_are(
    no_accelerator, tmp_path, monkeypatch, recwarn
):
    text = "the cat sat on the mat.\n" * 40
    Path("a.txt").write_text(text), Path("v.txt").write_text(text.replace("cat", "mat"))
    vocabulary = assemble("BERT", {token: number for number, token in enumerate([*SPECIAL, *"theca"])})
    made = {"chunking": ChunkConfig(128), "masking": MaskingConfig(mask_ratio=0.3)}
    build(["a.txt"], vocabulary, "train.arrow", **made)

    def train(run):
        header = open_features(list(run.valid_features)).header
        assert (header.chunking, header.masking) == (made["chunking"], made["masking"])
        assert header.vocabulary_sha256 == vocabulary.sha256
        raise InputError("trained")

    monkeypatch.setattr("span_electra.pretraining.experiment.run_pretraining", train)
    given = ["--train_file", "train.arrow", "--valid_data.raw_text_dir", "v.txt", "--max_seq_len", "256"]
    with pytest.raises(InputError, match="trained"):  # and no vocabulary is asked for: there is none
        pretrain.pretrain(parse(JointTrainingConfig, "", [*given, "--out_dir", "run"], stack=stack_layers))
    assert "max_seq_len: 256 changes nothing" in str(recwarn.pop().message)


def test_raw_text_under_torchrun_is_refused_by_each_process(no_accelerator, tmp_path, torchrun):
    torchrun()
    data = replace(DEFAULTS.train_data, raw_text_dir="text")
    with pytest.raises(InputError, match="text: raw text under torchrun; run create_feature_SE.py first"):
        pretrain.pretrain(replace(DEFAULTS, train_data=data, out_dir=str(tmp_path / "run")))
    assert not list(tmp_path.iterdir())


def test_features_that_are_gone_or_others_when_a_run_is_done_change_nothing(
    no_accelerator, tmp_path, monkeypatch, capsys
):
    features = Path(write_rows(tmp_path / "rows.arrow"))

    def train(run):
        features.unlink()
        saved = ROOT / "tests/golden/stored/run-format-1/checkpoints/step-00000004"
        return RunResult("finished", 4, str(saved))

    monkeypatch.setattr("span_electra.pretraining.experiment.run_pretraining", train)
    data = replace(DEFAULTS.train_data, train_file=[str(features)])
    assert pretrain.pretrain(replace(DEFAULTS, train_data=data, out_dir=str(tmp_path / "run"))) == 0
    assert "trained 4 steps" in capsys.readouterr().out


def test_the_discriminator_alone_needs_a_generator(no_accelerator, tmp_path):
    settings = replace(DEFAULTS, model=replace(DEFAULTS.model, objective="discriminator"))
    with pytest.raises(InputError, match="--generator_path"):
        pretrain.initial_weights(settings, None)
    found = pretrain.initial_weights(replace(settings, generator_path="there"), None)
    assert found == {"resume_from": None, "init_from": "there", "init_only": "generator"}
    named = pretrain.initial_weights(replace(settings, checkpoint_path="run/checkpoints/step-1"), tmp_path)
    assert named["resume_from"] == "run/checkpoints/step-1"


def test_a_run_is_exported_as_its_newest_checkpoint_is(tmp_path):
    run = ROOT / "tests" / "golden" / "stored" / "run-format-1"
    of_run = pretrain.export(run, tmp_path / "run")
    of_checkpoint = pretrain.export(run / "checkpoints" / "step-00000004", tmp_path / "checkpoint")
    for one, other in zip(of_run, of_checkpoint, strict=True):
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="give a whole checkpoint folder"):
        pretrain.export(tmp_path, tmp_path / "none")


def test_a_run_of_few_steps_says_how_to_make_more(tmp_path):
    def said(steps, **more):
        result = RunResult(exit_code=0, step=steps, metrics={}, checkpoint="", state="finished")
        return pretrain.epilogue(tmp_path, result, **more)

    assert "--max_minutes 10 --by_clock" in said(9, from_nothing=True)
    assert "by_clock" not in said(9, from_nothing=False) + said(5000, from_nothing=True)


def test_a_stopped_run_names_a_command_that_goes_on():
    saved = "runs/a/checkpoints/step-00000007"
    said = pretrain.epilogue(Path("runs/a"), RunResult("stopped", 7, saved), from_nothing=True)
    assert "stopped at step 7; go on: " in said and "--resume runs/a" in said and saved in said
    nothing = pretrain.epilogue(Path("runs/a"), RunResult("stopped", 0, ""), from_nothing=True)
    assert "give the same command again" in nothing and "step" not in nothing and "runs/a" not in nothing


@pytest.mark.parametrize("parts", [("generator", "discriminator"), ("generator",), ()])
def test_each_network_that_was_exported_is_named_with_its_use(tmp_path, parts):
    for part in parts:
        (tmp_path / part).mkdir()
    result = RunResult(exit_code=0, step=9, metrics={}, checkpoint="", state="finished")
    said = pretrain.epilogue(tmp_path, result, from_nothing=False)
    encoder = f'from_pretrained("{tmp_path}/{parts[-1]}")' if parts else "from_pretrained"
    assert said.count("to fine-tune:") == said.count(encoder) == bool(parts)
    assert said.count("fills gaps:") == said.count(f'model="{tmp_path}/generator"') == ("generator" in parts)
