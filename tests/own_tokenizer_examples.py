"""Small tokenizers as other tools make them, with the files that stand beside them."""

import json
from pathlib import Path

from encode_examples import TEXT
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def trained(tokenizer: Tokenizer, trainer: trainers.Trainer) -> Tokenizer:
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return tokenizer


def bpe(specials: tuple[str, ...] = ROBERTA, normalizer=None, prefix_space: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    return trained(tokenizer, trainer)


def roberta() -> Tokenizer:
    tokenizer = bpe()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def wordpiece() -> Tokenizer:
    """BERT's, with [unused] tokens and added ones."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = [*BERT, *(f"[unused{number}]" for number in range(5))]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    tokenizer.add_tokens(["Naïve", "word play"])
    return tokenizer


def unigram() -> Tokenizer:
    """As SentencePiece makes them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=list(ROBERTA), unk_token="<unk>", show_progress=False
    )
    return trained(tokenizer, trainer)


def metaspace_bpe() -> Tokenizer:
    """As Llama's older ones: blanks become "▁" in the normalizer, nothing is cut."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=list(ROBERTA), show_progress=False)
    return trained(tokenizer, trainer)


def cut_by(*pre_tokenizers_of_bpe) -> Tokenizer:
    """A byte-level BPE whose text is cut by other rules than GPT-2's pattern."""
    tokenizer = bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(pre_tokenizers_of_bpe))
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(ROBERTA), show_progress=False)
    return trained(tokenizer, trainer)


def split() -> Tokenizer:
    """As Llama's newer ones and GPT-4's: by a pattern of their own, three digits at most together."""
    letters, others = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    cut = pre_tokenizers.Split(Regex(letters + r"|\p{N}{1,3}|" + others), behavior="isolated")
    return cut_by(cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))


def digits() -> Tokenizer:
    """As Falcon's and StarCoder's: each digit alone."""
    digit = pre_tokenizers.Digits(individual_digits=True)
    return cut_by(digit, pre_tokenizers.ByteLevel(add_prefix_space=False))


def word_level() -> Tokenizer:
    """Whole words alone, as classrooms make them."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=200, special_tokens=list(BERT), show_progress=False)
    return trained(tokenizer, trainer)


def character_bpe() -> Tokenizer:
    """As the first GPT's: characters, and a word's last piece says that it is the last."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(ROBERTA), end_of_word_suffix="</w>", show_progress=False
    )
    return trained(tokenizer, trainer)


GPT2 = "<|endoftext|>"
PLAIN = {"tokenizer_class": "PreTrainedTokenizerFast"}
# name -> (what makes it, its tokenizer_config.json, special tokens that the user names)
TOKENIZERS = {
    "roberta": (roberta, {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": False}, {}),
    "gpt2": (
        lambda: bpe((GPT2,)),
        {"tokenizer_class": "GPT2Tokenizer", "bos_token": GPT2, "eos_token": GPT2, "unk_token": GPT2},
        {"pad": "<pad>", "mask": "<mask>"},
    ),
    "modernbert": (lambda: bpe(BERT, normalizers.NFC()), PLAIN, {}),
    "nfkc lower": (
        lambda: bpe(ROBERTA, normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), True),
        PLAIN,
        {},
    ),
    "bert": (wordpiece, {**PLAIN, "do_lower_case": True}, {}),
    "unigram": (unigram, PLAIN, {}),
    "metaspace": (metaspace_bpe, PLAIN, {}),
    "split": (split, PLAIN, {}),
    "digits": (digits, PLAIN, {}),
    "word level": (word_level, PLAIN, {}),
    "character bpe": (character_bpe, PLAIN, {}),
}


def write_folder(folder: Path, tokenizer: Tokenizer, config: dict | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
