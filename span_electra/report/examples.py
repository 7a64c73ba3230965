"""Validation sentences as the model reads them: original, masked, what the generator wrote, the verdict.

B rows of a batch, L tokens of the longest row, S masked slots, T tokens of the sentence shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from span_electra.storage import EXAMPLES, write_text
from span_electra.text.pieces import Pieces
from span_electra.text.punctuation import ENDS_ALWAYS, ENDS_BEFORE_BLANK
from span_electra.text.word_starts import CONTINUES

if TYPE_CHECKING:
    from span_electra.model.batch import MaskedBatch
    from span_electra.model.electra import SpanElectra
    from span_electra.text.vocabulary import Vocabulary

LEAST_TOKENS, MOST_TOKENS = 12, 60  # of a sentence that is shown
SENTENCE_ENDS = (*ENDS_BEFORE_BLANK, *ENDS_ALWAYS)


def collect_examples(
    model: SpanElectra, batch: MaskedBatch, vocabulary: Vocabulary, count: int = 12
) -> list[dict[str, Any]]:
    """Judge a batch and return up to `count` sentences with hidden tokens, as plain JSON values.

    Each has `row` and these lists of T: `original` and `written` (text, with the blanks between words),
    `masked`, `replaced` (bool), `probability` (of being replaced, by the discriminator),
    `generator_probability` (what the generator gave the original; None off the masked tokens). The model is
    left in the mode it was in.
    """
    if not len(batch.rows_B):
        return []
    batch = batch.to(next(model.parameters()).device)
    training = model.training
    model.eval()
    try:
        predicted = model.predict(batch).to("cpu")
    finally:
        model.train(training)
    batch = batch.to("cpu")
    # Slots of weight 0 only fill the batch up to a round number.
    slots_S = batch.slots_S[batch.slot_weight_S > 0].numpy()
    arrays = {
        "original": batch.original_BL.numpy(),
        "written": predicted.corrupted_BL.numpy(),
        "masked": scatter(slots_S, True, batch.original_BL.shape),
        "replaced": predicted.replaced_BL.numpy(),
        "probability": predicted.replaced_probability_BL.float().numpy(),
        "generator_probability": scatter(
            slots_S,
            predicted.generator_probability_S[batch.slot_weight_S > 0].float().numpy(),
            batch.original_BL.shape,
            np.nan,
        ),
    }
    pieces_V = Pieces(vocabulary)
    chosen = pick_sentences(arrays, pieces_V, vocabulary, count)
    return [record(arrays, int(batch.rows_B[row]), row, part, pieces_V) for row, part in chosen]


def scatter(slots_S: np.ndarray, values: Any, shape: tuple, empty: Any = False) -> np.ndarray:
    """Values at the slots of an array of `shape`, `empty` elsewhere."""
    flat = np.full(int(np.prod(shape)), empty)
    flat[slots_S] = values
    return flat.reshape(shape)


def write_examples(run_folder: str | Path, examples: list[dict[str, Any]]) -> None:
    """Keep the sentences in the run folder for the report, whole or not at all."""
    write_text(Path(run_folder, EXAMPLES), json.dumps(examples) + "\n")


def pick_sentences(
    arrays: dict[str, np.ndarray], pieces_V: Pieces, vocabulary: Vocabulary, count: int
) -> list[tuple[int, slice]]:
    """Choose (row, part) of sentences with hidden tokens: one a row first, then more where rows are few."""
    original_BL, masked_BL = arrays["original"], arrays["masked"]
    found = []
    for row in range(len(original_BL)):
        ids_L = original_BL[row]
        end = int(np.flatnonzero(ids_L != vocabulary.pad_id)[-1])  # [SEP]
        parts = [part for part in sentences(ids_L, end, pieces_V) if masked_BL[row, part].any()]
        # A chunk's first sentence may lack its beginning.
        complete = [part for part in parts if part.start > 1] or parts
        found.append([(row, part) for part in complete])
    turns = max(map(len, found), default=0)
    ordered = [row[turn] for turn in range(turns) for row in found if turn < len(row)]
    return sorted(ordered[:count], key=lambda entry: (entry[0], entry[1].start))


def sentences(ids_L: np.ndarray, end: int, pieces_V: Pieces) -> Iterator[slice]:
    """Cut a row's content, tokens 1 .. end - 1, into parts that end with a sentence or at MOST_TOKENS.

    No part ends within a character, which may be of several tokens.
    """
    start, said = 1, ""
    flags_V = pieces_V.vocabulary.token_words.flags_V
    # Rows may only pad a published model's table to a multiple of 8 or 64: these are no tokens.
    cut_L = flags_V[np.minimum(ids_L, len(flags_V) - 1)] & CONTINUES != 0
    for at, text in enumerate(pieces_V.texts(ids_L[1:end].tolist()), start=1):
        said = text or said  # of a character's later tokens: what they end
        if at + 1 < end and cut_L[at + 1]:
            continue
        long = at + 1 - start >= LEAST_TOKENS
        ends = said.rstrip().endswith(SENTENCE_ENDS)
        if (ends and long) or at + 1 - start >= MOST_TOKENS:
            yield slice(start, at + 1)
            start = at + 1
    if end - start >= LEAST_TOKENS or (start == 1 and end > 1):
        yield slice(start, end)


def record(
    arrays: dict[str, np.ndarray], number: int, row: int, part: slice, pieces_V: Pieces
) -> dict[str, Any]:
    """One sentence as JSON values."""
    cut = {name: values[row, part].tolist() for name, values in arrays.items()}
    given = [None if value != value else round(value, 4) for value in cut["generator_probability"]]
    return {
        "row": number,
        "original": pieces_V.texts(cut["original"]),
        "written": pieces_V.texts(cut["written"]),
        "masked": cut["masked"],
        "replaced": cut["replaced"],
        "probability": [round(value, 4) for value in cut["probability"]],
        "generator_probability": given,
    }


# --- for the page ---------------------------------------------------------------------------------------


def verdicts(example: dict[str, Any]) -> list[dict[str, Any]]:
    """What the page shows of each token of a sentence.

    `verdict` is hit, miss, false-alarm or none; `level` is the probability of being replaced in tenths, 0-10;
    `note` tells of both networks, `was` of the generator alone.
    """
    # Words, not colours alone: the page's classes and titles say it too, for who cannot tell them apart.
    names = ("original", "written", "masked", "replaced", "probability", "generator_probability")
    tokens = []
    for original, written, masked, replaced, probability, given in zip_of(example, *names):
        flagged = probability > 0.5
        verdict = ("hit" if flagged else "miss") if replaced else ("false-alarm" if flagged else "none")
        note, was = f"probability of being replaced {probability:.0%}", ""
        if masked:
            was = f"was “{original.strip()}”"
            was += f", which the generator gave {given:.1%}" if given is not None else ""
            note += f"; {was}"
        tokens.append(
            {
                "original": original,
                "written": written,
                "masked": bool(masked),
                "replaced": bool(replaced),
                "level": min(10, max(0, round(10 * probability))),
                "verdict": verdict,
                "note": note,
                "was": was,
            }
        )
    return tokens


def as_markdown(examples: list[dict[str, Any]], *, with_verdicts: bool) -> str:
    """Sentences for a log that shows Markdown: original, masked, as written, and what was called replaced.

    `with_verdicts`: whether the last is told, which a discriminator that has not learned has no say in.
    """
    parts = []
    for example in examples:
        masked = [" ▁" if hidden else text for text, hidden in zip_of(example, "original", "masked")]
        # Emphasis where a token differs from the original.
        tokens = list(zip_of(example, "written", "replaced", "probability"))
        # A token within a character has no text of its own.
        written = [f" **{text.strip()}**" if new and text.strip() else text for text, new, _ in tokens]
        doubted = [f"{text.strip()} {share:.0%}" for text, _, share in tokens if share > 0.5 and text.strip()]
        called = f"- called replaced: {', '.join(doubted) or 'none'}\n"
        parts.append(
            f"row {example['row']}\n\n- original: {''.join(example['original']).strip()}\n"
            f"- masked: {''.join(masked).strip()}\n- written: {''.join(written).strip()}\n"
            f"{called if with_verdicts else ''}"
        )
    return "\n".join(parts)


def zip_of(example: dict[str, Any], *names: str) -> Iterator[tuple[Any, ...]]:
    """Lists of a sentence side by side."""
    return zip(*(example[name] for name in names), strict=True)
