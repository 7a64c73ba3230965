"""Text -> a vocabulary in its folder.

The files are written beside and renamed, the vocabulary's own last: a build that is killed leaves nothing
that looks finished, and one run again gives the same bytes. An existing vocabulary of the same name but other
content is never replaced, nor is a tokenizer.json that stands in the folder.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers

from span_electra.counted import counted, few
from span_electra.data_config import CHUNK_SIZE, VocabularyConfig
from span_electra.errors import InputError
from span_electra.locks import alone_in
from span_electra.progress import Bar
from span_electra.storage import write_files
from span_electra.text.bpe_trainer import train_bpe, train_wordpiece
from span_electra.text.clean import Replaced, read_block, replaced_in
from span_electra.text.corpus import cut_blocks
from span_electra.text.encode import TextEncoder
from span_electra.text.inputs import Inputs, find_inputs
from span_electra.text.letters import JOINERS
from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import (
    SPECIAL_TOKENS,
    Vocabulary,
    assemble,
    file_contents,
    load_vocabulary,
    rules_file,
    tokenizer_contents,
    vocabulary_files,
    without_accents,
)
from span_electra.text.word_counts import count_words

DEFAULT_SIZE = 10_000  # of a vocabulary whose size nobody named
LEAST_BPE = 256 + len(SPECIAL_TOKENS)  # every byte, so that no text is unknown
PREVIEW_BYTES = 20_000_000  # of text, whose tokens are counted for the eye
# Characters; a longer word is [UNK] as a whole. BERT's 100 lose a tenth of a Thai or Khmer text and more, for
# all up to the next blank is a word there. The library, by which exports are read, takes .07 s for one of
# 1,000, and a time that grows faster than the square of its length for a longer one: no line shall stop it.
LONGEST_WORD = 1000
READ_WITHOUT_ACCENTS = ("GREEK ", "COMBINING ")  # a script, and marks that make no character with a letter
LETTERS_WORTH_A_NOTE = 0.005  # of all letters; in Russian й alone is 1.2%, names in English text far less
LATIN_WORTH_A_NOTE = 0.1  # in French 4% have accents, in Czech 13%, in Vietnamese, which has tones, 25%
LINES_LOOKED_AT = 1000  # of a block, for its letters: evenly, as files of several languages may share it
# Latin letters with a mark that an alphabet has as its own, in small letters and İ: without it, words become
# others (Turkish açı and aci, Finnish säde and sade, German wurde and würde). French has none of them.
OWN_LETTERS = "İışğåäöüőűąęćńśźżășşțţñõčďěňřšťůžāēīūģķļņėįųĉĝĥĵŝŭċġľĺŕơư"
WIDTHLESS = "\u200b" + JOINERS  # what parts words or shapes letters
MANY_CHARACTERS = 0.5  # share of a WordPiece vocabulary; what is left for words is less
MODEL_MAX_LENGTH = 512  # what the folder's tokenizer_config.json says; features and exports say their own


def build_vocabulary(
    inputs: str | Path | Iterable[str | Path],
    out_dir: str | Path,
    model_name: str,
    settings: VocabularyConfig,
) -> tuple[Vocabulary, list[Path], tuple[str, ...]]:
    """Train a vocabulary on text and write it. Returns it, its files, and notes.

    Raises InputError for text that cannot be read, a size the text does not allow, a name that is no file
    name, and a different vocabulary that is there already.
    """
    # File systems take 255 bytes of a name, and ours get up to 30 more.
    if not re.fullmatch(r"[^/.\s][^/\x00-\x1f]*", model_name) or len(os.fsencode(model_name)) > 200:
        raise InputError(f"--model_name {model_name[:99]!r}: not usable in a file name; give a plain name")
    named = settings.vocab_size is not None
    settings = replace(settings, vocab_size=settings.vocab_size or DEFAULT_SIZE)
    if settings.tokenizer_type == "BPE" and settings.vocab_size < LEAST_BPE:
        raise InputError(f"--vocab_size {settings.vocab_size}: byte-level BPE needs at least {LEAST_BPE}")
    found = find_inputs(inputs, settings.text_field)
    seen, replaced = Counter(), Replaced(settings)
    with Bar("vocabulary", found.size) as bar:
        texts = texts_of(found, settings, bar, replaced)
        vocabulary = train(_counting(seen, texts) if settings.tokenizer_type == "BERT" else texts, settings)
    if vocabulary.size == len(SPECIAL_TOKENS):
        paths = few([file.path for file in found.files])
        raise InputError(f"{paths}: nothing but what BERT's rules leave out; name files with text")
    notes = (
        found.notes + replaced.notes() + joiners_note(seen) + characters_note(vocabulary, settings.vocab_size)
    )
    # Accents are dropped though nobody said so: what goes with them is told.
    if settings.lowercase and settings.strip_accents is None:
        notes += marks_note(seen)
    if named and vocabulary.size > settings.vocab_size:
        raise InputError(
            f"--vocab_size {settings.vocab_size}: the text's single characters alone make {vocabulary.size} "
            f"tokens; give at least that, or --tokenizer_type BPE"
        )
    # Smaller than what was named is refused, not taken: the model's size would silently be another.
    if named and vocabulary.size < settings.vocab_size:
        raise InputError(
            f"--vocab_size {settings.vocab_size}: the text allows only {vocabulary.size} tokens at --min_fre "
            f"{settings.min_fre}; give --vocab_size {vocabulary.size}, or more text"
        )
    if vocabulary.size < settings.vocab_size:
        notes += (
            f"vocabulary: {vocabulary.size:,} tokens, not the usual {DEFAULT_SIZE:,}: as many as this text "
            f"gives at --min_fre {settings.min_fre}",
        )
    files, note = write_vocabulary(vocabulary, out_dir, model_name, preview(vocabulary, found, settings))
    return vocabulary, files, notes + note


def texts_of(
    inputs: Inputs, settings: VocabularyConfig, bar: Bar | None = None, replaced: Replaced | None = None
) -> Iterator[bytes]:
    """Clean text of the inputs, some megabytes at a time; `bar` and `replaced` are told what was read.

    Raises InputError, at its end, for text that is white space throughout.
    """
    blank = True
    for block in cut_blocks(inputs, CHUNK_SIZE):
        text = read_block(block, settings)
        blank = blank and not text.strip()
        if replaced:
            replaced.add(block, replaced_in(text, settings))
        yield text
        if bar:
            bar.done(block.consumed)
    if blank:
        paths = few([file.path for file in inputs.files])
        raise InputError(f"{paths}: nothing but white space there; name files with text")


def _counting(seen: Counter[str], texts: Iterable[bytes]) -> Iterator[bytes]:
    """Hand the texts on; count characters of some lines of each, letters with marks put together (NFC)."""
    for text in texts:
        lines = text.split(b"\n")
        some = b"\n".join(lines[:: 1 + len(lines) // LINES_LOOKED_AT])
        seen.update(unicodedata.normalize("NFC", some.decode()))
        yield text


def train(texts: Iterable[bytes], settings: VocabularyConfig) -> Vocabulary:
    """Train on blocks of lines: the words are counted first, then merges are found from the counts alone."""
    kind, limits = settings.tokenizer_type, (settings.vocab_size, settings.min_fre, SPECIAL_TOKENS)
    rules = {
        "lowercase": settings.lowercase,
        "strip_accents": settings.strip_accents,
        "max_input_chars_per_word": LONGEST_WORD,
    }
    counts = count_words(texts, assemble(kind, {}, **rules).tokenizer)
    if kind == "BERT":
        return assemble(kind, train_wordpiece(counts, *limits), **rules)
    ids, merges = train_bpe(counts, *limits, pre_tokenizers.ByteLevel.alphabet())
    return assemble(kind, ids, merges, **rules)


def characters_note(vocabulary: Vocabulary, size: int) -> tuple[str, ...]:
    """What to say of a WordPiece vocabulary that single characters fill, so that words are cut into them."""
    singles = sum(len(token.removeprefix("##")) == 1 for token in vocabulary.tokens_V)
    # Smaller than it may be, it has all that the text gives.
    if vocabulary.kind != "BERT" or vocabulary.size < size or singles <= MANY_CHARACTERS * vocabulary.size:
        return ()
    return (
        f"vocabulary: single characters alone make {singles:,} of its {vocabulary.size:,} tokens, and few "
        f"words have their own; give --vocab_size {3 * singles}, or --tokenizer_type BPE",
    )


def joiners_note(seen: Counter[str]) -> tuple[str, ...]:
    """What to say of blanks without width, which BERT's rules drop whatever is asked of accents."""
    joiners = Counter({joiner: seen[joiner] for joiner in WIDTHLESS if seen[joiner]})
    share = joiners.total() / max(1, sum(_letters(seen).values()))
    if share <= LETTERS_WORTH_A_NOTE:
        return ()
    names = ", ".join(f"U+{ord(one):04X} {unicodedata.name(one)}" for one, _ in joiners.most_common())
    return (
        f"vocabulary: BERT's rules drop what parts words or shapes letters here ({names}), one for each "
        f"{1 / share:.0f} letters; give --tokenizer_type BPE, which keeps it",
    )


def _letters(seen: Counter[str]) -> dict[str, int]:
    return {mark: uses for mark, uses in seen.items() if unicodedata.category(mark)[0] in "LM"}


def marks_note(seen: Counter[str]) -> tuple[str, ...]:
    """What to say of characters that lose a mark with their accents, where that makes other letters of them.

    Greek is read without, and Latin that has few and none of OWN_LETTERS; elsewhere a mark tells letters
    apart (が from か), or is a vowel itself.
    """
    letters = _letters(seen)
    total, changed, latin = sum(letters.values()), Counter(), Counter()
    for letter, uses in letters.items():
        # Put together again, for Korean is taken apart and loses nothing.
        kept, was = (unicodedata.normalize("NFC", text) for text in (without_accents(letter), letter))
        name = unicodedata.name(letter, "")
        if kept != was and not name.startswith(READ_WITHOUT_ACCENTS):
            (latin if name.startswith("LATIN ") else changed)[letter] = uses
    own = sum(
        uses for letter, uses in letters.items() if letter in OWN_LETTERS or letter.lower() in OWN_LETTERS
    )
    if latin.total() > LATIN_WORTH_A_NOTE * total or own > LETTERS_WORTH_A_NOTE * total:
        changed += latin
    if changed.total() <= LETTERS_WORTH_A_NOTE * total:
        return ()
    # A mark by itself is shown on a circle, as in Unicode's tables.
    bare = [(letter, without_accents(letter)) for letter, _ in changed.most_common(3)]
    examples = ", ".join(f"{one} becomes {left}" if left else f"\u25cc{one} goes" for one, left in bare)
    share = changed.total() / total
    return (
        f"vocabulary: BERT's rules drop marks that make letters here, {share:.1%} of them ({examples}); give "
        "--strip_accents false to keep them",
    )


def preview(vocabulary: Vocabulary, inputs: Inputs, settings: VocabularyConfig) -> str:
    """One line a token for the eye, with how often it was seen.

    Example: `  1042  ##ing  seen 88,213 times`; of byte-level BPE `   731  ĠÃ¼ber  über  seen 12 times`
    """
    encoder, counts_V, read = TextEncoder(vocabulary.tokenizer), np.zeros(vocabulary.size, np.int64), 0
    for text in texts_of(inputs, settings):
        counts_V += np.bincount(encoder.encode(text).ids_T, minlength=vocabulary.size)
        read += len(text)
        if read >= PREVIEW_BYTES:
            break
    pieces_V = Pieces(vocabulary)
    lines = (
        f"{number:6}  {_shown(token, pieces_V[number])}  seen {counted(count, 'time')}\n"
        for number, (token, count) in enumerate(zip(vocabulary.tokens_V, counts_V, strict=True))
    )
    return f"in the first {read:,} bytes of text:\n" + "".join(lines)


def _shown(token: str, text: str) -> str:
    """A token as it is spelt and, where that is not read as its text, the text beside it."""
    text = text.strip()
    readable = text not in token and text.isprintable() and "\ufffd" not in text
    return f"{token}  {text}" if readable else token


def write_vocabulary(
    vocabulary: Vocabulary, out_dir: str | Path, model_name: str, preview_text: str
) -> tuple[list[Path], tuple[str, ...]]:
    """Write the vocabulary's files and what goes beside them; returns the vocabulary's own, and notes."""
    out_dir = Path(out_dir)
    files = vocabulary_files(out_dir, model_name, vocabulary.kind)
    contents = dict(zip(files, file_contents(vocabulary), strict=True))
    beside = {out_dir / f"{model_name} {vocabulary.kind} vocab.preview.txt": preview_text}
    if vocabulary.kind == "BERT":
        beside[rules_file(files[0])] = vocabulary.to_json()
    # AutoTokenizer opens one tokenizer of a folder. The first stays that: it may be the user's own, and
    # programs that opened this folder would get other ids without a word.
    shared = {out_dir / name: text for name, text in tokenizer_contents(vocabulary, MODEL_MAX_LENGTH).items()}
    out_dir.mkdir(parents=True, exist_ok=True)
    with alone_in(out_dir):  # another command may find it empty too, and files of both would mix
        _refuse_another(vocabulary, contents)
        other = [path for path, text in shared.items() if _holds_another(path, text)]
        # Nothing gets its name before all of it is on the disk, and the vocabulary itself comes last: where
        # it stands, all of it stands.
        write_files(beside | ({} if other else shared) | dict(reversed(contents.items())))
    return files, tuple(
        f"{path}: holds another tokenizer and stays as it is; it, not this vocabulary, is what AutoTokenizer "
        "opens in that folder. Give an --out_dir of its own to have one of this"
        for path in other[:1]
    )


def _refuse_another(vocabulary: Vocabulary, contents: dict[Path, str]) -> None:
    """Raise InputError where another vocabulary of the name stands. `contents`: of its own files."""
    way_out = "give another --model_name or --out_dir, or remove it"
    for path, text in contents.items():
        if _holds_another(path, text):
            raise InputError(f"{path}: holds another vocabulary; {way_out}")
    (file, *_) = contents
    if vocabulary.kind == "BERT" and file.exists():
        if load_vocabulary("BERT", file).sha256 != vocabulary.sha256:
            rules = "casing, accents or longest word"
            raise InputError(f"{file}: its {rules} are other than these; {way_out}")


def _holds_another(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() != text.encode()
