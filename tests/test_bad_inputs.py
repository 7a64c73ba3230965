"""Bad inputs to every script: exit 2, one line that names what and the way out, nothing new on the disk.

Run: pytest tests/test_bad_inputs.py
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from bad_input_cases import CASES
from bad_input_examples import TEXT, write_features, write_settings, write_texts, write_vocabularies
from shell_examples import ROOT, SCHEMAS, exit_code

import create_feature_SE
import create_vocab_SE
import evaluate_SE
import export_SE
import finetune_SE
import joint_train_span_electra
import predict_SE
import prepare_tasks_SE
import report_SE
from span_electra.commandline import Parser

MAIN = {
    "vocab": create_vocab_SE.main,
    "feature": create_feature_SE.main,
    "train": joint_train_span_electra.main,
    "prepare": prepare_tasks_SE.main,
    "finetune": finetune_SE.main,
    "export": export_SE.main,
    "report": report_SE.main,
    "predict": predict_SE.main,
    "evaluate": evaluate_SE.main,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with good and bad files of every kind; cases run in it and must leave it as it is."""
    place = tmp_path_factory.mktemp("a place")
    bad = place / "bad"
    bad.mkdir()
    (place / "data").mkdir()
    (place / "data" / "train.txt").write_text(TEXT)
    write_texts(bad)
    write_settings(bad)
    for kind in ("BPE", "BERT"):
        folder, size = ("vocab", "280") if kind == "BPE" else ("words", "60")
        flags = ["--out_dir", folder, "--tokenizer_type", kind, "--vocab_size", size, "--min_fre", "1"]
        assert attempt(place, "vocab", flags) == 0
    write_vocabularies(place, bad)
    write_features(place, bad)
    return place


def attempt(place: Path, script: str, flags: list[str]) -> int:
    """Run a script's main in `place` as its command line would; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return exit_code(MAIN[script], script, *flags)


def disk(place: Path) -> dict[str, tuple[int, int]]:
    """Every file's size and time of change, every folder's presence."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else (0, 0)
        for path in place.rglob("*")
    }


def spelled_out(place: Path, flag: str) -> str:
    """The path of a checkpoint that a case names by a word in capitals."""
    flag, _, name = flag.partition("/") if flag.startswith("WHOLE/") else (flag, "", "")
    if flag not in ("CUT", "PICKLED", "UNMARKED", "WHOLE"):
        return flag
    folder = {"WHOLE": place / "run"}.get(flag, place / "bad" / f"{flag.lower()}-checkpoint")
    return str(max((folder / "checkpoints").iterdir()) / name)


def foreign_flags(script: str, flags: list[str], said: str) -> set[str]:
    """Flags of a message that are neither the script's own, nor the user's, nor of a script named before."""
    own = Parser(SCHEMAS[f"{MAIN[script].__module__}.py"], "").names | {"--help", *flags}
    found = set()
    for flag in re.finditer(r"(?<![\w-])--[a-z][\w.]*\w", said):
        before = re.findall(r"\w+(?:_SE|_span_electra)\.py", said[: flag.start()])
        if not any(
            flag[0] in names for names in (own, *(Parser(SCHEMAS[name], "").names for name in before))
        ):
            found.add(flag[0])
    return found


@pytest.mark.parametrize(
    ("script", "flags", "named"),
    CASES,
    ids=[f"{number}-{case[0]}-{case[2][:20]!r}" for number, case in enumerate(CASES)],
)
def test_a_bad_input_is_refused_in_one_line_and_leaves_nothing(place, capfd, script, flags, named):
    flags = [spelled_out(place, flag) for flag in flags]
    before = disk(place)
    code = attempt(place, script, flags)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("warning: ", "features: "))]  # not the bar's
    assert code == 2, said
    assert len(said) == 1 and said[0].startswith("error: "), said
    assert named in said[0], said
    assert "Traceback" not in said[0] and len(said[0]) < 500
    assert not foreign_flags(script, flags, said[0]), said
    assert disk(place) == before


@pytest.mark.parametrize(
    ("script", "flags", "named"),
    [
        ("create_vocab_SE.py", ["--data_dir", b"caf\xe9"], "caf"),
        ("create_feature_SE.py", ["--in_file", "bad/binary.json", "--out_file", "out.arrow"], "binary.json"),
        ("joint_train_span_electra.py", ["--config_file", "bad/typo.json"], "did you mean 'lr'"),
        ("export_SE.py", ["--checkpoint_path", "bad/nothing", "--out_dir", "out"], "bad/nothing"),
        ("report_SE.py", ["bad/full"], "bad/full"),
    ],
)
def test_so_does_the_command_itself(place, script, flags, named):
    before = disk(place)
    done = subprocess.run(
        [sys.executable, ROOT / script, *flags], cwd=place, capture_output=True, timeout=120
    )
    # On a machine that is busy enough a line before it says that the command is at work.
    said = [line for line in done.stderr.decode().splitlines() if ": at work for " not in line]
    assert done.returncode == 2 and len(said) == 1 and said[0].startswith("error: "), said
    assert named in said[0] and disk(place) == before
