"""Tokens a second that the loader prepares, against a loop of Python lists and torch.tensor.

Makes its own features in a temporary folder. Run: python benchmarks/loader.py [--rows 40000]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from run_examples import write_rows

from span_electra.config import LoaderConfig
from span_electra.features.store import open_features
from span_electra.pretraining.loader import Batches


def measure(batches: Batches, count: int) -> tuple[float, float]:
    """Return tokens a second over the first `count` batches, and the share of places that hold a token."""
    tokens = places = 0
    begin = time.perf_counter()
    for number, masked in enumerate(batches):
        places += masked.original_BL.numel()
        tokens += (
            masked.original_BL.numel()
            if masked.attention_mask_BL is None
            else int(masked.attention_mask_BL.sum())
        )
        if number == count:
            break
    return tokens / (time.perf_counter() - begin), tokens / places


def straightforward(features, size: int, count: int) -> float:
    """Tokens a second of the loop one would write: rows as lists, padded one by one; no masks yet."""
    rng = np.random.default_rng(0)
    order = rng.permutation(features.rows)
    begin, tokens = time.perf_counter(), 0
    for first in range(0, min(count * size, features.rows), size):
        rows = order[first : first + size]
        lists = [features.gather([row], int(features.lengths_R[row]))[0].tolist() for row in rows]
        width = max(map(len, lists))
        torch.tensor([row + [2] * (width - len(row)) for row in lists])
        tokens += sum(map(len, lists))
    return tokens / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        features = open_features(write_rows(Path(folder) / "rows.arrow", rows, longest=128))
        plain = straightforward(features, 128, 100)
        print(f"lists and torch.tensor, no masks  {plain / 1e6:6.2f} M tokens/s")
        for name, epoch, workers in (
            ("the file's masks", 0, 0),
            ("drawn masks", 1, 0),
            ("drawn, 1 thread", 1, 1),
        ):
            config = LoaderConfig(128, workers=workers)
            measure(Batches(features, config, epoch), 2)  # compiles
            speed, fill = measure(Batches(features, config, epoch), 10**9)
            print(f"{name:32}  {speed / 1e6:6.2f} M tokens/s  {speed / plain:5.1f} x  {fill:.1%} full")


if __name__ == "__main__":
    main()
