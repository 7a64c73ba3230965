"""Commands run as by a shell, but in this process, which has imported everything already; holds no tests."""

import importlib
import io
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import argument
from span_electra.commandline import run_script

ROOT = Path(__file__).resolve().parent.parent
# Script -> its settings.
SCHEMAS = {schema.__doc__: schema for schema in vars(argument).values() if isinstance(schema, type)}
WORDS = ["the", "small", "red", "cat", "dog", "house", "runs", "sleeps", "sees", "in", "under", "a", "tree"]
# Networks that train in a second.
SMALL = [
    *("--embedding_size", "16", "--precision", "fp32"),
    *(
        word
        for network in ("generator", "discriminator")
        for name, size in (("hidden_size", 16), ("num_hidden_layers", 1), ("num_attention_heads", 2))
        for word in (f"--model.{network}.{name}", str(size))
    ),
]


def book(lines: int, seed: int = 0) -> str:
    """Lines of WORDS by chance."""
    dice = random.Random(seed)
    return "".join(" ".join(dice.choices(WORDS, k=12)) + ".\n" for _ in range(lines))


def exit_code(main: Callable[[], object], *argv: str) -> int:
    """Run a script's `main` as its command line would; return the code that it ends with."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", list(argv) or sys.argv)
        patch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back what a script sets
        run_script(main)
    return end.value.code


class Shell:
    """Runs scripts in the working folder."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
        self.patch, self.capsys = patch, capsys

    def run(self, words: list[str], stdin: str = "the [MASK] sleeps\n") -> str:
        """Run `python SCRIPT FLAGS ...`; return what it prints. It must end without an error."""
        python, script, *flags = words
        assert python == "python", words
        self.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # a script prints them
            code = exit_code(importlib.import_module(Path(script).stem).main, script, *flags)
        said = self.capsys.readouterr()
        assert code == 0, f"{words}: {said.err}"
        return said.out
