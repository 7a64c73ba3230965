"""The model card: hubs read its top, people the rest, and no path of this machine stands in it.

Run: pytest tests/hub/test_model_card.py
"""

from dataclasses import replace

import pytest
import yaml
from model_examples import small_config

from span_electra.errors import InputError
from span_electra.hub.electra import ELECTRA
from span_electra.hub.model_card import (
    CardFacts,
    check_facts,
    checkpoint_facts,
    model_name,
    own_metrics,
    render_card,
)
from span_electra.hub.modernbert import MODERN

FACTS = CardFacts(
    license="apache-2.0",
    language=["en", "de"],
    datasets=["me/text"],
    base_model="me/base",
    metrics={"discriminator_f1": 0.512345678},
    sections={"data": {"sources": {"a|b.txt": 12}, "rows": 3}},
)
META = {
    "step": 1200,
    "vocabulary_sha256": "63b3d5",
    "order": {"rows": 309_837},
    "loop": {
        **{"step": 1200, "tokens": 4_915_200.0, "samples": 38_400},
        **{"valid": {"generator_accuracy": 0.25}, "valid_step": 1200, "metric": 0.25},
    },
    "files": {"model.safetensors": {"bytes": 12, "sha256": "65129b"}},
    "optimizer": {"lr": 0.003, "generator_lr": None},
}


def card_of(part, record=ELECTRA, facts=FACTS, **more):
    return render_card(part, record, facts, **{"config": small_config(), **more})


def front_of(text):
    assert text.startswith("---\n") and text.count("\n---\n") == 1
    return yaml.safe_load(text.split("---\n")[1])


def test_the_top_is_what_hubs_read():
    front = front_of(card_of("generator"))
    assert front["license"] == "apache-2.0" and front["language"] == ["en", "de"]
    assert front["library_name"] == "transformers" and front["pipeline_tag"] == "fill-mask"
    assert front["tags"] == ["electra", "span-electra"] and front["base_model"] == "me/base"
    result = front["model-index"][0]["results"][0]
    assert result["metrics"] == [{"type": "discriminator_f1", "value": 0.512346}]
    assert result["task"]["type"] == "fill-mask" and result["dataset"]["type"] == "held-out"


def test_a_hub_library_takes_it():
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(card_of("generator"))
    assert card.data.license == "apache-2.0" and card.data.eval_results[0].metric_value == 0.512346


def test_what_is_not_known_is_left_out():
    front = front_of(card_of("discriminator", facts=CardFacts()))
    assert set(front) == {"library_name", "tags"}


def test_every_value_stands_in_the_card():
    text = card_of("generator", span_head=True)
    pieces = (
        "a\\|b.txt | 12",
        "| rows | 3 |",
        "| discriminator_f1 | 0.512346 |",
        "SBGO",
        "## Sizes",
        "## Limits",
    )
    for piece in (*pieces, "| width | 8 |", "| vocabulary | 300 |"):
        assert piece in text, piece
    assert "SBPO" not in text


def test_a_checkpoint_tells_counts_and_hashes_and_no_path():
    facts = checkpoint_facts(META | {"training": {"out_dir": "/home/me"}}, FACTS)
    text = card_of("discriminator", facts=facts)
    for piece in ("4915200", "309837", "63b3d5", "65129b", "| lr | 0.003 |", "generator_accuracy"):
        assert piece in text, piece
    assert "/home" not in text and "generator_lr" not in text and facts.license == "apache-2.0"
    assert checkpoint_facts({}).metrics == {}


def test_metrics_are_those_of_the_very_weights():
    """Between two validations the last one's are of other weights, and no card has them."""
    valid = {"generator_accuracy": 0.25}
    loops = [
        ({"valid_step": 1200, "metric": None}, True),  # the monitored one may be another
        ({"valid_step": 1100, "metric": None}, False),
        ({"valid_step": None, "metric": None}, False),
        ({"metric": 0.25}, True),  # of earlier releases
        ({"metric": None}, False),
    ]
    for told, own in loops:
        meta = META | {"loop": {"step": 1200, "valid": valid, **told}}
        assert own_metrics(meta) == checkpoint_facts(meta).metrics == (valid if own else {}), told
        text = card_of("generator", facts=checkpoint_facts(meta))
        assert ("model-index" in text) == ("## Metrics" in text) == own, told


def test_each_network_says_how_it_is_used():
    pages = {part: card_of(part, facts=CardFacts()) for part in ("generator", "discriminator")}
    assert "ElectraForPreTraining" in pages["discriminator"] and "fill-mask" in pages["generator"]
    assert all("span_heads" not in page for page in pages.values())
    modern = card_of("discriminator", MODERN, CardFacts())
    assert front_of(modern)["pipeline_tag"] == "token-classification"
    assert front_of(modern)["tags"][0] == "modernbert" and "ElectraFor" not in modern


def test_the_code_of_a_card_runs_with_the_vocabularys_own_mask():
    text = card_of("generator", facts=CardFacts(), mask="<mask>")
    assert "fox <mask> over" in text and "fills `<mask>`" in text and "[MASK]" not in text


def test_the_card_tells_the_masks_and_the_objective_of_the_run():
    schedule = ["0: mask_ratio=0.15", "0.5: max_span_len=3"]
    facts = checkpoint_facts(META | {"loader": {"masking_schedule": schedule}})
    text = card_of("generator", facts=facts)
    assert "Pretrained with text hidden by `0: mask_ratio=0.15; 0.5: max_span_len=3` and" in text
    assert "SpanBERT" not in text and "take the discriminator" in text
    text = card_of("generator", facts=CardFacts(), config=small_config(objective="generator"))
    assert "SpanBERT" in text and "detection" not in text and "take the discriminator" not in text


def test_a_model_is_called_as_its_run_without_the_way_there():
    assert model_name("/home/me/runs/first/discriminator") == model_name("runs/first") == "first"
    assert model_name("runs/first/checkpoints/step-00000010") == "first"
    assert model_name("google/electra-small") == "electra-small" and model_name(None) is None


@pytest.mark.parametrize(
    "name, value",
    [
        ("license", "Apache 2.0"),
        ("language", ["en", "German"]),
        ("datasets", ["my text"]),
        ("base_model", "a/b/c"),
    ],
)
def test_what_a_hub_would_refuse_is_refused_by_its_flag(name, value):
    check_facts(FACTS)
    check_facts(CardFacts())
    with pytest.raises(InputError, match=f"--{name} '.*': give .* such as"):
        check_facts(replace(FACTS, **{name: value}))


def test_a_run_of_this_machine_is_named_in_the_text_alone():
    text = card_of("generator", facts=CardFacts(started_from="tiny"))
    assert "base_model" not in front_of(text) and "Started from `tiny`." in text
    assert "Started" not in card_of("generator", facts=CardFacts())


def test_what_is_no_number_is_no_score():
    front = front_of(card_of("generator", facts=CardFacts(metrics={"a": float("nan"), "b": 0.5})))
    assert front["model-index"][0]["results"][0]["metrics"] == [{"type": "b", "value": 0.5}]
