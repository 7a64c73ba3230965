"""What an export says of the mean of its tokens is what sentence-transformers makes of it.

Run: pytest tests/finetuning/test_mean_pooling.py
"""

import json

import pytest
import torch
import torch.nn.functional as F
from model_examples import small_config
from network_examples import vocabulary_of_words

from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.export import export_task
from span_electra.finetuning.task import Task
from span_electra.finetuning.turns import join_turns
from span_electra.model.multi_task import HeadConfig, TaskNetwork

TEXTS = ["The cat sleeps on the mat.", "dogs", "undo the CATS and bark"]
LONGEST = 24


@pytest.fixture
def exported(tmp_path, architecture):
    """A network with weights away from their start, and its export."""
    vocabulary = vocabulary_of_words()
    config = small_config(vocab_size=vocabulary.size, layer_norm_eps=1e-5)
    network = TaskNetwork(config, (HeadConfig("similarity", 0),)).eval()
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=dice) * 0.3)
    spec = TaskSpec(Task("near", "ResponseRetrieval", {}), (), LONGEST)
    return network, export_task(network, 0, spec, vocabulary, tmp_path / "out")


def test_every_module_is_named_with_its_folder(exported):
    network, folder = exported
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["idx"] for module in modules] == [0, 1, 2]
    assert all((folder / module["path"]).is_dir() for module in modules)
    pooling = json.loads((folder / modules[1]["path"] / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == network.config.discriminator.hidden_size
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == LONGEST
    assert "SentenceTransformer(" in (folder / "README.md").read_text()


@torch.no_grad()
def test_sentence_transformers_makes_our_vectors(exported):
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    network, folder = exported
    model, vocabulary = library.SentenceTransformer(str(folder), device="cpu"), vocabulary_of_words()
    assert model.max_seq_length == LONGEST
    for text, theirs in zip(TEXTS, model.encode(TEXTS), strict=True):
        ids = vocabulary.tokenizer.encode(text, add_special_tokens=False).ids
        row = join_turns([ids], vocabulary.sep_id, LONGEST, open_ended=True)
        states_1LD = network.encoder(torch.tensor([row.ids]), None, types_BL=torch.tensor([row.types]))
        ours = F.normalize(states_1LD.mean(1), dim=-1)[0]
        assert (torch.from_numpy(theirs) - ours).abs().max() <= 1e-5
