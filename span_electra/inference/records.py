"""A pretrained model's answers as plain values, for JSON and for the page, and as text for the eye.

Whoever shows an answer takes its form from here, so that lines, the page and fine-tuned models show one thing
in one way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from span_electra.inference.correction import Corrected
from span_electra.inference.detection import Detected
from span_electra.inference.filling import Filled, Filling

SMALLEST = float(np.finfo(np.float32).tiny)  # below it float32 has fewer digits
RED, YELLOW, PLAIN = "\033[31;1m", "\033[33m", "\033[0m"


# --- plain values ---------------------------------------------------------------------------------------


def written(value: float) -> float:
    """A number for a program: the fewest digits that say which of float32 it is, as networks compute.

    Example: 254317.40625 -> 254317.4; 1 - 1e-9 stays as it is, since 1 would say that nothing is in doubt.
    """
    short = float(str(np.float32(value)))
    return value if short == 1.0 or abs(short) < SMALLEST else short


def rounded(share: float) -> float:
    """A number for the eye: four digits that count. Example: 0.00012345 -> 0.0001234"""
    return float(f"{share:.4g}")


def pairs(fillings: list[Filling], number: Callable[[float], float] = written) -> list[list[Any]]:
    """Example: [Filling(" list", 0.4)] -> [["list", 0.4]]"""
    return [[filling.text.strip(), number(filling.probability)] for filling in fillings]


def detected_record(line: Detected, threshold: float) -> dict[str, Any]:
    """Words with their probabilities and verdicts."""
    return {
        "text": line.text,
        "words": line.words,
        "probability": [written(share) for share in line.probability],
        "wrong": line.wrong(threshold),
    }


def corrected_record(line: Corrected) -> dict[str, Any]:
    """A line, the corrected line, and the words that were called wrong."""
    doubted = [asdict(change) for change in line.changes]
    return {"text": line.text, "corrected": line.corrected, "doubted": doubted}


def filled_record(line: Filled) -> dict[str, Any]:
    """A line, the filled line, and for each blank the tokens of each mask and the whole."""
    blanks = [
        {"tokens": [pairs(token) for token in blank.tokens], "whole": pairs(blank.joint)}
        for blank in line.blanks
    ]
    return {"text": line.text, "filled": line.filled, "blanks": blanks}


# --- text for the eye -----------------------------------------------------------------------------------


def one_line(text: str) -> str:
    """Text that a model made in one line, as each line has one for its answer.

    Example: "Hi.\\nHow are you?" -> "Hi. How are you?"
    """
    return re.sub(r"[\r\n]+", " ", text)


def marked(word: str, share: float) -> str:
    """A wrong word with how sure that is. Example: "fucntion", .97 -> "fucntion{.97}" """
    # The number's own zero alone is dropped: a word that was typed as {0.5 stays as it is.
    return f"{word}{{{f'{share:.2f}'.removeprefix('0')}}}"


def detected_text(line: Detected, threshold: float, coloured: bool) -> str:
    """The line with wrong words red and doubtful ones yellow; without colours, wrong ones with their numbers.

    Example: "The fucntion returns" -> "The fucntion{.97} returns"
    """
    text, done = [], 0
    words = zip(line.spans, line.probability, line.wrong(threshold), line.wrong(threshold / 2), strict=True)
    for (start, end), share, wrong, doubtful in words:
        text.append(line.text[done:start])
        word = line.text[start:end]
        if coloured and doubtful:
            text.append(f"{RED if wrong else YELLOW}{word}{PLAIN}")
        else:
            text.append(marked(word, share) if wrong else word)
        done = end
    return "".join([*text, line.text[done:]])


def filled_text(line: Filled) -> str:
    """The filled line, and under it the likeliest fillings of each blank."""
    text = [one_line(line.filled)]
    for number, blank in enumerate(line.blanks, start=1):
        best = ", ".join(f"{filling.text.strip()} {filling.probability:.1%}" for filling in blank.joint)
        text.append(one_line(f"  [{number}] {best}"))
    return "\n".join(text)
