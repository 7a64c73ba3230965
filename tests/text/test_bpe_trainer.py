"""Training from counts finds what the library finds on lines. Run: pytest tests/text/test_bpe_trainer.py"""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from encode_examples import NASTY, TEXT
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from span_electra.text.bpe_trainer import train_bpe, train_wordpiece
from span_electra.text.word_counts import count_words

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
SPECIAL = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]
ALPHABET = pre_tokenizers.ByteLevel.alphabet()


def random_text(seed: int, letters: str, words: int) -> list[str]:
    rng = random.Random(seed)
    known = ["".join(rng.choices(letters, k=rng.randint(1, 12))) for _ in range(words)]
    return [" ".join(rng.choices(known, k=12)) for _ in range(words // 4)]


TEXTS = {
    "small": TEXT,
    "nasty": NASTY * 3,
    "repeats": ["a aa aaa aaaa aaaaa aaaaaa aaaaaaaaa", "abab ababab abababab baba"] * 3,
    "two letters": random_text(1, "ab", 200),  # the same tokens come up by several ways
    "three letters": random_text(2, "aab", 600),
    "many letters": random_text(3, "etaoinshrdlu", 2000),
    "ties": ["ab cd ef gh ij kl mn op"],
}


def empty_bpe(prefix_space: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    return tokenizer


def empty_wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = (
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    return tokenizer


def counts_of(lines: list[str], tokenizer: Tokenizer) -> Counter[bytes]:
    return count_words(["".join(line + "\n" for line in lines).encode()], tokenizer)


def check_bpe(lines: list[str], vocab_size: int, min_frequency: int) -> None:
    tokenizer = empty_bpe()
    counts = counts_of(lines, tokenizer)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=SPECIAL,
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab, merges = train_bpe(counts, vocab_size, min_frequency, SPECIAL, ALPHABET)
    assert merges == [tuple(pair) for pair in model["merges"]]
    assert vocab == model["vocab"]


def check_wordpiece(lines: list[str], vocab_size: int, min_frequency: int) -> None:
    tokenizer = empty_wordpiece()
    counts = counts_of(lines, tokenizer)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=SPECIAL,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    theirs = tokenizer.get_vocab()
    # The library's ids of ##a, ##b ... differ from run to run; with those of this run all else must agree.
    continuing = sorted((t for t in theirs if t.startswith("##") and len(t) == 3), key=theirs.get)
    ours = train_wordpiece(counts, vocab_size, min_frequency, SPECIAL, continuing=continuing)
    assert ours == theirs


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("min_frequency", [0, 2])
def test_bpe(text, min_frequency):
    check_bpe(TEXTS[text], 700, min_frequency)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("min_frequency", [0, 2])
def test_wordpiece(text, min_frequency):
    check_wordpiece(TEXTS[text], 600, min_frequency)


def test_a_merge_that_spells_a_special_token_is_that_token():
    tokenizer = empty_bpe()
    trainer = trainers.BpeTrainer(min_frequency=0, special_tokens=["ab"], show_progress=False)
    tokenizer.train_from_iterator(["abab abc"], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab, merges = train_bpe(counts_of(["abab abc"], empty_bpe()), 30_000, 0, ["ab"], [])
    assert (vocab, merges) == (model["vocab"], [tuple(pair) for pair in model["merges"]])
    assert vocab["ab"] == 0


def test_wordpiece_is_the_same_every_time():
    counts = counts_of(TEXT, empty_wordpiece())
    backwards = Counter(dict(reversed(counts.items())))
    assert train_wordpiece(counts, 300, 0, SPECIAL) == train_wordpiece(backwards, 300, 0, SPECIAL)


def test_the_example_of_the_docstring():
    assert train_bpe({b"aab": 5, b"ab": 3}, 3, 2, [], "ab") == ({"a": 0, "b": 1, "ab": 2}, [("a", "b")])


def test_no_words():
    assert train_bpe({}, 300, 2, SPECIAL, "ab") == (
        {**{t: i for i, t in enumerate(SPECIAL)}, "a": 5, "b": 6},
        [],
    )
    assert train_wordpiece({}, 300, 2, SPECIAL) == {t: i for i, t in enumerate(SPECIAL)}


@pytest.mark.skipif(not CORPUS.exists(), reason=f"no corpus at {CORPUS}")
def test_corpus_slice():
    text = (CORPUS / "sample_10mb" / "000.txt").read_bytes()[:1_500_000].decode(errors="ignore")
    check_bpe(text.split("\n"), 4000, 2)
    check_wordpiece(text.split("\n"), 4000, 2)
