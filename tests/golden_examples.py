"""What the golden tests share: a text written here, where the stored files stand, and how a value is held.

Holds no tests. Nothing here reads a file of the project that may change: the text is made of the words below.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

STORED = Path(__file__).with_name("golden") / "stored"
EXPECTED = json.loads((STORED / "expected.json").read_text(encoding="utf-8"))

# Some of everything that a tokenizer treats in its own way: capitals, accents, punctuation, digits, scripts
# without blanks, combining marks, a right-to-left script, an emoji.
WORDS = (
    "the The of a model reads text, writes files; and is killed again. What? (Nothing) is lost! 42 3.14 "
    "2,048 naïve Straße café über MASK span-level don't it's under_score e-mail A.B. Übergröße "
    "我们 学习 语言。 東京 は 大きい 안녕 하세요 ภาษาไทย ไม่มี हिन्दी भाषा العربية كلمة слово язык 🙂 e\u0301"
).split()


def golden_text(lines: int, state: int = 1) -> str:
    """Lines of words in a fixed order; about every sixth line is followed by a blank one.

    The order is of a generator written out here (Lehmer, 48271 modulo 2^31 - 1), for `random` may change.
    """
    made = []
    for _ in range(lines):
        words = []
        for _ in range(3 + state % 17):
            state = state * 48271 % (2**31 - 1)
            words.append(WORDS[state % len(WORDS)])
        made.append(" ".join(words) + ("\n\n" if state % 6 == 0 else "\n"))
    return "".join(made)


def check(key: str, value: object, what: str) -> None:
    """Fail unless `value` is the golden one of `key`, and say what to do."""
    section, _, name = key.partition("/")
    golden = EXPECTED[section].get(name)
    assert value == golden, (
        f"{what} moved ({key}).\n"
        f"  golden: {json.dumps(golden)}\n  now:    {json.dumps(value)}\n"
        "If you changed it on purpose, put the value of now into tests/golden/stored/expected.json, say it "
        "in CHANGELOG.md, and see that files made before still open (a new format or law gets a new number). "
        "If you only moved code, this is a bug."
    )


def check_close(key: str, values: list[float], what: str, tolerance: float = 1e-4) -> None:
    """The same for numbers that depend a little on the kind of processor; `tolerance` is relative."""
    section, _, name = key.partition("/")
    golden = EXPECTED[section].get(name)
    assert golden is not None and np.allclose(values, golden, rtol=tolerance, atol=0), (
        f"{what} moved ({key}).\n"
        f"  golden: {golden}\n  now:    {values}\n"
        "If you changed the model or its training on purpose, put the numbers of now into "
        "tests/golden/stored/expected.json and say it in CHANGELOG.md; if not, this is a bug."
    )


def digest(*parts: bytes | np.ndarray) -> str:
    """sha256 of bytes and of arrays; an array counts by its values, as int64, not by its type."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part if isinstance(part, bytes) else np.asarray(part, np.int64).tobytes())
    return hasher.hexdigest()


def content_digest(path: str | Path) -> str:
    """sha256 of a feature file's rows, whatever library wrote its frame."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    parts = []
    for name in ("input_ids", "span_starts", "span_lengths"):
        rows = table[name].to_pylist()
        parts += [np.array([len(row) for row in rows]), np.array([value for row in rows for value in row])]
    return digest(*parts)


def header_of(path: str | Path) -> dict:
    """What a feature file says of itself, as it stands there."""
    return json.loads(pa.ipc.open_file(pa.memory_map(str(path))).schema.metadata[b"span_electra"])
