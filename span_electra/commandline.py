"""A script's command line, made from its dataclass, so that every setting is a flag and none is unread.

A setting is named by its key (`--lr`), or by the dotted path to it where two sections have the same key
(`--model.generator.hidden_size`). Errors are one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import Field
from functools import partial, reduce
from pathlib import Path
from typing import TextIO, TypeVar

from span_electra import progress
from span_electra.compose import Layer, compose, config_file, dump, leaves, peek, preset, section_of
from span_electra.config import OPTIMIZER_DEFAULTS
from span_electra.cores import is_leading, leave, leave_after_crashes, speaks_of, wait_asleep
from span_electra.elsewhere import meant
from span_electra.errors import InputError, reason_of, said_of, show_warnings
from span_electra.schema import Settings, Values, flatten, refuse_unread, shown
from span_electra.storage import CONFIG

Kind = TypeVar("Kind", bound=Settings)
# Given the flags and what the user set (argument.py, preset, file, flags), all layers, lowest first.
Stack = Callable[[Values, list[Layer]], list[Layer]]
OWN_FLAGS = ("config_file", "preset", "print_config")  # of every script, besides its settings
RAW_TEXT = "raw text, with --raw_text_dir alone"
GROUPS = ("most needed", "data", RAW_TEXT, "model", "optimization", "schedule", "run", "devices")
SECTION_GROUPS = {"model": "model", "optimizer": "optimization", "train_data": "data", "valid_data": "data"}
WIDEST = 100  # columns of --help; a narrower terminal gets narrower lines
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")  # one number, as we print it
IN_CLONE = Path(__file__).resolve().parents[1].joinpath("run.sh").is_file()  # not in an installed package


# --- the parser ---------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, with the flag that was meant."""

    def __init__(self, schema: type[Settings], description: str) -> None:
        """One flag a setting of `schema`; only what is given comes out of `read`."""
        super().__init__(
            description=fit(description, help_width()),
            usage=f"%(prog)s {positional_of(schema)}[--config_file FILE] [--SETTING VALUE ...]",
            formatter_class=partial(
                argparse.RawDescriptionHelpFormatter, max_help_position=30, width=help_width()
            ),
            argument_default=argparse.SUPPRESS,  # what is not given must not hide a config file's value
            allow_abbrev=False,  # an abbreviation would mean another flag once a longer one is added
            epilog="A setting of a section is also a flag by its dotted path, as in a config file.",
        )
        self.schema, self.settings = schema, leaves(schema)
        self.defaults = schema()  # of the whole: a section may be another than its class makes
        self.named = flatten(schema.NAMED)  # other defaults, of argument.py
        self.flags: dict[str, str] = {}  # how a key is shown: by its end alone where that is enough
        self.names = {f"--{name}" for name in OWN_FLAGS}
        self.switches: set[str] = set()  # flags without a value
        self.numbers: set[str] = set()  # flags with a list of numbers
        first, sections = list(schema.FIRST), {key.partition(".")[0] for key in self.settings if "." in key}
        groups = {name: self.add_argument_group(name) for name in GROUPS}
        own = groups["most needed" if "config_file" in first else "run"]
        self._own(own, "config_file", "FILE", "JSON or YAML settings; of several the last lies on top")
        presets = "settings of configs/NAME.json, under those of --config_file"
        # Presets say how to pretrain; elsewhere the flag is known, and refused with the key that is none.
        self._own(own, "preset", "NAME", presets if "model" in sections else argparse.SUPPRESS)
        self._own(groups["run"], "print_config", None, "print all settings as a config file and stop")
        # The most needed stand as they are listed, the rest as declared.
        for key in sorted(
            self.settings, key=lambda key: first.index(leaf(key)) if leaf(key) in first else 99
        ):
            section = SECTION_GROUPS.get(key.partition(".")[0], "run") if "." in key else "run"
            group = self.settings[key].metadata.get("group") or section
            group = RAW_TEXT if leaf(key) in schema.RAW_TEXT else group
            self._setting(groups["most needed" if leaf(key) in first else group], key)

    def _own(self, group: argparse.ArgumentParser, name: str, value: str | None, text: str) -> None:
        self.flags[name] = f"--{name}"
        # Each time it is given counts: the first of two files would go without a word.
        options = {"metavar": value, "action": "append"} if value else {"action": "store_true"}
        group.add_argument(f"--{name}", help=text, **options)

    def _setting(self, group: argparse.ArgumentParser, key: str) -> None:
        entry = self.settings[key]
        # What training and validation both have is, without a section, training's.
        unique = sum(leaf(other) == leaf(key) for other in self.settings) == 1 or key.startswith("train_data")
        names = [f"--{leaf(key)}", f"--{key}"] if unique else [f"--{key}"]
        hidden = leaf(key) in self.schema.HIDDEN
        if not hidden:
            self.flags[key] = names[0]
        self.names |= {*names}
        default = reduce(getattr, key.split("."), self.defaults)
        text = argparse.SUPPRESS if hidden else help_of(entry, self.named.get(key, default))
        options = {"dest": key, "help": text}
        if isinstance(default, bool):
            options["action"] = argparse.BooleanOptionalAction
            self.switches |= {*names}
            self.names |= {f"--no-{name[2:]}" for name in names}
        elif isinstance(default, list):
            options |= {"nargs": "+", "metavar": "VALUE"}
            if str(entry.type) in ("list[int]", "list[float]"):
                self.numbers |= {*names}
            else:  # given twice, both count: the first of two files would go without a word
                options["action"] = "extend"
        elif entry.metadata.get("alone"):
            options |= {"nargs": "?", "const": entry.metadata["alone"], "metavar": "VALUE"}
        else:
            options["metavar"] = "VALUE"
        group.add_argument(names[0], **options)
        if names[-1] != names[0]:  # the dotted path is a flag too; listed, it would double the help
            group.add_argument(names[-1], **{**options, "help": argparse.SUPPRESS})

    def error(self, message: str) -> None:
        """Raise InputError."""
        raise InputError(f"{message}; see {self.prog} --help")

    def read(self, argv: list[str]) -> Values:
        """What the command line gives, by key. Raises InputError naming the flag that was meant."""
        argv = first_as(self.schema.POSITIONAL, argv) if self.schema.POSITIONAL else argv
        # All unknown flags come back, instead of argparse's own error, which names no nearest one.
        known, unknown = self.parse_known_args(self.written_as_ours(argv))
        first, given = self.schema.POSITIONAL, vars(known)
        if first and first not in given:
            # A list takes all words behind its flag, also the model that was meant to stand by itself.
            last = [given[key][-1] for key in given if isinstance(given[key], list) and key not in OWN_FLAGS]
            stray = [word for word in unknown[:1] if not word.startswith("-")]
            if behind := stray or [word for word in last if holds_model(word)]:
                raise InputError(f"{behind[0]}: stands behind flags; put it first, or --{first} {behind[0]}")
        if not unknown:
            return given
        name = unknown[0].partition("=")[0]
        key, note = meant(name, self.flags) if name.startswith("-") else (None, "")
        hint = note or f"see {self.prog} --help"
        if key:
            hint = f"did you mean {self.flags[key]}?" + (f" ({note})" if note else "")
        raise InputError(f"unknown argument {unknown[0]}; {hint}")

    def written_as_ours(self, argv: list[str]) -> list[str]:
        """The command line with plain meanings brought into our form.

        Hyphens for underscores; `--device ids 0 1`; `--device_ids 0,1`; `--train_occur 20,000`;
        `--resume_train True` for a switch.
        """
        ours = {flag.replace("-", "_"): flag for flag in self.names}
        words, numbers = [], False
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if not word.startswith("--"):
                words += listed(word) if numbers else [word]
                continue
            name, equals, value = word.partition("=")
            name = ours.get(name.replace("-", "_"), name)
            if name == "--device" and rest[:1] == ["ids"]:
                name, rest = "--device_ids", rest[1:]
            numbers = name in self.numbers  # the words up to the next flag are its list
            # A switch takes no value; yes or no behind it is a habit from systems whose switches do.
            if name in self.switches and not equals and rest and rest[0].lower() in YES + NO:
                equals, value = "=", rest.pop(0)
            if name in self.switches and value.lower() in YES + NO:
                words.append(name if value.lower() in YES else f"--no-{name[2:]}")
            elif equals and numbers:
                words += [name, *listed(value)]
            else:
                words.append(name + equals + value)
        return words


def listed(word: str) -> list[str]:
    """The numbers of a list's word. Examples: [0,1] -> 0 and 1; 20,000 -> 20000"""
    word = word.replace(",", "") if THOUSANDS.fullmatch(word) else word
    return word.strip("[]").replace(",", " ").split()


def positional_of(schema: type[Settings]) -> str:
    """What the usage line says of the value before all flags. Example: "[RUNS ...] " of a list of them"""
    name = schema.POSITIONAL
    several = name and isinstance(getattr(schema(), name), list)
    return f"[{name.upper()}{' ...' if several else ''}] " if name else ""


def help_width() -> int:
    """Columns of --help."""
    return min(WIDEST, shutil.get_terminal_size().columns - 2)


def fit(text: str, width: int) -> str:
    """A script's first words: paragraphs broken anew, what an example does put below it where it is long."""
    parts = []
    for part in text.strip().split("\n\n"):
        if part.startswith(" "):
            captions = [
                re.sub(r"(?<=\S) {2,}(?=\S)", "\n        ", line, count=1) if len(line) > width else line
                for line in part.splitlines()
            ]
            parts.append("\n".join(captions))
        else:
            parts.append(textwrap.fill(part, width))
    return "\n\n".join(parts)


def leaf(key: str) -> str:
    """The end of a dotted key: optimizer.lr -> lr"""
    return key.rpartition(".")[2]


def help_of(entry: Field, default: object) -> str:
    """The help of a setting, with its choices and its default."""
    choices = entry.metadata.get("choices")
    listed = f" ({', '.join(map(shown, choices))})" if choices else ""
    now = " ".join(map(str, default)) if isinstance(default, list) else shown(default)
    # argparse fills in what follows a percent sign.
    return f"{entry.metadata['help']}{listed} [{now or 'none'}]".replace("%", "%%")


# --- settings -----------------------------------------------------------------------------------------


def parse(
    schema: type[Kind], description: str, argv: list[str] | None = None, stack: Stack | None = None
) -> Kind:
    """Settings of `schema` from argument.py, the preset and the config file that flags name, and the flags.

    `stack` may lay more under or between these (a resumed run's own settings). Prints the settings and exits
    with code 0 on --print_config. Raises InputError for anything wrong.
    """
    parser = Parser(schema, description)
    given = parser.read(sys.argv[1:] if argv is None else argv)
    layers = [Layer(f"{schema.__module__}.py", schema.NAMED)]
    layers += [*map(preset, given.get("preset", [])), *map(config_file, given.get("config_file", []))]
    layers += [
        Layer(parser.flags.get(key, f"--{leaf(key)}"), _nested(key, value))
        for key, value in given.items()
        if key not in OWN_FLAGS
    ]
    if stack:
        layers = stack(given, layers)
    settings = compose(schema, with_optimizer_defaults(schema, layers))
    refuse_unread(settings, given.keys() & parser.settings.keys(), parser.flags)
    for layer in layers:
        if layer.note and is_leading():  # torchrun runs us once a process
            print(layer.note(), file=sys.stderr)  # standard output is the config file of --print_config
    if given.get("print_config"):
        print(dump(settings))
        raise SystemExit(0)
    return settings


def with_optimizer_defaults(schema: type[Settings], layers: list[Layer]) -> list[Layer]:
    """The same layers, with the rates and epsilon that go with the chosen optimizer where nobody named them.

    They lie over presets, whose rates are for the optimizer that each names (AdamW, if none), and under all
    else.
    """
    sections = [section_of(layer, "optimizer") for layer in layers]
    choices = [number for number, section in enumerate(sections) if "optimizer" in section]
    key = "optimizer.optimizer"
    kinds = ["adamw", *(peek(schema, layers[: number + 1], [key])[key] for number in choices[-2:])]
    if not choices or kinds[-1] == kinds[-2]:
        return layers  # what the layers below have, at their own rate
    by_user = set()
    # A rate in a layer above the choice goes with it, and one in a file or flag is the user's word.
    for number, section in enumerate(sections):
        if number >= choices[-1] or not layers[number].is_preset:
            by_user |= set(section)
    values = {"embedding_lr": None} | OPTIMIZER_DEFAULTS.get(str(kinds[-1]), {})
    missing = {name: value for name, value in values.items() if name not in by_user}
    return [*layers, Layer(f"defaults of {kinds[-1]}", {"optimizer": missing})] if missing else layers


def _nested(key: str, value: object) -> Values:
    """Example: ("model.generator.hidden_size", "64") -> {"model": {"generator": {"hidden_size": "64"}}}"""
    head, _, rest = key.partition(".")
    if rest:
        return {head: _nested(rest, value)}
    return {head: [*map(_plain, value)] if isinstance(value, list) else _plain(value)}


def _plain(value: object) -> object:
    """A flag's text as it stands: no interpolation is one."""
    return value.replace("${", "\\${") if isinstance(value, str) else value


def first_as(name: str, argv: list[str]) -> list[str]:
    """The command line with what stands before all flags put under the flag `name`.

    Example: ("model", ["runs/first", "--text", "a.txt"]) -> ["--model", "runs/first", "--text", "a.txt"]
    """
    return [f"--{name}", *argv] if argv and not argv[0].startswith("-") else argv


def holds_model(place: str) -> bool:
    """Whether a folder looks like a run, a checkpoint or an exported folder."""
    return any(any(Path(place).glob(pattern)) for pattern in (CONFIG, f"*/{CONFIG}", "*.safetensors"))


# --- running ------------------------------------------------------------------------------------------


def write_any_text(*streams: TextIO) -> None:
    """Let streams take any character, whatever the locale says, and pass each line on as it is written.

    Files and pipes get UTF-8, which is what our scripts read. A terminal keeps its encoding, and gets an
    escape such as \\u2028 for what that lacks: UTF-8 would be letters of another alphabet there.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):  # a test or a notebook may have put something else there
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace", line_buffering=True)


def in_a_line(error: Exception) -> str:
    """What is wrong and what to do, where a user can mend it; any other error is our fault, and is raised."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        return said_of(error)
    if isinstance(error, ModuleNotFoundError):
        name, python = (error.name or "").partition(".")[0], Path(sys.executable).name
        if name in sys.stdlib_module_names:
            return (
                f"{sys.executable} lacks {name!r}, a part of Python on Linux and macOS; on Windows work in "
                "WSL, elsewhere install a Python that has it"
            )
        if name not in ("", "span_electra", "argument"):  # an own module must be there
            way_out = f"install span-electra again from its clone, which brings it: {python} -m pip install ."
            if IN_CLONE:
                way_out = "run ./run.sh once and then `. .venv/bin/activate`, or "
                way_out += f"{python} -m pip install -r requirements.txt"
            return f"{sys.executable} has no package {name!r}; {way_out}"
    if isinstance(error, (MemoryError, RuntimeError)):
        from span_electra.accelerators import lacks_memory  # late: with it comes torch

        if lacks_memory(error):
            sizes = "--batch_size (--train_batch_size, --valid_batch_size, --eval_batch_size)"
            lower = f"lower {sizes}, --workers or --chunk_size, whichever this command has"
            return f"out of memory ({reason_of(error)}); {lower}"
    if isinstance(error, NotImplementedError):
        # An operator that torch has not made for the device.
        if found := re.search(r"'(\w+::[\w.]+)'", str(error)):
            return (
                f"torch lacks {found[1]} for this device; give --device cpu or, on a Mac, set "
                "PYTORCH_ENABLE_MPS_FALLBACK=1, which computes it on the CPU"
            )
    raise error


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's main and exit with its code; bad input is one line and code 2, a warning one line.

    A main imports within what it works with, so that --help and a refused flag need not wait for that.
    """
    wait_asleep()
    show_warnings(aloud=is_leading())
    leave_after_crashes()
    # A stream that was closed for us (>&-) is none at all.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")
    write_any_text(sys.stdout, sys.stderr)
    if not sys.stderr.isatty():  # libraries' bars would be one endless line there
        os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    progress.start()
    try:
        code = main()
    except BrokenPipeError:
        code = 1  # the reader of our output went away; nothing is left to say
    except (InputError, OSError, ModuleNotFoundError, MemoryError, RuntimeError) as error:
        if speaks_of(error):
            print(f"error: {in_a_line(error)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stopped by the keyboard", file=sys.stderr)
        code = 130
    finally:
        progress.stop()
    leave(code or 0)
