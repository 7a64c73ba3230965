"""Bytes of a file -> text. Everything here is UTF-8; what is not is named, with the way out."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

from span_electra.errors import InputError

# Byte order marks. The four bytes of UTF-32 come first: they begin as UTF-16's do.
MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
UTF8_MARK = b"\xef\xbb\xbf"
ESCAPES = (b"\x1b$B", b"\x1b$@")  # by which ISO-2022-JP, bytes of ASCII alone, goes over to Japanese
LOOKED_AT = 4096  # bytes that tell of an encoding without a mark
CONTROLS = bytes(byte for byte in range(0x20) if chr(byte) not in "\t\n\r\f\x1b")  # which text does not use
LEAST = 8  # such bytes where there is no zero: of a few at random any encoding may be read
REGULAR = 0.1  # share of bytes; so many of these are no stray ones, but halves of characters
READABLE = 0.95  # of the characters that an encoding gives; what is read by a wrong one has far fewer


def other_encoding(data: bytes) -> str | None:
    """The encoding of a file that begins so, by its name for iconv, if it is another Unicode or ISO-2022-JP.

    Without a mark, text in UTF-16 or UTF-32 shows by its zeros and by other control characters, which are
    half of each unit: UTF-8 has next to none, and yet Thai or Latin text in UTF-16 may be valid UTF-8.
    Example: "hi".encode("utf-16") -> "UTF-16"
    """
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return name
    if data.startswith(UTF8_MARK):
        return None
    if any(escape in data for escape in ESCAPES):
        return "ISO-2022-JP"
    head = data[:LOOKED_AT]
    if begins_as_utf8(head):
        least = 2 if b"\0" in head else LEAST
        found, few = len(head) - len(head.translate(None, CONTROLS)), max(least, REGULAR * len(head))
    else:  # in units of 16 bits each blank has a zero; in Latin-1 with a stray one hardly any has
        found, few = head.count(b"\0"), max(1, head.count(b" ") / 4)
    if found < few:
        return None
    shares = {name: _readable(head, name) for name in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE")}
    best = max(shares, key=shares.get)
    return best if shares[best] >= READABLE else None


def _readable(data: bytes, encoding: str) -> float:
    """Share of the characters that are text, and no control or unassigned ones; 0: not in this encoding."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return 0.0
    if not text or "\0" in text:
        return 0.0
    unread = sum(unicodedata.category(mark)[0] == "C" and mark not in "\t\n\r\f" for mark in text)
    # Of two that read as text, the one with blanks, line ends and digits: they are the same everywhere.
    common = sum(mark.isascii() for mark in text)
    return 1 - unread / len(text) + 1e-6 * common


def begins_as_utf8(data: bytes) -> bool:
    """Whether these first bytes of a file are UTF-8; the last character may go on behind them."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text: JSON can spell half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_other(data: bytes, where: str) -> None:
    """Raise InputError, beginning with `where`, if a file that begins so is in another encoding of these."""
    if name := other_encoding(data):
        raise InputError(f"{where}: {name} text; convert it to UTF-8 (iconv -f {name} -t UTF-8)")


def read_text(path: str | Path, way_out: str = "check the path", most: int | None = None) -> str:
    """The text of a file that fits into memory; `most`: bytes that it may have.

    Raises InputError, which ends in `way_out`, if it is absent, a folder, too large, or not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            # One more tells of a larger file, of one without an end too.
            data = file.read(-1 if most is None else most + 1)
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}; {way_out}") from None
    if most is not None and len(data) > most:
        raise InputError(f"{path}: more than {most >> 20} MiB; {way_out}")
    return decode_utf8(data, str(path))


def decode_utf8(data: bytes, where: str, first: bool = True) -> str:
    """The text of `data`, without a byte order mark; `first`: it is the beginning of its file.

    Raises InputError that begins with `where` and names the encoding, where it can be told, or the byte.
    """
    if first:
        refuse_other(data, where)
        data = data.removeprefix(UTF8_MARK)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at {error.start}"
        raise InputError(f"{where}: not UTF-8 ({byte}); convert the file (iconv)") from None
