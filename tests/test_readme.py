"""Every command block of README.md is run, or its flags are read; other pages' flags are flags too.

Run: pytest tests/test_readme.py
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from shell_examples import ROOT, SCHEMAS, Shell, book

from span_electra.commandline import Parser

README = (ROOT / "README.md").read_text()
# What waits, trains long or needs files of a long training: its flags are read, no more.
READ_ONLY = ("--serve", "--push_to_hub", "--max_minutes 60")
# What keeps a run short, besides what the README says.
SHORTER = {
    "create_vocab_SE.py": ["--vocab_size", "300", "--min_fre", "1"],
    "joint_train_span_electra.py": ["--max_steps", "2", "--precision", "fp32"],
    "finetune_SE.py": ["--max_steps", "2", "--precision", "fp32"],
}


def blocks() -> list[list[str]]:
    """The indented blocks but for drawings; lines that go on in the next one are joined."""
    found = []
    for section in README.split("\n## "):
        for block in re.findall(r"(?:^    .*\n)+", section, re.MULTILINE):
            lines = re.sub(r"\\\n\s*", "", block).splitlines()
            if not section.startswith("The tree") and "-->" not in block:
                found.append([line.strip() for line in lines if line.strip()])
    return found


def command_of(line: str) -> tuple[list[str], str]:
    """The words of a command and what is piped into it; a comment follows after two blanks."""
    line = re.split(r"\s{2,}", line)[0]
    piped, _, command = line.rpartition(" | ")
    text = shlex.split(piped)[1] if piped else ""
    return shlex.split(command), text


PYTHON = r"from transformers|pipeline\(|Auto|model[ .]|\"runs/|\)"  # how lines of a program begin
LINES = [line for block in blocks() for line in block]
COMMANDS = [line for line in LINES if line.startswith(("python ", "echo "))]
OTHERS = [line for line in LINES if line not in COMMANDS]


def test_there_are_commands_and_every_other_line_is_known():
    assert len(COMMANDS) > 12
    known = rf"(\. )?\./(run|test|environment)\.sh|CONFIG=\S+ \./train\.sh|{PYTHON}"
    assert not [line for line in OTHERS if not re.match(known, line)]


def test_pages_are_links_that_lead_to_them():
    prose = re.sub(r"(?m)^    .*\n", "", README)
    linked = re.findall(r"\[([^]]+)\]\(([^)]+)\)", prose)
    assert {text for text, target in linked} >= {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")}
    assert all(text == target and (ROOT / target).is_file() for text, target in linked)
    assert not re.search(r"(?<!\[)(?<!\]\()docs/\w", prose), "a page's name that is no link"


def test_shell_scripts_are_there_and_sound():
    for name in re.findall(r"\./(\w+\.sh)", "\n".join(OTHERS)):
        subprocess.run(["bash", "-n", ROOT / name], check=True)
    for config in re.findall(r"CONFIG=(\S+)|--config_file (\S+)", "\n".join(LINES)):
        assert (ROOT / next(filter(None, config))).is_file()


@pytest.mark.parametrize("line", COMMANDS)
def test_flags_are_flags_of_the_script(line):
    (_, script, *flags), _ = command_of(line)
    Parser(SCHEMAS[script], "").read(flags)


@pytest.mark.parametrize("page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"], ids=str)
def test_flags_on_the_other_pages_are_flags_too(page):
    text = page.read_text().replace("\\\n", "")
    commands = re.findall(r"(\w+(?:_SE|_span_electra)\.py)([^`\n]*)", text)
    for script, rest in commands:
        if script in SCHEMAS:  # the first version's name of a script stands in a table, too
            flags = {flag.replace("-", "_") for flag in re.findall(r"(?<!\S)--([\w.-]+)", rest)}
            names = {name[2:].replace("-", "_") for name in Parser(SCHEMAS[script], "").names}
            assert flags <= names, f"{page.name}: {script}: {sorted(flags - names)}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder like a clone, with text of one's own, minimal pairs and misspelt words."""
    place = tmp_path_factory.mktemp("clone")
    for name in ("configs", "examples"):
        (place / name).symlink_to(ROOT / name)
    for name in ("data/train.txt", "data/valid.txt", "my text/a.txt"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(book(200))
    (place / "blimp").mkdir()
    (place / "blimp/a.jsonl").write_text(
        '{"sentence_good": "the cat sees", "sentence_bad": "cat the sees"}\n'
    )
    for split in ("dev", "test"):
        (place / "spelling" / split).mkdir(parents=True)
        (place / "spelling" / split / "corrupt.txt").write_text("the cta sees\n")
        (place / "spelling" / split / "correct.txt").write_text("0 1 0\n")
    return place


def test_the_commands_run_in_their_order(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    shell = Shell(monkeypatch, capsys)
    for line in COMMANDS:
        words, text = command_of(line)
        if any(part in " ".join(words) for part in READ_ONLY):
            continue
        shell.run([*words, *SHORTER.get(words[1], [])], text)
        if words[1] == "joint_train_span_electra.py" and not Path("runs/tiny").exists():
            (run,) = Path("runs").iterdir()  # the README goes on with these two
            shutil.copytree(run, "runs/mine")
            run.rename("runs/tiny")
    program = [line for line in OTHERS if re.match(PYTHON, line)]
    exec("\n".join(program), {})
    assert Path("runs/tiny/evaluation.json").is_file() and Path("comparison.html").is_file()


# --- the other pages ------------------------------------------------------------------------------------

FLAG = r"(?<![\w-])--[a-z][a-z_.]*[a-z]"
FOREIGN = {  # flags of benchmarks, of other programs, of every script, a negation, and a placeholder
    *("--arms", "--data", "--eval", "--languages", "--list", "--minutes", "--rounds", "--rows", "--tasks"),
    *("--local", "--nodes", "--gpus", "--no", "--resolution", "--all", "--flag", "--version", "--help"),
}


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_flags_that_a_page_names_are_there(page):
    """docs/continue.md's first line had a flag that no script took."""
    if page.name == "from-elsewhere.md":
        pytest.skip("names others' flags beside ours; test_elsewhere.py runs its rows")
    ours = [Parser(schema, "").names for name, schema in SCHEMAS.items() if name.endswith(".py")]
    assert set(re.findall(FLAG, page.read_text(encoding="utf-8"))) - FOREIGN <= set().union(*ours)
