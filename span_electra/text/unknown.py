"""Text that a vocabulary has no tokens for: how much of it there is, and which characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from tokenizers import Encoding, models

from span_electra.text.encode import EncodedLines
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import byte_letters

WORTH_A_NOTE = 0.01  # of the characters; rare signs are nobody's worry
SHOWN = 8  # characters named
SAMPLE_BYTES = 4 << 20  # of text looked at for the characters' names
# Of a block the lines that the library is asked about, and bytes of each: a hundredth of the block's time.
SAMPLED_LINES, SAMPLED_BYTES = 16, 2000


def unknown_note(vocabulary: Vocabulary, lost: int, characters: int, sample: bytes) -> str | None:
    """What to say of text of which `lost` of its `characters` have no token; None where it is little.

    sample: some of the text, UTF-8, in which the characters are looked for.
    """
    if lost <= WORTH_A_NOTE * characters:
        return None
    # The sample may end inside a character, which is nobody's unknown one.
    found = unknown_characters(vocabulary, sample[:SAMPLE_BYTES].decode(errors="ignore"))
    if found:
        listed = " ".join(character for character, _ in found.most_common(SHOWN))
        reason = f"the vocabulary lacks characters of this text, most often {listed}"
    else:
        reason = "words too long for the vocabulary are unknown as a whole"
    return f"{what_is_lost(vocabulary, lost, characters)}: {reason}; {WAY_OUT}"


WAY_OUT = (
    "make a vocabulary from this text with create_vocab_SE.py, or one of --tokenizer_type BPE, which knows "
    "every text"
)


def what_is_lost(vocabulary: Vocabulary, lost: int, characters: int) -> str:
    """Example: 43.0% of the characters are [UNK], which teaches nothing"""
    share = f"{lost / max(1, characters):.1%} of the characters"
    if leaves_out(vocabulary):
        return f"{share} have no token and are left out (its trainer was given no initial_alphabet)"
    return f"{share} are {vocabulary.special.unk}, which teaches nothing"


def leaves_out(vocabulary: Vocabulary) -> bool:
    """Whether unknown text gets no token at all: of a BPE that lacks characters and an unknown token."""
    model = vocabulary.tokenizer.model
    if not isinstance(model, models.BPE) or model.unk_token is not None or model.byte_fallback:
        return False
    return vocabulary.kind != "BPE" or bool(_lacking_bytes(vocabulary))


def _lacking_bytes(vocabulary: Vocabulary) -> set[int]:
    letters = enumerate(byte_letters())
    return {byte for byte, letter in letters if vocabulary.tokenizer.token_to_id(letter) is None}


def unknown_characters(vocabulary: Vocabulary, text: str) -> Counter[str]:
    """How often each character occurs that by itself is the unknown token, or has no token."""
    counts = Counter(character for character in text if not character.isspace())
    characters = list(counts)
    encodings = vocabulary.tokenizer.encode_batch(characters, add_special_tokens=False)
    left_out = leaves_out(vocabulary)
    lacking = _lacking_bytes(vocabulary) if left_out and vocabulary.kind == "BPE" else set()
    for character, encoding in zip(characters, encodings, strict=True):
        vanishes = left_out and (not encoding.ids or not lacking.isdisjoint(character.encode()))
        if vocabulary.unk_id not in encoding.ids and not vanishes:
            del counts[character]
    return counts


def lost_characters(vocabulary: Vocabulary, texts: Sequence[str], encodings: Sequence[Encoding]) -> int:
    """How many characters of texts became the unknown token, or nothing; `encodings` are the texts'."""
    if leaves_out(vocabulary):
        return unknown_characters(vocabulary, "".join(texts)).total()
    unk_id, lost = vocabulary.unk_id, 0
    for text, encoding in zip(texts, encodings, strict=True):
        ids = encoding.ids
        if unk_id in ids:
            # Each place once: a character's bytes may all be unknown.
            places = {place for place, number in zip(encoding.offsets, ids, strict=True) if number == unk_id}
            # What the text itself spells out, as GPT-2's end of a text, is not lost.
            lost += sum(end - start for start, end in places if text[start:end] != vocabulary.special.unk)
    return lost


def lost_of_block(vocabulary: Vocabulary, text: bytes, lines: EncodedLines) -> int:
    """The same of megabytes of lines, from a sample of those that lost something; 0 takes no time."""
    left_out, unknown_T = leaves_out(vocabulary), np.flatnonzero(lines.ids_T == vocabulary.unk_id)
    if not left_out and not len(unknown_T):
        return 0
    if left_out:
        numbers = _spread(np.arange(len(lines.line_ends_N)))
    else:
        numbers = np.unique(np.searchsorted(lines.line_ends_N, _spread(unknown_T), side="right"))
    starts_N = np.append(0, np.flatnonzero(np.frombuffer(text, np.uint8) == 10) + 1)
    begun = (text[start : start + SAMPLED_BYTES] for start in starts_N[numbers].tolist())
    some = [line.split(b"\n", 1)[0].decode(errors="ignore") for line in begun]
    encodings = vocabulary.tokenizer.encode_batch(some, add_special_tokens=False)
    lost = lost_characters(vocabulary, some, encodings)
    if left_out:
        return round(lost * characters_of(text) / max(1, characters_of("".join(some).encode())))
    # One unknown token may stand for a sign or for a line: how long they are is looked at, not how many.
    met = sum(encoding.ids.count(vocabulary.unk_id) for encoding in encodings)
    scaled = round(lost * len(unknown_T) / met) if met else len(unknown_T)
    return min(scaled, characters_of(text))


def _spread(numbers: np.ndarray) -> np.ndarray:
    return numbers[:: 1 + len(numbers) // SAMPLED_LINES]


def characters_of(text: bytes) -> int:
    """Characters of UTF-8 text, blanks and line ends not counted."""
    text_B = np.frombuffer(text, np.uint8)
    begun = np.count_nonzero(text_B.view(np.int8) > -65)  # which bytes that go on with a character are not
    return int(begun - np.count_nonzero(text_B <= 0x20))
