"""Laws of the example sentences: they say of each token what the model saw and said.

Run: pytest tests/report/test_examples.py
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from feature_examples import VOCABULARY
from model_examples import MASK, batch_of, small_config
from report_examples import EXAMPLE

from span_electra.model.electra import SpanElectra
from span_electra.report.examples import (
    MOST_TOKENS,
    as_markdown,
    collect_examples,
    record,
    sentences,
    verdicts,
    write_examples,
)
from span_electra.text.pieces import Pieces
from span_electra.text.vocabulary import assemble
from span_electra.text.word_starts import byte_letters


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SpanElectra(small_config(vocab_size=VOCABULARY.size), MASK)


def batch(**settings):
    made = batch_of(**settings)
    return replace(
        made, original_BL=torch.where(made.original_BL > 4, made.original_BL % 90 + 5, made.original_BL)
    )


def test_the_sentences_are_what_the_model_saw_and_said(model):
    masked = batch(rows=4, length=20, padded=True)
    found = collect_examples(model, masked, VOCABULARY)
    model.eval()
    predicted, pieces_V = model.predict(masked), Pieces(VOCABULARY)
    model.train()
    assert [example["row"] for example in found] == [0, 1, 2, 3]
    for row, example in enumerate(found):
        width = len(example["original"])
        content = slice(1, 1 + width)
        assert width == 18 - row, "the whole content, without [CLS], [SEP] and [PAD]"
        for name, ids_BL in (("original", masked.original_BL), ("written", predicted.corrupted_BL)):
            assert example[name] == pieces_V.texts(ids_BL[row, content].tolist())
        assert np.flatnonzero(example["masked"]).tolist() == [
            1,
            2,
            3,
        ]  # the span at token 2, counted from [CLS]
        said = predicted.replaced_probability_BL[row, content].tolist()
        assert example["probability"] == pytest.approx(said, abs=1e-4)
        given = predicted.generator_probability_S[3 * row : 3 * row + 3].tolist()
        assert example["generator_probability"][1:4] == pytest.approx(given, abs=1e-4)
        assert example["generator_probability"][0] is None
        assert example["replaced"] == [a != b for a, b in zip(
            masked.original_BL[row, content], predicted.corrupted_BL[row, content], strict=True)]  # fmt: skip


def test_the_model_is_left_as_it_was_and_the_json_is_plain(model, tmp_path):
    model.train()
    found = collect_examples(model, batch(), VOCABULARY, count=2)
    assert model.training and model.discriminator.training and len(found) == 2
    write_examples(tmp_path, found)
    assert json.loads((tmp_path / "examples.json").read_text()) == found


def test_long_rows_are_cut_into_sentences_with_hidden_tokens(model):
    longer = SpanElectra(small_config(vocab_size=VOCABULARY.size, max_position_embeddings=200), MASK)
    found = collect_examples(longer, batch(rows=2, length=180), VOCABULARY, count=12)
    assert len(found) == 2 and all(
        len(example["original"]) == 60 and any(example["masked"]) for example in found
    )


def test_a_batch_of_no_rows_gives_no_sentences(model):
    assert collect_examples(model, replace(batch(), rows_B=torch.empty(0)), VOCABULARY) == []


def test_verdicts_tell_hits_misses_and_false_alarms():
    tokens = verdicts(EXAMPLE)
    assert [token["verdict"] for token in tokens] == ["none", "hit", "none", "miss", "false-alarm"]
    assert [token["level"] for token in tokens] == [0, 9, 1, 3, 7]
    assert tokens[1]["note"] == "probability of being replaced 93%; was “cat”, which the generator gave 11.0%"


def test_sentences_as_text_for_a_log():
    told = (
        "row 7\n\n- original: the cat sat down.\n- masked: the ▁ ▁ ▁.\n- written: the **dog** sat **up**.\n"
    )
    assert as_markdown([EXAMPLE], with_verdicts=False) == told
    assert as_markdown([EXAMPLE], with_verdicts=True) == f"{told}- called replaced: dog 93%, . 71%\n"
    assert as_markdown([], with_verdicts=True) == ""


def test_sound_text_is_shown_without_broken_characters():
    """Characters of several tokens are written whole, and no sentence begins or ends within one."""
    letters = [*("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"), *byte_letters()]
    pieces_V = Pieces(assemble("BPE", {token: number for number, token in enumerate(letters)}))
    text = "春天河水上涨。没有人知道！قال نعم؟ यह है। " * 3
    ids_L = np.array([0, *(5 + byte for byte in text.encode()), 1])
    parts = list(sentences(ids_L, len(ids_L) - 1, pieces_V))
    shown = ["".join(pieces_V.texts(ids_L[part].tolist())) for part in parts]
    assert text.startswith("".join(shown)) and len(parts) > 6
    assert all(part.stop - part.start < MOST_TOKENS + 3 for part in parts)
    for mark in "。！؟।":
        assert any(one.rstrip().endswith(mark) for one in shown)
    arrays = {name: ids_L[None] for name in ("original", "written", "masked", "replaced", "probability")}
    told = record(arrays | {"generator_probability": ids_L[None] * 1.0}, 0, 0, parts[0], pieces_V)
    assert "".join(told["original"]) == "".join(told["written"]) == shown[0]
