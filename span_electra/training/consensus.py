"""All processes of a run or none: errors that are raised together, and whether all have read the same.

A process that ended alone would leave the others waiting for it, until whoever started them kills them; and
one that read other files would train on without a word, on gradients of another model or of other rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from span_electra.errors import InputError, SharedInputError, reason_of, said_of
from span_electra.training.devices import Agreement

SHOWN = 40  # characters of a value in an error; longer ones are compared, and shown, by their hash


@contextmanager
def raised_together(agreement: Agreement) -> Iterator[None]:
    """A block that all processes pass, or none. All must come to its end, and none may ask another inside.

    Raises SharedInputError with the words of the first process that was refused. What is no bad input is
    raised as it is where it came from, and a ConnectionError elsewhere.
    """
    if agreement.group is None:
        yield
        return
    mine: Exception | None = None
    try:
        yield
    except Exception as error:
        mine = error
    # Asked of all, whatever happened here: who knows of no error must not go on alone either.
    told = agreement.gather(None if mine is None else words_of(mine))
    refused = [(rank, said) for rank, said in enumerate(told) if said and said[0]]
    broken = [(rank, said[1]) for rank, said in enumerate(told) if said and not said[0]]
    # Beside a crash, whose traceback is to be seen, each raises its own.
    if refused and not broken:
        rank, (_, said) = refused[0]
        raise SharedInputError(said if rank == 0 else f"process {rank}: {said}") from mine
    if mine is not None:
        raise mine
    if broken:
        raise ConnectionError(f"process {broken[0][0]} failed ({broken[0][1]})")


def words_of(error: Exception) -> tuple[bool, str]:
    """Whether a user can mend what an error tells of, and what is to be said of it."""
    if isinstance(error, InputError):
        return True, str(error)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return True, said_of(error)
    return False, f"{type(error).__name__}: {reason_of(error)}"


def refuse_differences(agreement: Agreement, facts: Mapping[str, Any]) -> None:
    """Raise SharedInputError on all processes where one has read something else than the first.

    facts: what follows from what was read, as JSON has it. Example: `process 1: order.rows is 54, process 0
    has 60: they have read other files; give all machines the same ...`
    """
    first, *others = agreement.gather(flat(facts))
    for rank, other in enumerate(others, start=1):
        for name in sorted(first.keys() | other.keys()):
            ours, theirs = first.get(name, "nothing"), other.get(name, "nothing")
            if ours != theirs:
                raise SharedInputError(
                    f"process {rank}: {name} is {theirs}, process 0 has {ours}: they have read other files; "
                    "give all machines the same features, settings and checkpoint, and start again"
                )


def flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Values by dotted names, each as short text.

    Example: {"order": {"rows": 54}, "seed": 1} -> {"order.rows": "54", "seed": "1"}
    """
    found: dict[str, str] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            text = json.dumps(value, sort_keys=True)
            found[f"{prefix}{key}"] = text if len(text) <= SHOWN else hash_of(value)
    return found


def hash_of(value: Any) -> str:
    """Twelve digits by which values are told from each other."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
