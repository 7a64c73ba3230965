"""Vocabularies from text, whole or not at all. Run: pytest tests/text/test_vocabulary_builder.py"""

import random
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from tokenizers import pre_tokenizers, trainers

from span_electra.data_config import VocabularyConfig
from span_electra.errors import InputError
from span_electra.hub.tokenizer import save_tokenizer
from span_electra.storage import write_files
from span_electra.text import vocabulary_builder
from span_electra.text.encode import TextEncoder
from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import (
    SPECIAL_TOKENS,
    Vocabulary,
    assemble,
    load_vocabulary,
    rules_file,
)
from span_electra.text.vocabulary_builder import build_vocabulary, write_vocabulary


def words(seed: int = 0, lines: int = 400) -> str:
    """Lines of made-up words with capitals, accents and punctuation."""
    dice = random.Random(seed)
    syllables = ["ka", "ri", "to", "nél", "shu", "Be", "ox", "42", "st"]
    made = ["".join(dice.choices(syllables, k=dice.randint(1, 4))) for _ in range(300)]
    return "\n".join(
        " ".join(dice.choices(made, k=9)) + dice.choice([".", "!", ", so?"]) for _ in range(lines)
    )


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "some text"
    folder.mkdir()
    (folder / "a.txt").write_text(words(0))
    (folder / "b.txt").write_text(words(1))
    (folder / ".hidden.txt").write_text("secret " * 1000)
    return folder


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
def test_the_files_open_again_and_a_second_build_changes_no_byte(kind, corpus, tmp_path):
    settings = VocabularyConfig(tokenizer_type=kind, vocab_size=400)
    made, files, notes = build_vocabulary(corpus, tmp_path / "v", "my name", settings)
    first = {path: path.read_bytes() for path in (tmp_path / "v").iterdir()}
    assert made.size == 400 and any("hidden" in note for note in notes)
    assert load_vocabulary(kind, *files).sha256 == made.sha256
    build_vocabulary(corpus, tmp_path / "v", "my name", settings)
    assert {path: path.read_bytes() for path in (tmp_path / "v").iterdir()} == first


def test_the_merges_are_those_the_library_finds(corpus, tmp_path):
    made, _, _ = build_vocabulary(corpus, tmp_path / "v", "x", VocabularyConfig(vocab_size=400))
    rival = assemble("BPE", {}).tokenizer
    trainer = trainers.BpeTrainer(vocab_size=400, min_frequency=2, special_tokens=list(SPECIAL_TOKENS),
                                  show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    lines = [line for name in ("a.txt", "b.txt") for line in (corpus / name).read_text().split("\n")]
    rival.train_from_iterator(lines, trainer)
    assert rival.get_vocab() == made.tokenizer.get_vocab()


def test_another_vocabulary_of_the_name_is_not_replaced(corpus, tmp_path):
    build_vocabulary(corpus, tmp_path / "v", "x", VocabularyConfig(vocab_size=400))
    before = (tmp_path / "v/x BPE-vocab.json").read_bytes()
    with pytest.raises(InputError, match="x BPE-vocab.json: holds another vocabulary.*--model_name"):
        build_vocabulary(corpus, tmp_path / "v", "x", VocabularyConfig(vocab_size=350))
    assert (tmp_path / "v/x BPE-vocab.json").read_bytes() == before


BPE, UNCASED, ACCENTED = (
    VocabularyConfig(vocab_size=400),
    VocabularyConfig(tokenizer_type="BERT", vocab_size=400),
    VocabularyConfig(
        tokenizer_type="BERT", vocab_size=400, strip_accents=False
    ),  # which its file of tokens says nowhere
)


@pytest.mark.parametrize("order", [(ACCENTED, BPE), (BPE, ACCENTED)], ids=["BERT first", "BPE first"])
def test_two_kinds_in_one_folder_both_keep_their_ids(order, corpus, tmp_path):
    built = [build_vocabulary(corpus, tmp_path, "x", settings) for settings in order]
    for made, files, _ in built:
        assert load_vocabulary(made.kind, *files).sha256 == made.sha256
        preview = (tmp_path / f"x {made.kind} vocab.preview.txt").read_text()
        assert preview.count("\n") == 1 + made.size
    # What AutoTokenizer opens there is the first one's, and the second build says so.
    assert (tmp_path / "tokenizer.json").read_text() == built[0][0].to_json()
    said = [[note for note in notes if "tokenizer.json" in note] for _, _, notes in built]
    assert not said[0] and len(said[1]) == 1 and "--out_dir" in said[1][0]


def test_two_of_a_kind_with_other_rules_both_keep_their_ids(corpus, tmp_path):
    for name, settings in (("x", ACCENTED), ("y", UNCASED)):
        made, files, _ = build_vocabulary(corpus, tmp_path, name, settings)
        assert load_vocabulary("BERT", *files).sha256 == made.sha256
    assert load_vocabulary("BERT", tmp_path / "x BERT-vocab.txt").tokenizer.normalizer.strip_accents is False


def test_a_folder_made_before_rules_had_their_own_file_keeps_its_ids(corpus, tmp_path):
    made, files, _ = build_vocabulary(corpus, tmp_path, "x", ACCENTED)
    rules_file(files[0]).unlink()  # then tokenizer.json alone said them
    build_vocabulary(corpus, tmp_path, "x", BPE)
    assert load_vocabulary("BERT", *files).sha256 == made.sha256


def test_of_two_commands_at_the_same_moment_one_is_refused(tmp_path, monkeypatch):
    """Both find the folder empty; without a lock the files of both would mix in it."""
    meet = threading.Barrier(2)

    def write_together(contents):
        with suppress(threading.BrokenBarrierError):  # locked out, the other never comes
            meet.wait(0.1)
        write_files(contents)

    monkeypatch.setattr(vocabulary_builder, "write_files", write_together)
    made = [assemble("BERT", {token: n for n, token in enumerate([*SPECIAL_TOKENS, one])}) for one in "ab"]
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(write_vocabulary, each, tmp_path / "v", "x", "") for each in made]
    refused = [isinstance(each.exception(), InputError) for each in done]
    assert sorted(refused) == [False, True] and "holds another vocabulary" in str(
        done[refused.index(True)].exception()
    )
    stands = load_vocabulary("BERT", tmp_path / "v/x BERT-vocab.txt")
    assert stands.sha256 == made[refused.index(False)].sha256
    assert not [path for path in (tmp_path / "v").iterdir() if path.name.startswith(".")]


def test_a_tokenizer_of_the_users_own_is_not_replaced(corpus, tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v/tokenizer.json").write_text('{"mine": true}')
    _, _, notes = build_vocabulary(corpus, tmp_path / "v", "x", BPE)
    assert (tmp_path / "v/tokenizer.json").read_text() == '{"mine": true}'
    assert not (tmp_path / "v/tokenizer_config.json").exists() and "v/tokenizer.json: " in notes[-1]


def test_the_same_tokens_by_other_rules_are_another_vocabulary(tmp_path):
    (tmp_path / "t.txt").write_text("a plain text of plain words\n" * 9)  # without accents, nor capitals
    files = build_vocabulary(
        tmp_path / "t.txt", tmp_path / "v", "x", VocabularyConfig(tokenizer_type="BERT")
    )[1]
    for strict in (True, False):
        with pytest.raises(InputError, match="x BERT-vocab.txt: .*accents.*--model_name"):
            settings = VocabularyConfig(tokenizer_type="BERT", strip_accents=False)
            build_vocabulary(tmp_path / "t.txt", tmp_path / "v", "x", settings)
        if strict:
            rules_file(files[0]).unlink()


def test_a_line_without_blanks_is_no_unknown_word_wherever_the_vocabulary_is_opened(tmp_path):
    from transformers import AutoTokenizer

    dice = random.Random(0)
    lines = ["".join(dice.choices([chr(0xE01 + n) for n in range(40)], k=400)) for _ in range(30)]  # Thai's
    (tmp_path / "t.txt").write_text("\n".join(lines))
    settings = VocabularyConfig(tokenizer_type="BERT", vocab_size=300)
    made, files, _ = build_vocabulary(tmp_path / "t.txt", tmp_path / "v", "x", settings)
    again = load_vocabulary("BERT", *files)
    ids = again.tokenizer.encode(lines[0]).ids
    assert again.sha256 == made.sha256 and made.unk_id not in ids and len(ids) > 100
    assert TextEncoder(again.tokenizer).encode(lines[0].encode()).ids_T.tolist() == ids[1:-1]
    (tmp_path / "exported").mkdir()
    save_tokenizer(Vocabulary.from_json(again.to_json()), tmp_path / "exported", 128)
    for folder in (tmp_path / "v", tmp_path / "exported"):
        assert AutoTokenizer.from_pretrained(folder)(lines[0])["input_ids"] == ids
    # A list of tokens has no place for the number; what is read so is another vocabulary.
    for file in (tmp_path / "v").glob("*tokenizer*.json"):
        file.unlink()
    assert load_vocabulary("BERT", *files).tokenizer.model.max_input_chars_per_word == 100
    with pytest.raises(InputError, match="longest word are other than these"):
        build_vocabulary(tmp_path / "t.txt", tmp_path / "v", "x", settings)


MARKED = {
    "Japanese": ("がんばれ、おげんきですか", "が becomes か"),
    "Thai": ("กินข้าวกับพี่ที่บ้าน", "\u25cc\u0e35 goes"),
    "Hindi": ("क्या हिन्दी", "\u25cc\u094d goes"),
    "Russian": ("мой чай твой синий край", "й becomes и"),
    "Vietnamese": ("Tôi muốn học tiếng Việt ở đây với các bạn", "ô becomes o"),
    "Turkish": ("Bu dosya sistemde bulunmuyor ve kullanıcı listesi de değil", "ğ becomes g"),
    "English with a Turkish name": ("plain words " * 60 + "Şahin", None),
    "German": ("Die Katze sitzt auf dem Tisch und trinkt über Nacht etwas Milch", "ü becomes u"),
    "Finnish": ("Sade tuli, ja säde valaisi koko talon ja pihan ja metsän", "ä becomes a"),
    "Swedish": ("Han gick till skolan för att läsa och skriva på svenska", "ö becomes o"),
    "Polish": ("Dziś rano poszedłem do sklepu, żeby kupić chleb i mleko", "ś becomes s"),
    "Romanian": ("Fata mergea la școala din sat în fiecare zi cu fratele ei și cu mama", "ș becomes s"),
    "Hungarian": ("A fiú este hazament, mert az eső esett és nagyon fázott, őt várta a tűz", "ő becomes o"),
    "French": ("Le café est fermé, nous irons demain avec les enfants de la voisine et son chien", None),
    "Greek": ("Ελληνικά κείμενα", None),
    "Korean": ("한국어 문장입니다", None),
    "English with a name": ("plain words " * 40 + "Горбачёв", None),
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("language", MARKED)
def test_marks_that_make_letters_are_told_before_they_are_lost(language, form, tmp_path):
    text, words = MARKED[language]
    (tmp_path / "t.txt").write_text(unicodedata.normalize(form, (text + "\n") * 9))
    for number, asked in enumerate(({}, {"strip_accents": False}, {"lowercase": False})):
        settings = VocabularyConfig(tokenizer_type="BERT", **asked)
        _, _, notes = build_vocabulary(tmp_path / "t.txt", tmp_path / str(number), "x", settings)
        told = [note for note in notes if "--strip_accents false" in note]
        assert len(told) == (words is not None and not asked)
        assert not told or words in told[0]


@pytest.mark.parametrize("joiner, name", [("\u200b", "200B"), ("\u200c", "200C"), ("\u200d", "200D")])
def test_blanks_without_width_are_told_before_any_of_bert_s_rules_drops_them(joiner, name, tmp_path):
    (tmp_path / "t.txt").write_text(f"می{joiner}روم به خانه\n" * 9)
    (tmp_path / "few.txt").write_text("plain words\n" * 99 + f"می{joiner}روم\n")
    rules = ({}, {"strip_accents": False}, {"lowercase": False}, {"lowercase": False, "strip_accents": False})
    for number, asked in enumerate(rules):
        settings = VocabularyConfig(tokenizer_type="BERT", **asked)
        made, _, notes = build_vocabulary(tmp_path / "t.txt", tmp_path / str(number), "x", settings)
        assert joiner not in "".join(made.tokens_V)
        [told] = [note for note in notes if f"U+{name} " in note]
        assert "drop" in told and "--tokenizer_type BPE" in told
    for path, kind in (("few.txt", "BERT"), ("t.txt", "BPE")):
        settings = VocabularyConfig(tokenizer_type=kind)
        _, _, notes = build_vocabulary(tmp_path / path, tmp_path / path[0] / kind, "x", settings)
        assert not any("U+200" in note for note in notes)


def test_a_vocabulary_that_characters_fill_is_told_whether_its_size_was_named(tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary_builder, "DEFAULT_SIZE", 200)
    for number, (han, size, singles) in enumerate([(300, None, True), (100, 200, True), (10, 200, False)]):
        characters = "".join(map(chr, range(0x4E00, 0x4E00 + han)))
        (tmp_path / "t.txt").write_text(words(1) + characters)
        settings = VocabularyConfig(tokenizer_type="BERT", vocab_size=size, min_fre=1)
        made, _, notes = build_vocabulary(tmp_path / "t.txt", tmp_path / str(number), "x", settings)
        told = [note for note in notes if "single characters alone make" in note]
        assert len(told) == singles and not any("as many as this text gives" in note for note in notes)
        assert not told or f"of its {made.size:,} tokens" in told[0] and "give --vocab_size" in told[0]
    _, _, notes = build_vocabulary(
        tmp_path / "t.txt", tmp_path / "bpe", "x", VocabularyConfig(vocab_size=261)
    )
    assert not any("single characters" in note for note in notes)


@pytest.mark.parametrize("first, last", [("plain words", "がぎ"), ("がぎ", "plain words")])
def test_marks_are_told_wherever_in_a_long_text_they_stand(first, last, tmp_path):
    (tmp_path / "a.txt").write_text(f"{first}\n" * 6000)
    (tmp_path / "b.txt").write_text(f"{last}\n" * 3000)
    settings = VocabularyConfig(tokenizer_type="BERT")
    _, _, notes = build_vocabulary([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "v", "x", settings)
    assert any("が becomes か" in note for note in notes)


@pytest.mark.parametrize(
    "settings, name, words",
    [
        (VocabularyConfig(vocab_size=9000), "x", "the text allows only"),
        (VocabularyConfig(vocab_size=100), "x", "at least 261"),
        (VocabularyConfig(tokenizer_type="BERT", vocab_size=8), "x", "single characters"),
        (VocabularyConfig(vocab_size=400), "a/b", "model_name"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(settings, name, words, corpus, tmp_path):
    with pytest.raises(InputError, match=words):
        build_vocabulary(corpus, tmp_path / "v", name, settings)
    assert not (tmp_path / "v").exists()


def test_accents_are_not_dropped_from_bytes():
    with pytest.raises(InputError, match="strip_accents: BPE keeps every byte"):
        VocabularyConfig(vocab_size=400, strip_accents=True)


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
def test_white_space_alone_is_no_text(kind, tmp_path):
    (tmp_path / "blank.txt").write_text(" \n\t\n\n" * 100)
    with pytest.raises(InputError, match="blank.txt: nothing but white space"):
        build_vocabulary(tmp_path / "blank.txt", tmp_path / "v", "x", VocabularyConfig(tokenizer_type=kind))
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("kilobytes", [60, 200])
@pytest.mark.parametrize("kind", ["BPE", "BERT"])
def test_a_size_that_nobody_named_is_what_little_text_gives(kind, kilobytes, tmp_path):
    rng = np.random.default_rng(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    text, size = [], 0
    while size < kilobytes * 1000:
        text.append(" ".join("".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(12)))
        size += len(text[-1]) + 1
    (tmp_path / "t.txt").write_text("\n".join(text))
    vocabulary, _, notes = build_vocabulary(
        tmp_path / "t.txt", tmp_path / "v", "x", VocabularyConfig(tokenizer_type=kind)
    )
    assert vocabulary.size < 10_000
    assert any(f"{vocabulary.size:,} tokens, not the usual 10,000" in note for note in notes)
    with pytest.raises(InputError, match="the text allows only"):
        build_vocabulary(
            tmp_path / "t.txt", tmp_path / "w", "x", VocabularyConfig(tokenizer_type=kind, vocab_size=10_000)
        )


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
def test_a_preview_can_be_read_in_every_script(kind, tmp_path):
    words = ["größer", "книга", "हिन्दी", "กขค", "漢字"]
    (tmp_path / "t.txt").write_text(" ".join(words) + "\n" + "plain words\n" * 9, encoding="utf-8")
    settings = VocabularyConfig(tokenizer_type=kind, vocab_size=None, strip_accents=None, min_fre=1)
    made, _, _ = build_vocabulary(tmp_path / "t.txt", tmp_path, "x", settings)
    lines = (tmp_path / f"x {kind} vocab.preview.txt").read_text(encoding="utf-8").splitlines()[1:]
    pieces_V = Pieces(made)
    for number, (line, token) in enumerate(zip(lines, made.tokens_V, strict=True)):
        text = pieces_V[number].strip()
        assert f"{number:6}  {token}  " in line
        assert "\ufffd" in text or not text.isprintable() or text in line
        assert not token.isascii() or line.startswith(f"{number:6}  {token}  seen")
