"""A pretrained encoder comes whole, bit for bit, from every kind of folder, and from no broken one.

Run: pytest tests/finetuning/test_take_pretrained.py
"""

import json
import warnings
from dataclasses import asdict, replace

import pytest
import torch
from model_examples import small_config
from network_examples import exported, random_model, vocabulary_of_words
from safetensors.torch import load_file, save_file

from span_electra.errors import InputError
from span_electra.finetuning.task_model import take_pretrained
from span_electra.hub.electra import ELECTRA
from span_electra.hub.opening import config_of, open_model
from span_electra.hub.runs import best_checkpoint
from span_electra.hub.tokenizer import save_tokenizer
from span_electra.hub.weights import Joined, our_weights, stock_weights
from span_electra.model.multi_task import HeadConfig, TaskNetwork
from span_electra.training import checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers  # its import warns of things that are not ours

TASKS = tuple(HeadConfig(kind, outputs) for kind, outputs in (
    ("sequence", 2), ("replaced", 1), ("language", 0), ("tokens", 3)))  # fmt: skip


def with_heads(pretrained, seed=1):
    """A network that starts at `seed`, with what is pretrained taken."""
    network = TaskNetwork(pretrained.config, TASKS, seed)
    take_pretrained(network, pretrained)
    return network


def check(pretrained, weights):
    """The network's encoder is what stands in `weights`, under our names; returns the network."""
    network = with_heads(pretrained)
    for name, weight in network.encoder.state_dict().items():
        assert torch.equal(weight, weights[f"encoder.{name}"]), name
    start = TaskNetwork(pretrained.config, TASKS, 1)
    untouched = [number for number, task in enumerate(TASKS) if task.kind in ("sequence", "tokens")]
    for number in untouched:
        for one, other in zip(
            network.heads[number].parameters(), start.heads[number].parameters(), strict=True
        ):
            assert torch.equal(one, other), "a head that is no pretrained one keeps its start"
    return network


def taken(network, seed=1):
    """Which heads are not at their start any more."""
    start = TaskNetwork(network.config, TASKS, seed)
    return [
        task.kind
        for task, head, other in zip(TASKS, network.heads, start.heads, strict=True)
        if any(not torch.equal(a, b) for a, b in zip(head.parameters(), other.parameters(), strict=True))
    ]


def pretraining_run(folder, **changes):
    """The files of a run of pretraining that are read, with a random model in them."""
    model = random_model(**changes)
    meta = {"model": asdict(model.config), "mask_id": model.mask_id, "metric": None}
    checkpoint.save(folder, 7, model.state_dict(), {}, meta)
    (folder / "tokenizer.json").write_text(vocabulary_of_words().to_json())
    return model


def finetuned_run(folder, scores=(None,), **training):
    """A run of fine-tuning with a checkpoint for each score; returns the networks."""
    config = small_config(vocab_size=vocabulary_of_words().size)
    networks = []
    for step, score in enumerate(scores, start=1):
        network = TaskNetwork(config, TASKS, seed=step)
        meta = {"model": asdict(config), "heads": [asdict(task) for task in TASKS], "metric": score}
        meta["training"] = training
        checkpoint.save(folder, step, network.state_dict(), {}, meta)
        networks.append(network)
    (folder / "tokenizer.json").write_text(vocabulary_of_words().to_json())
    return networks


MODERN = {"architecture": "modern", "layer_norm_eps": 1e-5}
EQUAL = {"generator": small_config().discriminator, "embedding_size": 16}


CHANGES = {
    "gdes": {"embedding_sharing": "gdes"},
    "none": {"embedding_sharing": "none"},
    "one encoder": EQUAL,
    "modern": MODERN,
}


# --- folders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part, head", [("discriminator", "replaced"), ("generator", "language")])
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_runs_and_exports_give_their_network_and_its_head(changes, part, head, tmp_path):
    model = pretraining_run(tmp_path / "run", **changes)
    exported(tmp_path / "out", **changes)
    weights = our_weights(getattr(model, part))
    ids_BL = torch.randint(5, 40, (3, 9))
    own = getattr(model, part)
    folders = [
        tmp_path / "run",
        tmp_path / "run/checkpoints/step-00000007",
        tmp_path / "out",
        tmp_path / "out" / part,
    ]
    for folder in folders:
        pretrained = open_model(folder).need(part)
        assert pretrained.part == part and pretrained.vocabulary.sha256 == vocabulary_of_words().sha256
        network = check(pretrained, weights).eval()
        assert taken(network) == [head]
        states_BLD = own.encoder(ids_BL, None)
        assert torch.allclose(network.encoder(ids_BL, None), states_BLD, atol=1e-5)
        number = [task.kind for task in TASKS].index(head)
        for one, other in zip(network.heads[number].parameters(), own.head.parameters(), strict=True):
            assert torch.equal(one, other)
    assert (
        open_model(tmp_path / "run").need(part).name == "run"
        and open_model(tmp_path / "out" / part).need(part).name == "out"
    )


@pytest.mark.parametrize("name, head", [("ElectraModel", []), ("ElectraForPreTraining", ["replaced"]),
    ("ElectraForMaskedLM", ["language"]), ("ElectraForCausalLM", ["language"]),
    ("ElectraForSequenceClassification", [])])  # fmt: skip
@pytest.mark.parametrize("projected", [False, True])
def test_stock_folders(name, head, projected, tmp_path):
    vocabulary = vocabulary_of_words()
    config = transformers.ElectraConfig(
        vocab_size=vocabulary.size, embedding_size=8 if projected else 16, hidden_size=16,
        num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=32,
        is_decoder=name == "ElectraForCausalLM",
    )  # fmt: skip
    stock = getattr(transformers, name)(config)
    for weight in stock.parameters():
        torch.nn.init.normal_(weight)
    stock.save_pretrained(tmp_path)
    save_tokenizer(vocabulary, tmp_path, 32)
    pretrained = open_model(tmp_path).need("discriminator")
    network = with_heads(pretrained)
    prefix = "" if name == "ElectraModel" else "electra."
    found = stock_weights(Joined(network.encoder, None), ELECTRA, "none")
    for key, weight in stock.state_dict().items():
        if key.startswith("electra.") or not prefix:
            assert torch.equal(found[f"electra.{key.removeprefix('electra.')}"], weight), key
    assert taken(network) == head


def test_a_fine_tuned_run_gives_the_encoder_of_its_best_checkpoint(tmp_path):
    networks = finetuned_run(tmp_path / "tried", [0.3, 0.9, 0.5])
    best = open_model(tmp_path / "tried").need("discriminator")
    assert best.part == "none" and taken(with_heads(best, seed=9), seed=9) == []
    for name, weight in networks[1].encoder.state_dict().items():
        assert torch.equal(best.weights[f"encoder.{name}"], weight)
    networks = finetuned_run(tmp_path / "untried", [None, None])
    assert best_checkpoint(tmp_path / "untried").name == "step-00000002"
    found = with_heads(open_model(tmp_path / "untried").need("discriminator")).encoder.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in networks[1].encoder.state_dict().items())
    named = open_model(tmp_path / "tried/checkpoints/step-00000001").need("discriminator")
    assert not torch.equal(named.weights["encoder.project.weight"], best.weights["encoder.project.weight"])


@pytest.mark.parametrize(
    ("training", "best"),
    [
        ({}, 2),
        ({"monitor": "chat_perplexity"}, 3),
        ({"monitor": "chat_perplexity", "monitor_mode": "max"}, 2),
        ({"monitor": "film_accuracy", "monitor_mode": "min"}, 3),
    ],
)
def test_the_best_checkpoint_is_the_best_by_what_was_monitored(tmp_path, training, best):
    finetuned_run(tmp_path / "run", [0.3, 0.9, 0.1, float("nan")], **training)
    assert best_checkpoint(tmp_path / "run").name == f"step-{best:08}"


# --- what is refused ------------------------------------------------------------------------------------


def refused(folder, text, part="discriminator"):
    with pytest.raises(InputError, match=text) as raised:
        with_heads(open_model(folder).need(part))
    message = str(raised.value)
    assert "\n" not in message and str(folder) in message


def rewrite(folder, change):
    """Change the weights of an exported network."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def resize(folder, **sizes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | sizes))


QUERY = "electra.encoder.layer.1.attention.self.query"
DAMAGES = {
    "lacks electra.embeddings.LayerNorm.bias": lambda place: rewrite(
        place, lambda weights: weights.pop("electra.embeddings.LayerNorm.bias")
    ),
    "lacks discriminator_predictions.dense.bias": lambda place: rewrite(
        place, lambda weights: weights.pop("discriminator_predictions.dense.bias")
    ),
    "another shape than its sisters": lambda place: rewrite(
        place, lambda weights: weights.update({f"{QUERY}.weight": torch.zeros(3, 5)})
    ),
    r"\(24, 16\), the model's is \(20, 16\); its config.json tells other sizes": lambda place: resize(
        place, intermediate_size=20
    ),
    "layer.1.* has no place": lambda place: resize(place, num_hidden_layers=1),
    "lacks electra.encoder.layer.2": lambda place: resize(place, num_hidden_layers=3),
    "its tokenizer has .* tokens, its network 9": lambda place: resize(place, vocab_size=9),
    "layers ours cannot compute": lambda place: resize(place, hidden_act="tanh"),
    "model_type is 'bert'": lambda place: resize(place, model_type="bert"),
    "cannot be read": lambda place: (place / "model.safetensors").write_bytes(b"{}"),
    "no tokenizer.json": lambda place: (place / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("text", DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(text, tmp_path):
    exported(tmp_path)
    DAMAGES[text](tmp_path / "discriminator")
    refused(tmp_path / "discriminator", text)


def test_runs_without_what_is_asked_for_are_refused(tmp_path):
    pretraining_run(tmp_path / "run", objective="generator")
    refused(tmp_path / "run", "trained its generator alone")
    assert open_model(tmp_path / "run").need("generator").part == "generator"
    (tmp_path / "new/checkpoints").mkdir(parents=True)
    refused(tmp_path / "new", "has kept no checkpoint yet")
    refused(tmp_path / "nowhere", "No such file")
    with pytest.raises(InputError, match="no whole checkpoint"):
        best_checkpoint(tmp_path / "new")


def test_an_encoder_that_is_not_whole_changes_nothing(tmp_path):
    exported(tmp_path)
    pretrained = open_model(tmp_path).need("discriminator")
    weights = dict(pretrained.weights)
    weights.pop("encoder.layers.1.down_norm.bias")
    network = TaskNetwork(pretrained.config, TASKS)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    with pytest.raises(InputError, match="lacks encoder.layers.1.down_norm.bias"):
        take_pretrained(network, replace(pretrained, weights=weights))
    weights = pretrained.weights | {"head.score.bias": torch.zeros(3)}
    with pytest.raises(InputError, match=r"head.score.bias is \(3,\)"):
        take_pretrained(network, replace(pretrained, weights=weights))
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


@pytest.mark.parametrize("described", [None, {}, {"generator": 3}, {"generator": {"size": 1}}])
def test_what_describes_no_model_is_refused(described):
    with pytest.raises(InputError, match="here/meta.json: describes no model of ours"):
        config_of(described, "here/meta.json")
