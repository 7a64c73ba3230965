"""A generator that also predicts each next token: which steps, what it sees, what is counted, exact resume.

Run: pytest tests/pretraining/test_next_tokens.py
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model_examples import small_config
from run_examples import assert_resumed_is_straight, lines_of, small_run, write_rows

from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.features.store import open_features
from span_electra.model.batch import TALLY
from span_electra.model.electra import SpanElectra
from span_electra.pretraining.course import Course
from span_electra.pretraining.data import open_data, sized_model, token_counts
from span_electra.pretraining.experiment import Pretraining, build_model, run_pretraining
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.next_tokens import Candidates, candidates_of, evenly
from span_electra.training.devices import Process

CAUSAL = Course(alone_until=99, next_token_share=1.0)
PACKED = LoaderConfig(batch_max_tokens=120, pack_rows=True, workers=0)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("features") / "rows.arrow")


def hybrid_run(features, folder, share=0.5, **more):
    settings = small_run(features, folder, **more)
    return replace(settings, model=replace(settings.model, generator_first=0.5, next_token_share=share))


@pytest.mark.parametrize("share", [0.0, 1 / 3, 0.5, 0.75, 1.0])
def test_steps_of_a_share_are_spread_evenly(share):
    chosen_N = evenly(np.arange(1200), share)
    assert chosen_N.sum() == pytest.approx(1200 * share, abs=1)
    assert all(abs(part.sum() - 100 * share) <= 1 for part in np.split(chosen_N, 12))


def test_they_are_steps_of_the_generator_alone_and_the_others_are_as_before(features, tmp_path):
    loader = LoaderConfig(9)
    experiment = Pretraining(
        hybrid_run(features, tmp_path, loader=loader), Process(torch.device("cpu"))
    )  # 54 rows: 6 steps an epoch, 18 in all, of which the generator has 9 alone
    epochs = [list(experiment.train_batches(epoch, 0)) for epoch in range(3)]
    causal = [[batch.causal for batch in epoch] for epoch in epochs]
    assert causal == [[False, True] * 3, [False, True, False] + [False] * 3, [False] * 6]
    plain = Pretraining(hybrid_run(features, tmp_path, 0.0, loader=loader), Process(torch.device("cpu")))
    for ours, theirs in zip(epochs[0], plain.train_batches(0, 0), strict=True):
        assert torch.equal(ours.original_BL, theirs.original_BL)
        assert ours.causal or torch.equal(ours.slots_S, theirs.slots_S)


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("shapes", ["static_shapes", "rounded_shapes"])
@pytest.mark.parametrize("config", [LoaderConfig(8), PACKED])
def test_every_token_but_a_rows_last_predicts_once(features, config, world, shapes):
    opened, found = open_features(features), 0
    for rank in range(world):
        for batch in Batches(opened, config, 1, rank=rank, world=world, course=CAUSAL, **{shapes: True}):
            slots_S = batch.slots_S[batch.slot_weight_S > 0]
            assert len(slots_S.unique()) == len(slots_S)
            lengths_B = opened.lengths_R[batch.rows_B.numpy()]
            assert len(slots_S) == (lengths_B - 1).sum()
            # Each row's first token is predicted by none, whatever stands before it in the line.
            flat_T = batch.original_BL.flatten()
            assert not (flat_T[slots_S + 1] == flat_T[0]).any()
            found += len(slots_S)
    assert found == (np.asarray(opened.lengths_R) - 1).sum()


@pytest.mark.parametrize("config", [LoaderConfig(8, workers=0), PACKED])
def test_the_loss_is_that_of_each_row_read_from_left_to_right(features, tmp_path, config, architecture):
    settings = small_run(features, tmp_path, dropout=0.0)
    # Weights as small as those that training starts from would hide what a token sees.
    settings = replace(settings, model=replace(settings.model, initializer_range=0.5))
    model = build_model(settings, open_data(settings)).eval()
    opened, generator = open_features(features), model.generator
    nats = correct = 0.0
    batch = Batches(opened, config, 1, course=CAUSAL).build(0)
    for row in batch.rows_B.tolist():
        ids_1L = torch.from_numpy(opened.gather(np.array([row]), int(opened.lengths_R[row])))
        # Prefix by prefix, each read as a whole row: nothing that comes later can have been seen.
        for end in range(1, ids_1L.shape[1]):
            states_1LD = generator.encoder(ids_1L[:, :end], None, causal=True)
            features_1D = generator.head.features(states_1LD[:, -1])
            logits_1V = generator.encoder.decode(features_1D, generator.head.bias)
            nats += F.cross_entropy(logits_1V, ids_1L[:, end]).item()
            correct += (logits_1V.argmax(-1) == ids_1L[:, end]).item()
    output = model(batch)
    tally = dict(zip(TALLY, output.tally.tolist(), strict=True))
    predicted = (opened.lengths_R[batch.rows_B.numpy()] - 1).sum()
    assert tally["next_tokens"] == predicted == batch.masked_total.item()
    assert tally["next_token_loss"] == pytest.approx(nats, rel=1e-5)
    assert tally["next_token_correct"] == correct
    assert tally["masked"] == tally["tokens"] == 0
    assert output.loss.item() == pytest.approx(nats / predicted, rel=1e-5)


def test_shares_of_processes_add_up(features, tmp_path, architecture):
    settings = small_run(features, tmp_path, dropout=0.0)
    model = build_model(settings, open_data(settings)).eval()
    opened, config = open_features(features), LoaderConfig(8, workers=0)
    whole = model(Batches(opened, config, 1, course=CAUSAL).build(0))
    ranks = [model(Batches(opened, config, 1, rank=rank, world=2, course=CAUSAL).build(0)) for rank in (0, 1)]
    torch.testing.assert_close(sum(share.loss for share in ranks), whole.loss)
    torch.testing.assert_close(sum(share.tally for share in ranks), whole.tally)


CANDIDATES = {"next_token_candidates": 12}


def with_candidates(features, folder, **more):
    settings = hybrid_run(features, folder, **more)
    return replace(settings, model=replace(settings.model, **CANDIDATES))


def test_candidates_are_the_commonest_and_others_that_stand_for_the_rest(features, tmp_path):
    settings = with_candidates(features, tmp_path)
    data = open_data(settings)
    config = sized_model(settings.model, data)
    candidates = candidates_of(config, data)
    counts_V = token_counts(data, rows=32768)
    assert candidates.order_V[0] == data.train.header.sep_id, "what every row ends with"
    assert sorted(candidates.order_V) == list(range(config.vocab_size))
    assert (np.diff(counts_V[candidates.order_V[1:]]) <= 0).all()
    drawn = [candidates.draw(0, epoch, number) for epoch in range(2) for number in range(50)]
    for found in drawn:
        assert len(set(found["candidate_K"].tolist())) == 12
        assert np.exp(found["log_count_K"]).sum() == pytest.approx(config.vocab_size)
    always = set.intersection(*(set(found["candidate_K"].tolist()) for found in drawn))
    assert always == set(candidates.order_V[:7].tolist())
    assert set().union(*(set(found["candidate_K"].tolist()) for found in drawn)) == set(candidates.order_V)
    again = candidates.draw(0, 1, 49)["candidate_K"]
    assert (again == drawn[-1]["candidate_K"]).all() and (again != drawn[-2]["candidate_K"]).any()
    assert (again != candidates.draw(1, 1, 49)["candidate_K"]).any(), "another seed, other candidates"


def test_candidates_are_of_training_from_left_to_right_alone(features, tmp_path):
    experiment = Pretraining(with_candidates(features, tmp_path), Process(torch.device("cpu")))
    for batch in experiment.train_batches(0, 0):
        assert (batch.candidate_K is not None) == batch.causal
    settings = with_candidates(features, tmp_path, share=1.0)
    sampled = Pretraining(settings, Process(torch.device("cpu")))
    plain = Pretraining(hybrid_run(features, tmp_path, 1.0), Process(torch.device("cpu")))
    sampled.model.eval(), plain.model.eval()
    metrics = sampled.validate(lambda: False, 0, 0, 0)  # of next tokens, by the whole vocabulary
    assert "next_token_loss" in metrics and metrics == plain.validate(lambda: False, 0, 0, 0)


def test_candidates_are_told_where_they_are_fewer_than_the_vocabulary(features, tmp_path):
    settings = with_candidates(features, tmp_path)
    for size, said in ((12, "(among 12 candidates)"), (2500, None)):
        settings = replace(settings, model=replace(settings.model, next_token_candidates=size))
        masks = Pretraining(settings, Process(torch.device("cpu"))).describe()["masks"]
        assert masks.endswith(said or "from left to right")


def test_processes_draw_the_same_candidates(features):
    opened, candidates = open_features(features), Candidates(np.arange(40), 12)
    shares = [
        Batches(opened, LoaderConfig(8), 1, rank=rank, world=2, candidates=candidates, course=CAUSAL).build(3)
        for rank in (0, 1)
    ]
    assert torch.equal(shares[0].candidate_K, shares[1].candidate_K)


def test_as_many_candidates_as_tokens_are_the_whole_vocabulary(features, tmp_path):
    settings = with_candidates(features, tmp_path)
    settings = replace(settings, model=replace(settings.model, next_token_candidates=10**6))
    data = open_data(settings)
    assert candidates_of(sized_model(settings.model, data), data) is None


def test_candidates_without_a_choice_or_a_use_are_refused(features, tmp_path):
    settings = with_candidates(features, tmp_path)
    for changed, message in (
        ({"next_token_share": 0.0}, "next_token_candidates: 12, but no step predicts next tokens; set"),
        ({"next_token_candidates": 1}, "next_token_candidates: 1 is no choice; give more, or 0"),
    ):
        refused = replace(settings, model=replace(settings.model, **changed))
        with pytest.raises(InputError, match=message):
            Pretraining(refused, Process(torch.device("cpu")))


@pytest.mark.parametrize("use_SBGO", [False, True])
def test_those_wait_that_get_no_gradient_and_no_others(features, tmp_path, use_SBGO):
    settings = hybrid_run(features, tmp_path, 0.9)
    settings = replace(settings, model=replace(settings.model, use_SBGO=use_SBGO))
    experiment = Pretraining(settings, Process(torch.device("cpu")))
    batch = experiment.train_batches(0, 0).build(1)
    assert batch.causal
    experiment.model(batch).loss.backward()
    learning = {parameter for parameter in experiment.model.parameters() if parameter.requires_grad}
    assert {weight for weight in learning if weight.grad is None} == set(experiment.unused_parameters(batch))


@pytest.mark.parametrize("candidates", [0, 12])
@pytest.mark.parametrize("objective", ["joint", "generator"])
def test_stopped_and_resumed_is_never_stopped(
    features, tmp_path, monkeypatch, architecture, objective, candidates
):
    def run(name, **more):
        more |= {"gradient_accumulation_steps": 2, "monitor": "generator_accuracy"}
        settings = hybrid_run(features, tmp_path / name, **more)
        asked = {"objective": objective, "next_token_candidates": candidates}
        return run_pretraining(replace(settings, model=replace(settings.model, **asked)))

    assert_resumed_is_straight(run, tmp_path, monkeypatch, step=2)
    assert any("next_token_loss" in line and "generator_loss" in line for line in lines_of(tmp_path / "a"))


def test_it_learns_to_predict(features, tmp_path):
    run_pretraining(hybrid_run(features, tmp_path, 0.9, epochs=30))
    told = [line["next_token_loss"] for line in lines_of(tmp_path) if "next_token_loss" in line]
    assert told[-1] < 0.9 * told[0]


def test_a_share_of_no_steps_is_refused():
    with pytest.raises(InputError, match="next_token_share: applies only while .* set generator_first"):
        small_config(next_token_share=0.5)
    with pytest.raises(InputError, match="next_token_share: 1.1 is no share"):
        small_config(next_token_share=1.1, generator_first=0.5)
    with pytest.raises(InputError, match="no step that learns masked tokens"):
        small_config(next_token_share=1.0, objective="generator")
    assert SpanElectra(small_config(next_token_share=1.0, generator_first=0.5), mask_id=3)
    assert SpanElectra(small_config(next_token_share=0.5, objective="generator"), mask_id=3)
