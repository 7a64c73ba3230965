"""The model card of an exported network: README.md with what it is, how to use it, and how it was made."""

from __future__ import annotations

import json

_USE = {
    "generator": """from transformers import pipeline

fill = pipeline("fill-mask", model="path/to/generator")
fill("The quick brown fox [MASK] over the lazy dog.")""",
    "discriminator": """import torch
from transformers import AutoTokenizer, ElectraForPreTraining

tokenizer = AutoTokenizer.from_pretrained("path/to/discriminator")
model = ElectraForPreTraining.from_pretrained("path/to/discriminator")
with torch.no_grad():
    text = tokenizer("The quick brown fox ate over the lazy dog.", return_tensors="pt")
    replaced = model(**text).logits > 0""",
}
_WHAT = {
    "generator": "The masked language model: it fills `[MASK]`. To fine-tune, take the discriminator.",
    "discriminator": "The replaced-token detector, and the network to fine-tune: "
    "`AutoModelForSequenceClassification.from_pretrained(folder)` and its like start from it.",
}
_HEADS_ASIDE = (
    "`span_heads.safetensors` holds the span-boundary head ({name}), for which the stock "
    "classes have no place. They do not need it; training that starts from this folder takes it up again."
)


def render_card(part: str, card: dict, span_head: bool) -> str:
    """Return the text of README.md.

    `card` has one section a key (data, settings, metrics, ...), each a mapping of what to tell.
    """
    lines = ["---", "library_name: transformers", "tags:", "- electra", "- span-electra"]
    if part == "generator":
        lines.append("pipeline_tag: fill-mask")
    lines += ["---", "", f"# SpanELECTRA {part}", "", _WHAT[part], ""]
    lines += [
        "Pretrained with hidden spans of geometric length (SpanBERT) and replaced-token detection (ELECTRA)."
    ]
    lines += ["", "```python", _USE[part], "```", ""]
    if span_head:
        lines += [_HEADS_ASIDE.format(name="SBGO" if part == "generator" else "SBPO"), ""]
    for title, content in card.items():
        lines += [f"## {title.replace('_', ' ').capitalize()}", "", *_rows(content), ""]
    return "\n".join(lines)


def _rows(content: object) -> list[str]:
    """A mapping as a table of two columns, with nested keys joined by dots; anything else as a line."""
    if not isinstance(content, dict):
        return [str(content)]
    return [
        "| | |",
        "|---|---|",
        *(f"| {_cell(name)} | {_cell(value)} |" for name, value in flatten(content)),
    ]


def flatten(content: dict, prefix: str = "") -> list[tuple[str, object]]:
    """Example: {"a": {"b": 1}, "c": 2} -> [("a.b", 1), ("c", 2)]."""
    pairs = []
    for name, value in content.items():
        if isinstance(value, dict) and value:
            pairs += flatten(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", value))
    return pairs


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.replace("|", "\\|").replace("\n", " ")
