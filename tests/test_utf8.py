"""Bytes as text, and other encodings by their names. Run: pytest tests/test_utf8.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from span_electra.errors import InputError
from span_electra.utf8 import decode_utf8, other_unicode


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_every_text_comes_back_with_and_without_its_mark(text):
    assert decode_utf8(text.encode("utf-8-sig"), "a.txt") == text
    if not text.startswith("\ufeff"):
        assert decode_utf8(text.encode(), "a.txt") == text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_of_unicode_are_named(encoding):
    data = "A text.\nAnother.\n".encode(encoding)
    name = encoding[:6].upper()
    with pytest.raises(InputError, match=f"a.txt: {name} text; .*iconv -f {name} -t UTF-8"):
        decode_utf8(data, "a.txt")


def test_a_byte_that_is_no_utf8_is_named():
    with pytest.raises(InputError, match=r"a.txt: not UTF-8 \(byte 0xff at 2\)"):
        decode_utf8(b"ab\xffc", "a.txt")
    assert other_unicode(b"") is None and other_unicode(b"a\0") is None and other_unicode(b"\0\0\0\0") is None
