"""What a `tokenizers.Tokenizer` does, as plain tables for the compiled loops; everything is asked of
the library itself.

Two kinds of tokenizers are understood: byte-level BPE with GPT-2's word pattern, and BERT's WordPiece with
its normalizer. `why_not` names the first setting that is not understood. Characters are learned 256 at a
time, when the first of them is met, so that the library's version of Unicode is the one that counts and
construction stays cheap."""

import unicodedata

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

from span_electra.text.lookup import BPE, WORDPIECE, hash_merges, hash_pieces
from span_electra.text.pretokenize import ALONE, LETTER, LINE_END, NUMBER, ODD, OTHER, SPACE
from span_electra.text.word_starts import byte_letters
from span_electra.text.word_table import Model

BLOCK = 64  # characters learned together; text meets few of most blocks
CODE_POINTS = 0x110000


def why_not(settings: dict) -> str | None:
    """The first of the settings for which words cannot be encoded one by one, or None.

    settings: `json.loads(tokenizer.to_str())`.
    """
    if settings["truncation"] is not None:
        return "it truncates"
    if settings["normalizer"] is not None and any(token["normalized"] for token in settings["added_tokens"]):
        return "it looks for added tokens in normalized text"
    reason = why_not_cut(settings)
    if reason is None:
        reason = (_why_not_bpe if settings["model"]["type"] == "BPE" else _why_not_wordpiece)(
            settings["model"]
        )
    return reason or _why_not_ids(settings["model"]["vocab"])


def why_not_cut(settings: dict) -> str | None:
    """The first of the settings for which text is not cut into words as pretokenize.py does it, or None."""
    kind, normalizer, cutter = (
        settings["model"]["type"],
        settings["normalizer"],
        settings["pre_tokenizer"] or {},
    )
    if kind == "BPE":
        if normalizer is not None:
            return f"a BPE with normalizer {normalizer['type']}"
        if cutter.get("type") != "ByteLevel" or not cutter.get("use_regex", True):
            return f"a BPE whose pre-tokenizer is not ByteLevel with its pattern: {cutter}"
    elif kind == "WordPiece":
        if normalizer is None or normalizer["type"] != "BertNormalizer":
            return f"a WordPiece whose normalizer is not BertNormalizer: {normalizer}"
        if cutter.get("type") != "BertPreTokenizer":
            return f"a WordPiece whose pre-tokenizer is not BertPreTokenizer: {cutter}"
    else:
        return f"its model is {kind}"
    return None


def _why_not_bpe(model: dict) -> str | None:
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(name):
            return f"BPE setting {name} = {model[name]!r}"
    lacking = [letter for letter in byte_letters() if letter not in model["vocab"]]
    if lacking and (model.get("unk_token") is not None or model.get("byte_fallback")):
        return f"a BPE that lacks {len(lacking)} of the 256 bytes and has an unknown token"
    return None


def _why_not_wordpiece(model: dict) -> str | None:
    if model["continuing_subword_prefix"] != "##":
        return f"WordPiece prefix {model['continuing_subword_prefix']!r}"
    if model["unk_token"] not in model["vocab"]:
        return f"its vocabulary lacks the unknown token {model['unk_token']!r}"
    return None


def _why_not_ids(vocab: dict[str, int]) -> str | None:
    return "two tokens share an id" if len(set(vocab.values())) < len(vocab) else None


class CharacterTable:
    """Kind and normal form of each code point, learned from the library a block at a time.

    kinds_C: uint8, kinds of pretokenize.py.
    forms_C: uint32, place << 4 | length of the normal form in form_bytes_B.
    """

    def __init__(self, tokenizer: Tokenizer, settings: dict):
        self.bpe = settings["model"]["type"] == "BPE"
        self.prefix_space = self.bpe and settings["pre_tokenizer"]["add_prefix_space"]
        self.kinds_C = np.zeros(CODE_POINTS, np.uint8)
        self.forms_C = np.zeros(CODE_POINTS, np.uint32)
        self.form_bytes_B = np.zeros(16, np.uint8)
        self._form_bytes_used = 0
        self._normalizer = tokenizer.normalizer
        self._cutter = (
            pre_tokenizers.ByteLevel(add_prefix_space=False) if self.bpe else tokenizer.pre_tokenizer
        )
        # Only the settings under which the normalizer decomposes make neighbours matter (see
        # _needs_neighbours).
        normalizer = settings["normalizer"] or {}
        strips = normalizer.get("strip_accents")
        self._decomposes = normalizer.get("lowercase", False) if strips is None else strips
        for start in range(0, 0x80, BLOCK):  # the loops skip over ASCII letters without asking
            self.learn(start)

    def learn(self, code_point: int) -> None:
        """Learn the block that holds `code_point`."""
        start = code_point // BLOCK * BLOCK
        block = [chr(c) for c in range(start, start + BLOCK) if not 0xD800 <= c < 0xE000]
        if self.bpe:
            self._learn_bpe(block)
        else:
            for character in block:
                self._learn_wordpiece(character)
        self.kinds_C[0x0A] = LINE_END

    def _learn_bpe(self, block: list[str]) -> None:
        code_points = np.array([ord(c) for c in block])
        if len(self._cutter.pre_tokenize_str("a" + "".join(block))) == 1:  # as in most scripts
            self.kinds_C[code_points] = LETTER
            return
        self.kinds_C[code_points] = SPACE  # what joins no letter, no digit and no sign
        for neighbour, kind in (("a", LETTER), ("1", NUMBER), ("!", OTHER)):
            probe = "".join(neighbour + c + "\n" for c in block)
            starts = np.zeros(len(probe) + 1, bool)
            starts[[span[0] for _, span in self._cutter.pre_tokenize_str(probe)]] = True
            self.kinds_C[code_points[~starts[1 : len(probe) : 3]]] = kind

    def _learn_wordpiece(self, character: str) -> None:
        normal = self._normalizer.normalize_str(f"a{character}a")
        words = [word for word, _ in self._cutter.pre_tokenize_str(normal)]
        kind, form = ODD, ""
        if len(words) == 1 and words[0] == normal:
            kind, form = LETTER, normal[1:-1]
        elif words == ["a", "a"]:
            kind = SPACE
        elif len(words) == 3 and len(words[1]) == 1 and words[0] == words[2] == "a":
            kind, form = ALONE, words[1]
        if self._needs_neighbours(character, form) or len(form.encode()) > 15:  # the length has four bits
            kind = ODD
        self.kinds_C[ord(character)] = kind
        self._keep_form(ord(character), form.encode())

    def _needs_neighbours(self, character: str, form: str) -> bool:
        """Decomposition sorts neighbouring marks by class; stripped ones are gone, the library does the rest.

        Python's Unicode may be older than the library's: what it does not know is left to the library too.
        """
        unsure = (c for c in form + character if unicodedata.category(c) == "Cn" or unicodedata.combining(c))
        return self._decomposes and form != "" and any(True for _ in unsure)

    def _keep_form(self, code_point: int, form: bytes) -> None:
        place, end = self._form_bytes_used, self._form_bytes_used + len(form)
        if end > len(self.form_bytes_B):
            self.form_bytes_B = np.concatenate([self.form_bytes_B, np.zeros_like(self.form_bytes_B)])
        self.form_bytes_B[place:end] = np.frombuffer(form, np.uint8)
        self.forms_C[code_point] = place << 4 | len(form)
        self._form_bytes_used = end


def _hash_size(entries: int) -> int:
    """A power of two, at least twice the entries."""
    return 1 << (2 * entries).bit_length()


def read_model(settings: dict, id_bytes: int, characters: CharacterTable) -> Model:
    """Tables of the model, for a tokenizer that `why_not` has nothing against."""
    model = settings["model"]
    vocab: dict[str, int] = model["vocab"]
    empty = np.empty(0, np.int64)
    parts = dict(
        id_bytes=id_bytes,
        byte_ids=np.array([vocab.get(letter, -1) for letter in byte_letters()], np.int64),
        pieces_B=np.empty(0, np.uint8),
        piece_ends_V=empty,
        piece_ids_V=empty,
        longest_piece=0,
        unknown_id=0,
        max_chars=0,
        forms_C=characters.forms_C,
        form_bytes_B=characters.form_bytes_B,
    )
    if model["type"] == "BPE":
        # older files write a merge as "a b", newer ones as ["a", "b"]
        merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        lefts, rights, news = (
            np.array(ids, np.int64)
            for ids in (
                [vocab[a] for a, _ in merges],
                [vocab[b] for _, b in merges],
                [vocab[a + b] for a, b in merges],
            )
        )
        places = _hash_size(len(merges))
        read = Model(
            style=BPE, hashed_H=np.zeros(places, np.uint64), values_H=np.zeros(places, np.int64), **parts
        )
        hash_merges(read, lefts, rights, news)
        return read
    pieces = [piece.removeprefix("##").encode() for piece in vocab]
    places = _hash_size(len(pieces))
    parts |= dict(
        pieces_B=np.array(bytearray(b"".join(pieces)), np.uint8),  # writable, so that both types compile once
        piece_ends_V=np.cumsum([len(piece) for piece in pieces], dtype=np.int64),
        piece_ids_V=np.array(
            [-1 - i if piece.startswith("##") else i for piece, i in vocab.items()], np.int64
        ),
        longest_piece=max(len(piece) for piece in pieces),
        unknown_id=vocab[model["unk_token"]],
        max_chars=model["max_input_chars_per_word"],
    )
    read = Model(
        style=WORDPIECE, hashed_H=np.zeros(places, np.uint64), values_H=np.zeros(places, np.int64), **parts
    )
    hash_pieces(read)
    return read
