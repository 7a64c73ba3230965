"""What the ELECTRA experiment tells the engine. Run: pytest tests/pretraining/test_experiment.py"""

from dataclasses import replace

import pytest
import torch
from model_examples import small_config
from run_examples import small_run, write_rows

from span_electra.config import OptimizerConfig
from span_electra.data_config import LoaderConfig, MaskingConfig
from span_electra.errors import InputError
from span_electra.hub.folders import LONGEST
from span_electra.model.batch import TALLY
from span_electra.model.electra import SpanElectra
from span_electra.pretraining import experiment as pretraining
from span_electra.pretraining.experiment import Pretraining, freeze
from span_electra.pretraining.misspelling import Misspeller
from span_electra.pretraining.pairing import SHORTEST
from span_electra.training import checkpoint
from span_electra.training.devices import Process
from span_electra.training.optim import Optimizers

CPU = Process(torch.device("cpu"))


def test_shared_tensors_learn_at_the_generators_rate(tmp_path):
    features = write_rows(tmp_path / "rows.arrow")
    config = OptimizerConfig(generator_lr=0.1, discriminator_lr=0.2)
    experiment = Pretraining(small_run(features, tmp_path / "run", optimizer=config), CPU)
    optimizers = Optimizers(experiment.model, config, experiment.learning_rate)
    peaks = {
        optimizers.names[id(parameter)]: group["peak_lr"]
        for group in optimizers.groups
        for parameter in group["params"]
    }
    assert len(peaks) == len(list(experiment.model.parameters()))
    assert all(peak == (0.2 if name.startswith("discriminator.") else 0.1) for name, peak in peaks.items())
    assert peaks["generator.encoder.embeddings.word.weight"] == 0.1


def test_freezing_stops_a_part_and_not_everything_can_be_frozen():
    model = SpanElectra(small_config(), mask_id=3)
    freeze(model, ["embeddings", "discriminator"])
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learning and all(name.startswith("generator.") and "embeddings" not in name for name in learning)
    assert len(Optimizers(model, OptimizerConfig()).parameters) == len(learning)
    with pytest.raises(InputError, match="leaves nothing that learns"):
        freeze(model, ["generator"])


def test_utilization_is_of_steps_in_which_both_networks_learn(tmp_path, monkeypatch):
    monkeypatch.setattr("span_electra.pretraining.experiment.matrix_peak", lambda process: 1e12)
    experiment = Pretraining(small_run(write_rows(tmp_path / "rows.arrow"), tmp_path / "run"), CPU)
    joint = dict.fromkeys(TALLY, 0.0) | {"tokens": 8.0, "seen": 8.0, "masked": 1.0}
    more, less = (experiment.metrics(joint | {"masked": masked}, 100.0)["mfu"] for masked in (4.0, 1.0))
    assert more > less > 0
    assert "mfu" not in experiment.metrics(joint | {"tokens": 4.0}, 100.0)


def test_a_frozen_generator_cannot_learn_alone_first(tmp_path):
    settings = small_run(write_rows(tmp_path / "rows.arrow"), tmp_path / "run", freeze=["generator"])
    Pretraining(settings, CPU)
    first = replace(settings, model=replace(settings.model, generator_first=0.5))
    with pytest.raises(InputError, match="--generator_first 0"):
        Pretraining(first, CPU)
    # Where the discriminator alone learns, a preset's share means nothing.
    Pretraining(replace(first, model=replace(first.model, objective="discriminator")), CPU)


def test_a_masking_schedule_is_laid_over_all_steps_of_the_run(tmp_path):
    features = write_rows(tmp_path / "rows.arrow")
    lines = ["0: max_span_len=1 whole_words=false", "0.5: mask_ratio=0.4"]
    loader = LoaderConfig(9, masking_schedule=lines)
    settings = small_run(features, tmp_path / "run", loader=loader, gradient_accumulation_steps=2)
    experiment = Pretraining(settings, CPU)  # 54 rows: 6 batches are 3 steps an epoch, 9 in all
    epochs = [experiment.train_batches(epoch, 0) for epoch in range(3)]
    assert [batches.phase_N.tolist() for batches in epochs] == [[0] * 6, [0, 0, 1, 1, 1, 1], [1] * 6]
    assert epochs[0].schedule.maskings[0] == MaskingConfig(0.2, 1, 0.2, whole_words=False)
    assert epochs[0].schedule.maskings[1] == MaskingConfig(0.4)
    unscheduled = Pretraining(replace(settings, train_loader=LoaderConfig(9)), CPU)
    for run, ends_with in ((experiment, MaskingConfig(0.4)), (unscheduled, MaskingConfig(0.2))):
        assert run.metadata()["masking_law"] == ends_with.chosen()


def test_the_generator_learns_alone_for_its_share_of_all_steps(tmp_path):
    features = write_rows(tmp_path / "rows.arrow")
    settings = small_run(features, tmp_path / "run", loader=LoaderConfig(9, spelling_noise=0.5))
    settings = replace(settings, model=replace(settings.model, generator_first=0.5))
    experiment = Pretraining(settings, CPU)  # 54 rows: 6 steps an epoch, 18 in all
    alone = [[batch.generator_alone for batch in experiment.train_batches(epoch, 0)] for epoch in range(3)]
    assert alone == [[True] * 6, [True] * 3 + [False] * 3, [False] * 6]
    assert experiment.train_batches(2, 0).build(0).misspelt_BL is not None
    one_network = replace(
        settings,
        model=replace(settings.model, objective="generator"),
        training=replace(settings.training, monitor="generator_accuracy"),
    )
    batches = Pretraining(one_network, CPU).train_batches(0, 0)  # a preset's share means nothing there
    assert not any(batch.generator_alone for batch in batches)
    assert batches.build(0).misspelt_BL is None, "errors are for a discriminator to find"


def test_noise_that_misspells_nothing_is_told(tmp_path, monkeypatch):
    settings = small_run(write_rows(tmp_path / "rows.arrow"), tmp_path / "run")
    settings = replace(settings, train_loader=replace(settings.train_loader, spelling_noise=0.01))
    Pretraining(settings, CPU).train_batches(0, 0)  # where words can be misspelt, nothing is said
    monkeypatch.setattr(Misspeller, "_edited", lambda *_: None)
    with pytest.warns(UserWarning, match="spelling_noise: 0.01 misspells nothing"):
        Pretraining(settings, CPU).train_batches(0, 0)


@pytest.mark.parametrize("longest", [SHORTEST - 1, SHORTEST])
def test_a_share_of_pairs_is_told_where_all_rows_are_too_short(tmp_path, recwarn, longest):
    features = write_rows(tmp_path / "rows.arrow", longest=longest)
    Pretraining(small_run(features, tmp_path / "run", loader=LoaderConfig(8, paired_rows=0.1)), CPU)
    told = ["paired_rows: 0.1 makes no pairs" in str(warning.message) for warning in recwarn]
    assert told == [True] * (longest < SHORTEST)


@pytest.mark.parametrize("sharing", ["auto", "embeddings", "gdes", "none"])
@pytest.mark.parametrize("twins", [False, True])
def test_those_wait_that_get_no_gradient_and_no_others(tmp_path, sharing, twins):
    settings = small_run(write_rows(tmp_path / "rows.arrow"), tmp_path / "run")
    model = replace(settings.model, generator_first=0.5, embedding_sharing=sharing)
    model = replace(model, generator=model.discriminator) if twins else model
    experiment = Pretraining(replace(settings, model=model), CPU)
    learning = {parameter for parameter in experiment.model.parameters() if parameter.requires_grad}
    for epoch in (0, 2):
        experiment.model.zero_grad()
        batch = experiment.train_batches(epoch, 0).build(0)
        experiment.model(batch).loss.backward()
        unused = {weight for weight in learning if weight.grad is None}
        assert unused == set(experiment.unused_parameters(batch))
    assert batch.generator_alone is False


def test_a_validation_is_the_generators_alone_until_the_discriminator_has_learned(tmp_path):
    settings = small_run(write_rows(tmp_path / "rows.arrow"), tmp_path / "run", loader=LoaderConfig(9))
    settings = replace(settings, model=replace(settings.model, generator_first=0.5))

    def validate(epoch, batch, **training):
        training = replace(settings.training, **training)
        experiment = Pretraining(replace(settings, training=training), CPU)
        with torch.no_grad():
            return experiment.validate(lambda: False, epoch, batch, 0)

    before, after = validate(1, 3), validate(1, 4)  # 18 steps: the generator learns alone in the first 9
    assert set(before) == {"loss", "generator_loss", "generator_accuracy"} < set(after)
    assert before["loss"] == pytest.approx(before["generator_loss"], rel=0.1) and after["loss"] > 10
    by_loss = {"monitor": "loss"}
    assert "loss" not in validate(1, 3, **by_loss) and "loss" in validate(1, 4, **by_loss)
    # Of one that has read from left to right alone, that; so it has seen no mask.
    settings = replace(settings, model=replace(settings.model, next_token_share=1.0))
    assert set(validate(1, 3)) == {"loss", "next_token_loss", "next_token_accuracy"}
    assert set(validate(1, 4)) == set(after)


def validation_batches(experiment, monkeypatch):
    """The batches that a validation would read."""
    asked = []
    monkeypatch.setattr(pretraining, "validation_metrics", lambda model, batches, *_: asked.append(batches))
    experiment.validate(lambda: False, 0, 0, 0)
    return asked[0]


def test_validation_follows_the_runs_last_masking(tmp_path, monkeypatch):
    features = write_rows(tmp_path / "rows.arrow")
    loader = LoaderConfig(9, masking_schedule=["0: mask_ratio=0.1", "0.5: mask_ratio=0.4"])
    experiment = Pretraining(small_run(features, tmp_path / "run", loader=loader), CPU)
    experiment.train_batches(0, 0)  # which lays the course
    batches = validation_batches(experiment, monkeypatch)
    assert {batches.schedule.maskings[phase].mask_ratio for phase in batches.phase_N} == {0.4}


def test_compiled_validation_has_the_shapes_of_training(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "compiles", lambda config: True)
    features = write_rows(tmp_path / "rows.arrow")
    loader = LoaderConfig(9, masking_schedule=["0: mask_ratio=0.4", "0.5: mask_ratio=0.1"])
    settings = small_run(features, tmp_path / "run", loader=loader)
    valid = replace(loader, batch_size=4, masking="static", masking_schedule=[])
    experiment = Pretraining(replace(settings, valid_loader=valid, valid_split=(0.4,)), CPU)
    shapes = [
        {(*batch.original_BL.shape, len(batch.slots_S)) for batch in batches}
        for batches in (validation_batches(experiment, monkeypatch), experiment.train_batches(0, 0))
    ]
    assert shapes[0] <= shapes[1]


@pytest.mark.filterwarnings("ignore:.*other rows or masks")
def test_held_out_rows_that_fit_no_batch_are_refused_before_an_epoch_is_trained(tmp_path):
    features = write_rows(tmp_path / "short.arrow", longest=12)
    held_out = write_rows(tmp_path / "long.arrow")
    loader = LoaderConfig(batch_max_tokens=16, workers=0)
    settings = replace(small_run(features, tmp_path / "run", loader=loader), valid_features=(held_out,))
    with pytest.raises(InputError, match="batch_max_tokens: 16 is less than the longest row"):
        Pretraining(settings, Process(torch.device("cpu")))


def test_checkpoints_tell_the_longer_rows_of_what_a_run_starts_from(tmp_path):
    settings = small_run(write_rows(tmp_path / "rows.arrow", longest=12), tmp_path / "run")
    weights, longer = Pretraining(settings, CPU).model.state_dict(), 14
    place = checkpoint.save(tmp_path, 7, weights, {}, {LONGEST: longer})
    for only, longest in ((None, longer), ("generator", 12)):
        started = replace(settings, init_from=str(place), init_only=only)
        assert Pretraining(started, CPU).metadata()[LONGEST] == longest


def test_saving_by_evaluations_needs_rows_to_evaluate(tmp_path):
    features = write_rows(tmp_path / "rows.arrow")
    settings = small_run(features, tmp_path / "run", valid=(0,), save_every="1 evaluation")
    with pytest.raises(InputError, match="save_every: 1 evaluation, but no rows are held out"):
        Pretraining(settings, Process(torch.device("cpu")))


def test_a_metric_that_validations_of_the_objective_lack_is_said_to_choose_nothing(tmp_path, recwarn):
    settings = small_run(write_rows(tmp_path / "rows.arrow"), tmp_path / "run", monitor="discriminator_f1")
    alone = replace(settings, model=replace(settings.model, objective="generator"))
    with pytest.warns(UserWarning, match="objective generator. have no discriminator_f1"):
        Pretraining(alone, CPU)
    recwarn.clear()
    Pretraining(settings, CPU)
    Pretraining(replace(alone, training=replace(alone.training, monitor="generator_loss")), CPU)
    assert not [warning for warning in recwarn if "monitor" in str(warning.message)]


def test_averaging_beside_sbpo_alone_is_said_to_do_nothing(tmp_path, recwarn):
    settings = small_run(write_rows(tmp_path / "rows.arrow"), tmp_path / "run")
    model = replace(settings.model, use_SBPO=True, average_span_predictions=True)
    with pytest.warns(UserWarning, match="has no effect without use_SBGO"):
        Pretraining(replace(settings, model=model), CPU)
    recwarn.clear()
    Pretraining(replace(settings, model=replace(model, use_SBGO=True)), CPU)
    assert not [warning for warning in recwarn if "average" in str(warning.message)]
