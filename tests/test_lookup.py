"""The ids of a word, known or new, are the model's. Run: pytest tests/test_lookup.py"""

import random

import pytest
from encode_examples import TOKENIZERS

from span_electra.data.encode import TextEncoder

ALPHABETS = {"few letters": "ab", "letters": "adeinorstuw", "signs": ".'!-", "accents": "éaüoñ"}


@pytest.mark.parametrize("name", ["bpe", "wordpiece cased"])
@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_ids_of_random_words(name, alphabet):
    rng = random.Random(5)
    encoder = TextEncoder(TOKENIZERS[name])
    words = ["".join(rng.choices(ALPHABETS[alphabet], k=rng.randint(1, 60))) for _ in range(400)]
    for word in words + words:  # new, then known
        ours = encoder.encode(word.encode()).ids_T.tolist()
        assert ours == TOKENIZERS[name].encode(word, add_special_tokens=False).ids, word


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 24, 99, 100, 101, 254, 255, 256, 257, 5000])
@pytest.mark.parametrize("name", ["bpe", "wordpiece cased"])
def test_lengths_where_a_word_is_kept_otherwise(name, length):
    encoder = TextEncoder(TOKENIZERS[name])
    for tail in ("d", "w", "d"):
        word = ("understanding" * 500)[: length - 1] + tail
        ours = encoder.encode(word.encode()).ids_T.tolist()
        assert ours == TOKENIZERS[name].encode(word, add_special_tokens=False).ids
