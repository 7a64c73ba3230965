"""Bytes of a file -> text. Everything here is UTF-8; what is not is named, with the way out."""

from __future__ import annotations

import codecs
import re
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
BEGINNING = 1 << 18  # bytes that tell of an encoding by what is no UTF-8
# Characters that are wrong in text of another encoding: in German one of fifty. Fewer are faults of a line.
FEW_WRONG, MANY_WRONG = 50, 0.01
# Each refuses text of those behind it, which would take its own: the commonest letters lie in their gaps.
ENCODINGS = ("shift_jis", "euc_kr", "euc_jp", "big5", "gb18030", "cp1251")
MANY_NULS = 0.02  # share of these; text has none, in units of 16 bits each blank and line end has one


def begins_as_utf8(data: bytes, encoding: str = "utf-8") -> bool:
    """Whether these first bytes of a file are UTF-8, or `encoding`; the last character may go on behind."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
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
    """Refuse a file that begins so and is in another encoding, or binary.

    Raises InputError that begins with `where`, and names the encoding: where a mark or an escape tells it,
    and else one in which the bytes are text.
    """
    name = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    if not data.startswith(UTF8_MARK) and any(escape in data for escape in ESCAPES):
        name = name or "ISO-2022-JP"
    if name:
        raise InputError(f"{where}: {name} text; convert it to UTF-8 (iconv -f {name} -t UTF-8)")
    head = data[:LOOKED_AT]
    if head.count(0) > max(2, MANY_NULS * len(head)):  # fewer are faults of a line
        kinds = "binary, or UTF-16 or UTF-32 without a mark"
        raise InputError(f"{where}: full of NUL bytes: {kinds}; convert it to UTF-8 (iconv)")
    _refuse_mostly_wrong(data[:BEGINNING], where)


def _refuse_mostly_wrong(data: bytes, where: str) -> None:
    """Refuse text of which more is wrong than a few bytes: with U+FFFD in their place it would be lost."""
    if 0 in data or begins_as_utf8(data):  # a NUL beside bytes that are no UTF-8 is told as binary
        return
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(data)
    wrong = text.count("\ufffd") - data.count("\ufffd".encode())
    if wrong <= max(FEW_WRONG, MANY_WRONG * len(text)):
        return
    # Bytes above ASCII stand alone in words of Latin letters, and beside each other in other scripts.
    runs = re.findall(rb"[\x80-\xff]+", data)
    likely = ("cp1252",) if sum(map(len, runs)) < 2 * len(runs) else ENCODINGS
    name = next((name for name in likely if begins_as_utf8(data, name)), None)
    if name is None:
        way_out = "is it text? If so, convert it, or leave out what is wrong (iconv -c -f UTF-8 -t UTF-8)"
    else:
        name = name.upper().replace("EUC_", "EUC-")  # as iconv has it
        way_out = f"perhaps {name}; convert it and look at it (iconv -f {name} -t UTF-8)"
    raise InputError(f"{where}: not UTF-8 ({wrong / len(text):.0%} of the characters are wrong), {way_out}")


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


def token_lines(path: str | Path) -> list[str]:
    """The lines of a file of tokens, whose ends may be Windows'. Raises InputError as `read_text` does.

    Not splitlines(): a token may be a separator that Python takes for the end of a line, or hold a \\r, which
    is of an end only where all lines have one.
    """
    text = read_text(path)
    if text.count("\r\n") == text.count("\n"):
        text = text.replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")


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
