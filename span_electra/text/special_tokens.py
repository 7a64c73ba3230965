"""Special tokens by their role: which token leads a row, ends it, pads, hides, stands for unknown text.

Every tokenizer has its own spelling ("[CLS]", "<s>", "<|endoftext|>"), so the package asks by role.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from span_electra.errors import InputError

# How published tokenizers spell a role whose name no file beside them gives, most usual first.
USUAL = {
    "cls": ("[CLS]", "<s>", "<cls>", "<|startoftext|>", "<bos>"),
    "sep": ("[SEP]", "</s>", "<sep>", "<|endoftext|>", "<eos>"),
    "pad": ("[PAD]", "<pad>", "<|padding|>", "<|pad|>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
    "unk": ("[UNK]", "<unk>", "<|unk|>"),
}
# In tokenizer_config.json a row's first and last token may stand under their names in a language model.
KEYS = {"cls": ("cls_token", "bos_token"), "sep": ("sep_token", "eos_token")}


@dataclass(frozen=True)
class SpecialTokens:
    """A tokenizer's special tokens, as its vocabulary spells them; the defaults are those we make."""

    cls: str = "[CLS]"
    sep: str = "[SEP]"
    pad: str = "[PAD]"
    mask: str = "[MASK]"
    unk: str = "[UNK]"

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(asdict(self).values()))

    @property
    def framing(self) -> tuple[str, ...]:
        """Those that are no text: they lead a row, end it, pad or hide. [UNK] stands for some."""
        return tuple(dict.fromkeys((self.cls, self.sep, self.pad, self.mask)))

    def config_keys(self) -> dict[str, str]:
        """As tokenizer_config.json of `transformers` names them."""
        return {f"{role}_token": token for role, token in asdict(self).items()}


ROLES = tuple(field.name for field in fields(SpecialTokens))


def find_special_tokens(
    described: dict, config: Mapping, named: Mapping[str, str | None], source: str
) -> SpecialTokens:
    """Find each role's token: named by the user, else by the files beside, else by the tokenizer itself.

    described: a parsed tokenizer.json; config: tokenizer_config.json, over special_tokens_map.json.
    Raises InputError that names every role without a token and the flag that mends it, and for two roles of
    one token where rows could not be told apart.
    """
    known = vocabulary_of(described)
    found: dict[str, str] = {}
    for role in ROLES:
        candidates = [_content(config.get(key)) for key in KEYS.get(role, (f"{role}_token",))]
        candidates += [*_by_template(described, role), *USUAL[role]]
        # What the user names may be new, and is then added; a file's word counts if the token exists.
        token = named.get(role) or next((token for token in candidates if token in known), None)
        if token:
            found[role] = token
    if "unk" not in found and "pad" in found:
        found["unk"] = found["pad"]  # byte-level vocabularies know every text, and never write it
    missing = [role for role in ROLES if role not in found and not (role == "unk" and "pad" not in found)]
    if missing:
        flags = " ".join(f"--{role}_token TOKEN" for role in missing)
        raise InputError(
            f"{source}: which token is {', '.join(missing)}? no file says so; give {flags} "
            "(a token that it lacks is added to it)"
        )
    # [CLS] and [SEP] may be one token, as in language models; [UNK] may be any, for it is only read.
    special = SpecialTokens(**found)
    for role in ("pad", "mask"):
        for other in ("cls", "sep", "pad", "mask"):
            if other != role and getattr(special, role) == getattr(special, other):
                raise InputError(
                    f"{source}: {getattr(special, role)!r} would be both {role} and {other}; "
                    f"give another --{role}_token (one that it lacks is added to it)"
                )
    return special


def vocabulary_of(described: dict) -> dict[str, int]:
    """Token -> id of a parsed tokenizer.json, added tokens included."""
    model = described["model"]
    if isinstance(model["vocab"], dict):
        ids = dict(model["vocab"])
    else:  # Unigram: pieces with their scores, numbered as they come
        ids = {piece: number for number, (piece, _) in enumerate(model["vocab"])}
    return ids | {token["content"]: token["id"] for token in described.get("added_tokens") or []}


def _by_template(described: dict, role: str) -> list[str]:
    """What a tokenizer.json itself says of a role."""
    if role == "pad":
        return [(described.get("padding") or {}).get("pad_token", "")]
    if role == "unk":
        model = described["model"]
        if isinstance(model["vocab"], list) and model.get("unk_id") is not None:
            return [model["vocab"][model["unk_id"]][0]]
        return [model.get("unk_token") or ""]
    processors = described.get("post_processor") or {}
    for processor in processors.get("processors") or [processors]:
        if isinstance(processor.get(role), list):  # BertProcessing, RobertaProcessing: [token, id]
            return [processor[role][0]]
        single = processor.get("single") or []  # what stands round a row of one text
        ends = {"cls": single[:1], "sep": single[-1:]}.get(role) or []
        for piece in ends:
            if "SpecialToken" in piece:
                return [piece["SpecialToken"]["id"]]
    return []


def _content(value: object) -> str | None:
    """A token as a config gives it: a string, or a record of an added token."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def json_object(text: str, source: str) -> dict:
    """The JSON object that a file beside a tokenizer holds. Raises InputError for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{source}: not a JSON object; get the file again, or name another")
    return found
