"""A tokenizer.json beside the library: what would end the process is refused; its kind; changed, but kept."""

from __future__ import annotations

import base64
import binascii
import json

from tokenizers import Tokenizer

from span_electra.errors import InputError

MOST_GAPS = 1 << 16  # ids without a token, in a stranger's vocabulary; ours have none


def rewritten(text: str, tokenizer: Tokenizer) -> str:
    """A tokenizer.json's text with all but its model as `tokenizer`, which was opened from it, now has it.

    The library reads the scores of a Unigram model to the last digit but one: written again by it, a
    vocabulary would no longer be the same, and its hash another.
    """
    model = {"model": json.loads(text)["model"]}
    return json.dumps(json.loads(tokenizer.to_str()) | model, ensure_ascii=False)


def check_unknown(described: dict, source: str) -> None:
    """Raise InputError where the library fails on text that the model does not know, hours from here.

    Such models come from trainers that were told no unknown token, or got it among the added tokens alone.
    """
    model = described["model"]
    unknown = True
    if model.get("type") == "Unigram":
        unknown = model.get("unk_id") is not None or model.get("byte_fallback")
    elif model.get("type") in ("WordPiece", "WordLevel"):
        unknown = model.get("unk_token") in model["vocab"]
    if not unknown:
        raise InputError(
            f"{source}: cannot read text that it does not know; give its model an unknown token (unk_id, "
            "unk_token) of its own vocabulary"
        )


def check_described(described: dict) -> None:
    """Raise ValueError for a tokenizer.json that would end the process or fail later: the library trusts it.

    It makes a table up to the highest id, panics at a broken table of characters, and looks the unknown token
    up only when it meets unknown text.
    """
    model = described["model"]
    tokens = list(described.get("added_tokens") or [])
    pieces = model["vocab"]
    if isinstance(pieces, dict):
        numbers, known = [*pieces.values()], set(pieces)
    else:
        numbers, known = [*range(len(pieces))], {piece for piece, _ in pieces}
    numbers += [token["id"] for token in tokens]
    known |= {token["content"] for token in tokens}
    # The library allocates up to the highest id: one of 2^31 in a stranger's file would end the process.
    highest = len(numbers) + MOST_GAPS
    if not all(type(number) is int and 0 <= number < highest for number in numbers):
        raise ValueError("ids that are no row of a table")
    for normalizer in parts_of(described.get("normalizer")):
        if normalizer.get("type") == "Precompiled":
            _check_character_table(normalizer.get("precompiled_charsmap"))
    if model.get("unk_token") is not None and model["unk_token"] not in known:
        raise ValueError(f"the unknown token {model['unk_token']!r} is no token")
    if isinstance(pieces, list) and (model.get("unk_id") or 0) >= len(pieces):
        raise ValueError(f"the unknown token's id {model['unk_id']} is no piece's")
    if model.get("dropout"):
        raise ValueError("dropout, with which a text's ids are never the same twice")


def _check_character_table(table: object) -> None:
    """SentencePiece's: the size of a trie as 4 bytes, the trie, the replacements."""
    try:
        raw = base64.b64decode(str(table), validate=True)
    except binascii.Error:
        raw = b""
    size = int.from_bytes(raw[:4], "little")
    if len(raw) < 4 or size % 4 or not 0 < size <= len(raw) - 4:
        raise ValueError("a broken table of characters")


def parts_of(part: dict | None) -> list[dict]:
    """A normalizer or pre-tokenizer, or what a sequence of them holds, as one list."""
    if part is None:
        return []
    for name in ("normalizers", "pretokenizers", "decoders"):
        if isinstance(part.get(name), list):
            return [inner for each in part[name] for inner in parts_of(each)]
    return [part]


def kind_of(described: dict) -> str:
    """Which rule tells where words start: BPE (byte-level), BERT (WordPiece's ##), SentencePiece, other."""
    model = described["model"]
    if model.get("type") == "WordPiece" and model.get("continuing_subword_prefix") == "##":
        return "BERT"
    types = {part.get("type") for part in parts_of(described.get("pre_tokenizer"))}
    if "ByteLevel" in types:
        return "BPE"
    # Older files turn blanks into "\u2581" in the normalizer, newer ones in the pre-tokenizer.
    if "Metaspace" in types or "\u2581" in json.dumps(described.get("normalizer"), ensure_ascii=False):
        return "SentencePiece"
    return "other"
