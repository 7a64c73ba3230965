"""The door from Python. Run: pytest tests/inference/test_predictor.py"""

import numpy as np
import pytest
import torch
from network_examples import exported

from span_electra.config import ARCHITECTURES
from span_electra.errors import InputError
from span_electra.inference.predictor import Predictor


@pytest.fixture(scope="module", params=ARCHITECTURES)
def opened(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return folder, exported(folder, architecture=request.param)


@torch.no_grad()
def test_vectors_are_means_over_the_text_in_the_order_of_lines(opened):
    folder, model = opened
    predictor = Predictor.from_folder(folder, batch_size=2)
    texts = ["the cat", "", "dogs bark on the mat", "the cat"]
    found = predictor.embed(texts)
    ids = predictor.networks.vocabulary.tokenizer.encode(texts[2]).ids
    states_LD = model.discriminator.encoder(torch.tensor([ids]), None)[0]
    assert np.allclose(found[2], states_LD[1:-1].mean(0), atol=1e-5)
    assert (found.shape, found.dtype) == ((4, 16), np.float32)
    assert not found[1].any() and np.allclose(found[0], found[3], atol=1e-6)
    assert predictor.embed([]).shape == (0, 16)
    assert np.isfinite(predictor.embed(["cat " * 500])).all()


def test_all_tasks_answer_each_line(opened):
    predictor = Predictor.from_folder(opened[0])
    texts = ["the [MASK] sleeps", "", "teh cat"]
    assert [line.text for line in predictor.fill(texts)] == texts
    assert [line.text for line in predictor.detect(texts)] == texts
    assert [line.text for line in predictor.correct(texts)] == texts


def test_one_network_alone_does_what_it_can(opened):
    alone = Predictor.from_folder(opened[0] / "generator")
    assert alone.embed(["the cat"]).shape == (1, 8)
    assert alone.fill(["the [MASK]"])[0].blanks
    with pytest.raises(InputError, match="needs a discriminator"):
        alone.correct(["the cat"])
