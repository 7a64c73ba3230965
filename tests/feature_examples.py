"""Small feature files, vocabularies and texts for the tests of features; holds no tests."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np

from span_electra.data_config import ChunkConfig, MaskingConfig
from span_electra.features.arrow_file import write_checked
from span_electra.features.build import build_features
from span_electra.features.header import feature_batch, feature_schema, wanted_features
from span_electra.features.masking import row_keys, sample_spans
from span_electra.features.words import TokenRows
from span_electra.text.inputs import Source
from span_electra.text.vocabulary import assemble

SPECIAL = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]
WORDS = [f"w{number}" for number in range(60)] + [f"##{number}" for number in range(35)]
VOCABULARY = assemble("BERT", {token: number for number, token in enumerate(SPECIAL + WORDS)})


def make(path, rows=50, seed=0, batches=3, vocabulary=VOCABULARY, masking=None, longest=40):
    """Write a feature file of random rows; return its rows as lists."""
    rng = np.random.default_rng(seed)
    header = wanted_features(vocabulary, ChunkConfig(longest), masking or MaskingConfig(), seed=seed)
    blocks = []
    for _ in range(batches):
        lengths_R = rng.integers(3, longest + 1, rows // batches)
        ids_T = rng.integers(5, vocabulary.size, lengths_R.sum()).astype(header.id_type)
        ends_R = np.cumsum(lengths_R)
        ids_T[ends_R - lengths_R], ids_T[ends_R - 1] = header.cls_id, header.sep_id
        blocks.append((ids_T, ends_R))
    header = replace(header, sources=(Source("text.txt", 10, "0" * 64),))
    write_features(path, header, vocabulary, blocks, seed)
    return [row_T for ids_T, ends_R in blocks for row_T in np.split(ids_T, ends_R[:-1])]


def write_features(path, header, vocabulary, blocks, seed):
    """Write a feature file of blocks of rows, each (ids_T, ends_R); the header gets their counts."""
    schema, made, totals = feature_schema(header), [], np.zeros(4, np.int64)
    for block, (ids_T, ends_R) in enumerate(blocks):
        lengths_R = np.diff(ends_R, prepend=0)
        keys_R = row_keys(seed, block, np.arange(len(lengths_R)), "spans")
        rows_R = TokenRows(ids_T, ends_R - lengths_R, lengths_R)
        spans = sample_spans(rows_R, vocabulary.token_words, keys_R, header.masking)
        made.append(feature_batch(ids_T, ends_R, spans, schema))
        totals += [len(lengths_R), len(ids_T), spans.lengths_S.sum(), len(spans.starts_S)]
    counts = dict(zip(("rows", "tokens", "masked", "spans"), totals.tolist(), strict=True))
    write_checked(path, feature_schema(replace(header, **counts)), made)


PROSE = [
    word
    for word in Path(__file__)
    .with_name("features")
    .joinpath("test_build.py")
    .read_text(encoding="utf-8")
    .split()
    if word.isalpha()
]


def text(lines, seed=0):
    rng = random.Random(seed)
    rows = (" ".join(rng.choices(PROSE, k=rng.randrange(1, 30))) for _ in range(lines))
    return "".join(row + ("\n\n" if rng.random() < 0.2 else "\n") for row in rows)


def build(inputs, vocabulary, out_file, **options):
    rows = {"chunking": ChunkConfig(max_seq_len=64), "masking": MaskingConfig(), "chunk_size": 50}
    rows |= {name: options.pop(name) for name in (*rows, "seed", "reading") if name in options}
    wanted = wanted_features(vocabulary, **rows)
    return build_features(inputs, vocabulary, out_file, wanted, **{"progress": False} | options)
