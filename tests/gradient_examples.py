"""Fused passes against the formula written out: values and gradients side by side; what memory they take."""

from __future__ import annotations

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from span_electra.model.dropout import drop
from span_electra.random_keys import subkey

RATE, KEY = 0.3, subkey(11, 3)


def factors(shape, key=KEY, rate=RATE):
    """What each element is multiplied by: 0 or 1 / (1 - rate)."""
    return drop(torch.ones(shape), rate, key)


def heads_of(qkv_BLZ, heads):
    """Query, keys and values [3, B, H, L, Z / 3H] of what lies side by side."""
    rows, length, triple = qkv_BLZ.shape
    return qkv_BLZ.view(rows, length, 3, heads, triple // 3 // heads).permute(2, 0, 3, 1, 4)


def gradients(function, direction, *inputs):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    copies = [x * 1 for x in inputs]  # the fused passes may overwrite what they are given
    out = function(*copies)
    return out.detach(), torch.autograd.grad((out * direction).sum(), inputs)


def assert_same(given, expected):
    assert torch.allclose(given[0], expected[0], atol=1e-5)
    for one, other in zip(given[1], expected[1], strict=True):
        assert torch.allclose(one, other, atol=2e-4, rtol=1e-4)


class Allocations(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is on, and lists the operators that make float32.

    `peak` is the most that lived at once. `float32` has the elements and the operator of each such tensor.
    """

    def __init__(self):
        super().__init__()
        self.peak = self.alive = 0
        self.float32 = []
        self._known = weakref.WeakValueDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):  # what was there before, and views of it, are not counted
                self._known[id(tensor.untyped_storage())] = tensor.untyped_storage()
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and id(tensor.untyped_storage()) not in self._known:
                self._count(tensor, func.overloadpacket.__name__)
        return out

    def _count(self, tensor, operator):
        storage = tensor.untyped_storage()
        self._known[id(storage)] = storage
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._freed, storage.nbytes())
        if tensor.dtype == torch.float32:
            self.float32.append((tensor.numel(), operator))

    def _freed(self, size):
        self.alive -= size
