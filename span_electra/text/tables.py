"""Columns of a table, some rows at a time: of .parquet, and the check of a column of texts for any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from span_electra.errors import InputError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

BATCH = 512  # rows


def parquet_texts(path: str, raw: BinaryIO, text_field: str) -> Iterator[tuple[list[str | None], float]]:
    """Yield some rows at a time, and which share of the file's rows came before their end.

    Raises InputError for a column that is not there or holds no text, pa.ArrowException for damage.
    """
    import pyarrow.parquet as pq

    table, passed = pq.ParquetFile(raw), 0
    check_column(path, table.schema_arrow, text_field)
    for batch in parquet_batches(table, [text_field]):
        passed += batch.num_rows
        yield column_texts(batch.column(0)), passed / table.metadata.num_rows


def column_texts(column: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """The texts of a column; bytes that are no UTF-8, which Arrow never looks for, as Python's surrogates."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        found = column.cast(pa.large_binary()).to_pylist()
        return [text if text is None else text.decode(errors="surrogateescape") for text in found]


def parquet_batches(table: ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the columns of some rows at a time, in order."""
    # A group at a time: an iteration over several keeps all that it has passed in memory until its end.
    for group in range(table.num_row_groups):
        yield from table.iter_batches(batch_size=BATCH, row_groups=[group], columns=columns)


def check_column(path: str, schema: pa.Schema, text_field: str) -> None:
    """Raise InputError unless a table has the column, and text in it."""
    if schema.names.count(text_field) > 1:
        raise InputError(f"{path}: several columns are called {text_field!r}; give each a name of its own")
    kind = schema.field(text_field).type if text_field in schema.names else None
    # As pandas writes a column of categories; their texts are read as any.
    values = kind.value_type if isinstance(kind, pa.DictionaryType) else kind
    if values not in (pa.string(), pa.large_string(), pa.string_view()):
        problem = f"no column {text_field!r}" if kind is None else f"column {text_field!r} holds {kind}"
        raise InputError(
            f"{path}: {problem} (there are {', '.join(schema.names)[:80]}); name one with --text_field"
        )
