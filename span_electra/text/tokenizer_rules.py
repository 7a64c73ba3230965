"""What a `tokenizers.Tokenizer` does, as plain tables for the compiled loops; all is asked of the library.

Two kinds of tokenizers are understood: byte-level BPE with GPT-2's word pattern, plain or after the
normalizers of normal_form.py, and BERT's WordPiece with its normalizer. `why_not` names the first setting
that is not understood. Characters are learned as text meets them, so that the library's version of Unicode
is the one that counts and construction stays cheap.
"""

import unicodedata
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

from span_electra.text.normal_form import is_understood
from span_electra.text.pretokenize import ALONE, LETTER, LINE_END, NUMBER, ODD, OTHER, SPACE, UNKNOWN
from span_electra.text.word_ids import (
    BPE,
    LEAF,
    RANK,
    UNMADE,
    WORDPIECE,
    Model,
    link_merges,
    new_model,
    normalize_words,
    plant,
)
from span_electra.text.word_starts import BYTE_OF_LETTER, byte_letters

CODE_POINTS = 0x110000
NOT_BY_ITSELF = 0xFF  # no byte of UTF-8; the form of a character whose normal form depends on its neighbours
_NEIGHBOURS = (("a", LETTER), ("1", NUMBER), ("!", OTHER))  # each joins with its own kind alone


def why_not(settings: dict) -> str | None:
    """The first of the settings for which words cannot be encoded one by one, or None.

    settings: `json.loads(tokenizer.to_str())`.
    """
    if settings["truncation"] is not None:
        return "it truncates"
    model, why_not_model = settings["model"], _why_not_wordpiece
    if model["type"] == "BPE":
        why_not_model = _why_not_bpe
        if is_understood(settings["normalizer"]):
            settings = settings | {"normalizer": None}
    # How text is cut comes first: of what is cut otherwise nothing else is worth a reason.
    return why_not_cut(settings) or why_not_model(model) or _why_not_ids(model["vocab"])


def why_not_cut(settings: dict) -> str | None:
    """The first of the settings for which text is not cut into words as pretokenize.py does it, or None."""
    kind, normalizer = settings["model"]["type"], settings["normalizer"]
    cutter = settings["pre_tokenizer"] or {}
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
    """Kind and normal form of each code point, learned from the library as text meets them.

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
        # Only settings under which the normalizer decomposes make neighbours matter (see _needs_neighbours).
        normalizer = settings["normalizer"] or {}
        strips = normalizer.get("strip_accents")
        self._decomposes = normalizer.get("lowercase", False) if strips is None else strips
        self.learn("".join(map(chr, range(0x80))))  # the loops skip over ASCII letters without asking
        self._keep_forms("\n", [LINE_END], [b"\n"])

    def learn(self, text: str) -> None:
        """Learn those characters of a text that are not known yet.

        Those that are likely alike are learned together: the library is asked for all of them at once, for
        thousands of Chinese ones too, and for each alone only if they turn out to differ.
        """
        code_points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        code_points = np.unique(code_points[self.kinds_C[code_points] == UNKNOWN])
        alike: dict[tuple[str, bool], list[str]] = {}
        for character in map(chr, code_points.tolist()):
            han = unicodedata.category(character) == "Lo" and "\u3400" <= character
            alike.setdefault((unicodedata.category(character)[0], han), []).append(character)
        for characters in alike.values():
            if self.bpe:
                self._learn_bpe(characters)
            else:
                self._learn_wordpiece(characters)
        self.kinds_C[0x0A] = LINE_END

    def normal_forms(self, words: list[bytes]) -> list[bytes]:
        """The normal forms of words whose characters are known, without blanks. For WordPiece.

        NOT_BY_ITSELF stands in them for a character whose neighbours count.
        """
        words_B = np.frombuffer(b"".join(words), np.uint8)
        ends_W = np.cumsum([len(word) for word in words], dtype=np.int64)
        normal_B, normal_ends_W = normalize_words(words_B, ends_W, self.forms_C, self.form_bytes_B)
        normal = normal_B.tobytes()  # at once: a slice of an array takes longer than one of bytes
        return [normal[start:end] for start, end in pairwise([0, *normal_ends_W.tolist()])]

    def bare_form(self, text: bytes) -> bytes:
        """The normal form of a text, as `normal_forms` has it."""
        self.learn(text.decode())
        return self.normal_forms([text])[0]

    def _learn_bpe(self, block: list[str]) -> None:
        together = "".join(block)
        for neighbour, kind in _NEIGHBOURS:
            if len(self._cutter.pre_tokenize_str(neighbour + together)) == 1:
                self.kinds_C[[ord(character) for character in block]] = kind
                return
        if len(block) == 1:
            self.kinds_C[ord(together)] = SPACE  # what joins no letter, no digit and no sign
            return
        for character in block:
            self._learn_bpe([character])

    def _learn_wordpiece(self, block: list[str]) -> None:
        together = "".join(block)
        normal = self._normalizer.normalize_str(together)
        if normal == "".join(f" {character} " for character in block) and self._words_of(normal) == block:
            learned = [(ALONE, character) for character in block]  # as in Chinese
        elif normal == together and self._words_of(f"a{normal}a") == [f"a{normal}a"]:
            learned = [(LETTER, character) for character in block]  # as in most scripts
        else:
            learned = [self._kind_and_form(character) for character in block]
        kinds, forms = [], []
        for character, (kind, normal) in zip(block, learned, strict=True):
            form = normal.encode()
            if kind == ODD or self._needs_neighbours(character, normal) or len(form) > 15:  # in four bits
                kind, form = ODD, bytes([NOT_BY_ITSELF])
            kinds.append(kind)
            forms.append(form)
        self._keep_forms(together, kinds, forms)

    def _kind_and_form(self, character: str) -> tuple[int, str]:
        """Learned from what the normalizer and the cutter make of it between two letters a."""
        normal = self._normalizer.normalize_str(f"a{character}a")
        words = self._words_of(normal)
        if words == [normal]:
            return LETTER, normal[1:-1]
        if words == ["a", "a"]:
            return SPACE, ""
        if len(words) == 3 and len(words[1]) == 1 and words[0] == words[2] == "a":
            return ALONE, words[1]
        return ODD, ""

    def _words_of(self, normal: str) -> list[str]:
        return [word for word, _ in self._cutter.pre_tokenize_str(normal)]

    def _needs_neighbours(self, character: str, form: str) -> bool:
        """Decomposition sorts neighbouring marks by class; stripped ones are gone, the library does the rest.

        Python's Unicode may be older than the library's: what it does not know is left to the library too.
        """
        if not self._decomposes or form == "":
            return False
        both = form if form == character else form + character
        return any(unicodedata.combining(c) or unicodedata.category(c) == "Cn" for c in both)

    def _keep_forms(self, characters: str, kinds: list[int], forms: list[bytes]) -> None:
        lengths = np.array([len(form) for form in forms])
        ends = self._form_bytes_used + np.cumsum(lengths)
        while ends[-1] > len(self.form_bytes_B):
            self.form_bytes_B = np.concatenate([self.form_bytes_B, np.zeros_like(self.form_bytes_B)])
        self.form_bytes_B[self._form_bytes_used : ends[-1]] = np.frombuffer(b"".join(forms), np.uint8)
        code_points = [ord(character) for character in characters]
        self.kinds_C[code_points] = kinds
        self.forms_C[code_points] = ends - lengths << 4 | np.minimum(lengths, 15)
        self._form_bytes_used = int(ends[-1])


def read_model(settings: dict, id_bytes: int, characters: CharacterTable) -> Model | None:
    """Tables of the model, for a tokenizer that `why_not` has nothing against; None: merges out of order."""
    described = settings["model"]
    vocab: dict[str, int] = described["vocab"]
    room = dict(
        tokens=1 + max(vocab.values()),
        id_bytes=id_bytes,
        forms_C=characters.forms_C,
        form_bytes_B=characters.form_bytes_B,
    )
    if described["type"] == "BPE":
        return _read_bpe(vocab, described["merges"], room)
    model = new_model(
        WORDPIECE,
        unknown_id=vocab[described["unk_token"]],
        max_chars=described["max_input_chars_per_word"],
        **room,
    )
    pieces = [
        (piece.startswith("##"), piece.removeprefix("##").encode(), number) for piece, number in vocab.items()
    ]
    return _planted(model, pieces)


def _read_bpe(vocab: dict[str, int], merges: list, room: dict) -> Model | None:
    # older files write a merge as "a b", newer ones as ["a", "b"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    ids_M3 = np.array([(vocab[a], vocab[b], vocab[a + b]) for a, b in pairs], np.int64).reshape(-1, 3)
    lefts, rights, news = ids_M3.T.copy()  # in one piece each, as compiled loops have their arrays
    byte_ids = np.array([vocab.get(letter, -1) for letter in byte_letters()])
    model = new_model(BPE, merges=len(pairs), byte_ids=byte_ids, **room)
    model.made_V3[byte_ids[byte_ids >= 0], RANK] = LEAF
    if not link_merges(model, lefts, rights, news):
        return None
    made_V = model.made_V3[:, RANK] != UNMADE
    bytes_of = str.maketrans(BYTE_OF_LETTER)
    spelt = ((token.translate(bytes_of), number) for token, number in vocab.items() if made_V[number])
    return _planted(model, [(False, token.encode("latin-1"), number) for token, number in spelt])


def _planted(model: Model, pieces: list[tuple[bool, bytes, int]]) -> Model:
    """The model with a trie of pieces: (whether it continues a word, its bytes, its id)."""
    pieces = sorted(piece for piece in pieces if piece[1])
    pieces_B = np.array(bytearray(b"".join(piece for _, piece, _ in pieces)), np.uint8)
    ends_P = np.cumsum([len(piece) for _, piece, _ in pieces], dtype=np.int64)
    ids_P = np.array([number for *_, number in pieces], np.int64)
    continuing = sum(continues for continues, *_ in pieces)
    # Were every byte a node, and every branch to lie apart; little of this room is touched.
    room = len(pieces_B) + 256 * (len(pieces) + 2)
    links_N, tokens_N = np.zeros(room, np.uint64), np.empty(room, np.int32)
    tokens_N[0] = -1  # where the search ends that has met no token
    queue_Q4 = np.empty((len(pieces_B) + 2, 4), np.int64)
    used = plant(
        *(pieces_B, ends_P, ids_P, continuing),
        *(links_N, tokens_N, model.lengths_V, model.shorter_V, queue_Q4),
    )
    return model._replace(links_N=links_N[:used].copy(), tokens_N=tokens_N[:used].copy())
