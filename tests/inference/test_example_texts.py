"""Texts to try a model on. Run: pytest tests/inference/test_example_texts.py"""

import json

import pytest
from network_examples import vocabulary_of_words
from predictor_examples import finetuned

from span_electra.data_config import VocabularyConfig
from span_electra.inference.example_texts import (
    COUNT,
    LONGEST,
    for_pretrained,
    for_tasks,
    with_mask,
    with_swapped_letters,
)
from span_electra.inference.tasks import TaskPredictor
from span_electra.text.token_spans import read_lines
from span_electra.text.vocabulary_builder import train


def sentence(text, written=None):
    return {"original": [text], "written": [written or text]}


def test_a_run_gives_sentences_of_its_validation(tmp_path):
    entries = [
        sentence(" Она читает книгу", " Она читает дом"),
        sentence("\ufffdб" + "о" * 40),
        sentence("long " * LONGEST),
    ]
    (tmp_path / "examples.json").write_text(json.dumps(entries), encoding="utf-8")
    wanted = ["Она чтиает книгу", "Она [MASK] книгу", "Она читает дом"]
    assert for_pretrained(tmp_path, vocabulary_of_words()) == wanted
    assert for_pretrained(tmp_path / "discriminator", vocabulary_of_words()) == wanted, "an export of the run"


@pytest.mark.parametrize("content", [None, "[", "[3]", "[]"])
def test_without_them_the_vocabularys_words_serve(content, tmp_path):
    if content is not None:
        (tmp_path / "examples.json").write_text(content)
    found = for_pretrained(tmp_path / "run", vocabulary_of_words())
    assert len(found) == COUNT and "[MASK]" in found[1] and {"the", "cats"} <= set(found[2].split())


def test_letters_and_masks_are_put_where_words_are():
    words = vocabulary_of_words()
    assert with_swapped_letters(words, "a (function)!") == "a (fnuction)!"
    assert with_swapped_letters(words, "aaaa bbb 1234") is None
    assert with_mask(words, "12 34 then. 5") == "12 34 [MASK]. 5" and with_mask(words, "1 2") is None


@pytest.mark.parametrize("kind", ["BPE", "BERT"])
@pytest.mark.parametrize("text", ["यह हिन्दी किताब है", "ขอความช่วยเหลือ", "春天河水上涨", "كِتَابٌ جَدِيدٌ هُنَا"])
def test_marks_and_scripts_without_blanks_are_no_end_of_a_word(text, kind):
    settings = VocabularyConfig(tokenizer_type=kind, vocab_size=400, min_fre=1, strip_accents=False)
    vocabulary = train([f"{text}\n".encode() * 3], settings)
    masked = with_mask(vocabulary, text)
    before, after = masked.split("[MASK]")
    hidden = text[len(before) : len(text) - len(after)]
    assert before + hidden + after == text and hidden.strip() == hidden != ""
    words = [line.words for line in read_lines(vocabulary, [text])][0]
    assert hidden in words, "a whole word, with all of its marks"
    swapped = with_swapped_letters(vocabulary, text)
    assert swapped is None or (sorted(swapped) == sorted(text) and swapped != text)


def test_a_fine_tuned_run_gives_rows_of_its_tasks_files(tmp_path):
    (tmp_path / "a.tsv").write_text("1\tyes\tA good film.\n2\tno\tA bad film.\n", encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"data_dir": str(tmp_path)}))
    finetuned(tmp_path, "film")
    predictor = TaskPredictor.from_folder(tmp_path, device="cpu")
    assert for_tasks(tmp_path, predictor) == ["A good film.", "A bad film."]
    (tmp_path / "a.tsv").unlink()
    assert "the" in for_tasks(tmp_path, predictor)[0].split(), "the file is gone"
