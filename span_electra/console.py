"""The command `span-electra`: every script by a short name, with the same flags.

span-electra vocab --data_dir "my text"          as python create_vocab_SE.py --data_dir "my text"
span-electra train --preset tiny
span-electra --version
eval "$(span-electra completion)"                bash or zsh then complete commands, flags and choices
"""

from __future__ import annotations

import importlib
import shlex
import sys
import textwrap
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from span_electra.errors import nearest

COMMANDS = {
    "vocab": "create_vocab_SE",
    "features": "create_feature_SE",
    "train": "joint_train_span_electra",
    "prepare": "prepare_tasks_SE",
    "finetune": "finetune_SE",
    "evaluate": "evaluate_SE",
    "predict": "predict_SE",
    "report": "report_SE",
    "export": "export_SE",
}
OURS = "span-electra"
# A word that is neither a flag nor one of few choices is a file's name, which -o default completes.
COMPLETION = """\
[ -z "${{ZSH_VERSION-}}" ] || {{ autoload -Uz compinit bashcompinit && compinit && bashcompinit; }}
_span_electra() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    case "$COMP_CWORD ${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}} $word" in
        "1 "*) words="{commands}" ;;
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _span_electra span-electra"""


def command_line(script: str, *words: object) -> str:
    """What to type for another script, called as this one was; words are quoted where a shell needs it.

    Example: command_line("predict_SE", Path("my runs/a")) -> "python predict_SE.py 'my runs/a'"
    """
    called = sys.argv[0]
    if called.startswith(f"{OURS} "):
        name = next(name for name, ours in COMMANDS.items() if ours == script)
        start = [OURS, name]
    else:
        beside = Path(called).stem in COMMANDS.values()
        start = ["python", str(Path(called).with_name(f"{script}.py")) if beside else f"{script}.py"]
    return shlex.join([*start, *map(str, words)])


def main() -> None:
    """Run the script that the first word names, with the words after it; exits with its code."""
    from span_electra.commandline import run_script

    name, rest = (sys.argv[1:] or ["--help"])[0], sys.argv[2:]
    if name in ("--help", "-h", "help"):
        print(usage())
    elif "--version" in (name, *rest):
        print(f"span-electra {installed_version()}")
    elif name == "completion":
        print(completion())
    elif name in COMMANDS:
        # An installed package has the scripts as modules beside it, a clone has them at its top.
        script = importlib.import_module(COMMANDS[name])
        sys.argv = [f"{OURS} {name}", *rest]  # what --help and errors call the command
        run_script(script.main)
    else:
        by_script = {script: short for short, script in COMMANDS.items()}
        meant = nearest(name.removesuffix(".py"), [*COMMANDS, *by_script])
        hint = by_script.get(meant, meant) if meant else f"one of {', '.join(COMMANDS)}"
        print(f"error: unknown command {name}; did you mean {hint}?", file=sys.stderr)
        sys.exit(2)


def usage() -> str:
    """The commands, each with the first words of its script, as broad as --help is."""
    from span_electra.commandline import help_width

    lines = ["usage: span-electra COMMAND [--SETTING VALUE ...]   (COMMAND --help lists them)\n"]
    for name, script in COMMANDS.items():
        first = importlib.import_module(script).__doc__.strip().splitlines()[0]
        lines.append(textwrap.fill(f"  {name:<9} {first}", help_width(), subsequent_indent=" " * 12))
    lines.append('\n  eval "$(span-electra completion)" lets bash or zsh complete all of this')
    return "\n".join(lines)


def completion() -> str:
    """A program for bash and zsh that completes our commands, their flags, and what few words these take."""
    from span_electra.commandline import Parser
    from span_electra.compose import preset_names
    from span_electra.schema import Settings

    cases = []
    for name, script in COMMANDS.items():
        named = vars(importlib.import_module(script)).values()
        # A script's settings are the one class of them that it imports.
        schema = next(kind for kind in named if isinstance(kind, type) and issubclass(kind, Settings))
        parser = Parser(schema, "")
        cases.append((f'*" {name} "*" -"*', [*parser.flags.values(), "--help"]))
        choices = {key: entry.metadata["choices"] for key, entry in parser.settings.items()}
        choices["preset"] = preset_names()
        for key, flag in parser.flags.items():
            cases.append((f'*" {name} {flag} "*', [word or "none" for word in choices.get(key, ())]))
    lines = "\n".join(f'        {case}) words="{" ".join(words)}" ;;' for case, words in cases if words)
    return COMPLETION.format(commands=" ".join(COMMANDS), cases=lines)


def installed_version() -> str:
    """The version of the installed package, or that this is a clone."""
    try:
        return version("span-electra")
    except PackageNotFoundError:
        return "(a clone, not installed)"
