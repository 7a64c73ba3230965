"""The model card: what is given stands in it, and it stays a well-formed page.

Run: pytest tests/hub/test_model_card.py
"""

from span_electra.hub.model_card import flatten, render_card


def test_every_value_stands_in_the_card():
    card = {"data": {"sources": {"a|b.txt": 12}, "rows": 3}, "metrics": {"discriminator_f1": 0.512345678}}
    text = render_card("generator", card, span_head=True)
    for piece in ("a\\|b.txt | 12", "| rows | 3 |", "| discriminator_f1 | 0.512346 |", "SBGO", "fill-mask"):
        assert piece in text, piece
    assert text.startswith("---\n") and text.count("\n---\n") == 1
    assert "SBPO" not in text


def test_the_two_networks_say_which_they_are():
    pages = {part: render_card(part, {}, False) for part in ("generator", "discriminator")}
    assert "ElectraForPreTraining" in pages["discriminator"]
    assert "pipeline_tag" not in pages["discriminator"]
    assert all("span_heads" not in page for page in pages.values())


def test_flatten_joins_nested_keys():
    assert flatten({"a": {"b": 1, "d": {}}, "c": 2}) == [("a.b", 1), ("a.d", {}), ("c", 2)]
