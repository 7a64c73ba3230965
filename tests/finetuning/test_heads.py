"""Heads of a saved model in another run. Run: pytest tests/finetuning/test_heads.py"""

from dataclasses import replace

import pytest
import torch
from finetune_examples import settings_of, write_task

from argument import FinetuneArgs
from span_electra.compose import compose, config_file
from span_electra.config import OptimizerConfig
from span_electra.finetuning.stage import finetune
from span_electra.finetuning.task_model import load_task_model

SINGLE = "SingleSenClassification"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Prepared data go into the current folder."""
    monkeypatch.chdir(tmp_path)


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_saved_model_gives_its_encoder_or_also_the_heads_of_tasks_of_the_same_name(tmp_path):
    kept, other = write_task(tmp_path, SINGLE, "kept"), write_task(tmp_path, SINGLE, "other")
    assert finetune(settings_of(tmp_path, {"kept": kept, "other": other})) == 0
    saved = load_task_model("run").network
    tasks = {"new": other, "kept": kept}
    frozen = {"optimizer": OptimizerConfig(lr=0.0), "load_saved_model": "run", "epochs": 1}
    assert finetune(settings_of(tmp_path, tasks, out_dir="both", **frozen)) == 0
    assert finetune(settings_of(tmp_path, tasks, out_dir="encoder", finetune=True, **frozen)) == 0
    both, encoder = (load_task_model(folder).network for folder in ("both", "encoder"))
    for network in (both, encoder):
        assert_same_bits(saved.encoder.state_dict(), network.encoder.state_dict())
    assert_same_bits(saved.heads[0].state_dict(), both.heads[1].state_dict())
    assert not torch.equal(saved.heads[0].score.weight, encoder.heads[1].score.weight)
    assert not torch.equal(saved.heads[1].score.weight, both.heads[0].score.weight)
    # As the command says that a stop prints: by the run's own file, which forgets what the run began from.
    saved = compose(FinetuneArgs, [config_file("encoder/config.json")])
    assert finetune(replace(saved, load_saved_model="encoder", resume_train=True, epochs=2)) == 0
