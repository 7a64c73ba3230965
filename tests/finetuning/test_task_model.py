"""Fine-tuned networks opened from runs and checkpoints. Run: pytest tests/finetuning/test_task_model.py"""

import json

import pytest
import torch
from network_examples import exported, vocabulary_of_words
from predictor_examples import TASKS, finetuned, spec_of

from span_electra.errors import InputError
from span_electra.finetuning.task_model import load_task_model


def test_a_run_and_its_checkpoint_give_the_network_and_its_tasks(tmp_path):
    finetuned(tmp_path)
    run, place = load_task_model(tmp_path), load_task_model(tmp_path / "checkpoints/step-00000001")
    assert run.specs == place.specs == tuple(spec_of(name) for name in TASKS)
    assert run.vocabulary.sha256 == vocabulary_of_words().sha256
    for name, weight in run.network.state_dict().items():
        assert torch.equal(weight, place.network.state_dict()[name])


@pytest.mark.parametrize("damage", [{"heads": [{"kind": "sequence"}]}, {"recipes": None}, {"model": {}}])
def test_what_describes_no_fine_tuned_model_is_refused(damage, tmp_path):
    finetuned(tmp_path)
    meta = tmp_path / "checkpoints/step-00000001/meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | damage))
    with pytest.raises(InputError, match="step-00000001.*describes no.* model of ours"):
        load_task_model(tmp_path)


def test_a_pretrained_model_is_none(tmp_path):
    exported(tmp_path)
    with pytest.raises(InputError, match="no run of fine-tuning; name a folder that finetune_SE.py made"):
        load_task_model(tmp_path)
