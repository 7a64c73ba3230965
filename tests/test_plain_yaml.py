"""Words and numbers of YAML files. Run: pytest tests/test_plain_yaml.py"""

import math

import pytest
import yaml

from span_electra.plain_yaml import read_yaml


@pytest.mark.parametrize(
    "word",
    ["no", "yes", "on", "Off", "y", "none", "None", "007", "0x1f", "0b1", "1_000", "+7", "10:30", "1:2.5"]
    + ["2024-01-01", "2024-01-01 10:00:00", "1.2.3", "=", "e5", "-", "."],
)
def test_what_is_no_plain_number_or_truth_value_is_text(word):
    if word == "-":  # an item of a list
        word = "--"
    assert read_yaml(f"a: {word}") == {"a": word}
    assert read_yaml(f"{word}: [{word}]") == {word: [word]}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("0", 0), ("-12", -12),
        ("5e-4", 5e-4), ("1E5", 1e5), ("1e+5", 1e5), ("-1.5e3", -1500.0), (".5", 0.5), ("3.", 3.0),
        (".inf", math.inf), ("-.inf", -math.inf), ("'1'", "1"), ("!!str 1", "1"), ("!!int '7'", 7),
    ],
)  # fmt: skip
def test_numbers_truth_values_and_null_are_read(word, value):
    assert read_yaml(f"a: {word}") == {"a": value}
    assert type(read_yaml(f"a: {word}")["a"]) is type(value)


def test_merged_keys_are_kept_and_no_tag_runs_code():
    assert read_yaml("a: &x {b: 1}\nc: {<<: *x, d: 2}")["c"] == {"b": 1, "d": 2}
    with pytest.raises(yaml.YAMLError):
        read_yaml("!!python/object/apply:os.system ['true']")
