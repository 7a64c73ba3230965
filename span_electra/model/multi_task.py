"""One encoder under many heads: what fine-tuning trains.

Shapes are in the names:
  B  rows          L  tokens of a row   D  width of the encoder   C  classes or labels of a task
  N  targets of a batch (rows, tokens, or groups of rows), M some of them    G  candidates of a group
A head is of a kind (HEAD_KINDS), and each kind has its targets:
  sequence   one label a row, int64 [B]          several    labels a row, float32 0 or 1 [B, C]
  number     one value a row, float32 [B]        tokens     one label a token, int64 [B, L]
  replaced   is this token wrong, int64 [B, L]   language   the next token, int64 [B, L]
  ranking    the first of each G rows is the right one, int64 [B / G], all 0
  similarity the second of each 2 rows answers the first, int64 [B / 2], all 0
Where a token has no label its target is IGNORED.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from span_electra.batch import Movable, StepOutput
from span_electra.config import ModelConfig, NetworkConfig
from span_electra.model.contrastive import contrastive_losses
from span_electra.model.dropout import drop
from span_electra.model.encoder import Encoder
from span_electra.model.heads import ReplacedHead, TokenHead, Transform
from span_electra.model.init import init_local, init_normal
from span_electra.model.layers import LAYERS
from span_electra.model.token_loss import chunk_size
from span_electra.random_keys import subkey

SIMILARITY_TEMPERATURE = 0.05  # what cosines are divided by: sentence-transformers' scale of 20
IGNORED = -100  # as torch and transformers mark a token without label


@dataclass(frozen=True)
class HeadConfig:
    """One task as the network sees it."""

    kind: str
    outputs: int  # classes; 1 for number, replaced and ranking; 0 for language and similarity
    dropout: float = 0.1  # of what the head reads
    weight: float = 1.0  # of its loss
    pooling: str = "cls"  # what a head on whole rows reads: the first token's state, or all tokens' mean
    orders: tuple[str, ...] = ()  # of tags: which may follow each other (finetuning/decoding.py); (): all
    shift: float = 0.0  # of the scores, by a threshold that dev rows decided; taken into the bias on opening
    # Of a number: what is learned is (target - mean) / deviation; taken into score's weights on opening.
    target_mean: float = 0.0
    target_deviation: float = 1.0


@dataclass(frozen=True)
class TaskBatch(Movable):
    """Rows of one task."""

    task: int
    ids_BL: Tensor  # int64; [CLS] content [SEP] (content [SEP]), then [PAD]
    types_BL: Tensor | None  # int64, 0 or 1; None: all 0
    attention_mask_BL: Tensor | None  # bool, True on tokens that are not padding; None: no row is padded
    targets: Tensor  # as the head's kind says
    target_total: Tensor  # float32 scalar; targets of the whole optimizer step, all processes together
    rows_B: Tensor  # int64; the examples' numbers in their file


class DenseHead(Transform):
    """Dense, GELU, a norm in pre-norm architectures, dropout, scores.

    On every token: that of ModernBertForTokenClassification.
    """

    def __init__(self, network: NetworkConfig, config: ModelConfig, outputs: int, dropout: float) -> None:
        super().__init__(network, config, width=network.hidden_size, activation="gelu", normed=False)
        self.score = nn.Linear(network.hidden_size, outputs)
        self.dropout = dropout

    def forward(self, hidden: Tensor, key: int | None = None) -> Tensor:
        """Return logits [..., C]."""
        return self.score(drop(self.features(hidden), self.dropout if self.training else 0.0, key))


class SequenceHead(DenseHead):
    """The same on [CLS], with dropout in front: that of the stock class for sequences.

    ModernBERT's has no dropout in front; in evaluation they are one.
    """

    def forward(self, hidden_BLD: Tensor, key: int | None = None) -> Tensor:
        """Return logits [B, C]."""
        first_BD = drop(hidden_BLD[:, 0], self.dropout if self.training else 0.0, subkey(key, 0))
        return super().forward(first_BD, subkey(key, 1))


class SimilarityHead(nn.Module):
    """A row as one vector of length 1, so that products are cosines; it has no weights of its own."""

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """Return the vectors [B, D]."""
        return F.normalize(hidden_BLD[:, 0].float(), dim=-1)


class TagHead(nn.Module):
    """Dropout and one linear layer on every token: that of ElectraForTokenClassification."""

    def __init__(self, network: NetworkConfig, outputs: int, dropout: float) -> None:
        super().__init__()
        self.score = nn.Linear(network.hidden_size, outputs)
        self.dropout = dropout

    def forward(self, hidden_BLD: Tensor, key: int | None = None) -> Tensor:
        """Return logits [B, L, C]."""
        return self.score(drop(hidden_BLD, self.dropout if self.training else 0.0, key))


class TaskNetwork(nn.Module):
    """The encoder of `config.discriminator` and one head a task.

    `config.vocab_size` must be known. `seed` alone decides the weights it starts from.
    """

    def __init__(self, config: ModelConfig, tasks: tuple[HeadConfig, ...], seed: int = 0) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.encoder = Encoder(config.discriminator, config)
        self.heads = nn.ModuleList(
            HEAD_KINDS[task.kind].make(task, config.discriminator, config) for task in tasks
        )
        init_normal(self, config.initializer_range, seed)
        if config.initialization == "local":
            init_local([self.encoder], config.initializer_range, seed)

    def states(self, batch: TaskBatch, key: int | None = None) -> Tensor:
        """The encoder's hidden states [B, L, D]; those of a causal head look back alone."""
        # The same weights read both ways: only where it may look makes a generator of an encoder.
        causal = HEAD_KINDS[self.tasks[batch.task].kind].causal
        return self.encoder(batch.ids_BL, batch.attention_mask_BL, subkey(key, 0), batch.types_BL, causal)

    def logits(self, batch: TaskBatch, key: int | None = None) -> Tensor:
        """What the batch's head says, float32: [B, C], [B, L, C], [B, L], [B, L, V], or vectors [B, D]."""
        states_BLD = self.states(batch, key)
        task = self.tasks[batch.task]
        # A row's vector is the mean of its tokens: nothing in pretraining asks the first for one.
        if task.pooling == "mean" or HEAD_KINDS[task.kind].mean_pooled:
            # As a row of one token: heads on whole rows read the first.
            states_BLD = mean_of_tokens(states_BLD, batch.attention_mask_BL)[:, None]
        return self.answer(batch.task, states_BLD, subkey(key, 1)).float()

    def answer(self, task: int, states: Tensor, key: int | None = None) -> Tensor:
        """What the head of a task says of hidden states."""
        head = self.heads[task]
        if isinstance(head, TokenHead):
            return head(states, self.encoder)
        return head(states) if isinstance(head, ReplacedHead | SimilarityHead) else head(states, key)

    def forward(self, batch: TaskBatch, dropout_key: int | None = None) -> StepOutput:
        """Return this process's share of the loss; the tally is tokens, then (loss, targets) of each task."""
        task = self.tasks[batch.task]
        loss_N = self.losses(batch, dropout_key)
        loss = task.weight * loss_N.sum() / batch.target_total.clamp(min=1)
        # Every task has its place in each tally, so that tallies of different tasks can be added.
        tally = batch.ids_BL.new_zeros(1 + 2 * len(self.tasks), dtype=torch.float32)
        tally[0] = batch.ids_BL.numel() if batch.attention_mask_BL is None else batch.attention_mask_BL.sum()
        tally[1 + 2 * batch.task] = loss_N.detach().sum()
        tally[2 + 2 * batch.task] = target_count(batch.targets)
        return StepOutput(loss, tally)

    def losses(self, batch: TaskBatch, key: int | None = None) -> Tensor:
        """The loss of every target, nats, [N]; an IGNORED one has 0 or none.

        Of a number: the squared error, in deviations of the targets.
        """
        task, targets = self.tasks[batch.task], batch.targets
        kind = HEAD_KINDS[task.kind]
        if kind.scaled:  # a new head says about 0, and steps of a usual rate would not reach 1981
            targets = (targets - task.target_mean) / task.target_deviation
        if kind.causal:  # the vocabulary's logits are made where they are asked for alone
            asked_BL = targets != IGNORED
            states_ND, target_N = self.states(batch, key)[asked_BL], targets[asked_BL]
            size = max(1, len(target_N))
            if not torch.is_grad_enabled():  # else each chunk's logits would be kept for the backward pass
                size = chunk_size(size, self.config.vocab_size, target_N.device.type)
            chunks = zip(states_ND.split(size), target_N.split(size), strict=True)
            return torch.cat([kind.loss(self.answer(batch.task, s_MD).float(), t_M) for s_MD, t_M in chunks])
        return kind.loss(self.logits(batch, key), targets)


# --- losses ---------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Of a class a row [B, C] or a token [B, L, C]; IGNORED ones have 0."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction="none")


def squared_error(logits_B1: Tensor, targets_B: Tensor) -> Tensor:
    """Of one number a row."""
    return (logits_B1.squeeze(-1) - targets_B).square()


def mean_over_labels(logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
    """Of several labels; a mean, so that a task with many does not drown the others."""
    return F.binary_cross_entropy_with_logits(logits_BC, targets_BC, reduction="none").mean(-1)


def replaced_or_not(logits_BL: Tensor, targets_BL: Tensor) -> Tensor:
    """Of each token that has a target."""
    asked_BL = targets_BL != IGNORED
    wrong_N = targets_BL[asked_BL].float()
    return F.binary_cross_entropy_with_logits(logits_BL[asked_BL], wrong_N, reduction="none")


def first_of_group(logits_B1: Tensor, targets_N: Tensor) -> Tensor:
    """Of the right candidate among its group's."""
    # A process may have no rows of a small batch, which make no groups.
    return cross_entropy(logits_B1.view(len(targets_N), -1) if len(targets_N) else logits_B1, targets_N)


def answer_of_batch(vectors_BD: Tensor, _: Tensor) -> Tensor:
    """Of every second vector among all of these, for that before it, and the other way round."""
    # The others are the answers of this process's share of the batch, as in contrastive pretraining.
    return contrastive_losses(vectors_BD[0::2], vectors_BD[1::2], SIMILARITY_TEMPERATURE)


def mean_of_tokens(states_BLD: Tensor, attention_mask_BL: Tensor | None) -> Tensor:
    """The mean state of each row's tokens, special ones included and padding not, [B, D]."""
    if attention_mask_BL is None:
        return states_BLD.mean(1)
    weights_BL1 = attention_mask_BL[..., None].to(states_BLD.dtype)
    return (states_BLD * weights_BL1).sum(1) / weights_BL1.sum(1)


def target_count(targets: Tensor) -> Tensor:
    """How many targets there are; labels of one row that may be several count once."""
    return (targets != IGNORED).sum() if targets.dtype == torch.int64 else targets.new_full((), len(targets))


# --- kinds of heads -------------------------------------------------------------------------------------


def sequence_head(task: HeadConfig, network: NetworkConfig, config: ModelConfig) -> nn.Module:
    """One of whole rows."""
    return SequenceHead(network, config, task.outputs, task.dropout)


def token_head(task: HeadConfig, network: NetworkConfig, config: ModelConfig) -> nn.Module:
    """One of every token, as the stock class of the architecture has it."""
    if LAYERS[config.architecture].pre_norm:
        return DenseHead(network, config, task.outputs, task.dropout)
    return TagHead(network, task.outputs, task.dropout)


class HeadKind(NamedTuple):
    """What the network does for a kind of head."""

    make: Callable[[HeadConfig, NetworkConfig, ModelConfig], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]  # of the head's answers and the targets, one each
    causal: bool = False  # a token sees those before it alone, and answers are made at targets alone
    mean_pooled: bool = False  # reads the mean of a row's tokens, whatever the task's pooling
    scaled: bool = False  # targets are learned as deviations from their mean


HEAD_KINDS = {
    "sequence": HeadKind(sequence_head, cross_entropy),
    "several": HeadKind(sequence_head, mean_over_labels),
    "number": HeadKind(sequence_head, squared_error, scaled=True),
    "tokens": HeadKind(token_head, cross_entropy),
    "replaced": HeadKind(lambda _, network, config: ReplacedHead(network, config), replaced_or_not),
    "language": HeadKind(lambda _, network, config: TokenHead(network, config), cross_entropy, causal=True),
    "ranking": HeadKind(sequence_head, first_of_group),
    # Without weights: the encoder's own states are what other programs will compare.
    "similarity": HeadKind(lambda *_: SimilarityHead(), answer_of_batch, mean_pooled=True),
}
