"""Small tokenizers of every kind that is encoded word by word, and lines that are hard to cut."""

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

SPECIAL = ["[CLS]", "[SEP]", "[PAD]", AddedToken("[MASK]", lstrip=True), "[UNK]"]
TEXT = [
    "The children's toys weren't there, they'll say; I'd've known we're late. It's 12,345.67 o'clock!",
    "Naïve café, Ελληνικά κείμενα, русский текст, 漢字とかな, 한국어, עברית,",
    "हिन्दी, ไทย, 😀 🎉 — “quotes” … ½ ²",
    "words wordy wording sword swords reword rewording under understand understanding misunderstanding",
]
NASTY = [
    "", " ", "  ", "\t", " \t ", "a", " a", "  a", "a  ", "a \t b", "\ta", "a\u00a0b", "a \u00a0 b",
    "\u00a0", "\u3000a\u2003 b", "it's 's ''s 'S 'll'll x're'd'",
    "don't can''t rock'n'roll 'tis 'VE 're9", "12ab34 ab12 1,2 ٣٤ ²³ Ⅷ ½x", "\x00", "a\x00b",
    "\x01\x02 a\x1f\x7f", "a\rb", "a\x0bb\x0cc\x85d\u2028e\u2029f", "\u200b\u200d\ufeff",
    "\ufffd \ufffdx", "Ångström ÅNGSTRÖM a\u0301b e\u0323\u0301 \u0301x !\u0301 ͣabc",
    "ΑΣ ΌΣΟΣ İstanbul ẞß ﬁ Ǆ", "漢字kanji漢 字", "\U0002a6d6\U0001f600👩‍👩‍👧",
    "\ue000\uf8ff\U00100000\U0010ffff", "\u0378\u05ff\U0001fbff\U000e0001",
    "각각 \u1112\u1161\u11ab 한\u302e글", "\u302e\u302f\u0323a \U0001d165\U0001d16e", "x" * 99,
    "x" * 100, "x" * 101, "x" * 255, "x" * 256, "é" * 101 + " é", "ab" * 3000, " " * 300, "." * 300,
    "\u0301" * 300, "漢" * 300, "foo[MASK]bar [mask] [MAS K] [[CLS]] [SEP", "[UNK]", " [MASK] ",
    "\u2260=\u0338\u037e;\u0340\u1fef`\u212b", "a—b–c…d’s‘t", "ab\u00adcd",
    "``quoted'' `x` @ [ { ~ ^ _ a_b", "𝒜𝓑 𝟘𝟙 𐐀𐐨", "ﷺ ﬀ ㎏", "a\u0345\u0301 \u0f71\u0f72\u0f74",
    "\u00c0\u0316\u0300",
]  # fmt: skip


def train(kind: str, **changes) -> Tokenizer:
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=changes.get("prefix_space", False)
        )
        trainer = trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(**changes)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return tokenizer


SETTINGS = {
    "bpe": ("bpe", {}),
    "bpe with prefix space": ("bpe", {"prefix_space": True}),
    "wordpiece uncased": ("wordpiece", {}),
    "wordpiece cased": ("wordpiece", {"lowercase": False}),
    "wordpiece cased without accents": ("wordpiece", {"lowercase": False, "strip_accents": True}),
    "wordpiece uncased with accents": ("wordpiece", {"strip_accents": False}),
    "wordpiece as it comes": (
        "wordpiece",
        {"clean_text": False, "handle_chinese_chars": False, "lowercase": False, "strip_accents": False},
    ),
    "wordpiece not cleaned": ("wordpiece", {"clean_text": False}),
}
TOKENIZERS = {name: train(kind, **changes) for name, (kind, changes) in SETTINGS.items()}
