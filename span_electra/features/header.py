"""What a feature file says of itself, and how rows become its columns.

A row is a chunk: `input_ids` list<uint16|uint32> with [CLS] and [SEP], `span_starts` and `span_lengths`
list<uint16>. The schema's metadata holds the header as JSON under `span_electra` and the whole tokenizer
under `tokenizer.json`, so that a trainer needs nothing but the file.

R rows, T tokens, S spans.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from span_electra.data_config import CHUNK_SIZE, ChunkConfig, MaskingConfig, TextConfig
from span_electra.errors import InputError
from span_electra.features.arrow_file import open_checked
from span_electra.features.masking import Spans
from span_electra.storage import FEATURES_KEY
from span_electra.text.inputs import Source
from span_electra.text.vocabulary import Vocabulary

FORMATS = (1, 2)  # each masks rows in its own way; what is new is made in the last
TOKENIZER_KEY = b"tokenizer.json"
KINDS = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}  # of fields, in JSON
COUNTS = ("rows", "tokens", "masked", "spans")
COUNT_DIGITS = 19  # of the largest 64-bit number


@dataclass(frozen=True)
class FeatureHeader:
    """What a feature file says of itself."""

    vocabulary_sha256: str
    vocab_size: int
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    unk_id: int
    seed: int
    masking: MaskingConfig
    chunking: ChunkConfig
    chunk_size: int  # lines of a block; blocks are streams of their own, so it decides where rows end
    errors: str  # what was done about invalid UTF-8: strict or replace
    text_field: str
    sources: tuple[Source, ...] = ()
    rows: int = 0
    tokens: int = 0  # [CLS] and [SEP] included
    masked: int = 0  # hidden tokens
    spans: int = 0
    tokenizer_json: str = field(default="", repr=False)

    @property
    def format(self) -> int:
        """By which format the rows are masked, and so which settings of masking the header has."""
        return self.masking.format

    @property
    def max_seq_len(self) -> int:
        """Tokens of the longest row there can be, [CLS] and [SEP] included."""
        return self.chunking.max_seq_len

    @property
    def reading(self) -> TextConfig:
        """How the text is read."""
        return TextConfig(self.errors, self.text_field)

    @property
    def content(self) -> int:
        """Tokens that came from the text."""
        return self.tokens - 2 * self.rows

    @property
    def id_type(self) -> np.dtype:
        """uint16 while the vocabulary fits."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)


def wanted_features(
    vocabulary: Vocabulary,
    chunking: ChunkConfig,
    masking: MaskingConfig,
    *,
    seed: int = 0,
    chunk_size: int = CHUNK_SIZE,
    reading: TextConfig | None = None,
) -> FeatureHeader:
    """Return the header of features still to be made: no sources, no counts.

    Args:
        seed: of chunk lengths and masks.
        chunk_size: lines of a block.
        reading: how the text is read; none: by the defaults.
    """
    # All that decides the rows, and nothing that only describes the machine: equal headers mean equal bytes.
    reading = reading or TextConfig()
    return FeatureHeader(
        vocabulary_sha256=vocabulary.sha256,
        vocab_size=vocabulary.size,
        cls_id=vocabulary.cls_id,
        sep_id=vocabulary.sep_id,
        pad_id=vocabulary.pad_id,
        mask_id=vocabulary.mask_id,
        unk_id=vocabulary.unk_id,
        seed=seed,
        masking=masking,
        chunking=chunking,
        chunk_size=chunk_size,
        errors=reading.errors,
        text_field=reading.text_field,
        tokenizer_json=vocabulary.to_json(),
    )


# --- writing ------------------------------------------------------------------------------------------


def feature_schema(header: FeatureHeader) -> pa.Schema:
    """The columns of a feature file, with the header in the metadata."""
    # The tokenizer travels along, so that ids can never be read with another one.
    metadata = {FEATURES_KEY: header_json(header), TOKENIZER_KEY: header.tokenizer_json.encode()}
    small = pa.list_(pa.field("item", pa.uint16(), nullable=False))
    ids = pa.list_(pa.field("item", pa.from_numpy_dtype(header.id_type), nullable=False))
    names = {"input_ids": ids, "span_starts": small, "span_lengths": small}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in names.items()], metadata)


def as_stored(header: FeatureHeader) -> dict[str, Any]:
    """Everything in a header under the names of files, which call the format of masks their `law`."""
    described = asdict(header)
    described["masking"]["law"] = described["masking"].pop("format")
    return described


def header_json(header: FeatureHeader) -> bytes:
    """The header as it stands in a file; its length does not depend on counts, which come last."""
    described = as_stored(header)
    del described["tokenizer_json"]
    described["format"] = header.format
    if not header.chunking.respect_sentences:  # a key that says nothing new would change files made before it
        del described["chunking"]["respect_sentences"]
    if header.format == 1:
        # Byte for byte as it was: shards may be added to features made then.
        assert described["masking"].pop("whole_words"), "format 1 knows whole words alone"
        del described["masking"]["law"]
    # Blanks make up for the digits that counts do not have yet.
    digits = sum(len(str(described[name])) for name in COUNTS)
    return json.dumps(described, sort_keys=True).encode() + b" " * (len(COUNTS) * COUNT_DIGITS - digits)


def feature_batch(
    ids_T: np.ndarray, row_ends_R: np.ndarray, spans: Spans, schema: pa.Schema
) -> pa.RecordBatch:
    """Turn rows of ids, one after another, and their spans into a record batch; the ids are not copied."""
    span_ends_R = spans.row_ends_R
    # Places in rows fit 16 bits, for no row is longer (LONGEST_ROW).
    columns = [
        _list_column(ids_T, row_ends_R, schema.field(0).type),
        _list_column(spans.starts_S.astype(np.uint16), span_ends_R, schema.field(1).type),
        _list_column(spans.lengths_S.astype(np.uint16), span_ends_R, schema.field(2).type),
    ]
    return pa.record_batch(columns, schema=schema)


def _list_column(values: np.ndarray, ends_R: np.ndarray, kind: pa.ListType) -> pa.ListArray:
    offsets = np.zeros(len(ends_R) + 1, np.int32)
    offsets[1:] = ends_R
    # Buffers as they are, and numpy's names of the types: pa.array() would first import pandas, for .2 s, and
    # to_pandas_dtype() of older pyarrow fails where pandas is not installed.
    plain = np.ascontiguousarray(values.astype(str(kind.value_type), copy=False))
    items = pa.Array.from_buffers(kind.value_type, len(plain), [None, pa.py_buffer(plain)])
    return pa.ListArray.from_buffers(kind, len(ends_R), [None, pa.py_buffer(offsets)], children=[items])


# --- reading ------------------------------------------------------------------------------------------


def read_header(path: str | Path) -> FeatureHeader:
    """Read what a feature file says of itself, and nothing more.

    Raises InputError when it is no feature file, damaged, or of another format.
    """
    return parse_header(open_checked(path, verify=False).schema, path)


def _checked(record: type, values: dict) -> Any:
    """A record of the header: every field there, of its kind, no number negative or beyond 64 bits."""
    for entry in fields(record):
        value, kinds = values[entry.name], KINDS.get(entry.type)
        if kinds and type(value) not in kinds:  # not isinstance: to Python, True is a whole number
            raise TypeError
        if int in (kinds or ()) and not 0 <= value < 1 << 63:
            raise ValueError
    return record(**values)


def parse_header(schema: pa.Schema, path: str | Path) -> FeatureHeader:
    """Read the header from a schema; `path` names the file in errors, which are those of `read_header`."""
    metadata = schema.metadata or {}
    if FEATURES_KEY not in metadata or TOKENIZER_KEY not in metadata:
        raise InputError(f"{path}: an Arrow file, but not of features; make one with create_feature_SE.py")
    try:
        described = json.loads(metadata[FEATURES_KEY])
        number = described.pop("format", None)
        if number not in FORMATS:
            raise InputError(
                f"{path}: format {number!r}, this program reads {' and '.join(map(str, FORMATS))}; "
                "run create_feature_SE.py again"
            )
        implied = {"whole_words": True, "law": 1} if number == 1 else {}
        masking = implied | described["masking"]
        masking["format"] = masking.pop("law")
        described["masking"] = _checked(MaskingConfig, masking)
        if described["masking"].format != number:
            raise ValueError
        described["chunking"] = _checked(ChunkConfig, {"respect_sentences": False} | described["chunking"])
        described["sources"] = tuple(_checked(Source, source) for source in described["sources"])
        described["tokenizer_json"] = metadata[TOKENIZER_KEY].decode()
        header = _checked(FeatureHeader, described)
        ids = (header.cls_id, header.sep_id, header.pad_id, header.mask_id, header.unk_id)
        if max(ids) >= header.vocab_size:  # would read beyond the table of embeddings
            raise ValueError
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{path}: its header cannot be read; run create_feature_SE.py again") from None
    if feature_schema(header).types != schema.types:
        raise InputError(f"{path}: its columns are not those of features; run create_feature_SE.py again")
    return header
