"""The joint model: what flows where, what is shared, what is counted.

Run: pytest tests/model/test_electra.py
"""

import dataclasses
import io

import pytest
import torch
import torch.nn.functional as F
from model_examples import MASK, VOCAB, batch_of, slot_logits, small_config
from safetensors.torch import load_model, save_model
from torch.utils._python_dispatch import TorchDispatchMode

from span_electra.config import NetworkConfig
from span_electra.model.batch import TALLY
from span_electra.model.corruption import corrupt, mask_tokens
from span_electra.model.electra import SpanElectra
from span_electra.random_keys import subkey

EVERYTHING = {"use_SBGO": True, "use_SBPO": True, "average_span_predictions": True}


pytestmark = pytest.mark.usefixtures("architecture")


def model_of(**changes):
    return SpanElectra(small_config(**changes), mask_id=MASK)


def tally_of(output):
    return dict(zip(TALLY, output.tally.tolist(), strict=True))


def touched(model):
    """Names of the parameters that a gradient other than zero has reached."""
    return {
        name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()
    }


def test_discriminator_loss_sends_no_gradient_into_the_generator():
    model, masked = model_of(embedding_sharing="none", generator_weight=0.0), batch_of()
    generated = model.generate(masked)
    assert not generated.scores.loss_S.requires_grad
    corrupted = corrupt(masked, generated.scores.sampled_S)
    model.losses(masked, generated, corrupted, model.discriminate(masked, corrupted)).loss.backward()
    assert touched(model) and all(name.startswith("discriminator.") for name in touched(model))


def test_every_trained_parameter_learns_and_span_losses_are_optimised():
    model = model_of(**EVERYTHING)
    model(batch_of()).loss.backward()
    silent = {name for name, _ in model.named_parameters()} - touched(model)
    # Softmax does not change when all keys shift alike: a key's bias has no gradient but for rounding.
    assert not {name for name in silent if not name.endswith("qkv.bias")}
    model = model_of(**EVERYTHING, generator_weight=0.0, discriminator_weight=0.0)
    model(batch_of()).loss.backward()
    names = touched(model)
    assert any("generator.span_head" in name for name in names)
    assert any("discriminator.span_head" in name for name in names)
    assert not any(".head." in name for name in names)


def test_loss_is_the_weighted_sum_of_means():
    model = model_of(**EVERYTHING, generator_weight=2.0, discriminator_weight=30.0, span_boundary_weight=0.7)
    output = model(batch_of())
    tally = tally_of(output)
    spans = 0.7 * (tally["SBGO_loss"] + tally["SBPO_loss"]) / tally["masked"]
    own = 2 * tally["generator_loss"] / tally["masked"] + 30 * tally["discriminator_loss"] / tally["tokens"]
    assert output.loss.item() == pytest.approx(own + spans, rel=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_tally_counts_what_its_names_say(padded):
    model, masked = model_of(), batch_of(padded=padded)
    tally, predictions = tally_of(model(masked)), model.predict(masked)
    hidden = masked.slot_weight_S > 0
    slots, flat = masked.slots_S[hidden], masked.original_BL.flatten()
    attention_mask_BL = (
        torch.ones_like(masked.original_BL, dtype=torch.bool) if not padded else masked.attention_mask_BL
    )
    likeliest_S, probability = (
        model.generate(masked).scores.likeliest_S,
        predictions.generator_probability_S[hidden],
    )
    assert tally["tokens"] == attention_mask_BL.sum() == masked.token_total
    assert tally["masked"] == len(slots) == masked.masked_total
    assert tally["generator_loss"] == pytest.approx(-probability.log().sum().item(), rel=1e-4)
    assert tally["generator_correct"] == (likeliest_S[hidden] == flat[slots]).sum()
    replaced_BL, said_BL = predictions.replaced_BL, predictions.replaced_probability_BL > 0.5
    assert tally["replaced"] == replaced_BL.sum() == (predictions.corrupted_BL != masked.original_BL).sum()
    assert tally["flagged"] == (said_BL & attention_mask_BL).sum()
    assert tally["hits"] == (said_BL & replaced_BL).sum()
    right_BL = torch.where(
        replaced_BL, predictions.replaced_probability_BL, 1 - predictions.replaced_probability_BL
    )
    assert tally["discriminator_loss"] == pytest.approx(
        -right_BL.log()[attention_mask_BL].sum().item(), rel=1e-4
    )


def test_halves_of_a_batch_add_up_to_the_whole():
    model, whole = model_of(**EVERYTHING), batch_of(rows=4, fill=0)
    parts = []
    for start in (0, 2):
        half = {name: value for name, value in vars(whole).items()}
        for name in ("original_BL", "rows_B"):
            half[name] = half[name][start : start + 2]
        for name in (name for name in half if name.endswith("_S")):
            half[name] = half[name][start * 3 : start * 3 + 6]
        for name in ("slots_S", "left_S", "right_S"):
            half[name] = half[name] - start * 16
        parts.append(model(dataclasses.replace(whole, **half)))
    output = model(whole)
    assert torch.allclose(parts[0].loss + parts[1].loss, output.loss, rtol=1e-6)
    assert torch.allclose(parts[0].tally + parts[1].tally, output.tally, rtol=1e-5)


def test_filling_slots_and_other_rows_change_nothing():
    model = model_of(**EVERYTHING)
    few, many = model(batch_of(fill=0, seed=4)), batch_of(fill=0, seed=4)
    nothing = torch.zeros(9, dtype=torch.long)
    longer = {name: torch.cat([getattr(many, name), nothing]) for name in ("slots_S", "left_S", "right_S")}
    longer["offset_S"] = torch.cat([many.offset_S, nothing])
    longer["slot_weight_S"] = torch.cat([many.slot_weight_S, nothing.float()])
    longer["uniform_S"] = torch.cat([many.uniform_S, torch.rand(9)])
    output = model(dataclasses.replace(many, **longer))
    assert torch.allclose(output.loss, few.loss, rtol=1e-6)
    assert torch.allclose(output.tally, few.tally, rtol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_rows_of_padding_alone_change_nothing(precision):
    """Batches of static shapes are filled up with them."""
    model, few = model_of(**EVERYTHING, local_attention=4), batch_of(padded=True)
    filled = dataclasses.replace(
        few,
        original_BL=F.pad(few.original_BL, (0, 0, 0, 3)),
        attention_mask_BL=F.pad(few.attention_mask_BL, (0, 0, 0, 3)),
    )
    found = []
    for masked in (few, filled):
        model.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
            output = model(masked)
        output.loss.backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append([output.loss, output.tally, *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


EQUAL = {"generator": NetworkConfig(16, 2, 4, 24), "discriminator": NetworkConfig(16, 2, 4, 24)}
SHARED = [  # sharing, sizes, objective -> is the embedding block one module, is the encoder
    ("auto", {}, "joint", True, False),
    ("auto", EQUAL, "joint", True, True),
    ("embeddings", EQUAL, "joint", True, False),
    ("gdes", EQUAL, "joint", False, False),
    ("none", EQUAL, "joint", False, False),
    ("auto", EQUAL, "discriminator", False, False),
    ("auto", {}, "generator", True, False),
]


def shared(model):
    one, other = model.generator.encoder, model.discriminator.encoder
    words = [
        getattr(encoder.embeddings, "word", None) or encoder.embeddings.delta.word for encoder in (one, other)
    ]
    return words[0].weight is words[1].weight, one.layers[0].qkv.weight is other.layers[0].qkv.weight


@pytest.mark.parametrize(("sharing", "sizes", "objective", "embeddings", "encoder"), SHARED)
def test_what_is_shared_is_one_tensor_before_and_after_a_save_and_a_load(
    sharing, sizes, objective, embeddings, encoder, tmp_path
):
    settings = {"embedding_sharing": sharing, "objective": objective, **sizes}
    model = model_of(**settings)
    assert shared(model) == (embeddings, encoder)
    save_model(model, tmp_path / "model.safetensors")
    again = SpanElectra(model.config, MASK, seed=1)
    load_model(again, tmp_path / "model.safetensors")
    assert shared(again) == (embeddings, encoder)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    assert shared(again) == (embeddings, encoder)


def test_objective_generator_trains_the_generator_alone():
    model = model_of(objective="generator")
    output = model(batch_of())
    output.loss.backward()
    assert tally_of(output)["discriminator_loss"] == 0
    assert all(name.startswith("generator.") for name in touched(model))
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert not learning - {name for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("sharing", ["auto", "gdes", "none"])
def test_objective_discriminator_keeps_the_generator_as_it_is(sharing):
    model = model_of(objective="discriminator", embedding_sharing=sharing, hidden_dropout_prob=0.3).train()
    masked = batch_of()
    assert not model.generator.training
    generated = model.generate(masked)
    assert generated.scores.loss.grad_fn is None, "no graph is kept for the frozen generator"
    assert torch.equal(generated.scores.loss_S, model.generate(masked).scores.loss_S), "it never drops out"
    model(masked).loss.backward()
    assert all(weight.grad is None for weight in model.generator.parameters())
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert learning == {name for name, weight in model.named_parameters() if weight.grad is not None}


def test_span_predictions_are_averaged_into_drawing():
    model, masked = model_of(**EVERYTHING), batch_of()
    plain = SpanElectra(dataclasses.replace(model.config, average_span_predictions=False), MASK)
    plain.load_state_dict(model.state_dict())
    masked_BL = mask_tokens(masked, MASK)
    own_SV, span_SV = slot_logits(model.generator, masked_BL, masked)
    own, mean = plain.generate(masked).scores, model.generate(masked).scores
    assert torch.equal(own.likeliest_S, own_SV.argmax(-1))
    assert torch.equal(mean.likeliest_S, (own_SV + span_SV).argmax(-1))
    target_S1 = masked.original_BL.flatten()[masked.slots_S][:, None]
    expected_S = ((own_SV + span_SV) / 2).log_softmax(-1).gather(1, target_S1).squeeze(1)
    assert torch.allclose(-mean.loss_S, expected_S, atol=1e-5)
    assert torch.allclose(own.loss, mean.loss, rtol=1e-5), "the head's loss stays its own"


def test_a_verdict_does_not_know_where_masks_are():
    """Two heads that know nothing, of which one speaks at masks alone, must not be told apart by them."""
    model, masked = model_of(**EVERYTHING), batch_of()
    with torch.no_grad():
        for head, said in ((model.discriminator.head, -1.0), (model.discriminator.span_head, 2.0)):
            head.score.weight.zero_()
            head.score.bias.fill_(said)
    assert tally_of(model(masked))["flagged"] == 0
    assert (model.predict(masked).replaced_probability_BL < 0.5).all()


class NoSynchronisation(TorchDispatchMode):
    """Records the operators that make the host wait for the device, or whose shapes depend on values."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "item", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        boolean = name == "index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in self.WAITS or boolean:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("padded", [False, True])
def test_a_step_never_waits_for_the_device(padded):
    model, masked = model_of(**EVERYTHING, hidden_dropout_prob=0.1), batch_of(padded=padded)
    with NoSynchronisation() as counted:
        model(masked).loss.backward()
    assert counted.waits == []
    with NoSynchronisation() as counted:  # the counter itself must see what it looks for
        masked.original_BL[masked.original_BL > 3].sum().item()
    assert counted.waits


# torch's own, while it traces
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("causal", [False, True])
def test_a_step_compiles_without_a_break(causal):
    model, masked = model_of(**EVERYTHING, hidden_dropout_prob=0.1, embedding_sharing="gdes"), batch_of()
    masked = dataclasses.replace(masked, causal=causal, generator_alone=causal)
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # `eager` traces and generates no code
    assert torch.isfinite(compiled(masked).loss)
    torch._dynamo.reset()


def test_dropout_of_a_step_depends_on_its_key_alone():
    model = model_of(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    masked = batch_of()
    first, same, other = (model(masked, subkey(0, step)).loss for step in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    model.eval()
    assert torch.equal(model(masked, 1).loss, model(masked, 2).loss)


def test_first_losses_are_where_ignorance_puts_them():
    """A fresh model knows nothing: the generator is near ln V, the discriminator near ln 2."""
    tally = tally_of(model_of()(batch_of(rows=16)))
    assert tally["generator_loss"] / tally["masked"] == pytest.approx(
        F.cross_entropy(torch.zeros(1, VOCAB), torch.zeros(1, dtype=torch.long)).item(), abs=0.1
    )
    assert tally["discriminator_loss"] / tally["tokens"] == pytest.approx(0.6931, abs=0.02)


def test_an_output_bias_of_frequencies_is_the_entropy_of_the_text():
    model, masked = model_of(), batch_of(rows=64)
    counts_V = torch.bincount(masked.original_BL.flatten(), minlength=VOCAB)[: VOCAB - 5]
    model.init_output_bias(counts_V)
    assert model.generator.head.bias.exp().sum().item() == pytest.approx(1.0, rel=1e-5)
    assert (model.generator.head.bias[VOCAB - 5 :] == model.generator.head.bias[MASK]).all(), "never seen"
    target_S = masked.original_BL.flatten()[masked.slots_S]
    expected = -model.generator.head.bias[target_S].mean().item()
    assert model.generate(masked).scores.loss_S.mean().item() == pytest.approx(expected, abs=0.05)


def test_under_autocast_a_step_is_near_that_of_float32():
    model, masked = model_of(), batch_of()
    plain = model(masked)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = model(masked)
        states_BLD = model.discriminator.encoder(masked.original_BL, None)
    assert narrow.loss.dtype == torch.float32
    assert states_BLD.dtype == torch.bfloat16, "the whole stream is narrow"
    assert torch.allclose(narrow.loss, plain.loss, rtol=0.02)
    narrow.loss.backward()
    assert all(weight.grad.dtype == torch.float32 for weight in model.parameters() if weight.grad is not None)


def test_the_generator_alone_leaves_the_discriminator_without_a_gradient():
    model = model_of(embedding_sharing="none")
    masked = dataclasses.replace(batch_of(), generator_alone=True)
    output = model(masked)
    output.loss.backward()
    assert touched(model) and all(name.startswith("generator.") for name in touched(model))
    assert tally_of(output)["tokens"] == 0
    joint = tally_of(model(batch_of()))
    assert tally_of(output)["generator_loss"] == pytest.approx(joint["generator_loss"], rel=1e-6)


def test_misspelt_tokens_are_to_be_found_and_are_left_as_they_are():
    model, plain = model_of(), batch_of()
    misspelt_BL = torch.zeros_like(plain.original_BL, dtype=torch.bool)
    misspelt_BL[:, 1:3] = True
    masked = dataclasses.replace(plain, misspelt_BL=misspelt_BL)
    wrong_S = misspelt_BL.flatten()[masked.slots_S]
    masked = dataclasses.replace(masked, slot_weight_S=masked.slot_weight_S * ~wrong_S)
    corrupted = corrupt(masked, model.generate(masked).scores.sampled_S)
    assert corrupted.replaced_BL[misspelt_BL].all()
    assert torch.equal(corrupted.ids_BL[misspelt_BL], plain.original_BL[misspelt_BL])
    away_BL = ~misspelt_BL
    differs_BL = corrupted.ids_BL != plain.original_BL
    assert torch.equal(corrupted.replaced_BL[away_BL], differs_BL[away_BL])
