"""One task of a fine-tuned network -> a folder that stock `transformers` opens, with tokenizer and labels.

Which stock class holds it, its type's record says (`stock_head`): ...ForSequenceClassification,
...ForTokenClassification, ...ForPreTraining (ELECTRA's own head: is this token wrong?) or ...ForCausalLM.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, processors
from torch import Tensor, nn

from span_electra.finetuning.encoding import TaskSpec
from span_electra.hub.export import OURS, check_free, stock_config
from span_electra.hub.weights import stock_weights
from span_electra.model.multi_task import TaskNetwork
from span_electra.storage import atomic_folder
from span_electra.text.vocabulary import Vocabulary, save_transformers_tokenizer

# Stock classes by `TaskType.stock_head`.
CLASS_OF = {
    "sequence": "ElectraForSequenceClassification",
    "tokens": "ElectraForTokenClassification",
    "replaced": "ElectraForPreTraining",
    "causal": "ElectraForCausalLM",
}
# The heads' modules by their stock names; `generator` and `discriminator` heads are in transfer/weights.py.
HEADS = {
    "sequence": {"dense": "classifier.dense", "score": "classifier.out_proj"},
    "tokens": {"score": "classifier"},
}

# How a text and a pair are framed, with token types. Of turns (tasks/turns.py) a text is a question that an
# answer is to follow, a pair a question with its answer, whose type is OWN_VOICE.
SENTENCES = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
TURNS = ("[SEP]:0 $A:0 [SEP]:1", "[SEP]:0 $A:0 [SEP]:1 $B:1 [SEP]:0")


def export_task(
    network: TaskNetwork, task: int, spec: TaskSpec, vocabulary: Vocabulary, folder: str | Path
) -> Path:
    """Write the network with the head of one task; an earlier export of ours is replaced.

    Raises InputError for any other folder in the way.
    """
    folder = Path(folder)
    check_free(folder)
    with atomic_folder(folder) as beside:
        config = json.dumps(task_config(network, task, spec, vocabulary), indent=2)
        (beside / "config.json").write_text(config + "\n", encoding="utf-8")
        # transformers refuses a file that does not say which framework's tensors it holds.
        save_file(
            task_weights(network, task, spec.type.stock_head),
            beside / "model.safetensors",
            metadata={"format": "pt"},
        )
        save_transformers_tokenizer(tokenizer_of(vocabulary, spec), beside, spec.max_seq_len)
    return folder


def task_config(network: TaskNetwork, task: int, spec: TaskSpec, vocabulary: Vocabulary) -> dict:
    """The config.json of one task."""
    head = network.tasks[task]
    config = stock_config(network.config, "discriminator", vocabulary.pad_id)
    config["architectures"] = [CLASS_OF[spec.type.stock_head]]
    config[OURS] = {"task": spec.task.name, "task_type": spec.task.task_type}
    config["classifier_dropout"] = head.dropout
    if spec.type.problem_type:
        config["problem_type"] = spec.type.problem_type
    if spec.type.stock_head == "causal":
        config["is_decoder"] = True
        # A separator stands before the first turn and after each: `generate` ends with the turn.
        config["bos_token_id"] = config["eos_token_id"] = vocabulary.sep_id
    elif spec.type.stock_head != "replaced":
        names = spec.labels or ("score",)
        config["id2label"] = {str(number): name for number, name in enumerate(names)}
        config["label2id"] = {name: number for number, name in enumerate(names)}
    return config


def tokenizer_of(vocabulary: Vocabulary, spec: TaskSpec) -> Vocabulary:
    """The vocabulary with a tokenizer that gives a text or pair the very row the task was trained on."""
    tokenizer = Tokenizer.from_str(vocabulary.to_json())
    if spec.lowercase:
        folding = [normalizers.Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])]
        tokenizer.normalizer = normalizers.Sequence(folding)
    single, pair = TURNS if spec.type.in_turns else SENTENCES
    special = [("[CLS]", vocabulary.cls_id), ("[SEP]", vocabulary.sep_id)]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    return Vocabulary(tokenizer, vocabulary.kind)


class Joined(nn.Module):
    """An encoder and one of its heads, as one network of transfer/weights.py."""

    def __init__(self, encoder: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head


def task_weights(network: TaskNetwork, task: int, stock_head: str) -> dict[str, Tensor]:
    """The encoder's and one head's weights under stock names."""
    head, part = network.heads[task], {"replaced": "discriminator", "causal": "generator"}.get(stock_head)
    if part:
        return stock_weights(Joined(network.encoder, head), part)
    weights = stock_weights(Joined(network.encoder, None), "none")
    for ours, theirs in HEADS[stock_head].items():
        for name, weight in getattr(head, ours).state_dict().items():
            weights[f"{theirs}.{name}"] = weight.detach().cpu().float().clone()
    return weights
