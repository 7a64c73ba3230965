"""Heads and losses of fine-tuning: written out, as stock ELECTRA computes them, and in shares.

Run: pytest tests/model/test_multi_task.py

Shapes are in the names: B rows, L tokens, C classes, V vocabulary, N targets, G candidates.
"""

import warnings
from dataclasses import replace

import pytest
import torch
from model_examples import CLS, PAD, SEP, VOCAB, small_config

from span_electra.model.multi_task import HEAD_KINDS, IGNORED, HeadConfig, TaskBatch, TaskNetwork

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers  # its import warns of things that are not ours

OUTPUTS = {"sequence": 3, "several": 4, "tokens": 5, "language": 0, "similarity": 0}
KINDS = tuple(HEAD_KINDS)
HEADS = tuple(HeadConfig(kind, OUTPUTS.get(kind, 1), dropout=0.0) for kind in KINDS)
CANDIDATES = 3
BY_TOKENS = ("tokens", "replaced", "language")


def network_of(heads=HEADS, seed=0, **changes):
    """A network whose every weight is away from its start, as after training."""
    network = TaskNetwork(small_config(**changes), heads, seed)
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=dice) * 0.2)
    return network


def targets_of(kind, rows, length, attention_mask_BL, dice):
    """Targets of the kind; a third of a token task's have no label."""
    if kind == "sequence":
        return torch.randint(0, 3, (rows,), generator=dice)
    if kind == "several":
        return torch.randint(0, 2, (rows, 4), generator=dice).float()
    if kind == "number":
        return torch.randn(rows, generator=dice)
    if kind == "ranking":
        return torch.zeros(rows // CANDIDATES, dtype=torch.long)
    if kind == "similarity":
        return torch.zeros(rows // 2, dtype=torch.long)
    top = {"tokens": 5, "replaced": 2, "language": VOCAB}[kind]
    targets_BL = torch.randint(0, top, (rows, length), generator=dice)
    hidden_BL = torch.rand(rows, length, generator=dice) < 1 / 3
    return targets_BL.masked_fill(hidden_BL | ~attention_mask_BL, IGNORED)


def batch_of(kind, rows=6, length=9, seed=0):
    """Padded pairs of a task in HEADS; row r ends r % 4 tokens early."""
    dice = torch.Generator().manual_seed(seed)
    ids_BL = torch.randint(5, VOCAB, (rows, length), generator=dice)
    ends_B = length - torch.arange(rows) % 4
    place_L = torch.arange(length)
    attention_mask_BL = place_L < ends_B[:, None]
    ids_BL[:, 0] = CLS
    ids_BL[(place_L == ends_B[:, None] - 1) | (place_L == 3)] = SEP
    ids_BL[~attention_mask_BL] = PAD
    targets = targets_of(kind, rows, length, attention_mask_BL, dice)
    return TaskBatch(
        task=KINDS.index(kind),
        ids_BL=ids_BL,
        types_BL=((place_L > 3) & attention_mask_BL).long(),
        attention_mask_BL=attention_mask_BL,
        targets=targets,
        target_total=(targets != IGNORED).sum().float() if kind in BY_TOKENS else torch.tensor(len(targets)),
        rows_B=torch.arange(rows),
    )


# --- losses -------------------------------------------------------------------------------------------


def written_out(kind, logits, targets):
    """The mean loss, target by target."""
    if kind == "number":
        losses = [(logit[0] - target) ** 2 for logit, target in zip(logits, targets, strict=True)]
    elif kind == "several":
        chances = logits.sigmoid()
        losses = list(-(targets * chances.log() + (1 - targets) * (1 - chances).log()).mean(-1))
    elif kind == "ranking":
        losses = [-group.log_softmax(0)[0] for group in logits.flatten().split(CANDIDATES)]
    elif kind == "similarity":  # each finds its partner among all, either way
        cosines = logits[0::2] @ logits[1::2].T / 0.05
        ways = [(row, number) for table in (cosines, cosines.T) for number, row in enumerate(table)]
        losses = [-row.log_softmax(0)[number] for row, number in ways]
    else:
        pairs = [
            (logit, target)
            for logit, target in zip(logits.flatten(0, targets.dim() - 1), targets.flatten(), strict=True)
            if target != IGNORED
        ]
        if kind == "replaced":
            losses = [-(logit if target else -logit).sigmoid().log() for logit, target in pairs]
        else:
            losses = [-logit.log_softmax(0)[target] for logit, target in pairs]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_mean_over_targets_times_the_weight(kind):
    batch = batch_of(kind)
    heads = tuple(replace(head, weight=0.5) for head in HEADS)
    network = network_of(heads).eval()
    expected = written_out(kind, network.logits(batch), batch.targets)
    out = network(batch)
    assert torch.allclose(out.loss, 0.5 * expected, rtol=1e-5)
    counted = len(batch.targets) if kind not in BY_TOKENS else int((batch.targets != IGNORED).sum())
    told = out.tally.new_zeros(1 + 2 * len(KINDS))
    told[0] = batch.attention_mask_BL.sum()
    told[1 + 2 * batch.task], told[2 + 2 * batch.task] = expected.detach() * counted, counted
    assert torch.allclose(out.tally, told, rtol=1e-5)


@pytest.mark.parametrize("kind", BY_TOKENS)
def test_a_token_without_target_sends_no_gradient(kind):
    batch, network = batch_of(kind), network_of()
    states_BLD = network.states(batch)
    network.states = lambda *_: states_BLD
    (gradient_BLD,) = torch.autograd.grad(network(batch).loss, states_BLD)
    assert torch.equal((gradient_BLD != 0).any(-1), batch.targets != IGNORED)


# But for similarity, whose rows are told from the others of their share.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "similarity"])
def test_shares_add_up_to_the_whole_with_its_gradients(kind):
    batch, network = batch_of(kind), network_of()

    def share(rows, targets):
        cut = {
            name: getattr(batch, name)[rows] for name in ("ids_BL", "types_BL", "attention_mask_BL", "rows_B")
        }
        return replace(batch, targets=batch.targets[targets], **cut)

    first = 1 if kind == "ranking" else CANDIDATES  # targets of the first three rows
    shares = [
        share(slice(CANDIDATES), slice(first)),
        share(slice(CANDIDATES, None), slice(first, None)),
        share(slice(0), slice(0)),
    ]
    whole, *outs = (network(one) for one in (batch, *shares))
    assert torch.allclose(sum(out.loss for out in outs), whole.loss, rtol=1e-5)
    assert torch.allclose(sum(out.tally for out in outs), whole.tally, rtol=1e-5)
    learning = [*network.encoder.parameters(), *network.heads[batch.task].parameters()]
    at_once = torch.autograd.grad(whole.loss, learning)
    in_parts = [torch.autograd.grad(out.loss, learning) for out in outs]
    for together, *parts in zip(at_once, *in_parts, strict=True):
        assert torch.allclose(sum(parts), together, atol=1e-6), "the parts' gradients must add up"
        assert (parts[-1] == 0).all(), "an empty share has no gradient, and no NaN"
    assert outs[-1].loss == 0 and outs[-1].tally.sum() == 0


def test_vectors_have_length_1_and_padding_no_part_in_them():
    batch, network = batch_of("similarity"), network_of().eval()
    vectors_BD = network.logits(batch)
    assert torch.allclose(vectors_BD.norm(dim=-1), torch.ones(6))
    for row, length in enumerate(batch.attention_mask_BL.sum(1).tolist()):
        cut = {name: getattr(batch, name)[row : row + 1, :length] for name in ("ids_BL", "types_BL")}
        alone = network.logits(replace(batch, attention_mask_BL=None, **cut))
        assert torch.allclose(alone[0], vectors_BD[row], atol=1e-5)


def test_a_share_without_rows_has_no_similarity_to_learn():
    batch, network = batch_of("similarity"), network_of()
    cut = {name: getattr(batch, name)[:0] for name in ("ids_BL", "types_BL", "attention_mask_BL", "targets")}
    network(replace(batch, **cut)).loss.backward()
    assert all((weight.grad == 0).all() for weight in network.parameters() if weight.grad is not None)


def test_a_batch_without_any_target_has_loss_0():
    batch = batch_of("tokens")
    empty = replace(batch, targets=torch.full_like(batch.targets, IGNORED), target_total=torch.tensor(0.0))
    out = network_of()(empty)
    assert out.loss == 0 and out.tally[0] == batch.attention_mask_BL.sum() and out.tally[1:].sum() == 0


# --- as transformers ----------------------------------------------------------------------------------


STOCK = {
    "sequence": ("ElectraForSequenceClassification", "single_label_classification"),
    "several": ("ElectraForSequenceClassification", "multi_label_classification"),
    "number": ("ElectraForSequenceClassification", "regression"),
    "tokens": ("ElectraForTokenClassification", None),
    "replaced": ("ElectraForPreTraining", None),
    "language": ("ElectraForCausalLM", None),
}


def stock_of(network, task):
    """The stock class with the network's weights, written by hand to be independent of the export."""
    head, config = network.tasks[task], network.config
    name, problem = STOCK[head.kind]
    sizes = config.discriminator
    stock = getattr(transformers, name)(
        transformers.ElectraConfig(
            vocab_size=config.vocab_size, embedding_size=config.embedding_size,
            max_position_embeddings=config.max_position_embeddings, hidden_size=sizes.hidden_size,
            num_hidden_layers=sizes.num_hidden_layers, num_attention_heads=sizes.num_attention_heads,
            intermediate_size=sizes.intermediate_size, num_labels=max(1, head.outputs), problem_type=problem,
            is_decoder=head.kind == "language", pad_token_id=PAD,
        )
    )  # fmt: skip
    encoder, pairs = network.encoder, {}
    tables = stock.electra.embeddings
    pairs[tables.word_embeddings] = encoder.embeddings.word
    pairs[tables.position_embeddings] = encoder.embeddings.position
    pairs[tables.token_type_embeddings] = encoder.embeddings.token_type
    pairs |= {tables.LayerNorm: encoder.embeddings.norm, stock.electra.embeddings_project: encoder.project}
    for theirs, ours in zip(stock.electra.encoder.layer, encoder.layers, strict=True):
        pairs |= {theirs.attention.output.dense: ours.mix, theirs.attention.output.LayerNorm: ours.mix_norm}
        pairs |= {theirs.intermediate.dense: ours.up, theirs.output.dense: ours.down}
        pairs[theirs.output.LayerNorm] = ours.down_norm
        theirs = theirs.attention.self
        for number, module in enumerate((theirs.query, theirs.key, theirs.value)):
            module.weight.data = ours.qkv.weight.data.chunk(3)[number]
            module.bias.data = ours.qkv.bias.data.chunk(3)[number]
    ours = network.heads[task]
    if head.kind == "tokens":
        pairs[stock.classifier] = ours.score
    elif head.kind == "replaced":
        theirs = stock.discriminator_predictions
        pairs |= {theirs.dense: ours.dense, theirs.dense_prediction: ours.score}
    elif head.kind == "language":
        theirs = stock.generator_predictions
        pairs |= {theirs.dense: ours.dense, theirs.LayerNorm: ours.norm}
        stock.generator_lm_head.weight = encoder.embeddings.word.weight
        stock.generator_lm_head.bias = ours.bias
    else:
        pairs |= {stock.classifier.dense: ours.dense, stock.classifier.out_proj: ours.score}
    for theirs, module in pairs.items():
        theirs.load_state_dict(module.state_dict())
    return stock.eval()


def asked(batch):
    return {"attention_mask": batch.attention_mask_BL.long(), "token_type_ids": batch.types_BL}


@pytest.mark.parametrize("kind", STOCK)
@torch.no_grad()
def test_hidden_states_and_loss_are_those_of_the_stock_class(kind):
    batch, network = batch_of(kind), network_of().eval()
    if kind == "language":  # the stock class shifts the labels itself
        batch = replace(batch, targets=torch.full_like(batch.ids_BL, IGNORED))
        batch.targets[:, :-1] = batch.ids_BL[:, 1:].masked_fill(~batch.attention_mask_BL[:, 1:], IGNORED)
        batch = replace(batch, target_total=(batch.targets != IGNORED).sum().float())
    labels = batch.targets
    if kind == "language":
        labels = batch.ids_BL.masked_fill(~batch.attention_mask_BL, IGNORED)
    if kind == "replaced":  # the stock class leaves out padding alone
        labels = batch.targets.clamp(min=0)
        batch = replace(batch, targets=labels.masked_fill(~batch.attention_mask_BL, IGNORED))
        batch = replace(batch, target_total=batch.attention_mask_BL.sum().float())
    stock = stock_of(network, batch.task)
    states_BLD = network.states(batch)
    theirs_BLD = stock.electra(batch.ids_BL, **asked(batch)).last_hidden_state
    assert (states_BLD - theirs_BLD)[batch.attention_mask_BL].abs().max() <= 1e-5
    told = stock(batch.ids_BL, labels=labels, **asked(batch))
    assert torch.allclose(network(batch).loss, told.loss, rtol=1e-4)
    ours, theirs = network.logits(batch), told.logits
    real = batch.attention_mask_BL if kind in BY_TOKENS else slice(None)
    assert (ours - theirs)[real].abs().max() <= 1e-5


# --- the encoder under heads ----------------------------------------------------------------------------


def test_without_gradients_the_logits_of_a_language_task_are_made_some_at_a_time(monkeypatch):
    network, batch, made = network_of(), batch_of("language"), []
    whole_N = network.losses(batch)
    monkeypatch.setattr("span_electra.model.multi_task.chunk_size", lambda *_: 4)
    answer = network.answer
    monkeypatch.setattr(
        network, "answer", lambda task, states, key=None: made.append(len(states)) or answer(task, states)
    )
    assert torch.equal(network.losses(batch), whole_N) and made == [len(whole_N)]
    with torch.no_grad():
        assert torch.allclose(network.losses(batch), whole_N, atol=1e-5)
    assert max(made[1:]) == 4 and sum(made[1:]) == len(whole_N)


def test_only_a_language_task_looks_back_alone():
    network = network_of().eval()
    for kind in KINDS:
        batch = batch_of(kind)
        changed = replace(batch, ids_BL=batch.ids_BL.clone())
        changed.ids_BL[:, 5] = 7
        before, after = network.states(batch), network.states(changed)
        assert torch.equal(before[:, :5], after[:, :5]) == (kind == "language"), kind
        assert not torch.equal(before[:, 5], after[:, 5])


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_by_key_is_repeatable_and_off_in_evaluation(kind):
    heads = tuple(replace(head, dropout=0.1) for head in HEADS)
    network = network_of(heads, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    batch = batch_of(kind)
    once, again, other = (network(batch, key).loss for key in (5, 5, 6))
    assert torch.equal(once, again) and not torch.equal(once, other)
    network.eval()
    assert torch.equal(network(batch, 5).loss, network(batch, 6).loss)


def test_the_heads_own_dropout_is_used():
    heads = tuple(replace(head, dropout=0.5) for head in HEADS)
    plain, dropping = network_of(), network_of(heads)
    for kind in KINDS:
        same = torch.equal(plain(batch_of(kind), 5).loss, dropping(batch_of(kind), 5).loss)
        assert same == (kind in ("replaced", "language", "similarity")), f"{kind}: no head of its own"


def test_a_seed_decides_the_start_of_encoder_and_heads():
    one, same, other = (TaskNetwork(small_config(), HEADS, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    matrices = [name for name in one if one[name].dim() > 1]
    assert not any(torch.equal(one[name], other[name]) for name in matrices)
    local = TaskNetwork(small_config(initialization="local", embedding_size=16), HEADS, 1)
    assert not torch.equal(local.encoder.layers[0].qkv.weight, one["encoder.layers.0.qkv.weight"])
