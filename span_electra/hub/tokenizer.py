"""The tokenizer's files of an exported folder: our ids under every `transformers`, old or new.

What transformers 5 reads from tokenizer.json, transformers 4 overrides with defaults of its own unless
tokenizer_config.json says otherwise: without `add_prefix_space` there, a byte-level BPE gives the first word
of each text, and each of words given one by one, other ids, without a word.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors

from span_electra.storage import TOKENIZER, TOKENIZER_CONFIG
from span_electra.text.tokenizer_file import rewritten
from span_electra.text.vocabulary import Vocabulary, tokenizer_contents

# How a text and a pair are framed, with token types.
SENTENCES = ("{cls} $A {sep}", "{cls} $A {sep} $B:1 {sep}:1")


def save_tokenizer(
    vocabulary: Vocabulary,
    folder: str | Path,
    max_seq_len: int,
    *,
    token_types: bool = True,
    truncation_side: str = "right",
) -> None:
    """Write the tokenizer so that `AutoTokenizer.from_pretrained(folder)` gives our ids.

    A byte-level BPE of ours also leaves the blank before a word out of the word's offsets, which pipelines
    show; the ids are the same. The tokenizer.json that the user brought stays as it was.
    truncation_side: where a text too long is cut.
    """
    texts = tokenizer_contents(vocabulary, max_seq_len, token_types=token_types)
    prefix = prefix_space(json.loads(texts[TOKENIZER]).get("pre_tokenizer"))
    more = {} if prefix is None else {"add_prefix_space": prefix}
    more |= {} if truncation_side == "right" else {"truncation_side": truncation_side}  # right: as unsaid
    settings = json.loads(texts[TOKENIZER_CONFIG]) | more
    texts[TOKENIZER_CONFIG] = json.dumps(settings, indent=2, ensure_ascii=False)
    # A tokenizer of the user's own may be read by programs of theirs: its file stays as it came.
    if prefix is not None and vocabulary.original is None:
        texts[TOKENIZER] = with_trimmed_offsets(texts[TOKENIZER], prefix)
    for name, text in texts.items():
        Path(folder, name).write_text(text, encoding="utf-8")


def framing_rows(vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary with a tokenizer that puts the rows' special tokens round a text, as the model reads it.

    Ours does. One that was brought along may put none, as GPT-2's, or the first alone, as Llama's.
    """
    if vocabulary.tokenizer.encode("").ids == [vocabulary.cls_id, vocabulary.sep_id]:
        return vocabulary
    own = Tokenizer.from_str(vocabulary.original or vocabulary.to_json())
    return framed(vocabulary, own, single=SENTENCES[0], pair=SENTENCES[1])


def framed(vocabulary: Vocabulary, tokenizer: Tokenizer, *, single: str, pair: str) -> Vocabulary:
    """The vocabulary with this tokenizer, which from now on frames a text and a pair as the templates say."""
    names = {"cls": vocabulary.special.cls, "sep": vocabulary.special.sep}
    special = [(names["cls"], vocabulary.cls_id), (names["sep"], vocabulary.sep_id)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*single.format(**names).split()],
        pair=[*pair.format(**names).split()],
        special_tokens=list(dict.fromkeys(special)),
    )
    original = None
    if vocabulary.original is not None:  # of ours, save_tokenizer trims the offsets
        original = rewritten(vocabulary.original, tokenizer)
        prefix = prefix_space(json.loads(original)["pre_tokenizer"])
        original = original if prefix is None else with_trimmed_offsets(original, prefix)
    return replace(vocabulary, tokenizer=tokenizer, original=original)


def prefix_space(pre_tokenizer: dict[str, Any] | None) -> bool | None:
    """Whether a byte-level pre-tokenizer puts a blank before the first word; None: it is none."""
    if not pre_tokenizer:
        return None
    parts = pre_tokenizer.get("pretokenizers") or [pre_tokenizer]
    return next((part["add_prefix_space"] for part in parts if part.get("type") == "ByteLevel"), None)


def with_trimmed_offsets(text: str, prefix: bool) -> str:
    """A tokenizer.json whose offsets leave out the blank before a word; ids and token types stay."""
    tokenizer = Tokenizer.from_str(text)
    steps = [processors.ByteLevel(add_prefix_space=prefix, trim_offsets=True)]
    if tokenizer.post_processor is not None:
        steps.append(tokenizer.post_processor)
    tokenizer.post_processor = processors.Sequence(steps)
    return tokenizer.to_str()
