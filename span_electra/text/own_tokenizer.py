"""A tokenizer that the user has already -> a Vocabulary that gives its ids and travels with the features.

Any `tokenizer.json`, or a folder that `AutoTokenizer` opens without a network. Special tokens are found by
their role (special_tokens.py). A file is taken as it stands; of a folder, `AutoTokenizer` must give the same
ids as the tokenizer.json in it, for both will be used on the exported model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer

from span_electra.errors import InputError, reason_of
from span_electra.storage import OURS, TOKENIZER, TOKENIZER_CONFIG
from span_electra.text.encode import TextEncoder
from span_electra.text.special_tokens import SpecialTokens, find_special_tokens, json_object, vocabulary_of
from span_electra.text.tokenizer_file import check_described, check_unknown, rewritten
from span_electra.text.vocabulary import Vocabulary, add_special
from span_electra.utf8 import read_text, token_lines

# Lines that show where two readings of a folder differ: capitals, accents, blanks, other scripts, digits.
PROBES = (
    "The Quick brown fox's 12,345 naïve Cafés -- don't!",
    " leading and  double blanks\tand a tab",
    "Ångström ﬁne Ⅷ ½ İstanbul ß ﷺ",
    "漢字とかな 한국어 ไทย हिन्दी русский Ελληνικά עברית",
    '😀👩‍👩‍👧 x²=4; {"a": [1, 2]} http://a.b/c?d=e_f',
)


def open_tokenizer(path: str | Path, named: Mapping[str, str | None] | None = None) -> Vocabulary:
    """Open a tokenizer.json, or a folder with a tokenizer.

    named: role (cls, sep, pad, mask, unk) -> the token the user names for it; one that the tokenizer lacks is
    added to it. Raises InputError for what is no tokenizer, files that contradict each other, and roles that
    nothing names a token for.
    """
    path = Path(path)
    if path.is_dir():
        text, config = _read_folder(path)
    else:
        if path.suffix == ".model" and path.is_file():
            raise InputError(
                f"{path}: a SentencePiece model; name its folder, which AutoTokenizer converts, or save it "
                "as tokenizer.json (AutoTokenizer.from_pretrained(...).save_pretrained(...))"
            )
        text, config = read_text(path), _config_beside(path.parent)
    try:
        described = json.loads(text)
        described.pop(OURS, None)  # of a run's own file
        check_described(described)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a tokenizer.json ({error}); name one, or its folder") from None
    named = {role: token for role, token in (named or {}).items() if token}
    special = find_special_tokens(described, config, named, str(path))
    text = _with_added(text, described, special, path)
    # A token that the user names goes before the one of the file.
    travelling = {"special_tokens": special.__dict__, "config": config | special.config_keys()}
    opened = json.dumps(json.loads(text) | {OURS: travelling}, ensure_ascii=False)
    return Vocabulary.from_json(opened, str(path))


def bring_tokenizer(
    path: str | Path, named: Mapping[str, str | None], vocab_file: str | None = None
) -> Vocabulary:
    """Open a tokenizer for features and print a line about it; a vocabulary named besides must be its own."""
    vocabulary = open_tokenizer(path, named)
    if vocab_file is not None:
        _check_file(Path(vocab_file), json.loads(vocabulary.original or ""), "give one of the two")
    roles = ", ".join(f"{role} {token}" for role, token in vocabulary.special.__dict__.items())
    reason = TextEncoder(vocabulary.tokenizer).fallback_reason
    how = f"every line goes through the library ({reason})" if reason else "words are cut and looked up"
    print(f"tokenizer: {path}, {vocabulary.size:,} tokens; {roles}; {how}")
    return vocabulary


def open_exported(path: Path) -> Vocabulary:
    """Open the tokenizer.json of an exported folder, whose special tokens are those that stand beside it.

    Where no file beside it tells, they are those that we make, and else what `open_tokenizer` finds.
    """
    text, config = read_text(path), _config_beside(path.parent)
    try:
        opened = Vocabulary.from_json(text, str(path))
    except InputError:
        return open_tokenizer(path)
    if opened.original is not None or not config:  # a run's own file tells them itself
        return opened
    # It may hold tokens spelt as ours, such as [CLS], beside those that play the roles.
    told = find_special_tokens(json.loads(text), config, {}, str(path))
    return opened if told == opened.special else open_tokenizer(path)


def _config_beside(folder: Path) -> dict:
    """tokenizer_config.json over special_tokens_map.json, where they are."""
    config: dict = {}
    for name in ("special_tokens_map.json", TOKENIZER_CONFIG):
        if (folder / name).is_file():
            config |= json_object(read_text(folder / name), str(folder / name))
    return config


def _read_folder(folder: Path) -> tuple[str, dict]:
    """Its tokenizer.json, or what AutoTokenizer makes of its other files, as text; and its config."""
    path, config = folder / TOKENIZER, _config_beside(folder)
    if not path.is_file():
        return as_transformers_open(folder).to_str(), config
    text = read_text(path)
    check_folder(folder, text, f"give --tokenizer {path} to go by that file, or mend tokenizer_config.json")
    for name in ("vocab.json", "vocab.txt"):
        if (folder / name).is_file():
            _check_file(folder / name, json.loads(text), "remove the file that does not belong there")
    return text, config


def check_folder(folder: Path, text: str, way_out: str) -> None:
    """Raise InputError where `AutoTokenizer` gives other ids than a folder's tokenizer.json, its `text`.

    A network was trained with one of the two readings, and people open what is made of it by transformers.
    """
    try:
        ours = Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception
        raise InputError(f"{folder / TOKENIZER}: not a tokenizer ({error}); get it again") from None
    check_unknown(json.loads(text), str(folder / TOKENIZER))  # the probes have text that it does not know
    line = _first_difference(ours, as_transformers_open(folder))
    if line is not None:
        raise InputError(
            f"{folder}: AutoTokenizer gives other ids than the tokenizer.json in it, for {line!r}; {way_out}"
        )


def as_transformers_open(folder: Path) -> Tokenizer:
    """What `AutoTokenizer` makes of a folder's files, without a network. Raises InputError."""
    from transformers import AutoTokenizer

    try:
        opened = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        backend = opened.backend_tokenizer
    except Exception as error:  # whatever its many classes raise
        raise InputError(
            f"{folder}: AutoTokenizer cannot open it ({reason_of(error)}); name a tokenizer.json"
        ) from None
    return Tokenizer.from_str(backend.to_str())


def _first_difference(one: Tokenizer, other: Tokenizer) -> str | None:
    """The first probe that two tokenizers give different ids; truncation and padding do not count."""
    for tokenizer in (one, other):  # files are often saved with both switched on, for some model's rows
        tokenizer.no_truncation()
        tokenizer.no_padding()
    for line in PROBES:
        pair = [tokenizer.encode(line, add_special_tokens=False).ids for tokenizer in (one, other)]
        if pair[0] != pair[1]:
            return line
    return None


def _check_file(path: Path, described: dict, way_out: str) -> None:
    """Raise InputError where a vocabulary file numbers a token otherwise than a tokenizer.json."""
    ids = vocabulary_of(described)
    if path.suffix == ".txt":
        theirs = {token: number for number, token in enumerate(token_lines(path))}
    else:
        theirs = json_object(read_text(path), str(path))
    other = next((token for token, number in theirs.items() if ids.get(token) != number), None)
    if other is not None:
        raise InputError(f"{path}: {other!r} has another id than in the tokenizer.json; {way_out}")


def _with_added(text: str, described: dict, special: SpecialTokens, path: Path) -> str:
    """The tokenizer.json with the special tokens that it lacks added; as it was if it lacks none.

    Those of its model alone, too, which keep their ids: in text they are read as special by `transformers`.
    """
    known = vocabulary_of(described)
    added = {token["content"] for token in described.get("added_tokens") or []}
    lacking = [token for token in special.all if token not in added]
    if not lacking:
        return text
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception
        raise InputError(f"{path}: not a tokenizer ({error}); name one, or its folder") from None
    add_special(tokenizer, lacking, mask=special.mask)
    # The library numbers a new token by how many there are, which is another's id where some are left out.
    taken, new = set(known.values()), [token for token in lacking if token not in known]
    double = next((token for token in new if tokenizer.token_to_id(token) in taken), None)
    if double is not None:
        raise InputError(
            f"{path}: its ids have gaps, so that the new token {double!r} would share the id "
            f"{tokenizer.token_to_id(double)} with another; name one that it has, or close the gaps"
        )
    return rewritten(text, tokenizer)
