"""A script's command line, made from its dataclass, so that every setting is a flag and none is unread.

A setting is named by its key (`--lr`), or by the dotted path to it where two sections have the same key
(`--model.generator.hidden_size`). Errors are one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import difflib
import io
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

from span_electra.compose import Layer, compose, config_file, dump, leaves, preset
from span_electra.errors import InputError

Settings = TypeVar("Settings")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and the nearest flag there is."""

    def error(self, message: str):
        raise InputError(f"{message}; see {self.prog} --help")

    def parse_args(self, argv: list[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        known, unknown = self.parse_known_args(argv, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            nearest = difflib.get_close_matches(unknown[0].split("=")[0], flags, 1, 0.4)
            hint = f"did you mean {nearest[0]}?" if nearest else f"see {self.prog} --help"
            raise InputError(f"unknown argument {unknown[0]}; {hint}")
        return known


def parser_for(schema: type, description: str) -> argparse.ArgumentParser:
    """The parser with one flag a setting of `schema`; only what is given lands in its namespace."""
    parser = _Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config_file", help="JSON or YAML file of settings, laid over the defaults")
    parser.add_argument("--preset", help="settings of configs/<name>.json, under those of --config_file")
    parser.add_argument("--print_config", action="store_true", help="print the whole settings and stop")
    settings = leaves(schema)
    for key, entry in settings.items():
        leaf = key.rpartition(".")[2]
        alone = sum(other.rpartition(".")[2] == leaf for other in settings) == 1
        names = [f"--{leaf}"] if alone else []
        if key != leaf:
            names.append(f"--{key}")
        _add(parser, names, key, entry)
    return parser


def _add(parser: argparse.ArgumentParser, names: list[str], key: str, entry: Any) -> None:
    default = entry.default_factory() if callable(entry.default_factory) else entry.default
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    choices = entry.metadata.get("choices")
    text = entry.metadata.get("help", "")
    listed = f" ({', '.join(map(str, choices))})" if choices else ""
    text = f"{text}{listed} [{'none' if shown in (None, '') else shown}]".replace("%", "%%")
    if isinstance(default, bool):
        parser.add_argument(*names, dest=key, action=argparse.BooleanOptionalAction, help=text)
    elif isinstance(default, list):
        parser.add_argument(*names, dest=key, nargs="+", metavar="VALUE", help=text)
    else:
        parser.add_argument(*names, dest=key, metavar="VALUE", help=text)


def parse(
    schema: type[Settings],
    description: str,
    argv: list[str] | None = None,
    base: Callable[[dict[str, Any]], list[Layer]] | None = None,
) -> Settings:
    """Settings of `schema` from the command line, the preset and the config file it names.

    `base`, given the flags, may supply layers that lie under all of these (a resumed run's own settings).
    Prints the settings and exits with code 0 on --print_config. Raises InputError for anything wrong.
    """
    given = vars(parser_for(schema, description).parse_args(argv))
    layers = base(given) if base else []
    if "preset" in given:
        layers.append(preset(given.pop("preset")))
    if "config_file" in given:
        layers.append(config_file(given.pop("config_file")))
    only_print = given.pop("print_config", False)
    for key, value in given.items():
        layers.append(Layer(f"--{key.rpartition('.')[2]}", _nested(key, value)))
    settings = compose(schema, layers)
    if only_print:
        print(dump(settings))
        raise SystemExit(0)
    return settings


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Example: ("model.generator.hidden_size", "64") -> {"model": {"generator": {"hidden_size": "64"}}}"""
    head, _, rest = key.partition(".")
    if rest:
        return {head: _nested(rest, value)}
    if isinstance(value, list):
        return {head: [_plain(item) for item in value]}
    return {head: _plain(value)}


def _plain(value: Any) -> Any:
    """A flag's text as it stands: 'none' is none, and what looks like an interpolation is not one."""
    if not isinstance(value, str):
        return value
    return None if value.lower() in ("none", "null") else value.replace("${", "\\${")


def first_as(name: str, argv: list[str]) -> list[str]:
    """The command line with what stands before all flags put under the flag `name`.

    Example: ("model", ["runs/first", "--text", "a.txt"]) -> ["--model", "runs/first", "--text", "a.txt"]
    """
    return [f"--{name}", *argv] if argv and not argv[0].startswith("-") else argv


def write_any_text(*streams: TextIO) -> None:
    """Let streams take any character, whatever the locale says.

    Files and pipes get UTF-8, which is what our scripts read. A terminal keeps its encoding, and gets an
    escape such as \\u2028 for what that lacks: UTF-8 would be letters of another alphabet there.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):  # a test or a notebook may have put something else there
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's main and exit with its code; bad input is one line and code 2, a warning one line."""
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    write_any_text(sys.stdout, sys.stderr)
    try:
        code = main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        code = 1  # the reader of our output went away; nothing is left to say
    except OSError as error:
        # The disk, a permission, a path: the user's to mend, and the error names the file.
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}; mend that and run again", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stopped by the keyboard", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
