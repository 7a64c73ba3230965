"""Normal forms by Python's tables are the library's. Run: pytest tests/text/test_normal_form.py"""

import json
import random

import pytest
from encode_examples import NASTY, train
from tokenizers import AddedToken, Tokenizer, normalizers

from span_electra.text.encode import TextEncoder
from span_electra.text.normal_form import NormalForm

NORMALIZERS = {
    "NFC": normalizers.NFC(),
    "NFD": normalizers.NFD(),
    "NFKC, lower case": normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
    "lower case, NFKD": normalizers.Sequence([normalizers.Lowercase(), normalizers.NFKD()]),
    "nothing": normalizers.Sequence([]),
}
# Marks of several classes, letters that compose with them, jamo, what NFKC takes apart, young characters.
PEPPER = "aAeEıİΣσςßẞﬁ½Ⅷﷺ가각각क़ड़\u0301\u0323\u0334\u0345\u302e\u0f71\u0f72\u0653\u09be\u09c7"
PEPPER += (
    "\u1112\u1161\u11ab\u2126\uff21\U0001d15e\U00011930\U00011935\U00016d63\u1e9e\u2c2f😀🫠\u0378\U000e0001"
)


def tokenizer_with(name: str, *added: AddedToken) -> Tokenizer:
    tokenizer = train("bpe")
    tokenizer.normalizer = NORMALIZERS[name]
    tokenizer.add_tokens(list(added))
    return tokenizer


def random_lines(seed: int) -> list[str]:
    dice = random.Random(seed)
    points = [chr(c) for c in range(0x20, 0x20000) if not 0xD800 <= c < 0xE000]
    lines = ["".join(dice.choices(PEPPER, k=dice.randint(0, 12))) for _ in range(400)]
    return lines + ["".join(dice.choices(points, k=12)) for _ in range(400)] + NASTY


@pytest.mark.parametrize("name", NORMALIZERS)
def test_any_text_has_the_librarys_normal_form(name):
    tokenizer = tokenizer_with(name)
    normal_form = NormalForm(tokenizer, json.loads(tokenizer.to_str()))
    for seed in range(3):
        lines = random_lines(seed)
        normal = normal_form.of("\n".join(lines).encode()).decode().split("\n")
        assert normal == [NORMALIZERS[name].normalize_str(line) for line in lines]


@pytest.mark.parametrize("name", NORMALIZERS)
def test_ids_are_the_librarys_with_added_tokens_of_any_sort(name):
    blanks, full = AddedToken("  ", normalized=True), AddedToken("Ｘé", normalized=True)
    tokenizer = tokenizer_with(name, blanks, full, AddedToken("stand"))
    encoder = TextEncoder(tokenizer)
    assert encoder.fallback_reason is None
    lines = [*random_lines(9), "［MASK］", "[mask]", "[MASK]", "xe\u0301 Xe\u0301 Ｘé", "UNDERSTAND a  b"]
    ours, start = encoder.encode("\n".join(lines).encode()), 0
    for line, end in zip(lines, ours.line_ends_N.tolist(), strict=True):
        assert ours.ids_T[start:end].tolist() == tokenizer.encode(line, add_special_tokens=False).ids, line
        start = end


def test_the_library_is_not_asked_again():
    tokenizer = tokenizer_with("NFKC, lower case")
    normal_form = NormalForm(tokenizer, json.loads(tokenizer.to_str()))
    text = "Ångström ＡＢＣ 漢字とかな 한국어 हिन्दी ไทย Ελληνικά עברית 😀 — “x” Σ"
    expected = NORMALIZERS["NFKC, lower case"].normalize_str(text)
    assert normal_form.of(text.encode()).decode() == expected
    normal_form._library = None
    assert normal_form.of(text.encode()).decode() == expected
