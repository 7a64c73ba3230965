"""Golden command lines: a flag that was is still there. Run: pytest tests/golden/test_flags.py"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from golden_examples import EXPECTED

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("script", sorted(EXPECTED["flags"]))
def test_flags_are_neither_lost_nor_new_unsaid(script):
    """Users' scripts and notes name these flags; whoever adds one writes it into the list."""
    # Wide enough that no flag is broken at a line's end.
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"],
        env=os.environ | {"COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=True,
    )
    # Lines of options begin with two blanks and a dash; the docstring's examples, which name flags of other
    # scripts too, with four. The help stands two blanks after the flags, or in a line of its own.
    options = [line.strip().split("  ")[0] for line in re.findall(r"^  -.*$", done.stdout, re.M)]
    found = set(re.findall(r"(?<!\S)--[\w.-]+", " ".join(options)))
    stored = set(EXPECTED["flags"][script])
    assert not stored - found, (
        f"{script}: flags are gone: {sorted(stored - found)}; users have them in scripts"
    )
    assert not found - stored, (
        f"{script}: flags are new: {sorted(found - stored)}; put them into the list in "
        "tests/golden/stored/expected.json and into CHANGELOG.md"
    )
