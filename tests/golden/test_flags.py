"""Golden command lines: a flag that was is still there. Run: pytest tests/golden/test_flags.py"""

import pytest
from golden_examples import EXPECTED
from shell_examples import SCHEMAS

from span_electra.commandline import Parser


@pytest.mark.parametrize("script", sorted(EXPECTED["flags"]))
def test_flags_are_neither_lost_nor_new_unsaid(script):
    """Users' scripts and notes name these flags; whoever adds one writes it into the list."""
    found = Parser(SCHEMAS[script], "").names | {"--help"}
    stored = set(EXPECTED["flags"][script])
    assert not stored - found, (
        f"{script}: flags are gone: {sorted(stored - found)}; users have them in scripts"
    )
    assert not found - stored, (
        f"{script}: flags are new: {sorted(found - stored)}; put them into the list in "
        "tests/golden/stored/expected.json and into CHANGELOG.md"
    )
