"""The model card of an exported task: the code that reads a text as in training, and what to know of it.

What all cards have (the block for hubs, sizes, metrics, limits) is hub/model_card.py's.
"""

from __future__ import annotations

import json

from span_electra.config import ModelConfig
from span_electra.finetuning.decoding import OUTSIDE, legal_orders
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.turns import usual_reply
from span_electra.hub.architecture import Architecture
from span_electra.hub.model_card import CardFacts, closing_sections, front_matter, pipeline_of
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import CJK_MARKS, WITHOUT_BLANKS

_PIPELINE = """from transformers import pipeline

answer = pipeline("{pipeline}", model="path/to/this/folder")
"""
_CLASSES = """from transformers import AutoTokenizer, {stock_class}

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
model = {stock_class}.from_pretrained("path/to/this/folder")"""
_USE = {
    "class": _CLASSES,
    "task": _PIPELINE + 'answer("The quick brown fox jumps over the lazy dog.")',
    "text": _PIPELINE + 'answer("The quick brown fox jumps over the lazy dog.", truncation=True)',
    "words": """import re
from bisect import bisect

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
model = AutoModelForTokenClassification.from_pretrained("path/to/this/folder")
words = "The quick brown fox jumps over the lazy dog .".split()
# As in training: a blank between words, but none where both sides are of scripts that write none.
bare = re.compile(
{bare}
)


def read(parted):  # of each token the word of its first letter, that of its last, and its number
    text, ends = "", []
    for word in words:
        blank = "" if not text or bare.fullmatch(text[-1] + word[0]) else " "
        text += (parted if text else "") + blank + word
        ends.append(len(text))
    row = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return [
        (bisect(ends, start), bisect(ends, max(end - 1, start)), number)
        for number, (start, end) in zip(row.input_ids, row.offset_mapping)
        if text[end - 1 : end] != "\\n"
    ]


tokens = read("")
if any(first != last for first, last, _ in tokens):  # such words were read apart
    tokens = read("\\n")
tokens = tokens[: tokenizer.model_max_length - 2]
row = [tokenizer.cls_token_id, *(number for _, _, number in tokens), tokenizer.sep_token_id]
with torch.no_grad():
    logits = model(torch.tensor([row])).logits[0, 1:-1]
tags = [model.config.id2label[number] for number in range(model.config.num_labels)]
{unseen}
first = {{}}  # the scores of each word's first token; a token is of the word that its last letter is of
for (_, word, _), score in zip(tokens, logits):
    first.setdefault(word, score)
scores = torch.stack([first.get(place, unseen) for place in range(len(words))]).double()
{decoding}
labels = [(word, tags[number]) for word, number in zip(words, best)]""",
    "several": _PIPELINE
    + 'answer("The quick brown fox jumps over the lazy dog.", top_k=None, truncation=True)'
    "  # each label's score",
    "several of pairs": _PIPELINE
    + """pair = {{"text": "The quick brown fox jumps.", "text_pair": "Over the lazy dog."}}
answer(pair, top_k=None, truncation=True)  # each label's score""",
    "speech": _CLASSES
    + """
# A turn that is longer loses its beginning, so that a reply has room.
row = tokenizer("Is this seat free?", truncation=True, max_length={prompt}, return_tensors="pt")
said = model.generate(**row)[0, row["input_ids"].shape[1] :]
reply = tokenizer.decode(said, skip_special_tokens=True)""",
    "vectors": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")  # several turns: one text with the separator between
model.similarity(model.encode("Hello."), model.encode(["Hi!", "No."]))""",
}
_UNSEEN_OUTSIDE = (
    'unseen = torch.tensor([0.0 if tag == "O" else -1e9 for tag in tags])  # a word without a token is O'
)
_UNSEEN = "unseen = torch.zeros(len(tags))  # what is known of a word without a token"
_LIKELIEST = "best = scores.argmax(-1).tolist()"
_IN_ORDER = """
# Which tags follow each other in the rows of training, by their letters and whether the types are the same;
# O is also what stands before a row and behind it.
orders = {{
{orders}
}}


def cost(tag, after):
    same = "" if "O" in (tag, after) else " same" if tag[1:] == after[1:] else " other"
    return 0.0 if f"{{tag[:1]}} {{after[:1]}}{{same}}" in orders else -1e9


# Of all tags in such an order those of the highest sum of scores (Viterbi's algorithm).
costs = torch.tensor([[cost(tag, after) for after in tags] for tag in tags])
sums, before = scores[0] + torch.tensor([cost("O", tag) for tag in tags]), []
for score in scores[1:]:
    sums, places = (sums[:, None] + costs).max(0)
    sums = sums + score
    before.append(places.tolist())
best = [int((sums + torch.tensor([cost(tag, "O") for tag in tags])).argmax())]
for places in reversed(before):
    best.insert(0, places[best[0]])"""
_TURN_TYPES = (
    "Several turns are one text with the separator between. The tokenizer gives them all one token type, "
    "where in training types alternate by turn, the newest before the answer having 0: for the very numbers "
    "of training give `token_type_ids` of your own."
)
_FIRST_TOKENS = (
    "A word's label is that of its first token; what the network says of the others, nothing has taught it."
)
_BLANKS = (
    'Where blanks part the words, `pipeline("token-classification", model=folder, '
    'aggregation_strategy="first")` gives each its likeliest tag; all between two blanks is one word to it.'
)
_PIECES = (
    "To `transformers`' own pipeline every token that does not begin with ## is a word, so that `u.s.` is "
    "four, with a label each."
)
_ORDER = (
    "The metrics are of tags in an order that the rows of training have, as the code above gives them; "
    "pipelines take each word's likeliest tag."
)
_CUT = (
    "`truncation=True` has a text that is too long cut, as in training. The pipeline does not by itself: it "
    "would answer with another label, or an error."
)
_SEVERAL = "Any number of labels may be true of a text: those of a score from .5 on."
_SPEECH = (
    '`pipeline("text-generation")` gives the network no token types, by which it knows whose turn it is: '
    "call `generate`, as above."
)


def render_task_card(
    spec: TaskSpec,
    record: Architecture,
    facts: CardFacts,
    *,
    config: ModelConfig,
    vocabulary: Vocabulary,
    orders: tuple[str, ...] = (),
) -> str:
    """Return the text of README.md of a fine-tuned network with the head of one task.

    `record`: what it is exported by. `config`: of the network, its encoder under `discriminator`.
    `orders`: of tags, as the head has them.
    """
    head, kind = spec.type.stock_head, _kind(spec, record)
    title, stock_class = f"{spec.task.name} ({spec.task.task_type})", record.classes[head]
    ordered = legal_orders(spec.labels, orders) is not None
    usage = _USE[kind].format(
        pipeline=pipeline_of(head, record),
        stock_class=stock_class,
        prompt=spec.max_seq_len - usual_reply(spec.max_seq_len),
        bare=_bare_pattern(),
        unseen=_UNSEEN_OUTSIDE if OUTSIDE in spec.labels else _UNSEEN,  # as in predictions.py
        decoding=_IN_ORDER.format(orders=_lines_of(orders)) if ordered else _LIKELIEST,
    )
    notes = {
        _FIRST_TOKENS: kind == "words",
        _PIECES if vocabulary.kind == "BERT" else _BLANKS: kind == "words",
        _ORDER: kind == "words" and ordered,
        _CUT: kind in ("text", "several", "several of pairs"),
        _SEVERAL: spec.type.head == "several",
        _SPEECH: kind == "speech" and record.token_types,
        _TURN_TYPES: spec.type.in_turns and record.token_types,
    }
    lines = [*front_matter(title, head, record, facts), f"# {title}", ""]
    lines += [
        f"A SpanELECTRA encoder fine-tuned for one task; `{stock_class}.from_pretrained(folder)` opens it.",
        "",
        *("```python", usage, "```", ""),
        *(line for note, wanted in notes.items() if wanted for line in (note, "")),
    ]
    return "\n".join([*lines, *closing_sections(config, "discriminator", facts)])


def _kind(spec: TaskSpec, record: Architecture) -> str:
    """Which code a task's card has, by its key in _USE."""
    head, paired = spec.type.stock_head, spec.task.in_two_types
    pipeline = None if paired else pipeline_of(head, record)  # which reads one text
    if head == "sequence" and spec.type.head == "several":
        return "several of pairs" if paired else "several"
    if head == "sequence" and pipeline:
        return "text"
    by_head = {"none": "vectors", "tokens": "words", "causal": "speech"}
    return by_head.get(head, "task" if pipeline else "class")


def _lines_of(orders: tuple[str, ...]) -> str:
    """Orders of tags as lines of code."""
    quoted = [json.dumps(order) + "," for order in orders]
    return "\n".join("    " + " ".join(quoted[begin : begin + 6]) for begin in range(0, len(quoted), 6))


def _bare_pattern() -> str:
    """A pattern of two characters of scripts without blanks, as lines of code."""
    ranges = [f"\\U{first:08x}-\\U{last:08x}" for first, last in WITHOUT_BLANKS + CJK_MARKS]
    lines = ["".join(ranges[begin : begin + 4]) for begin in range(0, len(ranges), 4)]
    return "\n".join(f'    "{line}"' for line in ["[", *lines, "]{2}"])
