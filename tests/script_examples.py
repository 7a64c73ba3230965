"""Text of many scripts, made from Unicode's tables, and what of it the spans hide; holds no tests.

`python tests/script_examples.py` prints the table of docs/languages.md.
"""

import random
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from span_electra.data_config import ChunkConfig, MaskingConfig, VocabularyConfig
from span_electra.features.build import build_features
from span_electra.features.header import wanted_features
from span_electra.features.store import open_features
from span_electra.text.inputs import find_inputs
from span_electra.text.vocabulary_builder import texts_of, train
from span_electra.text.word_starts import CONTINUES

# Script -> blocks of Unicode, whether blanks part its words, its punctuation.
SCRIPTS = {
    "Latin": ([(0x61, 0x7A)], True, ".,"),
    "Han": ([(0x4E00, 0x9FA5)], False, "，。"),
    "Kana": ([(0x3041, 0x3096), (0x30A1, 0x30FA)], False, "、。"),
    "Hangul": ([(0xAC00, 0xD7A3)], True, ".,"),
    "Thai": ([(0x0E01, 0x0E3A), (0x0E40, 0x0E4E)], False, "ฯ "),
    "Khmer": ([(0x1780, 0x17D3)], False, "។ "),
    "Lao": ([(0x0E81, 0x0EB9), (0x0EC0, 0x0ECD)], False, "ຯ "),
    "Burmese": ([(0x1000, 0x104F)], False, "၊။"),
    "Arabic": ([(0x0621, 0x064A)], True, "،؟"),
    "Devanagari": ([(0x0905, 0x094D)], True, "।,"),
}
EPOCHS = 20


def script_text(script: str, size: int, mixed: bool = False, seed: int = 0) -> str:
    """About `size` bytes of made-up words in a script's letters, as often as Zipf has it.

    mixed: every sixth or so is a Latin word or a number.
    """
    blocks, blanks, marks = SCRIPTS[script]
    letters = [chr(c) for first, last in blocks for c in range(first, last + 1)]
    letters = [char for char in letters if unicodedata.category(char)[0] in "LM"]
    dice = random.Random(seed)
    letters = dice.sample(letters, min(len(letters), 600))
    often = [1 / (rank + 5) for rank in range(len(letters))]
    words = ["".join(dice.choices(letters, often, k=dice.choice((1, 2, 2, 3, 3, 4)))) for _ in range(800)]
    latin = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 6))) for _ in range(100)]
    often, lines, written = [1 / (rank + 3) for rank in range(len(words))], [], 0
    while written < size:
        line = []
        for _ in range(dice.randint(5, 25)):
            chance = dice.random()
            word = dice.choices(words, often)[0]
            if mixed and chance < 0.17:
                word = dice.choice(latin) if chance < 0.12 else str(dice.randint(1, 2030))
            line.append(word + (dice.choice(marks) if dice.random() < 0.1 else ""))
        lines.append((" " if blanks else "").join(line))
        written += len(lines[-1].encode()) + 1
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Figures:
    """What 20 epochs hide of rows of 128."""

    spans: float  # a row
    fewest_masks: int  # distinct ones of a row
    never: float  # share of tokens that were never hidden
    cut: int  # spans that begin or end inside a character
    off_budget: int  # rows whose hidden tokens are not round(0.2 * 126)
    tokens_a_character: float


def figures(text: str, kind: str, folder: Path, *, format: int, vocab_size: int, rows: int = 60) -> Figures:
    """Train a vocabulary on the text, make features of it, and redraw some rows' spans for 20 epochs."""
    (folder / "text.txt").write_text(text, encoding="utf-8")
    settings = VocabularyConfig(tokenizer_type=kind, vocab_size=vocab_size)
    vocabulary = train(texts_of(find_inputs(str(folder / "text.txt")), settings), settings)
    wanted = wanted_features(vocabulary, ChunkConfig(128), MaskingConfig(format=format))
    out_file = folder / f"{kind}-{format}.arrow"
    build_features(str(folder / "text.txt"), vocabulary, out_file, wanted, progress=False)
    features = open_features(out_file)
    rows_B = np.flatnonzero(features.lengths_R == 128)[:rows]
    continues_BT = vocabulary.token_words.flags_V[features.gather(rows_B, 128)] & CONTINUES != 0
    hidden_BT = np.zeros((len(rows_B), 128), int)
    masks: list[set[bytes]] = [set() for _ in rows_B]
    spans = cut = off_budget = 0
    for epoch in range(EPOCHS):
        drawn = features.sample_spans(rows_B, epoch=epoch, seed=0)
        number_S = np.repeat(np.arange(len(rows_B)), np.diff(drawn.row_ends_R, prepend=0))
        mask_BT = np.zeros((len(rows_B), 128), int)
        for row, start, length in zip(number_S, drawn.starts_S, drawn.lengths_S, strict=True):
            mask_BT[row, start : start + length] = 1
            # The row's own edges are where its text was cut, wherever that was.
            cut += (start > 1 and continues_BT[row, start]) or continues_BT[row, start + length]
        spans += len(number_S)
        off_budget += int((mask_BT.sum(1) != round(0.2 * 126)).sum())
        hidden_BT += mask_BT
        for row, mask_T in enumerate(mask_BT):
            masks[row].add(mask_T.tobytes())
    return Figures(
        spans / len(rows_B) / EPOCHS,
        min(map(len, masks)),
        float((hidden_BT[:, 1:-1] == 0).mean()),
        int(cut),
        off_budget=off_budget,
        tokens_a_character=features.header.content / len(text),
    )


def table() -> str:
    """The table of docs/languages.md: formats 1 and 2, both kinds of vocabulary, mixed text too."""
    lines = [
        "| script | vocabulary | tokens a character | spans a row | fewest masks in 20 epochs "
        "| never hidden | spans that cut a character |",
        "|---|---|---|---|---|---|---|",
    ]
    for script in SCRIPTS:
        for kind, mixed in (("BPE", False), ("BPE", True), ("BERT", True)):
            text = script_text(script, 300_000, mixed)
            with tempfile.TemporaryDirectory() as folder:
                old, new = (
                    figures(text, kind, Path(folder), format=format, vocab_size=2500, rows=400)
                    for format in (1, 2)
                )
            name = f"{script} with Latin and digits" if mixed else script
            lines.append(
                f"| {name} | {kind} | {new.tokens_a_character:.2f} | {old.spans:.2f} -> {new.spans:.2f} "
                f"| {old.fewest_masks} -> {new.fewest_masks} | {old.never:.1%} -> {new.never:.1%} "
                f"| {old.cut:,} -> {new.cut:,} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
