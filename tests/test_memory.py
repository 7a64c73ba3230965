"""The feature stage's memory is that of a few blocks, however long the text and however many its words.

Run: pytest -m slow tests/test_memory.py (half a minute a gigabyte). Pages of files that are read and written
through memory are left out: they are resident too, but the system can take them back at any time.
"""

import subprocess
import sys

import numpy as np
import pytest
from feature_examples import VOCABULARY

PIECE = 1 << 20  # words
KNOWN_WORDS = 20_000  # other words are new wherever they come, which fills any table of words in the end

MEASURE = """
import sys, threading, time
from span_electra.data_config import ChunkConfig, MaskingConfig
from span_electra.features.build import build_features
from span_electra.features.header import wanted_features
from span_electra.text.vocabulary import Vocabulary
folder, text = sys.argv[1:]
seen = [0]
def watch():
    while True:
        seen.append(next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon")))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
vocabulary = Vocabulary.from_json(open(folder + "/tokenizer.json").read())
wanted = wanted_features(vocabulary, ChunkConfig(), MaskingConfig())
counts = build_features([text], vocabulary, text + ".arrow", wanted, workers=1, progress=False)
print(counts.header.content, max(seen))
"""


def write_text(path, pieces):
    """So many pieces of a million words, 20 a line; one word in 30 was never seen before. Returns bytes."""
    rng = np.random.Generator(np.random.Philox(key=[7, 7]))
    letters = np.array(list("abcdefghijklmnop"))
    known = np.array(["".join(rng.choice(letters, 2 + number % 9)) for number in range(KNOWN_WORDS)], object)
    with open(path, "w", encoding="ascii") as out:
        for _ in range(pieces):
            words = known[np.minimum(rng.zipf(1.2, PIECE) - 1, KNOWN_WORDS - 1)]
            fresh = rng.integers(0, 1 << 60, PIECE // 30 + 1)
            words[::30] = [f"{number:x}" for number in fresh.tolist()][: len(words[::30])]
            lines = (" ".join(words[begin : begin + 20]) for begin in range(0, PIECE, 20))
            out.write("\n".join(lines) + "\n")
    return path.stat().st_size


def peak_megabytes(folder, pieces):
    """Size of the text and peak of the memory that is no file's, with one worker, in megabytes."""
    (folder / "tokenizer.json").write_text(VOCABULARY.to_json())
    text = folder / f"{pieces}.txt"
    size = write_text(text, pieces)
    command = [sys.executable, "-c", MEASURE, str(folder), str(text)]
    tokens, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(tokens) >= pieces * PIECE
    text.unlink()
    return size / 1e6, int(peak) / 1e3


@pytest.mark.slow
def test_a_gigabyte_needs_no_more_than_half_of_one(tmp_path):
    peak_megabytes(tmp_path, 1)  # compiles loops once, which takes more than the text does
    half, peak_of_half = peak_megabytes(tmp_path, 80)
    whole, peak = peak_megabytes(tmp_path, 165)
    assert half > 490 and whole > 1000
    assert peak < 400 and peak < 1.1 * peak_of_half, (peak_of_half, peak)
