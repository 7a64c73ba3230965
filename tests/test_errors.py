"""What is said of an error. Run: pytest tests/test_errors.py"""

import pytest

from span_electra.errors import nearest, not_among, reason_of, said_of, unknown_key


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
    assert reason_of(RuntimeError(said), joined=True) == (" ".join(said.split())[:200] or "RuntimeError")


def test_an_error_of_the_system_names_its_file():
    assert said_of(OSError(28, "No space left", "runs/1")) == "runs/1: No space left; mend that and run again"
    assert said_of(OSError("broken")) == "broken; mend that and run again"


def test_the_nearest_known_value_is_named():
    assert not_among("acuracy", ["accuracy", "f1"]) == "'acuracy' is not known; did you mean 'accuracy'?"
    assert not_among("x", "abcdefghijklm") == f"'x' is not known; known are {', '.join('abcdefghijkl')}, ..."
    assert unknown_key("task_typ", ["task_type"]) == "unknown key 'task_typ'; did you mean 'task_type'?"


def test_who_has_half_of_a_name_right_means_that_one():
    assert nearest("SingleSentence", ["SentencePair", "SingleSenClassification"]) == "SingleSenClassification"
    assert nearest("x", ["one", "two"]) is None and nearest("x", ["one", "two"], 0.0) in ("one", "two")
    assert nearest("", []) is None
