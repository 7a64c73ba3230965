"""One task of a fine-tuned network -> a folder that stock `transformers` opens, with tokenizer and labels.

Which stock class holds it, its type's record says (`stock_head`): ...ForSequenceClassification,
...ForTokenClassification, ...ForPreTraining (ELECTRA's own head: is this token wrong?), ...ForCausalLM, or
...Model alone, with the files by which sentence-transformers makes a vector of a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.task_card import render_task_card
from span_electra.finetuning.task_model import TaskModel
from span_electra.finetuning.turns import never_said, usual_reply
from span_electra.hub.architectures import record_of
from span_electra.hub.export import check_free, stock_config, write_network
from span_electra.hub.folders import training_of
from span_electra.hub.model_card import CardFacts, model_name, own_metrics, training_sections
from span_electra.hub.tokenizer import SENTENCES, framed, save_tokenizer
from span_electra.hub.weights import Joined
from span_electra.model.multi_task import TaskNetwork
from span_electra.storage import OURS, atomic_folder
from span_electra.text.vocabulary import Vocabulary

# How turns (finetuning/turns.py) are framed: a text is a question that an answer is to follow, a pair a
# question with its answer, whose type is OWN_VOICE.
TURNS = ("{sep}:0 $A:0 {sep}:1", "{sep}:0 $A:0 {sep}:1 $B:1 {sep}:0")
GENERATION = "generation_config.json"  # beside a network that speaks
# Modules of sentence-transformers in order, and the folder of each: tokens, their mean, that at length 1.
SENTENCE_MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]  # task -> split -> name -> value


def export_task(
    network: TaskNetwork,
    task: int,
    spec: TaskSpec,
    vocabulary: Vocabulary,
    folder: str | Path,
    facts: CardFacts | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Write the network with the head of one task; an earlier export of ours is replaced.

    facts: what its model card tells besides (`task_facts`). meta: the meta.json of its checkpoint.
    Raises InputError for any other folder in the way.
    """
    folder = Path(folder)
    check_free(folder)
    # Whole or not at all: a hub that is pushed to while this runs must not see half a model.
    with atomic_folder(folder) as beside:
        head = spec.type.stock_head
        settings = task_config(network, task, spec, vocabulary)
        settings[OURS] |= training_of(meta)
        joined, most = Joined(network.encoder, network.heads[task]), usual_reply(spec.max_seq_len)
        if head == "causal":
            write_generation(beside, settings, most, never_said(vocabulary, network.config.vocab_size))
        if head == "none":
            write_mean_pooling(beside, network.config.discriminator.hidden_size, spec.max_seq_len)
        record = record_of(network.config, head)
        card = render_task_card(
            spec,
            record,
            facts or CardFacts(),
            config=network.config,
            vocabulary=vocabulary,
            orders=network.tasks[task].orders,
        )
        write_network(joined, network.config, settings, beside, head=head, card=card)
        save_tokenizer(
            tokenizer_of(vocabulary, spec),
            beside,
            spec.max_seq_len,
            token_types=record.token_types,
            # What was said last decides what is said next; see turns.py.
            truncation_side="left" if spec.type.in_turns else "right",
        )
    return folder


def export_tasks(
    model: TaskModel, out_dir: str | Path, facts: CardFacts | None = None, measured: Metrics | None = None
) -> list[Path]:
    """Export every task, each as a folder of the task's name in `out_dir`; returns the folders.

    facts, measured: see `task_facts`. Raises InputError.
    """
    check_places(out_dir, [spec.task.name for spec in model.specs])  # all before any is written
    return [
        export_task(
            model.network,
            number,
            spec=spec,
            vocabulary=model.vocabulary,
            folder=Path(out_dir, spec.task.name),
            facts=task_facts(model, number, facts, measured),
            meta=model.meta,
        )
        for number, spec in enumerate(model.specs)
    ]


def check_places(out_dir: str | Path, tasks: Iterable[str]) -> None:
    """Refuse what is in the way of an export of these tasks, before a training too. Raises InputError."""
    for name in tasks:
        check_free(Path(out_dir, name))


def task_facts(
    model: TaskModel, number: int, facts: CardFacts | None = None, measured: Metrics | None = None
) -> CardFacts:
    """What a checkpoint of fine-tuning tells of one of its tasks, added to `facts`.

    measured: all tasks' metrics; none: those of the checkpoint's own validation.
    """
    meta, name, facts = model.meta, model.specs[number].task.name, facts or CardFacts()
    names = [spec.task.name for spec in model.specs]
    splits = metrics_of(own_metrics(meta), name, names) if measured is None else measured[name]
    # Test before dev: checkpoints were chosen by dev, whose numbers flatter.
    split = next((split for split in ("test", "dev") if splits.get(split)), "held-out")
    sections = training_sections(meta, (meta.get("rows") or {}).get(name, {}))
    if key := (meta.get("prepared") or {}).get(name):
        sections["training"]["data (sha256)"] = key
    encoder = None if meta.get("from_scratch") else model_name(meta.get("encoder"))
    return replace(
        facts,
        longest=model.specs[number].max_seq_len,
        started_from=encoder,
        metrics={**splits.get(split, {}), **facts.metrics},
        split=split,
        sections={**sections, **facts.sections},
    )


def metrics_of(valid: Mapping[str, float], task: str, tasks: list[str]) -> dict[str, dict[str, float]]:
    """The metrics of one task by split, out of a validation's of all.

    Example: {"mood_accuracy": .9, "test_mood_accuracy": .8} -> {"dev": {"accuracy": .9}, "test": {...: .8}}
    """
    prefixes = {f"{name}_": ("dev", name) for name in tasks}
    prefixes |= {f"test_{name}_": ("test", name) for name in tasks}
    found: dict[str, dict[str, float]] = {}
    for key, value in valid.items():
        # Names of tasks may begin with one another: the longest that fits is whose the metric is.
        prefix = max(filter(key.startswith, prefixes), key=len, default="")
        split, owner = prefixes.get(prefix, ("", ""))
        if owner == task:
            found.setdefault(split, {})[key.removeprefix(prefix)] = value
    return found


def task_config(network: TaskNetwork, task: int, spec: TaskSpec, vocabulary: Vocabulary) -> dict:
    """The config.json of one task."""
    head = network.tasks[task]
    stock_head, problem_type = spec.type.stock_head, spec.type.problem_type
    config = stock_config(network.config, "discriminator", vocabulary, head=stock_head)
    lasting = {"initialization": network.config.initialization}
    config[OURS] = {"task": spec.task.name, "task_type": spec.task.task_type, **lasting}
    if stock_head == "none":
        return config
    config["classifier_dropout"] = head.dropout
    if head.pooling != "cls":
        config[record_of(network.config, stock_head).pooling_key] = head.pooling
    if problem_type:
        config["problem_type"] = problem_type
    if stock_head == "causal":
        config["is_decoder"] = True
        # A separator stands before the first turn and after each: `generate` ends with the turn.
        config["bos_token_id"] = config["eos_token_id"] = vocabulary.sep_id
    elif stock_head != "discriminator":
        names = spec.labels or ("score",)
        config["id2label"] = {str(number): name for number, name in enumerate(names)}
        config["label2id"] = {name: number for number, name in enumerate(names)}
    return config


def write_generation(folder: Path, settings: dict, most: int, never: list[int]) -> None:
    """Say to `generate` how a reply ends, how long one may be, and what `never` comes in one.

    Pipelines would have 256 tokens, and all ids of the network.
    """
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    content = {"max_new_tokens": most, **{name: settings[name] for name in ids}, "suppress_tokens": never}
    (folder / GENERATION).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_mean_pooling(folder: Path, width: int, max_seq_len: int) -> None:
    """Say to sentence-transformers that a text's vector is the mean of its tokens' states, of length 1."""
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (path, name) in enumerate(SENTENCE_MODULES)
    ]
    contents = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": max_seq_len, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
    }
    # A folder each, though the last has nothing to say: modules.json names it.
    for path, _ in SENTENCE_MODULES:
        (folder / path).mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def tokenizer_of(vocabulary: Vocabulary, spec: TaskSpec) -> Vocabulary:
    """The vocabulary with a tokenizer that gives a text or pair the very row the task was trained on."""
    vocabulary = spec.reading(vocabulary)
    tokenizer = Tokenizer.from_str(vocabulary.original or vocabulary.to_json())
    single, pair = TURNS if spec.type.in_turns else SENTENCES
    return framed(vocabulary, tokenizer, single=single, pair=pair)
