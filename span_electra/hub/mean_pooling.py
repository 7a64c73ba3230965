"""The files by which sentence-transformers makes a vector of a text with an exported encoder."""

from __future__ import annotations

import json
from pathlib import Path

# Its modules in order, and the folder of each: states of the tokens, their mean, that at length 1.
_MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))


def write_mean_pooling(folder: Path, width: int, max_seq_len: int) -> None:
    """Say in an exported folder that a text's vector is the mean of its tokens' states, of length 1."""
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (path, name) in enumerate(_MODULES)
    ]
    contents = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": max_seq_len, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
    }
    # A folder each, though the last has nothing to say: modules.json names it.
    for path, _ in _MODULES:
        (folder / path).mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
