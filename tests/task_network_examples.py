"""Networks with heads of tasks, their rows and logits, for the tests of what is exported of them."""

from __future__ import annotations

import torch
from model_examples import small_config
from network_examples import away_from_start, vocabulary_of_words

from span_electra.finetuning.encoding import TaskSpec, encode_examples
from span_electra.finetuning.readers import Example
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_types import TASK_TYPES
from span_electra.finetuning.turns import join_turns
from span_electra.model.multi_task import HeadConfig, TaskBatch, TaskNetwork

VOCABULARY = vocabulary_of_words()
TAGS = ("O", "B-PET", "I-PET", "B-ACT")
LABELS = {
    "SingleSenClassification": ("bad", "good", "so so"),
    "SentencePairClassification": ("no", "yes"),
    "NER": TAGS,
    "MultiLabelClassification": ("calm", "loud", "soft"),
    "SpellingWords": ("0", "1"),
    "SpellingSequence": ("0", "1"),
}
TEXTS = ["The cat sleeps on the mat.", "dogs", "undo the CATS and bark"]
PAIRS = [(TEXTS[0], "dogs bark"), (TEXTS[1], TEXTS[2]), (TEXTS[2], "")]


def spec_of(task_type, lowercase=False):
    return TaskSpec(Task("t", task_type, {}), LABELS.get(task_type, ()), 32, lowercase)


def network_of(*task_types, seed=0, vocab_size=VOCABULARY.size):
    """A network whose every weight is away from its start, with a head for each type."""
    heads = []
    for task_type in task_types:
        record = TASK_TYPES[task_type]
        heads.append(HeadConfig(record.head, record.outputs(LABELS.get(task_type, ())), dropout=0.25))
    config = small_config(vocab_size=vocab_size, layer_norm_eps=1e-5)
    return away_from_start(TaskNetwork(config, tuple(heads), seed).eval(), seed)


def batch_of(ids_BL, types_BL=None, attention_mask_BL=None, task=0):
    """Rows without targets."""
    nothing = torch.zeros(0)
    unasked = {"targets": nothing, "target_total": nothing, "rows_B": nothing}
    return TaskBatch(task, ids_BL, types_BL, attention_mask_BL, **unasked)


def row_of(vocabulary, spec, text):
    """The ids and types of our own row of a text, of a pair or of turns."""
    if spec.type.in_turns:
        turns = [vocabulary.tokenizer.encode(turn, add_special_tokens=False).ids for turn in text]
        unpadded = join_turns(turns, vocabulary.sep_id, 32, open_ended=len(turns) == 1)
        return unpadded.ids, unpadded.types
    words = tuple(text[0].split()) if spec.type.by_word else None
    row = encode_examples(vocabulary, spec, [Example("1", text, words)])[0]
    return row["input_ids"], row["token_type_ids"]


@torch.no_grad()
def ours_of(network, spec, texts, task=0):
    """Our own rows of texts, one by one without padding, and their logits."""
    found = []
    for text in texts:
        ids, types = row_of(VOCABULARY, spec, (text,) if isinstance(text, str) else text)
        ids_1L, types_1L = torch.tensor([ids]), torch.tensor([types])
        batch = batch_of(ids_1L, types_1L, task=task)
        found.append((ids_1L[0], types_1L[0], network.logits(batch)[0]))
    return found
