"""Runs under several seeds, one of which is stopped. Run: pytest tests/finetuning/test_seeds.py"""

import json
import re
import shutil
import signal
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from finetune_examples import settings_of, write_task
from network_examples import exported, random_model, vocabulary_of_words
from run_examples import stop_at

from span_electra.errors import InputError
from span_electra.finetuning import stage
from span_electra.finetuning.experiment import Finetuning
from span_electra.finetuning.seeds import begun_encoder, hold_encoder
from span_electra.finetuning.stage import finetune
from span_electra.hub.folders import weights_sha256
from span_electra.hub.opening import open_model
from span_electra.training import checkpoint
from span_electra.training.devices import Process
from span_electra.training.run import prepare_folder
from span_electra.training.run_folder import write_mark

pytestmark = pytest.mark.usefixtures("here")

SINGLE = "SingleSenClassification"


def results_of(folder):
    return json.loads((Path(folder) / "results.json").read_text())


def weights_of(folder):
    return [checkpoint.load(next(checkpoint.in_run(seed))).weights for seed in sorted(folder.glob("seed-*"))]


def assert_same_bits(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine | theirs)


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (0, 2), (1, 0), (1, 3)])  # 0: it has no checkpoint yet
def test_stopped_in_any_seed_the_same_command_ends_as_if_never_stopped(
    seed, step, tmp_path, monkeypatch, capsys
):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=2, epochs=1)
    assert finetune(settings) == 0
    once, other = stage.finetune_once, replace(settings, out_dir="other")

    def stopped(run):
        with monkeypatch.context() as patch:
            if run.training.seed == seed:
                if not step:
                    Path(run.out_dir).mkdir(parents=True)
                    raise KeyboardInterrupt
                stop_at(patch, step, signal.SIGINT)
            return once(run)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(stage, "finetune_once", stopped)
        assert finetune(other) == 128 + signal.SIGINT
        assert "the same command with --out_dir other goes on with it" in capsys.readouterr().out
    assert finetune(other) == 0
    assert results_of("other") == results_of("run")
    assert_same_bits(weights_of(Path("other")), weights_of(Path("run")))


def test_a_finished_command_says_its_results_again_and_more_seeds_are_run_beside(tmp_path, capsys):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=2, epochs=1)
    assert finetune(settings) == 0
    said, files = capsys.readouterr().out, [path for path in Path("run").rglob("*") if path.is_file()]
    before, weights = {path: path.read_bytes() for path in files}, weights_of(Path("run"))
    assert finetune(settings) == 0
    assert capsys.readouterr().out == said and " ± " in said
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    found = results_of("run")["t"]["dev"]["accuracy"]["values"]
    assert finetune(replace(settings, seeds=3)) == 0
    assert results_of("run")["t"]["dev"]["accuracy"]["values"][:2] == found
    assert_same_bits(weights_of(Path("run"))[:2], weights)


def test_a_folder_of_something_else_is_refused_as_it_was(tmp_path):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=2, epochs=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="run: is not empty; choose another --out_dir for the runs of all"):
        finetune(settings)


# --- what they start from -------------------------------------------------------------------------------


@pytest.fixture
def pretended(monkeypatch, request):
    """Seeds end without training, and the third, or that of the parameter, does not begin at first.

    Gives what each started from.
    """
    told, process, interrupted = [], Process(torch.device("cpu")), []

    def once(run):
        experiment, place = Finetuning(run, process), Path(run.out_dir)
        if run.training.seed == getattr(request, "param", 2) and not interrupted:
            interrupted.append(run)
            raise KeyboardInterrupt
        facts = experiment.metadata()
        told.append((facts["encoder_checkpoint"], Path(facts["encoder"]).name))
        place.mkdir(parents=True)
        prepare_folder(place, run.config_json, experiment.tokenizer_json, 0)
        checkpoint.save(place, 1, {}, {}, facts)
        write_mark(place, "finished", 1)
        return 0, {"t": {"dev": {"accuracy": 0.5}}}

    monkeypatch.setattr(stage, "finetune_once", once)
    monkeypatch.setattr(stage, "conclude", lambda run: {"t": {"dev": {"accuracy": 0.5}}})
    return told


def saved_at(folder, step, seed=None):
    """A checkpoint of a pretraining that goes on: of two steps, or seeds, the weights differ."""
    vocabulary, model = vocabulary_of_words(), random_model(step if seed is None else seed)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(vocabulary.to_json())
    meta = {"model": asdict(model.config), "mask_id": vocabulary.mask_id}
    return checkpoint.save(folder, step, model.state_dict(), {}, meta)


@pytest.mark.parametrize("pretended", [0, 2], indirect=True)
def test_every_seed_starts_from_the_checkpoint_that_the_first_did(tmp_path, monkeypatch, pretended):
    """A run that is still training has saved others by the next seed, and let the first go."""
    place, once = tmp_path / "encoder", stage.finetune_once
    first = saved_at(place, 7)
    start = {"step": 7, "weights": weights_sha256(first)}

    def goes_on(run):
        shutil.rmtree(first, ignore_errors=True)
        saved_at(place, 10 + len(pretended))
        return once(run)

    monkeypatch.setattr(stage, "finetune_once", goes_on)
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, encoder=str(place), seeds=3)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    assert finetune(settings) == 0
    assert pretended == [(start, "encoder")] * 3
    held = tmp_path / "run/encoder/encoder/checkpoints/step-00000007"
    assert checkpoint.read_meta(held)["step"] == 7
    for named, found in ((None, True), (place, True), (first, True), (tmp_path / "other", False)):
        assert begun_encoder(tmp_path / "run", named and str(named)) == (str(held) if found else None)
    for other in (place / "checkpoints/step-00000010", tmp_path / "other/checkpoints/step-00000007"):
        assert begun_encoder(tmp_path / "run", str(other)) is None


@pytest.mark.parametrize("named", ["small", "small/discriminator"])
@pytest.mark.parametrize("pretended", [0, 2], indirect=True)
def test_every_seed_starts_from_the_export_that_the_first_did(
    named, tmp_path, monkeypatch, capsys, pretended
):
    """Its run is trained on meanwhile, and exported anew."""
    once = stage.finetune_once
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, encoder=named, seeds=3)
    start = {"step": None, "weights": weights_sha256(Path("small/discriminator"))}

    def goes_on(run):
        exported(Path("small"), seed=1 + len(pretended))
        return once(run)

    monkeypatch.setattr(stage, "finetune_once", goes_on)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    capsys.readouterr()
    assert finetune(settings) == 0
    assert [found for found, _ in pretended] == [start] * 3
    held = f"run/encoder/{named}"
    said = f"{named}: has other weights by now; all seeds start from .*/{held}, as the first did"
    assert re.search(f"^note: {said}$", capsys.readouterr().err, re.MULTILINE)
    assert begun_encoder(Path("run"), None) == "run/encoder/small"
    assert begun_encoder(Path("run"), held) == held and not capsys.readouterr().err
    shutil.rmtree("small")
    assert begun_encoder(Path("run"), named) == held
    assert f"{named}: is no longer there; all seeds start from {held}" in capsys.readouterr().err


def test_a_fine_tuned_run_is_where_it_was_while_its_best_is(tmp_path, capsys):
    place, folder = tmp_path / "mood", tmp_path / "run"
    saved = [checkpoint.save(place, step, {}, {}, scored(0.9 - step / 10)) for step in (1, 2)]
    (place / "tokenizer.json").write_text(vocabulary_of_words().to_json())
    held = hold_encoder(open_model(place), folder)
    assert Path(held).name == saved[0].name
    assert begun_encoder(folder, str(place)) == held and not capsys.readouterr().err
    checkpoint.save(place, 3, {}, {}, scored(0.95))
    assert begun_encoder(folder, str(place)) == held
    assert f"{place}: is at step-00000003 by now" in capsys.readouterr().err


def scored(metric):
    """What a checkpoint of fine-tuning tells."""
    return {"heads": [{"kind": "labels"}], "training": {"monitor": "score"}, "metric": metric}


def test_more_seeds_take_heads_only_where_the_first_did(tmp_path):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, max_steps=1)
    assert finetune(replace(settings, out_dir="mood")) == 0
    settings = replace(settings, encoder=None, load_saved_model="mood", seeds=2)
    assert finetune(settings) == 0
    more = replace(settings, finetune=True, seeds=3)
    with pytest.raises(InputError, match="seed-0 has finetune False, this command True; give that, or"):
        finetune(more)
    assert finetune(replace(settings, seeds=3)) == 0
    for meta in Path("run").glob("seed-*/checkpoints/*/meta.json"):  # of an earlier version
        meta.write_text(
            json.dumps({k: v for k, v in json.loads(meta.read_text()).items() if k != "finetune"})
        )
    assert finetune(more) == 0


def test_what_the_encoder_that_is_named_has_become_is_told_or_refused(tmp_path, capsys, pretended):
    place = tmp_path / "encoder"
    first = saved_at(place, 7)
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, encoder=str(place), seeds=3)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    capsys.readouterr()

    def told(named):
        held = begun_encoder(tmp_path / "run", str(named))
        assert held == str(tmp_path / "run/encoder/encoder/checkpoints/step-00000007")
        return capsys.readouterr().err

    assert told(place) == told(first) == ""
    saved_at(place, 9)
    start = "all seeds start from .*/run/encoder/encoder/checkpoints/step-00000007, as the first did"
    assert re.search(f"^note: {place}: is at step-00000009 by now; {start}$", told(place)) and not told(first)
    shutil.rmtree(first)
    assert re.search(f"^note: {first}: is no longer there; {start}$", told(first))
    shutil.rmtree(place)
    assert re.search(f"^note: {first}: is no longer there; {start}$", told(place))
    saved_at(place, 7, seed=8)
    for named in (place, first):
        with pytest.raises(InputError, match=f"{first}: has other weights than the seeds began from, which"):
            finetune(replace(settings, encoder=str(named)))
    held = tmp_path / "run/encoder/encoder/checkpoints/step-00000007"
    assert told(held) == ""
    assert finetune(replace(settings, encoder=str(held))) == 0 and len(pretended) == 3


def test_settings_that_an_earlier_state_did_not_record_had_their_defaults(tmp_path, pretended):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=3)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    path = tmp_path / "run/seed-0/config.json"
    recorded = json.loads(path.read_text())
    del recorded["layer_lr_decay"], recorded["optimizer"]["embedding_lr"]
    path.write_text(json.dumps(recorded))
    with pytest.raises(InputError, match="seed-0 has layer_lr_decay 1.0, this command 0.5; give that"):
        finetune(replace(settings, layer_lr_decay=0.5))
    assert finetune(settings) == 0 and len(pretended) == 3


@pytest.mark.parametrize("from_scratch", [False, True])
def test_seeds_that_are_left_start_from_the_encoder_that_was_the_newest(
    from_scratch, tmp_path, monkeypatch, pretended
):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=3)
    settings = replace(settings, encoder=None, from_scratch=from_scratch)
    exported(tmp_path / "newer", seed=1)
    monkeypatch.setattr(stage, "newest_run", lambda: "small")
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    monkeypatch.setattr(stage, "newest_run", lambda: "newer")
    assert finetune(settings) == 0
    assert len(pretended) == 3 and pretended == pretended[:1] * 3


def anew(settings):
    """The same encoder, exported from other weights; an earlier version held none."""
    shutil.rmtree("small")
    shutil.rmtree("run/encoder")
    exported(Path("small"), seed=1)
    return settings


def taught_otherwise(settings, **entry):
    """The same tasks, with other settings in the file."""
    path = Path(settings.task_file)
    path.write_text(json.dumps({"t": json.loads(path.read_text())["t"] | entry}))
    return settings


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        (lambda settings: replace(settings, epochs=3), "other settings: seed-0 has epochs 2, this command 3"),
        (
            lambda settings: taught_otherwise(settings, dropout_prob=0.3),
            "other settings: seed-0 has t.dropout_prob 0.1, this command 0.3",
        ),
        (
            lambda settings: taught_otherwise(settings, sampling="square_root"),
            "other settings: seed-0 has sampling 'proportional', this command 'square_root'",
        ),
        (lambda settings: replace(settings, encoder="newer"), "other settings: seed-0 has encoder '.*small'"),
        (anew, "other weights: seed-0 did not start from those of .*small; choose"),
    ],
)
def test_seeds_that_would_differ_in_more_than_the_seed_are_refused(otherwise, said, tmp_path, pretended):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=3)
    exported(tmp_path / "newer", seed=1)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    with pytest.raises(InputError, match=f"run: holds runs of {said}.*another --out_dir"):
        finetune(otherwise(settings))
    assert len(pretended) == 2
