"""A vocabulary: made from text, kept in files, opened again, and what a token id means.

Files in a vocabulary folder, for a model named `trial`:
  trial BPE-vocab.json, trial BPE-merges.txt   byte-level BPE, or
  trial BERT-vocab.txt                         WordPiece, and
  trial BERT tokenizer.json                    its rules (casing, accents, longest word), which no list says
  tokenizer.json, tokenizer_config.json        what `AutoTokenizer.from_pretrained(folder)` opens
  trial BPE vocab.preview.txt                  the same for the eye
A folder may hold several vocabularies; its tokenizer.json is the first one's, and ours are opened without.
Special tokens lead: [CLS] 0, [SEP] 1, [PAD] 2, [MASK] 3, [UNK] 4.

V is the vocabulary's size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from span_electra.errors import InputError
from span_electra.storage import OURS, TOKENIZER, TOKENIZER_CONFIG
from span_electra.text.special_tokens import SpecialTokens, vocabulary_of
from span_electra.text.tokenizer_file import check_described, check_unknown, kind_of, rewritten
from span_electra.text.word_starts import SPECIAL, TokenWords, spelt_tokens, token_words
from span_electra.utf8 import is_encodable, read_text, token_lines

SPECIAL_TOKENS = SpecialTokens().all


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer with what the other stages ask of it."""

    tokenizer: Tokenizer
    kind: str  # "BPE" (byte-level), "BERT" (WordPiece), "SentencePiece" or "other"
    special: SpecialTokens = SpecialTokens()
    # Of a tokenizer that came from elsewhere: its tokenizer.json and tokenizer_config.json as they were, so
    # that exports hold them. None for ours, which `tokenizer` says all of.
    original: str | None = field(default=None, repr=False)
    config: dict | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, tokenizer_json: str, source: str = TOKENIZER) -> Vocabulary:
        """Open a tokenizer from the text of a tokenizer.json or of `to_json`; `source` names it in errors.

        Raises InputError if it is no tokenizer, or lacks a special token that is not named in it.
        """
        try:
            described = json.loads(tokenizer_json)
            travelling = described.pop(OURS, None)
            # Before the library opens it, which takes some broken files and fails on the first text.
            check_described(described)
            text = tokenizer_json if travelling is None else json.dumps(described, ensure_ascii=False)
            tokenizer = Tokenizer.from_str(text)
            special = SpecialTokens(**(travelling or {}).get("special_tokens", {}))
        except Exception as error:  # the library raises a bare Exception
            raise InputError(
                f"{source}: not a tokenizer ({error}); make one with create_vocab_SE.py"
            ) from None
        check_unknown(described, source)
        missing = [token for token in special.all if tokenizer.token_to_id(token) is None]
        if missing:
            raise InputError(f"{source}: lacks the special token {missing[0]}; add it to the vocabulary")
        # Files are often saved with both on, for some model's rows; of a text that is encoded nothing is cut.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if travelling is None:
            return cls(tokenizer, kind_of(described))
        return cls(tokenizer, kind_of(described), special, text, travelling["config"])

    def to_json(self) -> str:
        """The text of a tokenizer.json that `from_json` opens; of ours, that `transformers` opens too."""
        if self.original is None:
            return self.tokenizer.to_str()
        # Under a key of ours: a stranger's file says nowhere in itself which of its tokens plays which role.
        travelling = {"special_tokens": asdict(self.special), "config": self.config}
        return json.dumps(json.loads(self.original) | {OURS: travelling}, ensure_ascii=False)

    @cached_property
    def size(self) -> int:
        """Ids run from 0 to size - 1; a stranger's may leave some out."""
        return 1 + max(self.tokenizer.get_vocab(with_added_tokens=True).values())

    @cached_property
    def tokens_V(self) -> list[str]:
        """The tokens as the vocabulary file spells them, by id."""
        return [self.tokenizer.id_to_token(number) or "" for number in range(self.size)]

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that decides which ids a text gets."""
        # Not the rest: decoders, templates and padding change nothing of a text's own ids.
        parts = json.loads(self.tokenizer.to_str())
        deciding = {key: parts[key] for key in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
        if self.special != SpecialTokens():
            deciding["special_tokens"] = asdict(self.special)
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    @cached_property
    def starts_word_V(self) -> np.ndarray:
        """bool: whether a token starts a whole word, by the first of our rules (features of format 1).

        WordPiece marks continuations by '##'. In byte-level BPE a word starts at the blank before it (spelt
        'Ġ') and at a punctuation mark; letters, digits and bytes of other scripts go on with the word.
        """
        if self.kind == "SentencePiece":
            return np.array([token[:1] == "\u2581" or not token[:1].isalnum() for token in self.tokens_V])
        if self.kind == "other":
            return np.ones(self.size, bool)  # nothing tells its words apart: each token is one
        if self.kind == "BERT":
            return np.array([not token.startswith("##") for token in self.tokens_V])
        return np.array(
            [token[:1].isascii() and not token[:1].isalnum() or token[:1] == "Ġ" for token in self.tokens_V]
        )

    @cached_property
    def spelt(self) -> tuple[list[bytes], np.ndarray]:
        """Each token's text as UTF-8, and which tokens go on with a word; see `spelt_tokens`."""
        # Not of tokens_V, where the library writes them as its normalizer does, with blanks round each Han.
        added = {number: token.content for number, token in self.tokenizer.get_added_tokens_decoder().items()}
        return spelt_tokens(self.tokens_V, self.kind, added)

    @cached_property
    def token_words(self) -> TokenWords:
        """What the tokens say of words, for masks of whole words in every script."""
        words = token_words(*self.spelt, self.starts_word_V)
        words.flags_V[self.framing_ids] |= SPECIAL
        return words

    @property
    def framing_ids(self) -> list[int]:
        """Ids of the special tokens that are no text."""
        return [self.tokenizer.token_to_id(token) for token in self.special.framing]

    @cached_property
    def folded(self) -> Vocabulary:
        """This vocabulary reading every text in small letters: its tokenizer folds before all that it does.

        Special tokens are found before that, as by any tokenizer; what it folds is letter by letter.
        """
        own = self.original or self.tokenizer.to_str()
        tokenizer = Tokenizer.from_str(own)
        steps = [normalizers.Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])]
        tokenizer.normalizer = normalizers.Sequence(steps)
        text = rewritten(own, tokenizer)
        # Opened again: added tokens are looked for as the normalizer leaves them when the file is opened.
        opened = Tokenizer.from_str(text)
        opened.no_truncation()
        opened.no_padding()
        return replace(self, tokenizer=opened, original=None if self.original is None else text)

    @property
    def cls_id(self) -> int:
        return self.tokenizer.token_to_id(self.special.cls)

    @property
    def sep_id(self) -> int:
        return self.tokenizer.token_to_id(self.special.sep)

    @property
    def pad_id(self) -> int:
        return self.tokenizer.token_to_id(self.special.pad)

    @property
    def mask_id(self) -> int:
        return self.tokenizer.token_to_id(self.special.mask)

    @property
    def unk_id(self) -> int:
        return self.tokenizer.token_to_id(self.special.unk)

    @property
    def lowercase(self) -> bool:
        """Whether a text's capitals are lost on it."""
        rules = self.tokenizer.normalizer
        return rules is not None and "A" not in rules.normalize_str("A")


def assemble(
    kind: str,
    ids: dict[str, int],
    merges: list[tuple[str, str]] | None = None,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    max_input_chars_per_word: int = 100,
) -> Vocabulary:
    """Put a tokenizer together from a vocabulary's content.

    ids: token -> id, special tokens included; merges: for BPE, best first. `strip_accents` None does as
    `lowercase` does, as in BERT. A word of more than `max_input_chars_per_word` is [UNK] as a whole; BERT's
    100 are what files that say no number have. These rules are WordPiece's alone: byte-level BPE keeps every
    byte.
    """
    if kind == "BPE":
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges or []))
        # The blank before a line's first word makes it the same token as inside a line.
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        limit = {"max_input_chars_per_word": max_input_chars_per_word}
        tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]", **limit))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    add_special(tokenizer, SPECIAL_TOKENS, mask="[MASK]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return Vocabulary(tokenizer, kind)


def without_accents(text: str) -> str:
    """Text as BERT's rules have it where they drop accents, and nothing else."""
    rules = {"clean_text": False, "handle_chinese_chars": False, "lowercase": False}
    return normalizers.BertNormalizer(strip_accents=True, **rules).normalize_str(text)


def add_special(tokenizer: Tokenizer, tokens: Iterable[str], *, mask: str) -> None:
    """Make tokens special, as text has them; those that the tokenizer lacks are added to it."""
    # The mask takes the blank before it, for that blank belongs to the word it hides.
    tokenizer.add_special_tokens(
        [AddedToken(token, lstrip=token == mask, normalized=False, special=True) for token in tokens]
    )


# --- files --------------------------------------------------------------------------------------------


def vocabulary_files(folder: str | Path, model_name: str, kind: str) -> list[Path]:
    """Where a vocabulary stands: [vocab] or, for BPE, [vocab, merges]."""
    if kind == "BPE":
        return [Path(folder, f"{model_name} BPE-vocab.json"), Path(folder, f"{model_name} BPE-merges.txt")]
    return [Path(folder, f"{model_name} BERT-vocab.txt")]


def rules_file(vocab_file: Path) -> Path:
    """Where the tokenizer.json of one WordPiece vocabulary stands, whatever others share its folder.

    Example: trial BERT-vocab.txt -> trial BERT tokenizer.json; vocab.txt, as others name it -> tokenizer.json
    """
    stem = vocab_file.stem.removesuffix("vocab").removesuffix("-")
    return vocab_file.with_name(f"{stem} {TOKENIZER}".strip())


def file_contents(vocabulary: Vocabulary) -> list[str]:
    """The text of each of `vocabulary_files`, in their order."""
    if vocabulary.kind == "BERT":
        return ["".join(token + "\n" for token in vocabulary.tokens_V)]
    model = json.loads(vocabulary.tokenizer.to_str())["model"]
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
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_seq_len,
        "model_input_names": inputs if token_types else [inputs[0], inputs[2]],
        "clean_up_tokenization_spaces": False,
        **vocabulary.special.config_keys(),
    }
    if vocabulary.original is not None:
        # As it was, but for what was not said there, how long rows are, what the network reads, and the end
        # at which rows are filled up and cut: [CLS] is read at the first place, where GPT-2's would have
        # padding. The class is the plain one, which takes all from tokenizer.json: others (RobertaTokenizer,
        # T5Tokenizer) put a normalizer and special tokens of their own over what that says.
        ours = {name: settings[name] for name in ("tokenizer_class", "model_max_length", "model_input_names")}
        settings |= vocabulary.config | ours | {"padding_side": "right", "truncation_side": "right"}
    return {
        TOKENIZER: vocabulary.original or vocabulary.tokenizer.to_str(),
        TOKENIZER_CONFIG: json.dumps(settings, indent=2, ensure_ascii=False),
    }


def load_vocabulary(
    tokenizer_type: str, vocab_file: str | Path, merges_file: str | Path | None = None
) -> Vocabulary:
    """Open a vocabulary from its files.

    The rules of a WordPiece vocabulary (casing, accents, longest word) are those of its `rules_file`, else of
    the tokenizer.json beside it when that holds the same tokens; without, one with capital letters in it is
    taken as cased, one with accents keeps them, and its longest word is BERT's.

    Raises InputError for missing files, files of the other tokenizer type, and ids with gaps.
    """
    vocab_file = Path(vocab_file)
    if tokenizer_type == "BPE":
        return _load_bpe(vocab_file, merges_file)
    if merges_file:
        raise InputError(f"{merges_file}: a BERT vocabulary has no merges; drop --merges_file or use BPE")
    tokens = token_lines(vocab_file)
    if tokens[:1] and tokens[0].startswith("{"):
        raise InputError(f"{vocab_file}: looks like JSON, as BPE vocabularies are; use --tokenizer_type BPE")
    ids = {token: number for number, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        twice = next(token for number, token in enumerate(tokens) if ids[token] != number)
        raise InputError(f"{vocab_file}: the token {twice!r} stands twice; keep one of them")
    _check_ids(ids, vocab_file)
    # vocab.txt holds tokens alone; their casing and accents can only be guessed without a file beside it.
    rules, beside = rules_file(vocab_file), vocab_file.with_name(TOKENIZER)
    described = _with_same_tokens(rules, ids)
    if described is None and rules != beside and rules.is_file():
        raise InputError(
            f"{rules}: has other tokens than {vocab_file.name}; make the vocabulary again, or remove the "
            "file to have casing and accents guessed"
        )
    # In folders made before each vocabulary had rules of its own, tokenizer.json alone says them.
    described = described or _with_same_tokens(beside, ids)
    if described is not None:
        return described
    # By what no text could become where they were folded or stripped.
    plain = [token for token in tokens if token not in SPECIAL_TOKENS]
    cased = any(token != token.lower() for token in plain)
    accented = not cased and any(token != without_accents(token) for token in plain)
    return assemble("BERT", ids, lowercase=not cased, strip_accents=False if accented else None)


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
    beside = vocab_file.parent / TOKENIZER
    described = _with_same_tokens(beside, ids)
    merges = []
    for row, line in enumerate(token_lines(merges_file), start=1):
        if row == 1 and line.startswith("#version"):
            continue
        pair = line.split(" ")  # a token never holds a blank: bytes are spelt as visible characters
        if len(pair) != 2 or pair[0] not in ids or pair[1] not in ids or pair[0] + pair[1] not in ids:
            raise InputError(f"{merges_file}: line {row}: {line[:40]!r} merges no tokens of {vocab_file}")
        merges.append((pair[0], pair[1]))
    made = assemble("BPE", ids, merges)
    # Not taken without a word, as long as it was ignored: what else it does to text would change the ids.
    if described is not None and made.sha256 != described.sha256:
        raise InputError(
            f"{beside}: has the tokens of {vocab_file.name}, but treats text in another way; give "
            f"--tokenizer {beside} to use it, or remove it to use the files of tokens and merges"
        )
    return made


def _with_same_tokens(path: Path, ids: dict[str, int]) -> Vocabulary | None:
    """The tokenizer.json beside a vocabulary file, if it is there and of the same tokens and ids."""
    if not path.is_file():
        return None
    text = read_text(path)
    try:
        if vocabulary_of(json.loads(text)) != ids:
            return None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        pass  # opening says what is wrong
    return Vocabulary.from_json(text, str(path))


def _check_ids(ids: dict[str, int], vocab_file: Path) -> None:
    for token in SPECIAL_TOKENS:
        if token not in ids:
            raise InputError(
                f"{vocab_file}: lacks the special token {token}; make it with create_vocab_SE.py, or give "
                "another tool's with --tokenizer"
            )
    for token in ids:
        if not is_encodable(token):
            raise InputError(f"{vocab_file}: the token {token!r} is no text (half a character); remove it")
    if sorted(ids.values()) != list(range(len(ids))):
        raise InputError(f"{vocab_file}: its ids do not run from 0 to {len(ids) - 1}; make it again")
