"""A pretrained encoder -> the network that fine-tuning trains.

Heads are taken along where a task's head is the pretrained one: the discriminator's for words that are wrong,
the generator's for the next token.
"""

from __future__ import annotations

import torch

from span_electra.errors import InputError
from span_electra.hub.opening import Pretrained
from span_electra.model.multi_task import TaskNetwork

PRETRAINED_HEAD = {  # by kinds of task heads, that of a network which was pretrained for just that
    "replaced": "discriminator",
    "language": "generator",
}


@torch.no_grad()
def take_pretrained(network: TaskNetwork, pretrained: Pretrained) -> None:
    """Copy the encoder, and each head that was pretrained for its task, bit for bit.

    Raises InputError when something is missing or of another size; nothing has been copied then.
    """
    # Parameters alone: there are no buffers whose values were learnt.
    own = dict(network.named_parameters())
    taken = {name: weight for name, weight in pretrained.weights.items() if name.startswith("encoder.")}
    for number, task in enumerate(network.tasks):
        if PRETRAINED_HEAD.get(task.kind) == pretrained.part:
            heads = {name: weight for name, weight in pretrained.weights.items() if name.startswith("head.")}
            taken |= {name.replace("head.", f"heads.{number}.", 1): heads[name] for name in heads}
    # Checked whole, then copied: on an error the network is still that of its seed.
    missing = [name for name in own if name.startswith("encoder.") and name not in taken]
    if missing:
        raise InputError(f"{pretrained.source}: lacks {missing[0]}; is it a whole encoder of these sizes?")
    for name, weight in taken.items():
        if name not in own or own[name].shape != weight.shape:
            raise InputError(
                f"{pretrained.source}: {name} is {tuple(weight.shape)}, which does not fit the sizes told "
                "beside it; fetch or export it again"
            )
    for name, weight in taken.items():
        own[name].copy_(weight)
