"""Text to features, side by side with what a user could pick instead; prints ratios.

    python benchmarks/features.py --text data --workers 2

Rivals: `encode_batch_fast` of the tokenizers library on all cores, ids in memory and not written; the usual
`datasets.map` with tokenizing and group_texts, one and two processes. Each runs in a process of its own,
rounds are interleaved, and rates are compared, so the slower rivals get fewer bytes of the same text. The
limit is the same text merely read, split into lines and written. Takes the vocabulary in vocab/, or trains
one on the text. A rival that is not installed is left out, with a line. `--languages` measures text to ids in
many scripts instead, on text that it makes (languages.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import languages  # beside this file

LENGTH = 512


def read_text(files: list[str], megabytes: float) -> str:
    """About so many megabytes of the text, taken evenly from all files."""
    total = sum(os.path.getsize(file) for file in files)
    share = min(1.0, megabytes * 1e6 / total)
    texts = []
    for file in files:
        data = Path(file).read_bytes()
        texts.append(data[: int(len(data) * share)].rsplit(b"\n", 1)[0].decode())
    return "\n".join(texts)


def ours(files: list[str], vocabulary_file: str, folder: str, workers: int) -> dict:
    """Text files to a finished feature file."""
    from span_electra.data_config import ChunkConfig, MaskingConfig
    from span_electra.features.build import build_features
    from span_electra.features.header import wanted_features
    from span_electra.text.vocabulary import Vocabulary

    vocabulary = Vocabulary.from_json(Path(vocabulary_file).read_text())
    out_file = Path(folder, f"features-{workers}.arrow")
    out_file.unlink(missing_ok=True)
    began = time.perf_counter()
    wanted = wanted_features(vocabulary, ChunkConfig(LENGTH), MaskingConfig())
    counts = build_features(files, vocabulary, out_file, wanted, workers=workers, progress=False)
    return {"tokens": counts.header.content, "seconds": time.perf_counter() - began}


def repeated(files: list[str], times: int, folder: str) -> list[str]:
    """The files so many times over, under names of their own, so that none counts as met before."""
    names = []
    for number in range(times):
        for place, file in enumerate(files):
            name = Path(folder, f"{number:02d}-{place:05d}-{Path(file).name}")
            if not name.exists():
                shutil.copyfile(file, name)  # a link would count as the same file
            names.append(str(name))
    return names


def library(text: str, vocabulary_file: str) -> dict:
    """The tokenizers library, all cores, in memory."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(vocabulary_file)
    lines, began, tokens = text.split("\n"), time.perf_counter(), 0
    for start in range(0, len(lines), 20_000):
        encodings = tokenizer.encode_batch_fast(lines[start : start + 20_000], add_special_tokens=False)
        tokens += sum(len(encoding.ids) for encoding in encodings)
    return {"tokens": tokens, "seconds": time.perf_counter() - began}


def usual(text: str, vocabulary_file: str, folder: str, workers: int) -> dict:
    """`datasets.map`: tokenize, then group_texts, as the examples of `transformers` have it."""
    import datasets
    from tokenizers import Tokenizer

    datasets.disable_progress_bars()
    datasets.disable_caching()
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if workers > 1 else "true"
    tokenizer = Tokenizer.from_file(vocabulary_file)
    size = LENGTH - 2

    def tokenize(rows):
        encodings = tokenizer.encode_batch_fast(rows["text"], add_special_tokens=False)
        return {"input_ids": [encoding.ids for encoding in encodings]}

    def group(rows):
        joined = [token for row in rows["input_ids"] for token in row]
        return {"input_ids": [joined[start : start + size] for start in range(0, len(joined), size)]}

    rows = datasets.Dataset.from_dict({"text": text.split("\n")})
    began = time.perf_counter()
    rows = rows.map(tokenize, batched=True, num_proc=workers, remove_columns=["text"])
    rows = rows.map(group, batched=True, num_proc=workers)
    rows.save_to_disk(str(Path(folder, f"rows-{workers}-{os.getpid()}")))
    seconds = time.perf_counter() - began
    return {"tokens": sum(len(row) for row in rows["input_ids"]), "seconds": seconds}


def limit(files: list[str], folder: str) -> dict:
    """Read, split into lines, write."""
    began = time.perf_counter()
    with open(Path(folder, "limit"), "wb") as out:
        for file in files:
            lines = Path(file).read_bytes().split(b"\n")
            out.write(b"\n".join(lines))
        out.flush()
        os.fsync(out.fileno())
    return {"tokens": 0, "seconds": time.perf_counter() - began}


def masking(vocabulary_file: str, features_file: str) -> dict:
    """New spans for every row, on one core."""
    import numpy as np

    from span_electra.features.store import open_features

    features = open_features(features_file)
    rows_R = np.arange(features.rows)
    features.sample_spans(rows_R[:10], epoch=1, seed=0)
    began = time.perf_counter()
    features.sample_spans(rows_R, epoch=1, seed=0)
    seconds = time.perf_counter() - began
    return {"tokens": features.header.tokens, "seconds": seconds}


def processor_seconds() -> float:
    """Processor time of this process and of its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run_alone(options: list[str]) -> dict:
    """Measure one case in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def best_rates(cases: dict[str, list[str]], rounds: int) -> dict[str, dict]:
    """Each case's best round; a round runs every case once, so that all meet the same machine."""
    best: dict[str, dict] = {}
    for _ in range(rounds):
        for name, options in cases.items():
            measured = run_alone(options)
            if name not in best or measured["seconds"] < best[name]["seconds"]:
                best[name] = measured
    return best


def some_vocabulary(text: str, folder: str) -> str:
    """The vocabulary in vocab/, or one trained on the text, as a tokenizer.json."""
    from span_electra.data_config import VocabularyConfig
    from span_electra.errors import InputError
    from span_electra.text.default_files import find_vocabulary
    from span_electra.text.vocabulary import load_vocabulary
    from span_electra.text.vocabulary_builder import train

    path = Path(folder, "tokenizer.json")
    try:
        files = find_vocabulary()
        vocabulary = load_vocabulary(files.kind, files.vocab_file, files.merges_file)
    except InputError:
        vocabulary = train([text.encode()], VocabularyConfig(vocab_size=10_000))
    path.write_text(vocabulary.to_json())
    return str(path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", default="data", help="folder of text files")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--rounds", type=int, default=2, help="each case's best of so many rounds counts")
    parser.add_argument("--library_mb", type=float, default=15, help="megabytes for the library")
    parser.add_argument(
        "--datasets_mb", type=float, default=8, help="megabytes for datasets.map; 0: left out"
    )
    parser.add_argument("--repeat", type=int, default=4, help="scaling is measured on the text so many times")
    parser.add_argument("--languages", action="store_true", help="text to ids by language; needs no --text")
    for hidden in ("--case", "--vocabulary", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(settings: argparse.Namespace, files: list[str]) -> dict:
    """One case, in this process."""
    name, _, number = settings.case.partition(" ")
    vocabulary, folder = settings.vocabulary, settings.folder
    if name == "ours":
        return ours(files, vocabulary, folder, int(number))
    if name == "repeated":
        return ours(repeated(files, settings.repeat, folder), vocabulary, folder, int(number))
    if name == "library":
        return library(read_text(files, settings.library_mb), vocabulary)
    if name == "datasets":
        return usual(read_text(files, settings.datasets_mb), vocabulary, folder, int(number))
    if name == "masking":
        return masking(vocabulary, str(Path(folder, f"features-{settings.workers}.arrow")))
    return limit(files, folder)


def main() -> None:
    from span_electra.text.inputs import find_inputs

    settings = parse()
    if settings.languages:
        languages.print_table(settings.rounds)
        return
    if settings.datasets_mb and importlib.util.find_spec("datasets") is None:
        print("datasets is not installed (pip install datasets): left out")
        settings.datasets_mb = 0.0
    found = find_inputs(settings.text)
    files = [file.path for file in found.files]
    if settings.case:
        before = processor_seconds()
        measured = measure(settings, files)
        print(json.dumps({**measured, "cpu": processor_seconds() - before}))
        return
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = some_vocabulary(read_text(files, 5), folder)
        common = [*sys.argv[1:], "--vocabulary", vocabulary, "--folder", folder, "--case"]
        run_alone([*common, "ours 1"])  # fills numba's cache and the page cache
        many = f"ours {settings.workers}"
        long = ["repeated 1", f"repeated {settings.workers}"]
        names = ["ours 1", many, *long, "library", "masking", "limit"]
        if settings.datasets_mb:
            names += ["datasets 1", "datasets 2"]
        best = best_rates({name: [*common, name] for name in dict.fromkeys(names)}, settings.rounds)
    tokens = best[many]["tokens"]
    best["limit"]["tokens"] = tokens
    rates = {name: case["tokens"] / case["seconds"] for name, case in best.items()}
    print(f"{found.size / 1e6:.0f} MB of text, {tokens:,} tokens, {len(os.sched_getaffinity(0))} cores")
    for name, rate in rates.items():
        seconds, processor = best[name]["seconds"], best[name]["cpu"]
        print(f"{name:<12} {rate / 1e6:8.2f}M tokens/s   {seconds:.2f} s, processor {processor:.2f} s")
    rival = max((rates[name] for name in rates if name.startswith("datasets")), default=0)
    scaling, of_long = rates[many] / rates["ours 1"], rates[long[1]] / rates[long[0]]
    print(f"scaling: {settings.workers} processes are {scaling:.2f} times one")
    print(f"scaling on the text {settings.repeat} times over: {of_long:.2f}")
    share = rates["limit"] / rates[many]
    print(f"limit: reading, splitting and writing alone is {share:.1f} times as fast")
    if rival:
        print(f"ratio to datasets.map: {rates[many] / rival:.1f}")
    # Holds on a busy machine too: reading text for the rivals and imports count for all alike.
    work = {name: best[name]["tokens"] / best[name]["cpu"] for name in (many, "library")}
    print(f"ratio to encode_batch_fast in tokens a processor second: {work[many] / work['library']:.1f}")
    print(f"ratio to encode_batch_fast: {rates[many] / rates['library']:.1f}")


if __name__ == "__main__":
    main()
