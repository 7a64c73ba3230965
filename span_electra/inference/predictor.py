"""What a trained model can do with a line of text, from Python:

    >>> predictor = Predictor.from_folder("runs/tiny")
    >>> predictor.fill(["The function returns a [MASK] of strings."])[0].filled
    >>> predictor.detect(["The fucntion returns."])[0].probability      # one for each word
    >>> predictor.correct(["The fucntion returns."])[0].corrected
    >>> predictor.embed(["The function returns."]).shape               # [N, D]

Lines may have any length; results stand in the order of the lines.
N lines, T content tokens of a line, D width
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from span_electra.hub.networks import Networks, for_each_token, open_networks
from span_electra.inference.candidates import Candidates
from span_electra.inference.correction import Corrected, correct
from span_electra.inference.detection import Detected, detect
from span_electra.inference.filling import Filled, fill
from span_electra.text.token_spans import frame, over_windows, read_lines


@dataclass(frozen=True)
class Predictor:
    """Opened networks, asked by lines of text."""

    networks: Networks

    @classmethod
    def from_folder(cls, folder: str | Path, device: str = "auto", batch_size: int = 32) -> Predictor:
        """Open a run, a pair of exported networks or one of them; see `networks.open_networks`."""
        return cls(open_networks(folder, device, batch_size))

    @cached_property
    def candidates(self) -> Candidates:
        """The words that a correction may put in."""
        return Candidates(self.networks.vocabulary)

    def fill(self, texts: list[str], top_k: int = 5) -> list[Filled]:
        """What the generator would write for each [MASK], and for runs of them as a whole."""
        return fill(self.networks, texts, top_k=top_k)

    def detect(self, texts: list[str]) -> list[Detected]:
        """The probability that each word, cut at white space, is wrong."""
        return detect(self.networks, texts)

    def correct(self, texts: list[str], threshold: float = 0.5, top_k: int = 5) -> list[Corrected]:
        """Words at or above the threshold replaced by the best of `top_k` candidates that both networks back.

        Words of more than correction.LONGEST_WORD characters stay as they are.
        """
        return correct(self.networks, self.candidates, texts, threshold=threshold, top_k=top_k)

    def embed(self, texts: list[str]) -> np.ndarray:
        """The mean of the last hidden states of a line's tokens, float32 [N, D]; zeros for an empty line.

        The discriminator's states, which is the network to fine-tune; the generator's if it is alone.
        """
        part = "discriminator" if self.networks.discriminator else "generator"
        vocabulary = self.networks.vocabulary

        def states(rows: list[np.ndarray]) -> list[np.ndarray]:
            return for_each_token(self.networks, part, rows, lambda states_BLD: states_BLD)

        ids = [line.ids_T for line in read_lines(vocabulary, texts)]
        # Asked of an empty row: without any line there would be no array to see the width of.
        width = states([frame(vocabulary, np.zeros(0, np.int64))])[0].shape[1]
        means = np.zeros((len(texts), width), np.float32)
        for number, states_TD in enumerate(over_windows(vocabulary, self.networks.longest, ids, states)):
            if len(states_TD):
                means[number] = states_TD.mean(axis=0)
        return means
