"""What a `tokenizers.Tokenizer` does, as plain tables for the compiled loops; everything is asked of
the library itself.

Two kinds of tokenizers are understood: byte-level BPE with GPT-2's word pattern, plain or after the
normalizers of normal_form.py, and BERT's WordPiece with its normalizer. `why_not` names the first setting
that is not understood. Characters are learned as text meets them, so that the library's version of Unicode
is the one that counts and construction stays cheap."""

import unicodedata

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
    count_nodes,
    link_merges,
    new_model,
    normalize,
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
    if settings["model"]["type"] == "BPE" and is_understood(settings["normalizer"]):
        settings = settings | {"normalizer": None}
    # How text is cut comes first: of what is cut otherwise nothing else is worth a reason.
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
        # Only the settings under which the normalizer decomposes make neighbours matter (see
        # _needs_neighbours).
        normalizer = settings["normalizer"] or {}
        strips = normalizer.get("strip_accents")
        self._decomposes = normalizer.get("lowercase", False) if strips is None else strips
        self.learn("".join(map(chr, range(0x80))))
        self._keep_forms(
            np.array([0x0A]), [LINE_END], [b"\n"]
        )  # the loops skip over ASCII letters without asking

    def learn(self, text: str) -> None:
        """Learn those characters of a text that are not known yet.

        Those that are likely alike are learned together: the library is asked for all of them at once, and
        for each alone only if they turn out to differ.
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

    def bare_forms(self, text: bytes) -> np.ndarray:
        """A text's normal form without blanks, uint8; NOT_BY_ITSELF where neighbours count. For WordPiece."""
        self.learn(text.decode())
        text_B = np.frombuffer(bytearray(text), np.uint8)  # as the loops have it: not one of constants
        normal_B = np.empty(8 * len(text_B), np.uint8)  # a form of 15 bytes is of two at least
        size, _ = normalize(
            text_B,
            0,
            length=len(text_B),
            forms_C=self.forms_C,
            form_bytes_B=self.form_bytes_B,
            normal_B=normal_B,
            at=0,
            max_chars=len(normal_B),
        )
        return normal_B[:size]

    def _learn_bpe(self, block: list[str]) -> None:
        code_points = np.array([ord(c) for c in block])
        for neighbour, kind in _NEIGHBOURS:
            if len(self._cutter.pre_tokenize_str(neighbour + "".join(block))) == 1:
                self.kinds_C[code_points] = kind
                return
        self.kinds_C[code_points] = SPACE  # what joins no letter, no digit and no sign
        for neighbour, kind in _NEIGHBOURS:
            probe = "".join(neighbour + c + "\n" for c in block)
            starts = np.zeros(len(probe) + 1, bool)
            starts[[span[0] for _, span in self._cutter.pre_tokenize_str(probe)]] = True
            self.kinds_C[code_points[~starts[1 : len(probe) : 3]]] = kind

    def _learn_wordpiece(self, block: list[str]) -> None:
        """All at once: as they are where normalizing leaves them or pads them, else with bars between.

        One by one if there is a bar among them, or one becomes a bar.
        """
        together, forms = self._normalizer.normalize_str("".join(block)), block
        if together == " " + "  ".join(block) + " ":
            forms = [f" {character} " for character in block]
        normals = [f"a{form}a" for form in forms]
        if together != "".join(forms):
            normal = self._normalizer.normalize_str("|".join(f"a{character}a" for character in block))
            normals = normal.split("|") if len(block) > 1 else [normal]
        if len(normals) != len(block):
            for character in block:
                self._learn_wordpiece([character])
            return
        forms = [normal[1:-1] for normal in normals]
        joined = "".join(forms)
        padded = all(len(form) == 3 and form[0] == form[2] == " " for form in forms)
        if padded and self._words_of(joined) == joined.split():  # as in Chinese
            kinds, forms = [ALONE] * len(block), [form[1] for form in forms]
        elif self._words_of(f"a{joined}a") == [f"a{joined}a"]:  # as in most scripts
            kinds = [LETTER] * len(block)
        else:
            learned = [_kind_and_form(normal, self._words_of(normal)) for normal in normals]
            kinds, forms = [kind for kind, _ in learned], [form for _, form in learned]
        for place, (character, form) in enumerate(zip(block, forms, strict=True)):
            if self._needs_neighbours(character, form) or len(form.encode()) > 15:  # length has four bits
                kinds[place] = ODD
        written = [
            form.encode() if kind != ODD else bytes([NOT_BY_ITSELF])
            for form, kind in zip(forms, kinds, strict=True)
        ]
        self._keep_forms(np.array([ord(c) for c in block]), kinds, written)

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

    def _keep_forms(self, code_points: np.ndarray, kinds: list[int], forms: list[bytes]) -> None:
        lengths = np.array([len(form) for form in forms])
        ends = self._form_bytes_used + np.cumsum(lengths)
        while ends[-1] > len(self.form_bytes_B):
            self.form_bytes_B = np.concatenate([self.form_bytes_B, np.zeros_like(self.form_bytes_B)])
        self.form_bytes_B[self._form_bytes_used : ends[-1]] = np.frombuffer(b"".join(forms), np.uint8)
        self.kinds_C[code_points] = kinds
        self.forms_C[code_points] = ends - lengths << 4 | np.minimum(lengths, 15)
        self._form_bytes_used = int(ends[-1])


def _kind_and_form(normal: str, words: list[str]) -> tuple[int, str]:
    """Of a character between two letters a, from what the normalizer and the cutter make of these."""
    if len(words) == 1 and words[0] == normal:
        return LETTER, normal[1:-1]
    if words == ["a", "a"]:
        return SPACE, ""
    if len(words) == 3 and len(words[1]) == 1 and words[0] == words[2] == "a":
        return ALONE, words[1]
    return ODD, ""


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
    lefts, rights, news = (
        np.array(ids, np.int64)
        for ids in (
            [vocab[a] for a, _ in pairs],
            [vocab[b] for _, b in pairs],
            [vocab[a + b] for a, b in pairs],
        )
    )
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
    nodes = count_nodes(pieces_B, ends_P, continuing)
    room = nodes + 256 * (len(pieces) + 2)  # were every branch to lie apart; little of it is touched
    links_N, tokens_N = np.zeros(room, np.uint64), np.empty(room, np.int32)
    tokens_N[0] = -1  # where the search ends that has met no token
    queue_Q4 = np.empty((nodes + 2, 4), np.int64)
    used = plant(
        *(pieces_B, ends_P, ids_P, continuing),
        *(links_N, tokens_N, model.lengths_V, model.shorter_V, queue_Q4),
    )
    return model._replace(links_N=links_N[:used].copy(), tokens_N=tokens_N[:used].copy())
