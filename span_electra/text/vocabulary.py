"""A vocabulary: made from text, kept in files, opened again, and what a token id means.

Files in a vocabulary folder, for a model named `trial`:
  trial BPE-vocab.json, trial BPE-merges.txt   byte-level BPE, or
  trial BERT-vocab.txt                         WordPiece
  tokenizer.json, tokenizer_config.json        what `AutoTokenizer.from_pretrained(folder)` opens
  trial vocab.preview.txt                      the same for the eye
Special tokens lead: [CLS] 0, [SEP] 1, [PAD] 2, [MASK] 3, [UNK] 4.

V is the vocabulary's size.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from span_electra.errors import InputError
from span_electra.text.word_starts import TokenWords, byte_level_bytes, token_words
from span_electra.utf8 import decode_utf8

SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]")
MOST_GAPS = 1 << 16  # ids without a token, in a stranger's vocabulary; ours have none
TOKENIZER_TYPES = ("BPE", "BERT")


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer with what the other stages ask of it."""

    tokenizer: Tokenizer
    kind: str  # "BPE" or "BERT"

    @classmethod
    def from_json(cls, tokenizer_json: str, source: str = "tokenizer.json") -> Vocabulary:
        """Open a tokenizer from the text of a tokenizer.json; `source` names it in errors.

        Raises InputError if it is no tokenizer of ours: byte-level BPE or WordPiece with our special tokens.
        """
        try:
            _check_described(json.loads(tokenizer_json))
            tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the library raises a bare Exception
            raise InputError(
                f"{source}: not a tokenizer ({error}); make one with create_vocab_SE.py"
            ) from None
        kinds = {models.BPE: "BPE", models.WordPiece: "BERT"}
        if type(tokenizer.model) not in kinds:
            raise InputError(f"{source}: neither BPE nor WordPiece; make one with create_vocab_SE.py")
        missing = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
        if missing:
            raise InputError(f"{source}: lacks the special token {missing[0]}; add it to the vocabulary")
        return cls(tokenizer, kinds[type(tokenizer.model)])

    def to_json(self) -> str:
        """The text of a tokenizer.json that `from_json` and `transformers` open."""
        return self.tokenizer.to_str()

    @cached_property
    def size(self) -> int:
        """Ids run from 0 to size - 1."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    @cached_property
    def tokens_V(self) -> list[str]:
        """The tokens as the vocabulary file spells them, by id."""
        return [self.tokenizer.id_to_token(number) or "" for number in range(self.size)]

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that decides which ids a text gets."""
        parts = json.loads(self.to_json())
        deciding = {key: parts[key] for key in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    @cached_property
    def starts_word_V(self) -> np.ndarray:
        """bool: whether a token starts a whole word, by the first of our rules (law 1 of spans).

        WordPiece marks continuations by '##'. In byte-level BPE a word starts at the blank before it (spelt
        'Ġ') and at a punctuation mark; letters, digits and bytes of other scripts go on with the word.
        """
        if self.kind == "BERT":
            return np.array([not token.startswith("##") for token in self.tokens_V])
        return np.array([token[:1].isascii() and not token[:1].isalnum() or token[:1] == "Ġ"
                         for token in self.tokens_V])  # fmt: skip

    @cached_property
    def token_words(self) -> TokenWords:
        """What the tokens say of words, for masks of whole words in every script."""
        if self.kind == "BERT":
            goes_on_V = np.array([token.startswith("##") for token in self.tokens_V])
            spelt_V = [
                token[2 * goes_on :].encode("utf-8", "replace")
                for token, goes_on in zip(self.tokens_V, goes_on_V, strict=True)
            ]
        else:
            goes_on_V = np.ones(self.size, bool)
            spelt_V = [byte_level_bytes(token) for token in self.tokens_V]
        return token_words(spelt_V, goes_on_V, self.starts_word_V)

    @property
    def cls_id(self) -> int:
        return self.tokenizer.token_to_id("[CLS]")

    @property
    def sep_id(self) -> int:
        return self.tokenizer.token_to_id("[SEP]")

    @property
    def pad_id(self) -> int:
        return self.tokenizer.token_to_id("[PAD]")

    @property
    def mask_id(self) -> int:
        return self.tokenizer.token_to_id("[MASK]")

    @property
    def unk_id(self) -> int:
        return self.tokenizer.token_to_id("[UNK]")

    @property
    def lowercase(self) -> bool:
        return self.kind == "BERT" and bool(getattr(self.tokenizer.normalizer, "lowercase", False))


def _check_described(described: dict) -> None:
    """Raise ValueError for a tokenizer.json that would end the process or fail later: the library trusts it.

    It makes a table up to the highest id, panics at a broken table of characters (no vocabulary of ours has
    one), and looks the unknown token up only when it meets unknown text.
    """
    model = described["model"]
    tokens = list(described.get("added_tokens") or [])
    numbers = [*model["vocab"].values(), *(token["id"] for token in tokens)]
    highest = len(numbers) + MOST_GAPS
    if not all(type(number) is int and 0 <= number < highest for number in numbers):
        raise ValueError("ids that are no row of a table")
    if '"Precompiled"' in json.dumps(described.get("normalizer")):
        raise ValueError("a precompiled normalizer")
    known = {*model["vocab"], *(token["content"] for token in tokens)}
    if model.get("unk_token") is not None and model["unk_token"] not in known:
        raise ValueError(f"the unknown token {model['unk_token']!r} is no token")
    if model.get("dropout"):
        raise ValueError("dropout, with which a text's ids are never the same twice")


def assemble(
    kind: str,
    ids: dict[str, int],
    merges: list[tuple[str, str]] | None = None,
    lowercase: bool = True,
    strip_accents: bool | None = None,
) -> Vocabulary:
    """Put a tokenizer together from a vocabulary's content.

    ids: token -> id, special tokens included; merges: for BPE, best first. `strip_accents` None does as
    `lowercase` does, as in BERT. Lower-casing is WordPiece's alone: byte-level BPE keeps every byte.
    """
    if kind == "BPE":
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges or []))
    else:
        tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]"))
    dress(tokenizer, kind, lowercase, strip_accents)
    return Vocabulary(tokenizer, kind)


def dress(tokenizer: Tokenizer, kind: str, lowercase: bool, strip_accents: bool | None) -> None:
    """Set everything round the tokenizer's model: normaliser, word splitting, decoding, special tokens."""
    if kind == "BPE":
        # The blank before a line's first word makes it the same token as inside a line.
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    # [MASK] takes the blank before it, for that blank belongs to the word it hides.
    tokenizer.add_special_tokens(
        [
            AddedToken(token, lstrip=token == "[MASK]", normalized=False, special=True)
            for token in SPECIAL_TOKENS
        ]
    )
    ids = {token: tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]")}
    if all(number is not None for number in ids.values()):
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(token, number) for token, number in ids.items()],
        )


# --- files --------------------------------------------------------------------------------------------


def vocabulary_files(folder: str | Path, model_name: str, kind: str) -> list[Path]:
    """Where a vocabulary stands: [vocab] or, for BPE, [vocab, merges]."""
    if kind == "BPE":
        return [Path(folder, f"{model_name} BPE-vocab.json"), Path(folder, f"{model_name} BPE-merges.txt")]
    return [Path(folder, f"{model_name} BERT-vocab.txt")]


def file_contents(vocabulary: Vocabulary) -> list[str]:
    """The text of each of `vocabulary_files`, in their order."""
    if vocabulary.kind == "BERT":
        return ["".join(token + "\n" for token in vocabulary.tokens_V)]
    model = json.loads(vocabulary.to_json())["model"]
    ids = {token: number for number, token in enumerate(vocabulary.tokens_V)}
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    return [json.dumps(ids, ensure_ascii=False), "#version: 0.2\n" + merges]


def tokenizer_contents(
    vocabulary: Vocabulary, max_seq_len: int, *, token_types: bool = True
) -> dict[str, str]:
    """File name -> text of what `AutoTokenizer.from_pretrained` reads.

    The class is named outright: left to guess, `transformers` takes an ELECTRA folder for lower-cased
    WordPiece and gives a BPE vocabulary wrong ids without a word. `token_types`: whether the network reads
    them; others fail on being given some.
    """
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_seq_len,
        "model_input_names": inputs if token_types else [inputs[0], inputs[2]],
        "clean_up_tokenization_spaces": False,
        **names,
    }
    return {"tokenizer.json": vocabulary.to_json(), "tokenizer_config.json": json.dumps(settings, indent=2)}


def save_transformers_tokenizer(
    vocabulary: Vocabulary, folder: str | Path, max_seq_len: int, *, token_types: bool = True
) -> None:
    """Write the tokenizer into `folder` so that `AutoTokenizer.from_pretrained(folder)` gives our ids."""
    for name, text in tokenizer_contents(vocabulary, max_seq_len, token_types=token_types).items():
        Path(folder, name).write_text(text, encoding="utf-8")


def load_vocabulary(
    tokenizer_type: str, vocab_file: str | Path, merges_file: str | Path | None = None
) -> Vocabulary:
    """Open a vocabulary from its files.

    Casing and accents of a WordPiece vocabulary are those of the tokenizer.json beside it when that holds
    the same tokens; without one, a vocabulary with capital letters in it is taken as cased.

    Raises InputError for missing files, files of the other tokenizer type, and ids with gaps.
    """
    vocab_file = Path(vocab_file)
    if tokenizer_type == "BPE":
        return _load_bpe(vocab_file, merges_file)
    if merges_file:
        raise InputError(f"{merges_file}: a BERT vocabulary has no merges; drop --merges_file or use BPE")
    # Not splitlines(): a token may be a separator that Python takes for the end of a line.
    tokens = read_text(vocab_file).removesuffix("\n").split("\n")
    if tokens[:1] and tokens[0].startswith("{"):
        raise InputError(f"{vocab_file}: this is a BPE vocabulary; use --tokenizer_type BPE")
    ids = {token: number for number, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        twice = next(token for number, token in enumerate(tokens) if ids[token] != number)
        raise InputError(f"{vocab_file}: the token {twice!r} stands twice; keep one of them")
    _check_ids(ids, vocab_file)
    beside = vocab_file.parent / "tokenizer.json"
    if beside.is_file():
        described = Vocabulary.from_json(read_text(beside), str(beside))
        if described.tokens_V == tokens:
            return described
    cased = any(token != token.lower() for token in tokens if token not in SPECIAL_TOKENS)
    return assemble("BERT", ids, lowercase=not cased)


def _load_bpe(vocab_file: Path, merges_file: str | Path | None) -> Vocabulary:
    if merges_file is None:
        raise InputError(f"{vocab_file}: a BPE vocabulary needs its merges too; give --merges_file")
    text = read_text(vocab_file)
    try:
        ids = json.loads(text)
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, dict) or not all(type(number) is int for number in ids.values()):
        raise InputError(
            f"{vocab_file}: not a BPE vocabulary (a JSON of tokens); for BERT use --tokenizer_type BERT"
        )
    _check_ids(ids, vocab_file)
    merges = []
    for row, line in enumerate(read_text(merges_file).removesuffix("\n").split("\n"), start=1):
        if row == 1 and line.startswith("#version"):
            continue
        pair = line.split(" ")  # a token never holds a blank: bytes are spelt as visible characters
        if len(pair) != 2 or pair[0] not in ids or pair[1] not in ids or pair[0] + pair[1] not in ids:
            raise InputError(f"{merges_file}: line {row}: {line[:40]!r} merges no tokens of {vocab_file}")
        merges.append((pair[0], pair[1]))
    return assemble("BPE", ids, merges)


def _check_ids(ids: dict[str, int], vocab_file: Path) -> None:
    for token in SPECIAL_TOKENS:
        if token not in ids:
            raise InputError(
                f"{vocab_file}: lacks the special token {token}; make it with create_vocab_SE.py"
            )
    for token in ids:
        if not token.isascii() and re.search("[\ud800-\udfff]", token):
            raise InputError(f"{vocab_file}: the token {token!r} is no text (half a character); remove it")
    if sorted(ids.values()) != list(range(len(ids))):
        raise InputError(f"{vocab_file}: its ids do not run from 0 to {len(ids) - 1}; make it again")


def read_text(path: str | Path) -> str:
    """The text of a small UTF-8 file. Raises InputError if it is absent, a folder, or not UTF-8."""
    try:
        return decode_utf8(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; check the path") from None
