"""The settings of text, features and batches; see config.py for how settings are written."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from span_electra.errors import InputError
from span_electra.schema import Settings, check_share, setting

LONGEST_ROW = 65535  # tokens; span places in feature files are uint16
CHUNK_SIZE = 20_000  # lines of a block: some megabytes, whose encoding takes a process about a second


@dataclass(frozen=True)
class TextConfig(Settings):
    """How text files are read."""

    errors: str = setting("strict", "invalid UTF-8: stop, or go on with U+FFFD", ("strict", "replace"))
    text_field: str = setting("text", "the column with the text in .jsonl, .tsv, .parquet and data sets")


@dataclass(frozen=True)
class VocabularyConfig(TextConfig):
    """What decides a vocabulary besides the text."""

    READ_WITH = {"lowercase": ("tokenizer_type", "BERT")}

    tokenizer_type: str = setting("BPE", "byte-level BPE, or BERT's WordPiece", ("BPE", "BERT"))
    min_fre: int = setting(2, "a pair of tokens seen less often is not merged", least=1)
    vocab_size: int | None = setting(
        None,
        "tokens of the vocabulary, special ones included; none: 10,000, less for little text",
        least=6,
    )
    lowercase: bool = setting(True, "BERT: fold capital letters; BPE keeps every byte")
    strip_accents: bool | None = setting(None, "BERT: drop accents; none: as lowercase does")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokenizer_type == "BPE" and self.strip_accents:
            raise InputError("strip_accents: BPE keeps every byte; drop it, or use --tokenizer_type BERT")


@dataclass(frozen=True)
class VocabularyFiles(Settings):
    """The vocabulary that text is cut into tokens with."""

    tokenizer_type: str | None = setting(
        None, "none: the type of the vocabulary found", (None, "BPE", "BERT"), group="data"
    )
    vocab_file: str | None = setting(
        None, "'... BPE-vocab.json' or '... BERT-vocab.txt'; none: in vocab/", group="data"
    )
    merges_file: str | None = setting(None, "'... BPE-merges.txt'; none: beside the vocabulary", group="data")
    tokenizer: str | None = setting(
        None, "a tokenizer of your own: a tokenizer.json, or its folder", group="data"
    )
    cls_token: str | None = setting(None, "of --tokenizer: leads a row; none: as its files say", group="data")
    sep_token: str | None = setting(None, "of --tokenizer: ends a row", group="data")
    pad_token: str | None = setting(None, "of --tokenizer: fills rows up; added where new", group="data")
    mask_token: str | None = setting(None, "of --tokenizer: hides tokens; added where new", group="data")
    unk_token: str | None = setting(None, "of --tokenizer: stands for unknown text", group="data")
    add_tokens: str | None = setting(
        None,
        "file with words, one a line, that become tokens of their own behind the vocabulary's",
        group="data",
    )


@dataclass(frozen=True)
class SpanMaskingConfig(Settings):
    """Which spans of words are hidden (SpanBERT section 3.1, with an exact budget)."""

    # ELECTRA hides 0.15 in small and base models, 0.25 in large ones.
    # Above one half, spans that do not touch can run out of places.
    mask_ratio: float = setting(0.2, "share of a chunk's content tokens that is hidden", least=0, most=0.5)
    max_span_len: int = setting(20, "longest span, in whole words", least=1, most=LONGEST_ROW)
    # SpanBERT's, whose spans have 10 words at most.
    geometric_p: float = setting(
        0.2,
        "p of the geometric law of span lengths: P(l) ~ p (1 - p)^(l - 1); 1: single words",
        above=0,
        most=1,
    )


@dataclass(frozen=True)
class MaskingConfig(SpanMaskingConfig):
    """How spans are hidden while training; in feature files they are always of whole words."""

    whole_words: bool = setting(True, "spans are of whole words; else of single tokens, wherever a word ends")
    # Kept by whoever reads features of an earlier format; no setting of a user.
    format: int = setting(2, "feature format whose words and places of spans are used", (1, 2))

    def chosen(self) -> dict[str, float | int | bool]:
        """What a user sets of it, by the names of `masking_schedule`."""
        return {name: getattr(self, name) for name in MASKING_KEYS}

    def in_words(self) -> str:
        """The same as a line. Example: mask_ratio=0.2 max_span_len=20 geometric_p=0.2 whole_words=true"""
        return " ".join(f"{name}={json.dumps(value)}" for name, value in self.chosen().items())


@dataclass(frozen=True)
class MaskingPhase:
    """From where in a run which masking holds."""

    begin: float  # step; at most 1: share of all steps
    settings: dict[str, float | int | bool]  # of MaskingConfig; what is not named is as in the features

    @property
    def by_share(self) -> bool:
        """Whether it begins at a share of all steps."""
        return self.begin <= 1

    def first_step(self, total_steps: int) -> float:
        """Where it begins in a run of so many steps; a share of them may fall between two."""
        return self.begin * total_steps if self.by_share else self.begin


MASKING_KEYS = {"mask_ratio": float, "max_span_len": int, "geometric_p": float, "whole_words": bool}


def masking_phases(lines: list[str]) -> tuple[MaskingPhase, ...]:
    """Read a `masking_schedule`: from which step, or share of all steps, which settings of masking hold.

    Example: ["0: mask_ratio=0.3 max_span_len=1 whole_words=false", "0.5: max_span_len=3", "0.8: "]
    hides single tokens for half of the run, then spans of at most three words, and then as the features say.

    Raises InputError naming the line that cannot be read, or whose turn is not after the one before. Between
    a step and a share nobody can tell yet; pretraining/course.py, which knows how many steps there are, does.
    """
    phases: list[MaskingPhase] = []
    for line in lines:
        begin, _, rest = line.partition(":")
        try:
            number = float(begin)
            values = dict(item.split("=") for item in rest.split())
            settings = {key: _masking_value(MASKING_KEYS[key], text) for key, text in values.items()}
        except (ValueError, KeyError):
            raise InputError(
                f"masking_schedule: {line!r} is no phase; write it as '0.5: mask_ratio=0.2 max_span_len=3', "
                f"with any of {', '.join(MASKING_KEYS)}"
            ) from None
        if not phases and number != 0:
            raise InputError(f"masking_schedule: the first phase begins at {begin.strip()}; it must be 0")
        before = phases[-1] if phases else None
        alike = before is not None and before.by_share == (number <= 1)
        if not (0 <= number < math.inf) or (alike and number <= before.begin):
            raise InputError(f"masking_schedule: {line!r} does not begin after the phase before it")
        try:
            MaskingConfig(**settings)  # refuses what is out of bounds
        except InputError as error:
            raise InputError(f"masking_schedule: {line!r}: {error}") from None
        phases.append(MaskingPhase(number, settings))
    return tuple(phases)


def _masking_value(kind: type, text: str) -> float | int | bool:
    return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)


@dataclass(frozen=True)
class ChunkConfig(Settings):
    """How the stream of tokens is cut into rows."""

    max_seq_len: int = setting(
        512, "tokens of the longest row, [CLS] and [SEP] included", least=3, most=LONGEST_ROW
    )
    # As in ELECTRA: fine-tuning meets short rows, whose places would else be learned among long ones alone.
    short_chunk_prob: float = setting(0.05, "share of chunks cut to a random shorter length", least=0, most=1)
    respect_documents: bool = setting(False, "blank lines end a document; no chunk crosses one")
    respect_sentences: bool = setting(False, "chunks begin and end with sentences, where they can")


@dataclass(frozen=True)
class LoaderConfig(Settings):
    """How rows become batches."""

    batch_size: int = setting(32, "rows of a batch, all processes together", least=1)
    batch_max_tokens: int = setting(0, "padded tokens of a batch, all processes; 0: rows decide", least=0)
    # Like lengths share a batch, so that little is padding; over more batches, less would be left to chance.
    bucket_span: int = setting(64, "batches whose rows are sorted by length together", least=1)
    pack_rows: bool = setting(
        False, "several short rows in a line, none sees another's; needs batch_max_tokens"
    )
    masking: str = setting(
        "dynamic", "dynamic: new spans each epoch; static: the file's", ("dynamic", "static")
    )
    seed: int = setting(0, "seed of order, masks and samples", least=0)
    workers: int = setting(1, "threads that prepare batches ahead", least=0)
    masking_schedule: list[str] = setting(
        [],
        "masking by phases, each 'BEGIN: settings' with BEGIN a step or a share of all steps: "
        "'0: mask_ratio=0.3 max_span_len=1 whole_words=false' '0.5: max_span_len=3'; else as in the features",
    )
    spelling_noise: float = setting(
        0.0,
        "share of all words that are misspelt, in a third of the rows where these can hold them, for the "
        "discriminator to find, wherever it learns",
    )
    paired_rows: float = setting(
        0.0,
        "share of the rows that become pairs: a stretch of text and the same with tokens left out (spans may "
        "cut words there)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("spelling_noise", self.spelling_noise)
        check_share("paired_rows", self.paired_rows)
        if self.pack_rows and not self.batch_max_tokens:
            raise InputError("pack_rows: its batches are counted in tokens; give --batch_max_tokens too")
        if masking_phases(self.masking_schedule) and self.masking == "static":
            raise InputError("masking_schedule: draws new spans; leave out --masking static")
