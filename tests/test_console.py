"""The command `span-electra`, and what is packaged. Run: pytest tests/test_console.py"""

import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from shell_examples import ROOT, SCHEMAS

from span_electra import console
from span_electra.commandline import Parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS = {path.stem for path in ROOT.glob("*_SE.py")} | {"joint_train_span_electra"}


def test_every_script_has_a_command():
    assert set(console.COMMANDS.values()) == SCRIPTS


def test_every_script_argument_py_and_the_presets_are_packaged():
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {f"{name}.py" for name in SCRIPTS} | {"argument.py", "span_electra"} == set(wheel["only-include"])
    assert wheel["force-include"] == {
        "configs": "span_electra/configs",
        "docs/from-elsewhere.md": "span_electra/from-elsewhere.md",
    }
    assert (ROOT / "span_electra/py.typed").exists()


@pytest.mark.parametrize("extra, file", [(None, "requirements.txt"), ("test", "requirements-test.txt")])
def test_the_requirement_files_say_what_pyproject_says(extra, file):
    project = PROJECT["project"]
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line]
    for mine, theirs in zip(found, map(Requirement, listed), strict=True):
        if str(mine) != str(theirs):  # a clone pins torch, to a version that the package allows
            assert mine.name == theirs.name == "torch"
            assert all(theirs.specifier.contains(pin.version) for pin in mine.specifier)


def test_the_extras_that_pages_name_are_those_there_are():
    pages = [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    named = re.findall(
        r"pip install [^`\n]*\.\[([\w,]+)\]", " ".join(page.read_text() for page in pages).replace("\n", " ")
    )
    assert {extra for words in named for extra in words.split(",")} == set(
        PROJECT["project"]["optional-dependencies"]
    )


def test_a_command_runs_its_script_and_exits_with_its_code(tmp_path):
    program = "from span_electra.console import main; main()"

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    helped = run("features", "--help")
    assert helped.returncode == 0 and helped.stdout.startswith("usage: span-electra features ")
    refused = run("vocab", "--data_dir", "nowhere")
    assert refused.returncode == 2
    # On a machine that is busy enough a line before it says that the command is at work.
    (line,) = (line for line in refused.stderr.splitlines() if ": at work for " not in line)
    assert line.startswith("error: ") and "nowhere" in line


def test_an_unknown_command_names_the_right_one(monkeypatch, capsys):
    for word, meant in (
        ("trian", "train"),
        ("jointTrainSpanElectra.py", "train"),
        ("export_SE.py", "export"),
    ):
        monkeypatch.setattr(sys, "argv", ["span-electra", word])
        with pytest.raises(SystemExit) as stopped:
            console.main()
        assert stopped.value.code == 2 and f"did you mean {meant}?" in capsys.readouterr().err


def test_usage_fits_and_lists_the_commands_and_version_is_said(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["span-electra"])
    console.main()
    said = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", said, re.M) for name in console.COMMANDS)
    assert max(map(len, said.splitlines())) <= 80
    for words in (["--version"], ["train", "--version"]):
        monkeypatch.setattr(sys, "argv", ["span-electra", *words])
        console.main()
        assert capsys.readouterr().out.startswith("span-electra ")


@pytest.fixture(scope="module")
def complete():
    """What bash would offer behind some words, the last of which is being typed."""
    if not shutil.which("bash"):
        pytest.skip("no bash is installed")
    program = [console.completion(), 'COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))', "_span_electra"]

    def offered(*words: str) -> list[str]:
        lines = "; ".join([*program[1:], 'printf "%s\\n" "${COMPREPLY[@]}"'])
        command = ["bash", "-uc", f"{program[0]}\n{lines}", "bash", "span-electra", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert not done.stderr
        return done.stdout.split()

    return offered


@pytest.mark.parametrize("name", console.COMMANDS)
def test_bash_completes_the_flags_of_each_command_and_their_choices(name, complete):
    parser = Parser(SCHEMAS[f"{console.COMMANDS[name]}.py"], "")
    assert complete(name[:2]) == [other for other in console.COMMANDS if other.startswith(name[:2])]
    assert complete(name, "--") == complete(name, "x.txt", "--") == [*parser.flags.values(), "--help"]
    assert complete(name, "--preset", "ti") == ["tiny"]
    for key, entry in parser.settings.items():
        choices = [str(choice or "none") for choice in entry.metadata["choices"]]
        if key in parser.flags:  # none: a file's name is completed
            assert complete(name, "--help", parser.flags[key], "") == choices
