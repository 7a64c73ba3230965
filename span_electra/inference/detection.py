"""Detection: the discriminator's probability that each word of a line is wrong.

Nobody has taught it spelling. A misspelt word falls into tokens that do not belong together, and tokens that
do not belong where they stand are what replaced-token detection finds.

T  content tokens of a line
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from span_electra.hub.networks import Networks, replaced_probability
from span_electra.text.token_spans import Line, over_windows, pool_words, read_lines

# How tokens' probabilities become a word's. A misspelt word falls into several odd tokens, none of which need
# be improbable by itself: of pool_words' three ways this has found most on development sets.
POOLING = "any"


@dataclass(frozen=True)
class Detected:
    """A line, its words, and the probability that each is wrong."""

    text: str
    words: list[str]
    spans: list[tuple[int, int]]  # characters of each word
    probability: list[float]

    def wrong(self, threshold: float) -> list[bool]:
        """Whether each word is called wrong: from the threshold on, as --threshold says everywhere."""
        return [share >= threshold for share in self.probability]

    def highest(self, start: int, end: int) -> float:
        """The highest probability of the words in characters [start, end), which are not all blank."""
        # Spans follow each other without overlap.
        first = bisect_right(self.spans, start, key=lambda span: span[1])
        last = bisect_left(self.spans, end, key=lambda span: span[0])
        return max(self.probability[first:last])


def token_probabilities(networks: Networks, lines: list[Line]) -> list[np.ndarray]:
    """Return the discriminator's probability of `was replaced` for every token, float32 [T] a line.

    A [MASK] is no word that could be wrong: it gets 0. (In training no discriminator ever sees one, so its
    answer there would mean nothing.)
    """
    # A line longer than a row is read in windows that overlap, each token judged where it sees most.
    probabilities = over_windows(
        networks.vocabulary,
        networks.longest,
        [line.ids_T for line in lines],
        lambda rows: replaced_probability(networks, rows),
    )
    mask_id = networks.vocabulary.mask_id
    return [
        np.where(line.ids_T == mask_id, np.float32(0), probability_T)
        for line, probability_T in zip(lines, probabilities, strict=True)
    ]


def detect(networks: Networks, texts: list[str]) -> list[Detected]:
    """Return the probability that each word of each line is wrong, that is, any of its tokens."""
    return detect_lines(networks, read_lines(networks.vocabulary, texts))


def detect_lines(networks: Networks, lines: list[Line]) -> list[Detected]:
    """The same for lines that have been cut into tokens and words."""
    probabilities = token_probabilities(networks, lines)
    return [
        Detected(
            text=line.text,
            words=line.words,
            spans=list(line.word_spans),
            probability=pool_words(probability_T, line.word_T, len(line.word_spans), POOLING).tolist(),
        )
        for line, probability_T in zip(lines, probabilities, strict=True)
    ]
