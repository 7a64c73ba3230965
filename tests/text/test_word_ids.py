"""Ids of single words, however long and in whatever script. Run: pytest tests/text/test_word_ids.py"""

import random

import pytest
from encode_examples import TOKENIZERS
from script_examples import SCRIPTS, script_text
from tokenizers import Tokenizer, models, pre_tokenizers

from span_electra.data_config import VocabularyConfig
from span_electra.text.encode import TextEncoder
from span_electra.text.vocabulary_builder import train
from span_electra.text.word_ids import MAX_WORD

TEXT = "".join(script_text(script, 12_000, mixed=True) for script in SCRIPTS)
# Marks that join, vowel signs, digits of other scripts, emoji of several code points, rare planes.
PEPPER = list("\u0301\u0323\u0e31\u0e49\u093f\u094d\u064b٣४๓0129abcXYZéßſﬁ漢字かカ한\u1112\u1161\u200d") + [
    "👩‍👩‍👧",
    "𝒜",
    "\U0002a6d6",
]


@pytest.fixture(scope="module", params=["BPE", "BERT"])
def tokenizer(request):
    return train([TEXT.encode()], VocabularyConfig(tokenizer_type=request.param, vocab_size=3000)).tokenizer


def random_words(seed: int, count: int) -> list[str]:
    """Without blanks, of 1 to 5,000 bytes: pieces of the text, its letters, and pepper."""
    dice, running = random.Random(seed), "".join(TEXT.split())
    letters, words = sorted(set(running)), []
    for _ in range(count):
        bytes_left, parts = round(5000 ** dice.random()), []
        while bytes_left > 0:
            start = dice.randrange(len(running))
            usual = running[start : start + dice.randint(1, 40)]
            parts.append(dice.choice([usual, usual, dice.choice(letters), dice.choice(PEPPER)]))
            bytes_left -= len(parts[-1].encode())
        words.append("".join(parts))
    return words


def check(tokenizer: Tokenizer, words: list[str]) -> None:
    ours = TextEncoder(tokenizer).encode("".join(word + "\n" for word in words).encode())
    start = 0
    for word, end in zip(words, ours.line_ends_N, strict=True):
        assert ours.ids_T[start:end].tolist() == tokenizer.encode(word, add_special_tokens=False).ids, word
        start = end


@pytest.mark.parametrize("seed", range(3))
def test_random_words_of_many_scripts(tokenizer, seed):
    check(tokenizer, random_words(seed, 150))


def test_long_words_are_not_the_librarys_work(tokenizer, monkeypatch):
    def ask(*_):
        raise AssertionError("the library was asked")

    monkeypatch.setattr(TextEncoder, "_ask_library", ask)
    for script in SCRIPTS:
        check(tokenizer, ["".join(script_text(script, 1500).split())])


@pytest.mark.parametrize("length", [MAX_WORD - 1, MAX_WORD, MAX_WORD + 1, 3 * MAX_WORD])
def test_words_of_any_length(length):
    check(TOKENIZERS["bpe"], [("misunderstanding" * length)[:length]])


def random_bpe(seed: int, *, in_order: bool) -> Tokenizer:
    """Merges no trainer made: of any two tokens there are, also twice, also two that give one token."""
    dice = random.Random(seed)
    tokens, merges = list("abc"), []
    for _ in range(dice.randint(1, 25)):
        left, right = dice.choice(tokens), dice.choice(tokens)
        merges.append((left, right))
        tokens.append(left + right)
    if not in_order:
        dice.shuffle(merges)
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


@pytest.mark.parametrize("in_order", [True, False])
def test_merges_of_any_kind(in_order):
    reasons = set()
    for seed in range(60):
        tokenizer, dice = random_bpe(seed, in_order=in_order), random.Random(-seed)
        reasons.add(TextEncoder(tokenizer).fallback_reason)
        check(tokenizer, ["".join(dice.choices("abc", (8, 3, 1), k=dice.randint(1, 60))) for _ in range(60)])
    assert None in reasons
    assert in_order or "a BPE whose merges are out of order" in reasons
