"""Text to ids in many languages, against the tokenizers library; features.py --languages prints the table.

Text comes from Unicode's tables (words of a script's letters) and, where the machine has them, from its
translated messages (/usr/share/locale). Both encoders run on one thread and meet each text for the first
time; what counts is processor time, the median of the rounds.
"""

from __future__ import annotations

import os
import statistics
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

LANGUAGES = {"German": "de", "Vietnamese": "vi", "Japanese": "ja", "Chinese": "zh_CN", "Korean": "ko"}
LANGUAGES |= {"Thai": "th", "Arabic": "ar", "Hindi": "hi"}
MOST_BYTES = 400_000  # of each text
LINE = 200  # characters of a line of running text


def messages(path: Path) -> Iterator[tuple[str, str]]:
    """Originals and translations of a compiled catalog (gettext's .mo)."""
    data = path.read_bytes()
    if data[:4] != b"\xde\x12\x04\x95":
        return
    count, originals, translations = struct.unpack_from("<3I", data, 8)
    for number in range(1, count):  # the first is the catalog's own header
        pair = []
        for table in (originals, translations):
            length, start = struct.unpack_from("<2I", data, table + 8 * number)
            pair.append(data[start : start + length].split(b"\0")[0].decode("utf-8", "ignore"))
        yield pair[0], pair[1]


def texts() -> Iterator[tuple[str, str]]:
    """Names and texts: lines as they are, and without blanks."""
    from script_examples import SCRIPTS, script_text

    made = [(f"{script}, made up", script_text(script, MOST_BYTES, mixed=True)) for script in SCRIPTS]
    for language, code in LANGUAGES.items():
        files = sorted(Path("/usr/share/locale", code, "LC_MESSAGES").glob("*.mo"))
        pairs = dict.fromkeys(pair for file in files for pair in messages(file))
        for name, side in (("English", 0), (language, 1)) if language == "German" else ((language, 1),):
            text = "\n".join(dict.fromkeys(pair[side] for pair in pairs))
            if len(text) > 100_000:
                made.append((name, text))
    for name, text in made:
        yield name, text
        running = "".join(text.split())
        lines = [running[start : start + LINE] for start in range(0, len(running), LINE)]
        yield f"{name}, no blanks", "\n".join(lines)


def measure(text: bytes, kind: str, rounds: int) -> tuple[float, float]:
    """Megabytes a second of ours, and how many times the library's that is."""
    from tokenizers import Tokenizer

    from span_electra.data_config import VocabularyConfig
    from span_electra.text.encode import TextEncoder
    from span_electra.text.vocabulary_builder import train

    written = train([text], VocabularyConfig(tokenizer_type=kind, vocab_size=8000)).tokenizer.to_str()
    lines, rates, ratios = text.decode().split("\n"), [], []
    for _ in range(rounds):
        tokenizer = Tokenizer.from_str(written)  # its cache is new too
        encoder = TextEncoder(tokenizer)
        began = time.process_time()
        ours = encoder.encode(text)
        between = time.process_time()
        theirs = tokenizer.encode_batch_fast(lines, add_special_tokens=False)
        ended = time.process_time()
        assert ours.ids_T.tolist() == [number for line in theirs for number in line.ids]
        rates.append(len(text) / 1e6 / (between - began))
        ratios.append((ended - between) / (between - began))
    return statistics.median(rates), statistics.median(ratios)


def print_table(rounds: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    print("| text | MB/s BPE | MB/s BERT | times the library, BPE | BERT |\n|---|---|---|---|---|")
    for kind in ("BPE", "BERT"):
        measure("compiles the loops, one \u0323\u0301 of them for marks ".encode() * 20, kind, 1)
    for name, text in texts():
        data = text.encode()[:MOST_BYTES]
        data = data[: data.rindex(b"\n")]
        (bpe, bpe_ratio), (bert, bert_ratio) = (measure(data, kind, rounds) for kind in ("BPE", "BERT"))
        print(f"| {name} | {bpe:.0f} | {bert:.0f} | {bpe_ratio:.1f} | {bert_ratio:.1f} |", flush=True)
