"""The same blocks, worked on by a Ray cluster: an optional extra, `pip install ray`.

The blocks' function is that of the local engine, so the bytes are the same. Nodes must see local input files
under the same paths (shared storage); packed files, .parquet and URLs are read here, their text sent along.
Parts come back through Ray's object store and are written here, so nodes need no place to write. A task whose
node is lost is tried again elsewhere.

RAY_ADDRESS set: that cluster; else Ray is started on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from span_electra.errors import InputError
from span_electra.features.header import FeatureHeader
from span_electra.features.parts import Part, PartCounts, part_maker, part_path, write_part
from span_electra.text.corpus import Block
from span_electra.text.vocabulary import Vocabulary

RETRIES = 5  # of a task whose node was lost
AHEAD = 2  # tasks in flight for each core of the cluster


def run_on_ray(
    header: FeatureHeader, folder: Path, tasks: Iterator[tuple[Block, str]]
) -> Iterator[tuple[tuple[Block, str], PartCounts]]:
    """Yield (task, counts) for every (block, key), its part written into `folder`, as results come.

    Raises InputError when Ray is not installed, no cluster answers, or a task refuses its text.
    """
    ray = _connect()
    shared = ray.put(header)  # sent to each node once: the tokenizer in it takes megabytes
    make = ray.remote(num_cpus=1, max_retries=RETRIES)(make_part)
    waiting: dict[Any, tuple[Block, str]] = {}
    try:
        more = True
        while more or waiting:
            # Nodes come and go, so the cluster's size is asked for anew.
            while more and len(waiting) < AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1))):
                task = next(tasks, None)
                more = task is not None
                if task is not None:
                    waiting[make.remote(shared, from_anywhere(task[0]))] = task
            if waiting:
                done, _ = ray.wait(list(waiting), num_returns=1)
                task = waiting.pop(done[0])
                part = _get(ray, done[0])
                write_part(part_path(folder, task[0].number), part, task[1], header)
                yield task, part.counts
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def from_anywhere(block: Block) -> Block:
    """The block for a process that stands in another folder, as those of a running cluster do."""
    pieces = [
        # What was read here needs no path there, and keeps its URL for messages.
        replace(piece, path=os.path.abspath(piece.path))
        if piece.text is None and piece.rows is None
        else piece
        for piece in block.pieces
    ]
    return replace(block, pieces=tuple(pieces))


_makers: dict[str, Any] = {}  # a node's process keeps its tokenizer and its word table between tasks


def make_part(header: FeatureHeader, block: Block) -> Part | str:
    """A block's part, or the reason why its text is refused; runs on a node."""
    key = repr(header) + header.vocabulary_sha256
    if key not in _makers:
        _makers.clear()
        _makers[key] = part_maker(header, Vocabulary.from_json(header.tokenizer_json))
    try:
        return _makers[key](block)
    except InputError as error:
        return str(error)  # as a value: Ray would try an exception again, and wrap its message


def _connect() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError("engine: ray is not installed; pip install ray, or use --engine local") from None
    if not ray.is_initialized():
        # Never a cluster that happens to be running here: somebody else may have started it.
        address = "auto" if os.environ.get("RAY_ADDRESS") else "local"
        try:
            ray.init(address=address, log_to_driver=False, logging_level="warning")
        except ConnectionError as error:
            where = os.environ.get("RAY_ADDRESS")
            raise InputError(f"engine: no Ray cluster at {where} ({error}); unset RAY_ADDRESS") from None
    return ray


def _get(ray: Any, reference: Any) -> Part:
    try:
        result = ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # our own code failed there; its traceback is in the message
        raise RuntimeError(f"a task failed on the cluster: {error}") from error
    except ray.exceptions.RayError as error:
        raise InputError(
            f"engine: the Ray cluster lost a task for good ({error}); run again to go on"
        ) from None
    if isinstance(result, str):
        raise InputError(result)
    return result
