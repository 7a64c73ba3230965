"""Laws of unpacking: all of a file comes out, or an error. Run: pytest tests/text/test_unpacking.py"""

import bz2
import gzip
import io
import lzma
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from span_electra.text import unpacking
from span_electra.text.unpacking import UNPACKING_ERRORS, unpack

LEGACY = partial(lzma.compress, format=lzma.FORMAT_ALONE)  # what .xz was before: one stream, without padding
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def unpacked(data: bytes, packing: str, most: int = 1 << 18) -> bytes:
    parts = []
    with unpack(io.BytesIO(data), packing) as stream:
        while part := stream.read(most):
            parts.append(part)
        assert stream.read(most) == b""  # an end stays one
    return b"".join(parts)


@settings(max_examples=60, deadline=None)
@given(
    packing=st.sampled_from(list(PACK)),
    texts=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    zeros=st.lists(st.integers(0, 5), min_size=4, max_size=4),
    read=st.sampled_from([1, 7, 1 << 18]),
    given_at_a_time=st.sampled_from([1, 5, 1 << 16]),
)
def test_streams_come_whole_whatever_lies_between_them(packing, texts, zeros, read, given_at_a_time):
    padding = 4 if packing == ".xz" else 1
    data = b"".join(
        PACK[packing](text) + bytes(padding * count) for text, count in zip(texts, zeros, strict=False)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpacking, "PACKED", given_at_a_time)
        assert unpacked(data, packing, read) == b"".join(texts)


@settings(max_examples=100, deadline=None)
@given(packing=st.sampled_from(list(PACK)), stream=st.integers(0, 2), data=st.data())
def test_damage_in_any_stream_is_an_error(packing, stream, data):
    """A flipped bit costs nothing or is told; it never costs the rest in silence."""
    texts = [b"first\n" * 9, b"second\n" * 9, b"third\n" * 9]
    streams = [bytearray(PACK[packing](text)) for text in texts]
    place = data.draw(st.integers(0, len(streams[stream]) - 1))
    streams[stream][place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = unpacked(b"".join(streams), packing)
    except UNPACKING_ERRORS:
        return
    assert found == b"".join(texts)  # a bit that says nothing of the content, as the time in .gz


@pytest.mark.parametrize("packing", PACK)
def test_a_file_cut_anywhere_is_an_error_but_between_streams(packing):
    first, second = PACK[packing](b"one\n" * 20), PACK[packing](b"two\n" * 20)
    for end in range(1, len(first + second)):
        if end != len(first):
            with pytest.raises(UNPACKING_ERRORS):
                unpacked((first + second)[:end], packing)
    assert unpacked(first, packing) == b"one\n" * 20


def test_what_follows_a_stream_and_is_none_is_an_error():
    for packing in PACK:
        with pytest.raises(UNPACKING_ERRORS):
            unpacked(PACK[packing](b"text\n") + b"garbage", packing)
    with pytest.raises(lzma.LZMAError, match="padding"):
        unpacked(lzma.compress(b"text\n") + bytes(3), ".xz")
    assert unpacked(LEGACY(b"text\n"), ".xz") == b"text\n"
