"""One task of a fine-tuned network -> a folder that stock `transformers` opens, with tokenizer and labels.

sequence, several, number, ranking   AutoModelForSequenceClassification
tokens                               AutoModelForTokenClassification
replaced                             AutoModelForPreTraining (ELECTRA's own head: is this token wrong?)
language                             AutoModelForCausalLM
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from span_electra.data.vocabulary import Vocabulary, save_transformers_tokenizer
from span_electra.model.task_network import TaskNetwork
from span_electra.tasks.encoding import Recipe
from span_electra.transfer.export import OURS, stock_config, written_beside
from span_electra.transfer.weights import stock_weights

CLASS_OF = {
    "sequence": "ElectraForSequenceClassification",
    "several": "ElectraForSequenceClassification",
    "number": "ElectraForSequenceClassification",
    "ranking": "ElectraForSequenceClassification",
    "tokens": "ElectraForTokenClassification",
    "replaced": "ElectraForPreTraining",
    "language": "ElectraForCausalLM",
}
PROBLEM_OF = {
    "sequence": "single_label_classification",
    "several": "multi_label_classification",
    "number": "regression",
    "ranking": "regression",
}
# The heads' modules by their stock names; `generator` and `discriminator` heads are in transfer/weights.py.
HEADS = {
    "ElectraForSequenceClassification": {"dense": "classifier.dense", "score": "classifier.out_proj"},
    "ElectraForTokenClassification": {"score": "classifier"},
}


def export_task(
    network: TaskNetwork, task: int, recipe: Recipe, vocabulary: Vocabulary, folder: str | Path
) -> Path:
    """Write the network with the head of one task; an earlier export of ours is replaced.

    Raises InputError for any other folder in the way.
    """
    with written_beside(Path(folder)) as beside:
        config = task_config(network, task, recipe, vocabulary.pad_id)
        Path(beside, "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        weights = task_weights(network, task)
        save_file(weights, Path(beside, "model.safetensors"), metadata={"format": "pt"})
        save_transformers_tokenizer(vocabulary, beside, recipe.max_seq_len)
    return Path(folder)


def task_config(network: TaskNetwork, task: int, recipe: Recipe, pad_id: int) -> dict:
    """The config.json of one task."""
    head = network.tasks[task]
    config = stock_config(network.config, "discriminator", pad_id)
    config["architectures"] = [CLASS_OF[head.kind]]
    config[OURS] = {"task": recipe.task.name, "task_type": recipe.task.task_type}
    config["classifier_dropout"] = head.dropout
    if head.kind in PROBLEM_OF:
        config["problem_type"] = PROBLEM_OF[head.kind]
    if head.kind == "language":
        config["is_decoder"] = True
    elif head.kind != "replaced":
        names = recipe.labels or ("score",)
        config["id2label"] = {str(number): name for number, name in enumerate(names)}
        config["label2id"] = {name: number for number, name in enumerate(names)}
    return config


class Joined(nn.Module):
    """An encoder and one of its heads, as one network of transfer/weights.py."""

    def __init__(self, encoder: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head


def task_weights(network: TaskNetwork, task: int) -> dict[str, Tensor]:
    """The encoder's and one head's weights under stock names."""
    kind, head = network.tasks[task].kind, network.heads[task]
    part = {"replaced": "discriminator", "language": "generator"}.get(kind)
    if part:
        return stock_weights(Joined(network.encoder, head), part)
    weights = stock_weights(Joined(network.encoder, None), "none")
    for ours, theirs in HEADS[CLASS_OF[kind]].items():
        for name, weight in getattr(head, ours).state_dict().items():
            weights[f"{theirs}.{name}"] = weight.detach().cpu().float().clone()
    return weights
