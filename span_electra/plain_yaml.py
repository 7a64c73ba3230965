"""YAML whose words mean what they say: true, false, null and numbers are such, every other word is text.

The library follows YAML 1.1, to which no, on and off are truth values, 10:30 is 630, 007 is 7, 2024-01-01 is
a day, and 5e-4, which people write for rates, a text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
# Digits as JSON has them, so that a whole number is written again as it was; floats as people write them too.
PLAIN = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"-?(0|[1-9][0-9]*)",
    "float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}


class PlainLoader(yaml.SafeLoader):
    """Makes plain values alone, as its parent does, and takes fewer words for something else than text."""

    yaml_implicit_resolvers = {}  # none of the parent's


for kind, pattern in PLAIN.items():
    # Whatever a word begins with: the patterns say it themselves.
    PlainLoader.add_implicit_resolver(TAG + kind, re.compile(rf"(?:{pattern})\Z"), None)


def read_yaml(text: str) -> Any:
    """What a YAML text holds. Raises yaml.YAMLError, and of a value that its tag does not fit anything."""
    return yaml.load(text, Loader=PlainLoader)
