"""Tokens as people read them. Run: pytest tests/text/test_pieces.py"""

from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import assemble
from span_electra.text.word_starts import byte_letters


def test_byte_level_tokens_are_read_as_text():
    letters = byte_letters()
    spelt = ["".join(letters[byte] for byte in text) for text in (b" caf\xc3\xa9", b"\xc3", b"<b>")]
    special = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]
    pieces_V = Pieces(assemble("BPE", {token: number for number, token in enumerate(special + spelt)}))
    assert [pieces_V[number] for number in (5, 6, 7, 3)] == [" café", "\ufffd", "<b>", " [MASK]"]
    assert pieces_V[8] == "\ufffd", "a table may have more rows than the vocabulary"
