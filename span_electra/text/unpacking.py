"""The bytes of a packed file (.gz, .bz2, .xz, .zst) -> what is in it, whole or with an error.

A file may be several streams one after another, as parallel packers and `cat` make them, with zeros between
them or behind the last.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO

import pyarrow as pa

PACKINGS = (".gz", ".bz2", ".xz", ".zst")
UNPACKING_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException)
PACKED = 1 << 16  # bytes given to a decoder at a time


def unpack(raw: BinaryIO, packing: str) -> BinaryIO:
    """A stream of a packed file's content; reading it may raise one of UNPACKING_ERRORS."""
    if packing == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if packing == ".bz2":
        return io.BufferedReader(_Streams(raw, bz2.BZ2Decompressor))
    if packing == ".xz":
        return io.BufferedReader(_Streams(raw, lzma.LZMADecompressor, padding=4))
    if packing == ".zst":
        return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
    return raw


def way_out_of(error: Exception) -> str:
    """What to do about one of UNPACKING_ERRORS."""
    # What `zstd --long` packs is sound, but Arrow's reader keeps no more than 128 MiB of it in memory.
    if "too much memory" in str(error):
        return "its window is larger than is read here; unpack it (zstd -d --long=31) and name that file"
    return "get it again"


class _Streams(io.RawIOBase):
    """The content of all streams of a file.

    Python's own BZ2File and LZMAFile take an error at the start of a later stream for padding, and end there
    without a word: damage, or zeros between two streams, would cost the rest of a corpus.
    """

    def __init__(self, raw: BinaryIO, new_decoder: Callable, padding: int = 1) -> None:
        """padding: zeros behind a stream come in multiples of so many."""
        super().__init__()
        self._raw, self._new_decoder, self._padding = raw, new_decoder, padding
        self._decoder, self._ended = new_decoder(), False

    def readable(self) -> bool:
        return True

    def readinto(self, room: memoryview) -> int:
        data = self._next(len(room))
        room[: len(data)] = data
        return len(data)

    def _next(self, most: int) -> bytes:
        """Some bytes more; none at the end of the last stream."""
        while not self._ended:
            packed = b""
            if self._decoder.eof:
                packed = self._behind_padding()
                if not packed:
                    self._ended = True
                    break
                self._decoder = self._new_decoder()
            elif self._decoder.needs_input:
                packed = self._raw.read(PACKED)
                if not packed:
                    raise EOFError("it ends inside a stream")
            data = self._decoder.decompress(packed, most)
            if data:
                return data
        return b""

    def _behind_padding(self) -> bytes:
        """The first bytes of the next stream; none: there is none."""
        zeros, packed = 0, self._decoder.unused_data or self._raw.read(PACKED)
        while packed:
            begin = packed.lstrip(b"\0")
            zeros += len(packed) - len(begin)
            if begin:
                break
            packed = self._raw.read(PACKED)
        if zeros % self._padding:
            raise lzma.LZMAError("its padding is cut off")
        return packed and begin
