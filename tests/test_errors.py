"""What is said of an error. Run: pytest tests/test_errors.py"""

import pytest

from span_electra.errors import reason_of, said_of


@pytest.mark.parametrize(
    "said, reason",
    [
        ("one line", "one line"),
        ("  the first;\nnot the rest", "the first;"),
        ("\n \n\tno compiler\n\nSet TORCH_LOGS for more", "no compiler"),
        ("", "RuntimeError"),
        (" \n\n", "RuntimeError"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_reason_is_one_line_that_says_something(said, reason):
    assert reason_of(RuntimeError(said)) == reason


def test_an_error_of_the_system_names_its_file():
    assert said_of(OSError(28, "No space left", "runs/1")) == "runs/1: No space left; mend that and run again"
    assert said_of(OSError("broken")) == "broken; mend that and run again"
