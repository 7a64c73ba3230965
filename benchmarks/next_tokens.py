"""A step from left to right predicted among a sample of the vocabulary, against the whole of it.

    python benchmarks/next_tokens.py                    configs/quick.json, on one thread: a minute
    python benchmarks/next_tokens.py --candidates 5000

Reads nothing, writes nothing; rows are made up in memory. Each figure is the median of forward and backward
passes that alternate, so that whatever else the machine does touches both alike. The ratio comes last; what a
step learns is in docs/learning.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from electra_loops import MASK, MadeUpFeatures, row_lengths

from span_electra.accelerators import automatic_precision, name_precision
from span_electra.compose import compose, preset
from span_electra.data_config import LoaderConfig
from span_electra.model.electra import SpanElectra
from span_electra.pretraining.arguments import PretrainingArguments
from span_electra.pretraining.course import Course
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.next_tokens import Candidates
from span_electra.training.devices import keep_freed_memory

VOCABULARY = 10_000
CAUSAL = Course(alone_until=1, next_token_share=1.0)


def measure(candidates: int, passes: int) -> tuple[float, float]:
    """Median seconds of a pass, by all of the vocabulary and by so many candidates."""
    config = replace(compose(PretrainingArguments, [preset("quick")]).model, vocab_size=VOCABULARY)
    features = MadeUpFeatures(row_lengths(False, 200_000), VOCABULARY)
    counts_V = np.bincount(features.ids_T, minlength=VOCABULARY)
    sample = Candidates(np.argsort(-counts_V, kind="stable"), candidates)
    loader = LoaderConfig(batch_max_tokens=4096, workers=0)
    batches = [
        Batches(features, loader, 1, course=CAUSAL, rounded_shapes=True, candidates=among).build(0)
        for among in (None, sample)
    ]
    model = SpanElectra(config, MASK).train()
    precision = automatic_precision(torch.device("cpu"))
    print(f"{batches[0].slots_S.numel():,} next tokens a pass, {name_precision(precision)}")
    seconds: list[list[float]] = [[], []]
    for _ in range(passes + 1):  # the first compiles and finds its memory
        for spent, batch in zip(seconds, batches, strict=True):
            model.zero_grad(set_to_none=True)
            begun = time.perf_counter()
            with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
                loss = model(batch, dropout_key=0).loss
            loss.backward()
            spent.append(time.perf_counter() - begun)
    whole, sampled = (statistics.median(spent[1:]) for spent in seconds)
    return whole, sampled


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--candidates", type=int, default=2500)
    parser.add_argument("--passes", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    whole, sampled = measure(arguments.candidates, arguments.passes)
    print(f"among all {VOCABULARY:,}: {1000 * whole:.0f} ms")
    print(f"among {arguments.candidates:,}: {1000 * sampled:.0f} ms")
    print(f"ratio {whole / sampled:.2f}")


if __name__ == "__main__":
    main()
