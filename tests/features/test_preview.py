"""The page about a feature file says what it should, and obeys no control character of the text.

Run: pytest tests/features/test_preview.py
"""

from feature_examples import SPECIAL, VOCABULARY, build, make

from span_electra.features.preview import describe
from span_electra.text.added_tokens import add_tokens
from span_electra.text.vocabulary import assemble
from span_electra.text.word_starts import byte_letters


def test_the_page_shows_settings_histogram_and_hidden_words(tmp_path):
    make(tmp_path / "f.arrow")
    page, coloured = describe(tmp_path / "f.arrow", colour=False), describe(tmp_path / "f.arrow", colour=True)
    for words in ("ratio 0.2", "row lengths:", "hidden, mean span", "row 0 (", "text.txt", "[[", "[CLS]"):
        assert words in page
    assert VOCABULARY.sha256[:12] in page
    assert "\033[1;30;43m" in coloured and "\033" not in page


def test_the_histogram_counts_every_row(tmp_path):
    written = make(tmp_path / "f.arrow", rows=60)
    page = describe(tmp_path / "f.arrow", colour=False)
    bars = page.split("full\n")[1].split("\n\n")[0].splitlines()
    assert sum(int(bar.split()[-1].replace(",", "")) for bar in bars) == len(written)


def test_rows_are_shown_as_people_write_them(tmp_path):
    """Added tokens of a byte-level vocabulary too, which are not spelt as bytes; a tab is not obeyed."""
    (tmp_path / "words.txt").write_text("Grüße\nпривет\n", encoding="utf-8")
    plain = assemble("BPE", {token: number for number, token in enumerate(SPECIAL + byte_letters())})
    (tmp_path / "a.txt").write_text("Grüße an привет,\t我 é\n", encoding="utf-8")
    vocabulary = add_tokens(plain, tmp_path / "words.txt")
    build(tmp_path / "a.txt", vocabulary, tmp_path / "f.arrow")
    page = describe(tmp_path / "f.arrow", colour=False).replace("[[", "").replace("]]", "")
    # The vocabulary puts a blank before what follows an added token, as before a line.
    assert "[CLS]Grüße an привет ,\\t我 é [SEP]" in page
