"""Laws of sentences: rows begin and end with them in every script, and no token is lost.

Run: pytest tests/features/test_sentences.py
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_tokenizer_examples import BERT, bpe

from span_electra.data_config import ChunkConfig, MaskingConfig, VocabularyConfig
from span_electra.features.build import build_features
from span_electra.features.chunks import cut_chunks
from span_electra.features.header import wanted_features
from span_electra.features.sentences import (
    AFTER_BLANK,
    ENDS,
    IF_BLANK,
    begins_lines_bare,
    sentence_ends,
    sentence_marks,
)
from span_electra.features.store import open_features
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.vocabulary_builder import build_vocabulary, train

ENGLISH = [
    "The river rose in spring.",
    "“Who opened the gate?”",
    "Nobody knew, it cost 3.50 a day!",
    "(It was late.)",
]
CHINESE = ["春天河水上涨。", "“谁打开了大门？”", "没有人知道！", "「天色已晚。」"]
HINDI = ["वसंत में नदी बढ़ गई।", "द्वार किसने खोला?", "कोई नहीं जानता।"]
ARABIC = ["ارتفع النهر في الربيع.", "من فتح الباب؟", "لا أحد يعرف!"]


@pytest.fixture(scope="module", params=["BPE", "BERT"])
def vocabulary(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentences")
    path = folder / "all.txt"
    path.write_text("\n".join(ENGLISH + CHINESE + HINDI + ARABIC) * 3, encoding="utf-8")
    settings = VocabularyConfig(tokenizer_type=request.param, min_fre=1)
    return build_vocabulary([path], folder, "all", settings)[0]


@pytest.mark.parametrize("sentences, between", [(ENGLISH, " "), (CHINESE, ""), (HINDI, " "), (ARABIC, " ")])
def test_sentences_end_where_they_were_joined(vocabulary, sentences, between):
    told = sentences * 2
    ids_T = np.array(vocabulary.tokenizer.encode(between.join(told), add_special_tokens=False).ids)
    counts = [len(vocabulary.tokenizer.encode(text, add_special_tokens=False).ids) for text in told]
    if between:  # else a sentence alone has a blank before it that it has not here
        assert sum(counts) == len(ids_T)
        assert sentence_ends(ids_T, sentence_marks(vocabulary)).tolist() == np.cumsum(counts)[:-1].tolist()
    else:
        assert len(sentence_ends(ids_T, sentence_marks(vocabulary))) == len(told) - 1


def test_marks_that_are_folded_end_sentences_where_no_blank_follows(vocabulary):
    """！ and ？ are ! and ? under NFKC, and on many keyboards."""
    text = "".join(CHINESE * 2).replace("！", "!").replace("？", "?")
    ids_T = np.array(vocabulary.tokenizer.encode(text, add_special_tokens=False).ids)
    assert len(sentence_ends(ids_T, sentence_marks(vocabulary))) == len(CHINESE * 2) - 1
    cut = Vocabulary(bpe(BERT), "BPE")  # of whose tokens a character has several
    for text, ends in (("好!没有?「我」", 2), ("第1.我们a!b?3.50", 0)):
        ids_T = np.array(cut.tokenizer.encode(text, add_special_tokens=False).ids)
        assert len(sentence_ends(ids_T, sentence_marks(cut))) == ends


@pytest.mark.parametrize("prefix_space", [False, True])
def test_a_sentence_a_line_is_a_sentence_by_every_vocabulary(tmp_path, prefix_space):
    """RoBERTa's writes no blank before a line's first word, by which a full stop would be known."""
    told = ["The cat sat.", "A dog ran.", "It rained"] * 40
    tokenizer = bpe(BERT, prefix_space=prefix_space)
    mine = Vocabulary(tokenizer, "BPE")
    assert begins_lines_bare(mine) is not prefix_space
    (tmp_path / "text.txt").write_text("\n".join(told) + "\n")
    chunking = ChunkConfig(max_seq_len=48, short_chunk_prob=1.0, respect_sentences=True)
    wanted = wanted_features(mine, chunking, MaskingConfig())
    build_features(tmp_path / "text.txt", mine, tmp_path / "f.arrow", wanted, progress=False)
    features = open_features(tmp_path / "f.arrow")
    rows = features.gather(np.arange(features.header.rows), 48)
    first = [tokenizer.encode(text, add_special_tokens=False).ids[0] for text in told[:2]]
    # "It rained" ends no sentence, so no row begins with the line behind it.
    assert len(rows) > 9 and set(rows[1:, 1].tolist()) <= {first[1], *tokenizer.encode("It").ids[:1]}


def test_a_line_begins_a_sentence_only_where_one_ended():
    marks_V = np.array([0, ENDS | IF_BLANK, AFTER_BLANK], np.uint8)  # of "a", "." and " b"
    ids_T = np.array([0, 1, 0, 1, 2, 0])
    assert sentence_ends(ids_T, marks_V).tolist() == [4]
    assert sentence_ends(ids_T, marks_V, np.array([1, 2, 2, 5, 6])).tolist() == [2, 4]


@settings(max_examples=100, deadline=None)
@given(
    documents=st.lists(st.integers(0, 300), min_size=1, max_size=5),
    gaps=st.lists(st.integers(1, 90), max_size=60),
    max_seq_len=st.integers(3, 80),
    short=st.sampled_from([0.0, 0.3, 1.0]),
    key=st.integers(0, 2**64 - 1),
)
def test_rows_lose_no_token_and_end_with_sentences_wherever_one_is_near(
    documents, gaps, max_seq_len, short, key
):
    ends_D, ends_S = np.cumsum(documents), np.cumsum(gaps, dtype=np.int64)
    chunking = ChunkConfig(max_seq_len=max_seq_len, short_chunk_prob=short)
    ends_R = cut_chunks(ends_D, chunking, np.uint64(key), ends_S)
    lengths_R = np.diff(ends_R, prepend=0)
    assert lengths_R.sum() == ends_D[-1] and set(ends_D) <= {0, *ends_R}
    most = max_seq_len - 2
    assert not len(lengths_R) or (lengths_R.min() >= 1 and lengths_R.max() <= most)
    stops = {*ends_D.tolist(), *ends_S.tolist()}
    for end, length in zip(ends_R.tolist(), lengths_R.tolist(), strict=True):
        if end not in stops and not short:  # then none was to be had in the second half of the row's room
            assert not any(end - length + (most + 1) // 2 <= stop <= end - length + most for stop in ends_S)


def test_a_short_row_is_whole_sentences():
    """Cut at a random place, the row after it would begin inside a sentence."""
    ends_S = np.arange(7, 7000, 7)
    ends_R = cut_chunks(np.array([7000]), ChunkConfig(52, short_chunk_prob=1.0), np.uint64(1), ends_S)
    assert not (ends_R % 7).any() and len(set(np.diff(ends_R))) > 4


def test_features_hold_whole_sentences_and_say_so(tmp_path, vocabulary):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(" ".join(ENGLISH[:3]) for _ in range(60)), encoding="utf-8")
    path = tmp_path / "rows.arrow"
    chunking = ChunkConfig(max_seq_len=64, short_chunk_prob=0.3, respect_sentences=True)
    wanted = wanted_features(vocabulary, chunking, MaskingConfig())
    build_features(text, vocabulary, path, wanted, progress=False)
    features = open_features(path)
    assert features.header.chunking == chunking
    rows = features.gather(np.arange(features.header.rows), 64)
    starts = {vocabulary.tokenizer.encode(text, add_special_tokens=False).ids[0] for text in ENGLISH[:3]}
    assert set(rows[:, 1].tolist()) <= starts and len(rows) > 20


GERMAN = [
    "Er sagte: „Ich komme.“",
    "Sie: »Wirklich?«",
    "„Sie rief: ‚Nein!‘“",
    "„Er dachte: »Nie.«“",
    "Schluss.",
]
CLOSING = {
    "German": GERMAN,
    "Finnish, Hungarian": ["Sanoi: ”Tulen.”", "„Jövök.”", "Csend lett."],
    "French": ["Il dit.", "«Oui.»", "«Non.»", "Rien."],
    "English": ["He said.", "“I come.”", "“Really?”", "‘Yes!’"],
    "German and English": [*GERMAN, *ENGLISH, *GERMAN],
    "Chinese and German": ["他说。", "“你好。”", "“好。”", "„Ja.“", "“你好。”"],
}


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
@pytest.mark.parametrize("told", CLOSING.values(), ids=CLOSING)
def test_a_quotation_ends_with_its_sentence_whichever_marks_it_has(told, kind):
    """“ closes „ and opens an English quotation: a sentence has all of its marks, none of the next one's."""
    text = " ".join(told)
    settings = VocabularyConfig(tokenizer_type=kind, min_fre=1, lowercase=False, vocab_size=900)
    mine = train([f"{text}\n".encode() * 3], settings)
    encoding = mine.tokenizer.encode(text, add_special_tokens=False)
    ends = sentence_ends(np.array(encoding.ids), sentence_marks(mine)).tolist()
    places = [0, *(encoding.offsets[end][0] for end in ends), len(text)]
    found = [text[start:end].strip() for start, end in zip(places[:-1], places[1:], strict=True)]
    assert found == told
