"""Blocks -> parts: the features of one block each, kept on disk until all are there.

A part is a pure function of its block and the settings. It is written beside and renamed, and carries a key
made of all that decides its bytes, and a checksum: so a command that was killed keeps what was finished, and
what was made from other text or with other settings is made again.

D documents, R rows.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from span_electra.errors import InputError
from span_electra.features.arrow_file import open_checked, write_checked
from span_electra.features.chunks import NO_SENTENCES, cut_chunks, document_ends, frame_chunks
from span_electra.features.header import (
    COUNTS,
    FeatureHeader,
    as_stored,
    feature_batch,
    feature_schema,
    header_json,
)
from span_electra.features.masking import row_keys, sample_spans
from span_electra.features.sentences import NO_LINES, begins_lines_bare, sentence_ends, sentence_marks
from span_electra.features.words import TokenRows
from span_electra.storage import FEATURES_KEY
from span_electra.text.clean import read_block, replaced_in
from span_electra.text.corpus import Block
from span_electra.text.encode import EncodedLines, TextEncoder
from span_electra.text.unknown import characters_of, lost_of_block
from span_electra.text.vocabulary import Vocabulary

PART_KEY = b"span_electra.part"


@dataclass(frozen=True)
class PartCounts:
    """What a part holds."""

    encoded: int = 0  # tokens that the encoder gave
    rows: int = 0
    tokens: int = 0  # [CLS] and [SEP] included
    masked: int = 0
    spans: int = 0
    characters: int = 0  # of the text, blanks not counted
    lost: int = 0  # characters that are [UNK] or have no token, from a sample of the lines that lost some
    replaced: int = 0  # characters that are U+FFFD, by `errors: replace`
    special: int = 0  # tokens of text that are [CLS], [SEP], [PAD] or [MASK], spelt out there
    fallback: str = ""  # why the tokenizer library had to do all the work, if so

    @property
    def of_header(self) -> dict[str, int]:
        """Those that a header has too."""
        return {name: getattr(self, name) for name in COUNTS}

    def __add__(self, other: PartCounts) -> PartCounts:
        added = [a + b for a, b in zip(astuple(self)[:-1], astuple(other)[:-1], strict=True)]
        return PartCounts(*added, self.fallback or other.fallback)


@dataclass(frozen=True)
class Part:
    """The features of one block."""

    batch: pa.RecordBatch
    counts: PartCounts


def part_path(folder: Path, number: int) -> Path:
    """Where the part of a block stands."""
    return folder / f"part-{number:07d}.arrow"


def part_maker(header: FeatureHeader, vocabulary: Vocabulary) -> Callable[[Block], Part]:
    """Return the function from blocks to parts; of `header` sources and counts are not read."""
    # Made once for all blocks: its table of known words grows from one to the next.
    encoder = TextEncoder(vocabulary.tokenizer)
    schema, chunking = _part_schema(header), header.chunking
    marks_V = sentence_marks(vocabulary) if chunking.respect_sentences else None
    bare = begins_lines_bare(vocabulary)

    def make(block: Block) -> Part:
        text = read_block(block, header.reading)
        try:
            lines = encoder.encode(text)
        except InputError as error:  # a line so long ends its block, whose last piece holds it
            raise InputError(f"{block.pieces[-1].path}: {error}") from None
        # Held against what is written, at the end: no token may be lost on the way.
        encoded = len(lines.ids_T)
        told = _text_counts(text, lines, vocabulary, header)
        ends_D, ends_S = np.array([encoded]), NO_SENTENCES
        if chunking.respect_documents:
            ends_D = document_ends(text, lines.line_ends_N)
        if marks_V is not None:  # with a document its last sentence ends, whatever its last character
            found_S = sentence_ends(lines.ids_T, marks_V, lines.line_ends_N if bare else NO_LINES)
            ends_S = np.union1d(found_S, document_ends(text, lines.line_ends_N))
        del text  # megabytes that need not wait for the spans
        # The block takes the epoch's place in the keys, so that blocks are streams of their own.
        key = row_keys(header.seed, block.number, np.zeros(1), "chunks")[0]
        chunk_ends_R = cut_chunks(ends_D, chunking, key, ends_S)
        ids_T = lines.ids_T.astype(header.id_type, copy=False)
        framed_T, ends_R = frame_chunks(ids_T, chunk_ends_R, header.cls_id, header.sep_id)
        lengths_R = np.diff(ends_R, prepend=0)
        keys_R = row_keys(header.seed, block.number, np.arange(len(ends_R)), "block spans")
        rows = TokenRows(framed_T, ends_R - lengths_R, lengths_R)
        spans = sample_spans(rows, vocabulary.token_words, keys_R, header.masking)
        assert len(framed_T) == encoded + 2 * len(ends_R), "the chunker lost or doubled tokens"
        counts = PartCounts(
            encoded=encoded,
            rows=len(ends_R),
            tokens=len(framed_T),
            masked=int(spans.lengths_S.sum()),
            spans=len(spans.starts_S),
            **told,
            fallback=encoder.fallback_reason or "",
        )
        return Part(feature_batch(framed_T, ends_R, spans, schema), counts)

    return make


def _text_counts(
    text: bytes, lines: EncodedLines, vocabulary: Vocabulary, header: FeatureHeader
) -> dict[str, int]:
    """What PartCounts tells of the text itself."""
    return {
        "characters": characters_of(text),
        "lost": lost_of_block(vocabulary, text, lines),
        "replaced": replaced_in(text, header.reading),
        # Before framing: [CLS] or [SEP] may be the same token as one of text, as in GPT-2's vocabulary.
        "special": int(np.count_nonzero(np.isin(lines.ids_T, vocabulary.framing_ids))),
    }


def _part_schema(header: FeatureHeader) -> pa.Schema:
    """The columns of a part: those of the file, with the header as its mark."""
    # No tokenizer: the key tells it apart, and beside 4 MB of text it would be most of the part.
    return feature_schema(header).with_metadata({FEATURES_KEY: header_json(header)})


# --- parts on disk ------------------------------------------------------------------------------------


def write_part(path: Path, part: Part, key: str, header: FeatureHeader) -> None:
    """Write a part, or leave what stood there."""
    schema = _part_schema(header)
    described = {PART_KEY: json.dumps({"key": key, "counts": asdict(part.counts)}).encode()}
    # No sync: a part that a loss of power takes back is found out by its checksum and made again.
    write_checked(path, schema.with_metadata({**schema.metadata, **described}), [part.batch], durable=False)


def kept_counts(path: Path, key: str) -> PartCounts | None:
    """What a finished part holds; None if it is absent, damaged, or of another key."""
    if not path.exists():
        return None
    try:
        described = json.loads(open_checked(path).schema.metadata[PART_KEY])
        # One of a version that counted other things is made again: its counts are a TypeError.
        return PartCounts(**described["counts"]) if described["key"] == key else None
    except (InputError, KeyError, TypeError, ValueError, RecursionError):
        return None


def read_part(path: Path, key: str) -> pa.RecordBatch:
    """The rows of a part, checked. Raises InputError when it is damaged or of another key."""
    # Checked again: hours may lie between the making of a part and its joining.
    reader = open_checked(path)
    if json.loads(reader.schema.metadata[PART_KEY])["key"] != key:
        raise InputError(f"{path}: was replaced by another command meanwhile; run again")
    return reader.get_batch(0)


def writing_maker(
    settings: tuple[FeatureHeader, Vocabulary, Path],
) -> Callable[[tuple[Block, str]], PartCounts]:
    """Return the function that a process of this machine runs: (block, key) -> a part on disk, its counts."""
    header, vocabulary, folder = settings
    make = part_maker(header, vocabulary)

    def work(task: tuple[Block, str]) -> PartCounts:
        block, key = task
        part = make(block)
        write_part(part_path(folder, block.number), part, key, header)
        return part.counts

    return work


# --- keys ---------------------------------------------------------------------------------------------


def settings_key(header: FeatureHeader) -> str:
    """Hash of every setting that decides the rows' bytes."""
    deciding = as_stored(replace(header, sources=(), rows=0, tokens=0, masked=0, spans=0))
    if header.chunking.respect_sentences:  # which end at line ends too, since tokenizers without blanks there
        deciding["sentences"] = 2
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def block_key(settings: str, block: Block, identities: dict[str, str]) -> str:
    """Hash of the `settings_key`, the block's place in its files, and these files' identities."""
    places = []
    for piece in block.pieces:
        text = json.dumps(piece.rows or ()).encode() if piece.text is None else piece.text
        # Text that was read here comes as it is, so its own sum counts, and not only the file's identity.
        place = replace(piece, text=None, rows=None)
        places.append([*astuple(place), zlib.crc32(text), identities[piece.path]])
    return hashlib.sha256(json.dumps([settings, block.number, places]).encode()).hexdigest()
