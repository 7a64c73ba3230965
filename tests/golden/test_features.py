"""Golden features: the same text and settings give the same bytes, for ever. Run: pytest tests/golden

A failure says which value moved and what to do.
"""

import hashlib
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
from golden_examples import EXPECTED, STORED, check, content_digest, digest, golden_text, header_of

from span_electra.data_config import ChunkConfig, LoaderConfig, MaskingConfig, VocabularyConfig
from span_electra.features.build import build_features
from span_electra.features.header import wanted_features
from span_electra.features.masking import row_keys, uniforms
from span_electra.features.split import train_valid_split
from span_electra.features.store import open_features
from span_electra.pretraining.loader import Batches, plan_epoch
from span_electra.text.vocabulary import load_vocabulary
from span_electra.text.vocabulary_builder import build_vocabulary

CASES = {
    "one_block": {},
    "blocks": {"chunk_size": 25},
    "documents": {"chunk_size": 60, "chunking": ChunkConfig(48, 0.3, respect_documents=True)},
    "short_spans": {"masking": MaskingConfig(0.15, 3, 0.4), "seed": 11},
}
FRAME_LIBRARIES = ("pyarrow", "tokenizers")  # these write the frame of a feature file and the tokenizer in it


@pytest.fixture(scope="module")
def vocabularies():
    return {
        "BPE": load_vocabulary("BPE", STORED / "golden BPE-vocab.json", STORED / "golden BPE-merges.txt"),
        "BERT": load_vocabulary("BERT", STORED / "golden BERT-vocab.txt"),
    }


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("format", [1, 2])
def test_features_keep_their_bytes(tmp_path, monkeypatch, vocabularies, kind, case, format):
    """Of either format: the program still makes the first where it is asked to."""
    monkeypatch.chdir(tmp_path)  # the header names sources as they were named
    (tmp_path / "golden.txt").write_text(golden_text(120), encoding="utf-8")
    settings = {"chunking": ChunkConfig(64), "masking": MaskingConfig(), "seed": 3} | CASES[case]
    settings["masking"] = replace(settings["masking"], format=format)
    name = f"{kind}_{case}" + ("_law_2" if format == 2 else "")
    wanted = wanted_features(vocabularies[kind], **settings)
    build_features("golden.txt", vocabularies[kind], "f.arrow", wanted, progress=False)
    check(f"features/{name}_rows", content_digest("f.arrow"), "the rows of a feature file")
    if case == "one_block":
        check(f"headers/{kind}_{format}", header_of("f.arrow"), "what a feature file says of itself")
    if all(version(name) == EXPECTED["versions"][name] for name in FRAME_LIBRARIES):
        whole = hashlib.sha256((tmp_path / "f.arrow").read_bytes()).hexdigest()
        check(f"features/{name}_file", whole, "the bytes of a feature file")


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
def test_a_vocabulary_keeps_its_tokens(tmp_path, kind):
    (tmp_path / "golden.txt").write_text(golden_text(400, state=5), encoding="utf-8")
    build_vocabulary(
        [tmp_path],
        tmp_path / "vocab",
        "golden",
        VocabularyConfig(tokenizer_type=kind, vocab_size={"BPE": 400, "BERT": 280}[kind]),
    )
    for file in sorted((tmp_path / "vocab").glob(f"golden {kind}-*")):
        check(f"vocabulary/{file.name}", digest(file.read_bytes()), "the vocabulary made of a text")


# --- what the stored file must always give ------------------------------------------------------------


@pytest.fixture(scope="module")
def stored():
    return open_features(STORED / "features-format-1.arrow")


def test_a_stored_feature_file_of_format_1_opens(stored):
    rows = np.arange(stored.rows)
    ids = stored.gather(rows, 64)
    spans = stored.spans(rows)
    assert stored.header.format == 1 and stored.vocabulary.kind == "BPE"
    check("stored/ids", digest(ids), "the ids of a stored file")
    check("stored/spans", digest(spans.starts_S, spans.lengths_S, spans.row_ends_R), "the spans it holds")


def test_spans_redrawn_by_format_1_stay(stored):
    for epoch in (1, 2):
        spans = stored.sample_spans(np.arange(stored.rows), epoch=epoch, seed=7)
        value = digest(spans.starts_S, spans.lengths_S, spans.row_ends_R)
        check(f"stored/redrawn_{epoch}", value, f"the spans that epoch {epoch} draws")


def test_keys_of_random_numbers_stay():
    """The purpose of a key keeps its stream apart from others: a changed name changes every mask."""
    for purpose in ("spans", "sample", "chunks", "block spans"):
        keys = row_keys(5, 2, np.arange(4), purpose).astype(np.uint64)
        check(f"keys/{purpose}", [f"{key:016x}" for key in keys.tolist()], f"the keys of {purpose!r}")
    numbers = uniforms(row_keys(5, 2, np.arange(2), "sample"), np.array([2, 3]))
    check("keys/uniforms", [round(float(number), 7) for number in numbers], "the uniform numbers of rows")


def test_the_order_of_an_epoch_stays(stored):
    lengths_R = stored.lengths_R.astype(np.int64)
    for name, config in {
        "rows": LoaderConfig(4, bucket_span=3, seed=7),
        "tokens": LoaderConfig(batch_max_tokens=256, bucket_span=2, seed=7),
    }.items():
        for epoch in (0, 1):
            order, ends = plan_epoch(lengths_R, config, epoch)
            check(f"order/{name}_{epoch}", digest(order, ends), f"the order of epoch {epoch}")
    train, held = train_valid_split(stored.rows, valid=0.1, seed=7)
    check("order/held_out", digest(train, held), "which rows are held out")


def test_the_batches_of_an_epoch_stay(stored):
    """Slots carry the purpose of the spans' keys, uniform numbers that of the samples'."""
    config = LoaderConfig(4, bucket_span=3, seed=7, workers=0)
    for epoch in (0, 1):
        batch = next(iter(Batches(stored, config, epoch)))
        fields = [batch.original_BL, batch.rows_B, batch.slots_S, batch.left_S, batch.right_S]
        uniform = (batch.uniform_S.numpy() * 2.0**24).astype(np.int64)
        value = digest(*[field.numpy() for field in fields], uniform)
        check(f"batches/{epoch}", value, f"the first batch of epoch {epoch}")


def test_a_golden_value_that_moves_says_what_to_do():
    with pytest.raises(AssertionError, match="on purpose.*expected.json(.|\n)*bug"):
        check("order/held_out", "0", "something")
