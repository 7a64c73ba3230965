"""Rows of token ids: as the exported tokenizer makes them, and every token with its word.

Run: pytest tests/finetuning/test_encoding.py
"""

import random
import warnings
from itertools import accumulate, pairwise

import pytest
from encode_examples import TEXT
from hypothesis import given, settings
from hypothesis import strategies as st
from network_examples import vocabulary_of_words
from tokenizers import AddedToken, Tokenizer

from span_electra.finetuning.encoding import (
    TaskSpec,
    encode_examples,
    encode_lines,
    encoded_rows,
    kept_of_pair,
    word_ids,
)
from span_electra.finetuning.export import save_tokenizer, tokenizer_of
from span_electra.finetuning.readers import Example
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_types import TASK_TYPES
from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import SPECIAL_TOKENS, Vocabulary, assemble
from span_electra.text.vocabulary_builder import VocabularyConfig, train


def bpe() -> Vocabulary:
    return train(["\n".join(TEXT * 3).encode()], VocabularyConfig(vocab_size=450))


VOCABULARIES = {
    "BPE": bpe(),
    "uncased": vocabulary_of_words(),
    "cased": assemble("BERT", dict(vocabulary_of_words().tokenizer.get_vocab()), lowercase=False),
}


def with_tokens(vocabulary: Vocabulary) -> Vocabulary:
    """With words of a domain, one that is folded as text is and one that is not, and a special token."""
    tokenizer = Tokenizer.from_str(vocabulary.to_json())
    tokenizer.add_tokens([AddedToken("NewTok", single_word=True), AddedToken("RawTok", normalized=False)])
    tokenizer.add_special_tokens(["<URL>"])
    return Vocabulary.from_json(tokenizer.to_str())


ADDED = {f"{name}, added": with_tokens(vocabulary) for name, vocabulary in VOCABULARIES.items()}
SENTENCE = Example("7", ("The cats sleep on the mat.",))


def spec_of(task_type="SingleSenClassification", labels=(), longest=32, **changes) -> TaskSpec:
    noise = changes.pop("noise", {})
    return TaskSpec(Task("t", task_type, {}, noise=noise), labels, longest, **changes)


def rows_of(examples, spec, vocabulary="uncased"):
    return encode_examples((VOCABULARIES | ADDED)[vocabulary], spec, examples)


# --- words ----------------------------------------------------------------------------------------------


def test_words_of_the_docstrings_example():
    assert word_ids([(0, 1), (1, 2), (2, 4)], ["ab", " c"]) == [0, 0, 1]
    assert word_ids([], []) == word_ids([], ["\x00"]) == []


LETTERS = st.sampled_from("abTé.'-1ßΣİ😀\u0301")
WORD = st.text(LETTERS, min_size=1, max_size=5)
BARE = st.text("漢字กา\u0e48。", min_size=1, max_size=4)


@settings(deadline=None, max_examples=150)
@given(
    words=st.lists(WORD, min_size=1, max_size=6), name=st.sampled_from(list(VOCABULARIES)), fold=st.booleans()
)
def test_every_token_of_every_word_maps_to_it(words, name, fold):
    """A word's tokens are those it has alone, behind a blank: words never share a token."""
    vocabulary = VOCABULARIES[name]
    spec = spec_of("NER", longest=200, lowercase=fold)
    row = rows_of([Example("1", (" ".join(words),), tuple(words))], spec, name)[0]
    alone = rows_of([Example("1", (word,), (word,)) for word in words], spec, name)
    expected = [number for number, one in enumerate(alone) for _ in one["input_ids"][1:-1]]
    assert row["word_ids"] == [-1, *expected, -1] and row["words"] == len(words)
    assert row["input_ids"][1:-1] == [token for one in alone for token in one["input_ids"][1:-1]]
    assert len(row["word_ids"]) == len(row["input_ids"]) <= vocabulary.size


def is_shared(encoding, parts) -> bool:
    """Whether a token holds letters of two of these parts of a text."""
    ends = [*accumulate(map(len, parts))]
    return any(start < end < stop for start, stop in encoding.offsets for end in ends)


HAN = "天地玄黄宇"


def characters() -> Vocabulary:
    """A vocabulary with tokens of several Han, as of running text."""
    text = "".join(random.Random(0).choices([HAN[:2], HAN[2:4], HAN[1:4], *HAN], k=900))
    return train([text.encode()], VocabularyConfig(vocab_size=290))


CHARACTERS = characters()


@settings(deadline=None, max_examples=100)
@given(words=st.lists(st.text(HAN, min_size=1, max_size=4) | st.just("PDF"), min_size=1, max_size=8))
def test_no_token_is_of_two_words_and_every_word_has_its_own(words):
    spec = spec_of("NER", longest=200)
    [(row, cut)] = encoded_rows(CHARACTERS, spec, [Example("1", (), tuple(words))])
    pieces = Pieces(CHARACTERS)
    spelt = [[n for n, own in zip(row["input_ids"], row["word_ids"], strict=True) if own == word]
             for word in range(len(words))]  # fmt: skip
    assert [pieces.text(ids).strip(" ") for ids in spelt] == words and not cut
    # Where no token was of two, they are those of running text; elsewhere those of each word apart.
    blanks = ["", *(" " * ("PDF" in pair) for pair in pairwise(words))]
    parts = [blank + word for blank, word in zip(blanks, words, strict=True)]
    encoding = CHARACTERS.tokenizer.encode("".join(parts), add_special_tokens=False)
    assert is_shared(encoding, parts) or row["input_ids"][1:-1] == encoding.ids


def test_words_without_tokens_are_counted_but_for_those_behind_the_end():
    words = ("the", "\x00", "cat", "\x00", "dogs")
    for longest, count in ((32, 2), (4, 1)):
        found = encode_lines(
            vocabulary_of_words(), spec_of("NER", ("O",), longest), [Example("1", (), words)]
        )
        assert found.noted["tokenless"] == count
    assert not encode_lines(vocabulary_of_words(), spec_of(), [SENTENCE]).noted["tokenless"]


def test_characters_that_are_unknown_are_counted_in_texts_of_every_kind():
    vocabulary = assemble("BERT", {token: number for number, token in enumerate([*SPECIAL_TOKENS, "a", "b"])})
    for name, example in (
        ("SingleSenClassification", Example("1", ("a 漢字漢字 b",))),
        ("SingleSenClassification", Example("1", ("a 漢字", "漢字 b"))),
        ("NER", Example("1", (), ("a", "漢字漢字", "b"))),
        ("Conversation", Example("1", ("a 漢字", "漢字 b"))),
    ):
        noted = encode_lines(vocabulary, spec_of(name, ("O",)), [example] * 3).noted
        assert (noted["lost"], noted["characters"]) == (12, 18)


@settings(deadline=None, max_examples=100)
@given(words=st.lists(WORD | BARE, min_size=1, max_size=6), name=st.sampled_from(list(VOCABULARIES)))
def test_words_of_scripts_without_blanks_are_read_as_in_running_text(words, name):
    """As prediction reads them: a blank that nobody writes would be a token, or another one."""
    example, tokenizer = Example("1", (), tuple(words)), VOCABULARIES[name].tokenizer
    row = rows_of([example], spec_of("NER", longest=200), name)[0]
    parts = words[:1]
    for last, word in pairwise(words):
        bare = all(0xE00 <= ord(each) <= 0xEFF or ord(each) > 0x3000 for each in (last[-1], word[0]))
        parts.append(word if bare and "😀" not in (last[-1], word[0]) else f" {word}")
    encoding = tokenizer.encode("".join(parts), add_special_tokens=False)
    assert is_shared(encoding, parts) or row["input_ids"][1:-1] == encoding.ids
    told = row["word_ids"][1:-1]
    assert told == sorted(told) and set(told) <= set(range(len(words)))
    # Sentences whose words are checked for errors were parted at the blanks that they have.
    row = rows_of([example], spec_of("SpellingWords", longest=200), name)[0]
    assert row["input_ids"][1:-1] == tokenizer.encode(" ".join(words), add_special_tokens=False).ids


@pytest.mark.parametrize("name", VOCABULARIES)
def test_words_with_blanks_inside_and_words_without_tokens(name):
    words = ("the", "un do", "\x00" if name != "BPE" else "", "cat", "")
    row = rows_of([Example("1", (), words)], spec_of("NER"), name)[0]
    tokens = [VOCABULARIES[name].tokenizer.id_to_token(number) for number in row["input_ids"]]
    spelt = {number: "" for number in range(len(words))}
    for token, word in zip(tokens, row["word_ids"], strict=True):
        if word >= 0:
            spelt[word] += token.replace("##", "").replace("Ġ", "")
    assert list(spelt.values()) == ["the", "undo", "", "cat", ""]
    assert row["words"] == 5


def test_a_cut_sentence_loses_the_words_at_its_end():
    words = ("the", "cats", "dogs", "undo")
    row = rows_of([Example("1", (), words, ("A", "B", "A", "B"))], spec_of("NER", ("A", "B"), 6))[0]
    assert row["word_ids"] == [-1, 0, 1, 2, 3, -1], "of `un ##do` the first token alone"
    assert len(row["input_ids"]) == len(row["token_type_ids"]) == 6
    assert row["words"] == 4 and row["label"] == [0, 1, 0, 1]


# --- rows -----------------------------------------------------------------------------------------------


def test_labels_become_targets():
    cases = [
        ("SingleSenClassification", ("no", "yes"), "yes", 1),
        ("MultiLabelClassification", ("a", "b", "c"), ("c", "a"), [2, 0]),
        ("MultiLabelClassification", ("a", "b", "c"), (), []),
        ("Regression", (), "2.5", 2.5),
        ("SpellingSequence", ("0", "1"), "1", 1),
    ]
    for task_type, labels, label, target in cases:
        row = rows_of([Example("1", ("a cat",), None, label)], spec_of(task_type, labels))[0]
        assert row["label"] == target, task_type
    assert "label" not in rows_of([SENTENCE], spec_of())[0]


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_as_many_rows_as_examples_in_their_order(task_type):
    examples = [Example(str(number), ("the cat " * number, "dogs"), ("the",) * number) for number in range(9)]
    rows = rows_of(examples, spec_of(task_type, longest=9))
    assert [row["uid"] for row in rows] == [str(number) for number in range(9)]
    assert rows_of([], spec_of(task_type)) == []
    for row in rows:
        if "input_ids" in row:
            assert len(row["input_ids"]) == len(row["token_type_ids"]) <= 9
            assert "attention_mask" not in row, "collate makes it; a row alone has no padding"


def test_a_conversation_keeps_its_turns_whole_and_noise_its_text():
    talk = Example("3", ("the cat sleeps", "", "dogs " * 20))
    row = rows_of([talk], spec_of("Conversation", longest=8))[0]
    assert [len(turn) for turn in row["turns"]] == [3, 0, 20] and set(row) == {"uid", "turns"}
    noisy = spec_of("SpellingWords", ("0", "1"), noise={"kind": "artificial"})
    assert rows_of([Example("3", ("a cat",), ("a", "cat"))], noisy) == [{"uid": "3", "text": "a cat"}]
    labelled = rows_of([Example("3", ("a cat",), ("a", "cat"), ("0", "1"))], noisy)[0]
    assert labelled["label"] == [0, 1] and labelled["words"] == 2


def test_kept_of_pair_by_hand():
    cases = {(9, 3, 7): (4, 3), (3, 9, 7): (3, 4), (9, 9, 7): (3, 4), (9, 8, 7): (4, 3), (9, 1, 7): (6, 1)}
    cases |= {(2, 3, 7): (2, 3), (0, 9, 7): (0, 7), (5, 5, 0): (0, 0), (5, 5, 1): (0, 1)}
    assert {case: kept_of_pair(*case) for case in cases} == cases


# --- as transformers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """Opens what the export writes of a vocabulary, with the stock class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer

    def opened(vocabulary, spec):
        folder = tmp_path_factory.mktemp("tokenizer")
        save_tokenizer(tokenizer_of(vocabulary, spec), folder, spec.max_seq_len)
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)

    return opened


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("name", VOCABULARIES | ADDED)
def test_rows_are_those_of_the_exported_tokenizer(name, fold, stock):
    texts = ["A [MASK] b", "NewTok newtok NEWTOK", "RawTok rawtok <URL> <url>", "[SEP] [sep] the [UNK]"]
    texts += ["", "a", "The CATS sleep", "ΑΣ ΌΣΟΣ İstanbul ẞß", *TEXT[:2], "the dogs bark " * 9, "un" * 50]
    for longest in (3, 8, 9, 60):
        spec = spec_of("SentencePairClassification", longest=longest, lowercase=fold)
        tokenizer = stock((VOCABULARIES | ADDED)[name], spec)
        firsts, seconds = zip(*((one, other) for one in texts for other in texts), strict=True)
        for columns in ((texts,), (firsts, seconds)):
            rows = rows_of([Example("1", row) for row in zip(*columns, strict=True)], spec, name)
            theirs = tokenizer(*map(list, columns), truncation="longest_first", max_length=longest)
            for key in ("input_ids", "token_type_ids"):
                assert [row[key] for row in rows] == theirs[key], (key, longest)


@pytest.mark.parametrize(
    ("task_type", "texts", "cut"),
    [
        ("SingleSenClassification", ("cat " * 6,), False), ("SingleSenClassification", ("cat " * 7,), True),
        ("SentencePairClassification", ("cat " * 3, "dog " * 2), False),
        ("SentencePairClassification", ("cat " * 3, "dog " * 3), True),
        ("ResponseSelection", ("cat " * 3, "dog " * 2), False),
        ("ResponseSelection", ("cat " * 3, "dog " * 3), True),
        ("Conversation", ("cat " * 6, "dog " * 6), False), ("Conversation", ("cat " * 7, "dog"), True),
    ],
)  # fmt: skip
def test_examples_that_are_longer_than_a_row_are_counted(task_type, texts, cut):
    spec = spec_of(task_type, ("0", "1"), longest=8)
    found = encode_lines(vocabulary_of_words(), spec, [Example("1", texts)])
    assert (len(found.lines), found.cut) == (1, int(cut))


def test_words_and_clean_text_that_are_longer_than_a_row_are_counted():
    words = spec_of("NER", ("O",), longest=8)
    noisy = spec_of("SpellingWords", ("0", "1"), longest=8, noise={"kind": "artificial"})
    for count in (6, 7):
        text = ("cat",) * count
        examples = [Example("1", (" ".join(text),), text)]
        assert encode_lines(vocabulary_of_words(), words, examples).cut == count - 6
        assert encode_lines(vocabulary_of_words(), noisy, examples).cut == count - 6
