"""The model card of an exported network: README.md as model hubs read it, and people too.

The block on top (YAML, one key a line, values in JSON, which YAML contains) is for the hub: licence,
language, what the model was made from, how good it is. Below stand what it is, its sizes, how to use it, how
it was made, and its limits. Data are told by counts and hashes: a path of somebody's machine helps nobody.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from span_electra.config import ModelConfig
from span_electra.errors import InputError
from span_electra.hub.architecture import Architecture
from span_electra.hub.folders import LONGEST
from span_electra.hub.runs import run_of
from span_electra.hub.weights import PARTS
from span_electra.schema import flatten
from span_electra.training import checkpoint

_USE = {
    "generator": """from transformers import pipeline

fill = pipeline("fill-mask", model="path/to/generator")
fill("The quick brown fox {mask} over the lazy dog.")""",
    "discriminator": """import torch
from transformers import AutoTokenizer, {stock_class}

tokenizer = AutoTokenizer.from_pretrained("path/to/discriminator")
model = {stock_class}.from_pretrained("path/to/discriminator")
with torch.no_grad():
    text = tokenizer("The quick brown fox ate over the lazy dog.", return_tensors="pt")
    replaced = model(**text).logits > 0""",
    "tokens": """from transformers import AutoModelForSequenceClassification, pipeline

find = pipeline("token-classification", model="path/to/discriminator")
find("The quick brown fox ate over the lazy dog.")  # each token original or replaced

model = AutoModelForSequenceClassification.from_pretrained(
    "path/to/discriminator",
    id2label={{0: "bad", 1: "good"}},
    label2id={{"bad": 0, "good": 1}},
    ignore_mismatched_sizes=True,
)
model.classifier.reset_parameters()  # two labels would start from original and replaced""",
}
_WHAT = {
    "generator": "The masked language model: it fills `{mask}`. To fine-tune, take the discriminator.",
    "alone": "The masked language model: it fills `{mask}`. It is the network to fine-tune too: "
    "`AutoModelForSequenceClassification.from_pretrained(folder)` and its like start from it.",
    "discriminator": "The replaced-token detector, and the network to fine-tune: "
    "`AutoModelForSequenceClassification.from_pretrained(folder)` and its like start from it.",
    # Its own classifier stands where stock classes have that of a task.
    "tokens": "The replaced-token detector, and the network to fine-tune: "
    "`AutoModelForSequenceClassification` and its like start from it, with a classifier made anew, as below.",
}
_HEADS_ASIDE = (
    "`span_heads.safetensors` holds the span-boundary head ({name}), for which the stock "
    "classes have no place. They do not need it; training that starts from this folder takes it up again."
)
_LIMITS = (
    "It knows what its training text held, with that text's errors and prejudices, and vouches for nothing. "
    "Small models of little text are good for what they are fine-tuned and tested for, no more. "
    "`config.json` has dropout 0.1, which fine-tuning wants, whatever pretraining used."
)
_ON_A_HUB = (r"[\w.-]+(/[\w.-]+)?", "a name on the hub, such as me/mine")
# What hubs refuse a whole card for, if it is written otherwise: field -> how, and an example.
_WRITTEN = {
    "license": (r"[a-z0-9.-]+", "a licence as hubs write it, such as apache-2.0, mit or other"),
    "language": (r"[a-z]{2,3}|code|multilingual", "a code of two or three letters, such as en"),
    "datasets": _ON_A_HUB,
    "base_model": _ON_A_HUB,
}
_PIPELINES = {
    "generator": "fill-mask",
    "sequence": "text-classification",
    "tokens": "token-classification",
    "causal": "text-generation",
    "none": "sentence-similarity",
}


@dataclass(frozen=True)
class CardFacts:
    """What a card tells beside what the network itself shows."""

    license: str | None = None  # as hubs write it: apache-2.0
    language: list[str] = field(default_factory=list)  # en, de ...
    datasets: list[str] = field(default_factory=list)  # by their names on a hub
    base_model: str | None = None  # what it was fine-tuned or trained on from, by its name on a hub
    started_from: str | None = None  # the same by the name of a folder here, which may be another's on a hub
    longest: int | None = None  # tokens of the longest row that it was trained on; none: its positions
    masks: str = ""  # how text was masked in pretraining; empty: as its features have it
    metrics: Mapping[str, float] = field(default_factory=dict)  # measured on held-out rows
    split: str = "held-out"  # which rows these are
    sections: Mapping[str, Any] = field(default_factory=dict)  # title -> a line, or a mapping for a table


def check_facts(facts: CardFacts) -> None:
    """Raise InputError for what hubs would refuse the card for, naming the flag and the value."""
    for name, (pattern, wanted) in _WRITTEN.items():
        value = getattr(facts, name)
        for word in value if isinstance(value, list) else [value]:
            if word is not None and not re.fullmatch(pattern, word, re.ASCII):
                raise InputError(f"--{name} {word!r}: give {wanted}")


def checkpoint_facts(meta: Mapping[str, Any], facts: CardFacts | None = None) -> CardFacts:
    """What a checkpoint's meta.json tells of a run of pretraining, added to `facts`."""
    order, metrics = meta.get("order") or {}, own_metrics(meta)
    facts, sections = facts or CardFacts(), training_sections(meta, {"training set": order.get("rows")})
    return replace(
        facts,
        longest=meta.get(LONGEST),
        masks="; ".join((meta.get("loader") or {}).get("masking_schedule") or ()),
        metrics={**metrics, **facts.metrics},
        sections={**sections, **facts.sections},
    )


def own_metrics(meta: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a checkpoint's own weights: none where its last validation was of an earlier step."""
    loop = meta.get("loop") or {}
    # Earlier releases do not tell the step; theirs have the monitored metric where they were just validated.
    just_now = (
        loop["valid_step"] == loop.get("step") if "valid_step" in loop else loop.get("metric") is not None
    )
    valid = (loop.get("valid") or {}) if just_now else {}
    return {name: value for name, value in valid.items() if isinstance(value, int | float)}


def training_sections(meta: Mapping[str, Any], rows: Mapping[str, int | None]) -> dict[str, Any]:
    """What a checkpoint's meta.json tells of steps, tokens, data and optimizer.

    `rows`: what the model was trained and measured on -> how many rows it has.
    """
    loop, files = (meta.get(name) or {} for name in ("loop", "files"))
    weights = files.get(checkpoint.MODEL) or {}
    training = {
        "steps": meta.get("step"),
        "tokens seen": int(loop.get("tokens") or 0),
        **{f"rows of the {name}": number for name, number in rows.items()},
        "rows seen": loop.get("samples"),
        "vocabulary (sha256)": meta.get("vocabulary_sha256"),
        "weights of the checkpoint (sha256)": weights.get("sha256"),
    }
    # What an older checkpoint does not tell is left out: a card with "None" in it helps nobody.
    known = {name: value for name, value in training.items() if value}
    optimizer = {name: value for name, value in (meta.get("optimizer") or {}).items() if value is not None}
    return {"training": known, "optimizer": optimizer}


def model_name(source: str | Path | None) -> str | None:
    """What a model is called that lies in a folder, without the way there.

    Example: /home/me/runs/first/discriminator -> first, as of a checkpoint in it
    """
    parts = [part for part in run_of(Path(source or "")).parts if part not in PARTS]
    return parts[-1] if parts else None


def render_card(
    part: str,
    record: Architecture,
    facts: CardFacts,
    *,
    config: ModelConfig,
    span_head: bool = False,
    mask: str = "[MASK]",
) -> str:
    """Return the text of README.md of a generator or discriminator.

    `record`: what it is exported by. `config`: of the run. `mask`: the vocabulary's token for what is hidden.
    """
    title, kind = f"SpanELECTRA {part}", "tokens" if record.is_token_classifier(part) else part
    alone = config.objective == "generator"  # with no discriminator beside it
    what = _WHAT["alone" if alone else kind].format(mask=mask)
    # How features are masked, no checkpoint tells; ours have spans unless a flag said otherwise.
    hidden = "hidden spans, as its features have them (SpanBERT)"
    if facts.masks:
        hidden = f"text hidden by `{facts.masks}`"
    how = f"Pretrained with {hidden}{'' if alone else ' and replaced-token detection (ELECTRA)'}."
    # Code that runs as it stands: people copy it before they read on.
    usage = _USE[kind].format(stock_class=record.classes[part], mask=mask)
    lines = [*front_matter(title, part, record, facts), f"# {title}", "", what, "", how, ""]
    lines += ["```python", usage, "```", ""]
    if span_head:
        lines += [_HEADS_ASIDE.format(name="SBGO" if part == "generator" else "SBPO"), ""]
    return "\n".join([*lines, *closing_sections(config, part, facts)])


def pipeline_of(head: str, record: Architecture) -> str | None:
    """The pipeline that gives what the network learned; a hub offers it to everyone."""
    if head == "causal" and record.token_types:
        return None  # it would pass none, and every turn would be the other's
    return _PIPELINES.get("tokens" if record.is_token_classifier(head) else head)


def front_matter(title: str, head: str, record: Architecture, facts: CardFacts) -> list[str]:
    """The block for hubs, between two lines of dashes. What is not known is left out, never guessed."""
    # The hub shows a model under it; a wrong one would offer a widget that fails.
    pipeline = pipeline_of(head, record)
    measured = pipeline or ("text-generation" if head == "causal" else "replaced-token-detection")
    values: dict[str, Any] = {
        "language": facts.language,
        "license": facts.license,
        "library_name": "sentence-transformers" if head == "none" else "transformers",
        "tags": [record.tag, "span-electra"],
        "pipeline_tag": pipeline,
        "datasets": facts.datasets,
        "base_model": facts.base_model,
        "model-index": _model_index(title, measured, facts),
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value]
    return ["---", *lines, "---", ""]


def _model_index(title: str, task: str, facts: CardFacts) -> list[dict[str, Any]]:
    measured = [
        {"type": name, "value": round(float(value), 6)}
        for name, value in facts.metrics.items()
        if math.isfinite(value)  # JSON has no other, nor has YAML's number a place in a table of scores
    ]
    rows = {"name": f"{facts.split} rows", "type": facts.split}
    results = [{"task": {"type": task}, "dataset": rows, "metrics": measured}]
    return [{"name": title, "results": results}] if measured else []


def closing_sections(config: ModelConfig, part: str, facts: CardFacts) -> list[str]:
    """What stands below the code in every card: sizes, metrics, what the facts tell, limits."""
    network = getattr(config, part)
    sizes = {
        "architecture": config.architecture,
        "layers": network.num_hidden_layers,
        "width": network.hidden_size,
        "attention heads": network.num_attention_heads,
        "feed-forward width": network.intermediate_size,
        "vocabulary": config.vocab_size,
        "longest row": facts.longest or config.max_position_embeddings,
    }
    lines = ["## Sizes", "", *_rows(sizes), ""]
    if started := facts.base_model or facts.started_from:
        lines += [f"Started from `{started}`.", ""]
    if facts.metrics:
        lines += [f"## Metrics on {facts.split} rows", "", *_rows(dict(facts.metrics)), ""]
    for title, content in facts.sections.items():
        lines += [f"## {title.replace('_', ' ').capitalize()}", "", *_rows(content), ""]
    return [*lines, "## Limits", "", _LIMITS, ""]


def _rows(content: object) -> list[str]:
    """A mapping as a table of two columns, with nested keys joined by dots; anything else as a line."""
    if not isinstance(content, dict):
        return [str(content)]
    return [
        "| | |",
        "|---|---|",
        *(f"| {_cell(name)} | {_cell(value)} |" for name, value in flatten(content).items()),
    ]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.replace("|", "\\|").replace("\n", " ")
