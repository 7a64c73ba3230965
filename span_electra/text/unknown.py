"""Text that a vocabulary has no tokens for: how much became [UNK], and which characters did."""

from __future__ import annotations

from collections import Counter

from span_electra.text.vocabulary import Vocabulary

WORTH_A_NOTE = 0.01  # of the tokens; rare signs are nobody's worry
SHOWN = 8  # characters named
SAMPLE_BYTES = 4 << 20  # of text looked at for the characters' names


def unknown_note(vocabulary: Vocabulary, unknown: int, tokens: int, sample: bytes) -> str | None:
    """What to say of features in which `unknown` of `tokens` are the unknown token; None where it is little.

    sample: some of the text, UTF-8, in which the characters are looked for.
    """
    if unknown <= WORTH_A_NOTE * tokens:
        return None
    # The sample may end inside a character, which is nobody's unknown one.
    characters = unknown_characters(vocabulary, sample[:SAMPLE_BYTES].decode(errors="ignore"))
    if characters:
        found = " ".join(character for character, _ in characters.most_common(SHOWN))
        reason = f"the vocabulary lacks characters of this text, most often {found}"
    else:
        reason = "words too long for the vocabulary are unknown as a whole"
    return (
        f"{unknown / tokens:.1%} of the tokens are {vocabulary.special.unk}, which teach nothing: {reason}; "
        "make a vocabulary from this text with create_vocab_SE.py, or one of --tokenizer_type BPE, which "
        "knows every text"
    )


def unknown_characters(vocabulary: Vocabulary, text: str) -> Counter[str]:
    """How often each character occurs that by itself is the unknown token."""
    counts = Counter(character for character in text if not character.isspace())
    characters = list(counts)
    encodings = vocabulary.tokenizer.encode_batch(characters, add_special_tokens=False)
    for character, encoding in zip(characters, encodings, strict=True):
        if vocabulary.unk_id not in encoding.ids:
            del counts[character]
    return counts
