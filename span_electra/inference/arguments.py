"""The arguments of replies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from span_electra.errors import InputError
from span_electra.finetuning.turns import usual_reply
from span_electra.schema import Settings, setting

USUAL_TOP_P = 0.9  # cuts the long tail of unlikely words (Holtzman et al. 2020, section 5)
# Which tasks read a flag: those of pretrained models by name, those of fine-tuned ones by type.
READ_BY = {
    "threshold": ("detect", "correct", "SpellingWords"),
    "top_k": ("fill", "correct", "Conversation"),
    **dict.fromkeys(
        ("max_new_tokens", "temperature", "top_p", "beams", "no_repeat_ngram", "seed"), ("Conversation",)
    ),
}
LEAST_PROMPT = 3  # tokens: a separator, one of the last turn, a separator


@dataclass(frozen=True)
class GenerationArguments(Settings):
    """How replies are made. What is None fits itself to the rest, see `fitted`."""

    max_new_tokens: int | None = setting(
        None, "most tokens of a reply; none: 40, and at most half a row", least=1
    )
    temperature: float = setting(
        1.0, "replies: below 1 likelier tokens, above 1 more varied; 0: no draws", least=0
    )
    top_k: int | None = setting(
        None, "fillings told, candidates tried, none: 5; replies draw from so many tokens, none: all", least=1
    )
    top_p: float | None = setting(
        None,
        "replies: draw from the likeliest tokens of this share, 1 from all; none: 0.9, with beams 1",
        above=0,
        most=1,
    )
    beams: int = setting(1, "replies: searched side by side; above 1 nothing is drawn", least=1)
    no_repeat_ngram: int = setting(0, "replies: no run of so many tokens comes twice; 0: any may", least=0)
    seed: int = setting(0, "replies: seed of the draws", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        drawn = self.top_k or self.top_p not in (None, 1) or self.temperature not in (0, 1)
        if self.beams > 1 and drawn:
            raise InputError(
                f"beams: {self.beams} beams draw nothing, so temperature, top_k and top_p have no say; "
                "leave these out, or set beams 1"
            )

    def fitted(self, longest: int, turns: int = 0) -> GenerationArguments:
        """The settings of the reply to so many turns, in rows of `longest` tokens: none but top_k is None.

        Each turn has draws of its own. Raises InputError where a row would have no room for a turn.
        """
        most, top_p = self.max_new_tokens or usual_reply(longest), self.top_p
        if longest - most < LEAST_PROMPT:
            raise InputError(
                f"max_new_tokens: {most} leave no room for a turn in the model's rows of {longest} tokens; "
                f"give {longest - LEAST_PROMPT} at most"
            )
        if top_p is None:
            top_p = 1.0 if self.beams > 1 else USUAL_TOP_P
        return replace(self, max_new_tokens=most, top_p=top_p, seed=self.seed + turns)


def refuse_unread(given: Collection[str], asked: Collection[str]) -> None:
    """Raises InputError for a flag that was given and no task which is `asked` reads, whatever its value."""
    # By what was given, not by values: a default that is written out is meant too.
    for name, readers in READ_BY.items():
        if name in given and not set(readers) & set(asked):
            raise InputError(
                f"--{name}: nothing that is asked for reads it, only {' and '.join(readers)}; leave it out"
            )
