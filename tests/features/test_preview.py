"""The page about a feature file says what it should, and obeys no control character of the text.

Run: pytest tests/features/test_preview.py
"""

from feature_examples import VOCABULARY, make

from span_electra.features.preview import describe


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
