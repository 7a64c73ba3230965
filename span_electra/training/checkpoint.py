"""A run's state <-> folders that can be read, checked and never half-written.

    checkpoints/step-00000123/
      model.safetensors      weights by name, a shared tensor once
      optimizer.safetensors  `<what>:<parameter name>` -> tensor
      meta.json              step, settings, loop state, which names share a tensor, sha256 of the files

Sharded (format 2), shard-*.safetensors, one a process, hold what the two files hold. A checkpoint is written
into a hidden folder beside, synced to disk and renamed; nothing of it is pickle.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from span_electra import storage
from span_electra.errors import InputError
from span_electra.storage import CHECKPOINTS, CONFIG, RUN_MARK, atomic_folder, read_object, recover, sha256_of
from span_electra.training.shards import SHARD, check_fit, of_optimizer, read_whole, write_shards

FORMAT, SHARDED = 1, 2  # of whole files, and of shards
MODEL, OPTIMIZER, META = "model.safetensors", "optimizer.safetensors", "meta.json"
LARGEST_META = 64 << 20  # bytes; ours have some kilobytes, so more is an attack or an accident
Read = TypeVar("Read")
STEP_FOLDER = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds; every tensor is on the CPU."""

    folder: Path
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    meta: dict[str, Any]
    sharded: bool = False  # its tensors are left to `shards.load_sharded`


# --- writing ------------------------------------------------------------------------------------------


def save(
    run: Path, step: int, weights: dict[str, Tensor], optimizer: dict[str, Tensor], meta: dict[str, Any]
) -> Path:
    """Write `run`/checkpoints/step-<step> and return it; a checkpoint of that step is replaced.

    Raises InputError when the disk is full or may not be written; what was there before stays.
    """
    target = run / CHECKPOINTS / f"step-{step:08d}"
    # safetensors refuses tensors that share memory, and two copies would come back as two tensors.
    kept, aliases = _shared_once(weights)
    with _writing(target, {"format": FORMAT, "step": step, "aliases": aliases, **meta}) as beside:
        save_file(kept, beside / MODEL)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in optimizer.items()}
        save_file(state, beside / OPTIMIZER)
    return target


def save_sharded(
    run: Path,
    step: int,
    weights: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    meta: dict[str, Any],
    *,
    is_main_process: bool,
) -> Path:
    """As `save`, of sharded tensors, of which every process writes its shards. All must come."""
    target = run / CHECKPOINTS / f"step-{step:08d}"
    # By identity, not by address: each process has but a shard, and empty ones all have the same address.
    first: dict[int, str] = {}  # of the names of a tensor
    aliases = {
        name: first[id(tensor)]
        for name, tensor in weights.items()
        if first.setdefault(id(tensor), name) != name
    }
    described = {"format": SHARDED, "step": step, "aliases": aliases, **meta}
    with _writing(target, described) if is_main_process else nullcontext() as beside:
        place = [str(beside)]  # the main process makes the folder, and names it when all have written
        dist.broadcast_object_list(place)
        write_shards(Path(place[0]), {name: weights[name].detach() for name in first.values()} | optimizer)
    return target


@contextmanager
def _writing(target: Path, meta: dict[str, Any]) -> Iterator[Path]:
    """Yield a folder for tensor files; when the block ends well it gets meta.json and the name `target`."""
    try:
        with atomic_folder(target) as beside:
            yield beside
            # Of the files, not of the tensors: what is described is what was written.
            files = {path.name: _fingerprint(path) for path in sorted(beside.iterdir())}
            (beside / META).write_text(json.dumps({"files": files, **meta}, indent=1), encoding="utf-8")
    except (OSError, safetensors.SafetensorError, InputError) as error:
        reason = getattr(error, "strerror", None) or error  # an OSError's text names a hidden file too
        raise InputError(
            f"{target}: the checkpoint could not be written ({reason}); earlier ones are untouched: mend "
            "that and go on with the run"
        ) from error


def _shared_once(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split into tensors to store, and names that mean one of these: {alias: stored name}."""
    stored: dict[tuple, str] = {}
    kept, aliases = {}, {}
    for name, tensor in weights.items():
        # Views of one storage that differ in shape are tensors of their own; empty ones all lie at address 0.
        identity = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and identity in stored:
            aliases[name] = stored[identity]
        else:
            stored[identity] = name
            kept[name] = tensor.detach().cpu().contiguous()
    return kept, aliases


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": sha256_of(file)}


# --- reading ------------------------------------------------------------------------------------------


def read_meta(folder: Path, hashed: bool = True) -> dict[str, Any]:
    """Return a checkpoint's meta.json after checking that the tensor files are those it describes.

    hashed: read them whole for it; else only their sizes are looked at, for who reads them anyway.

    Raises InputError naming the file that is missing, altered, cut off, a link or not of the checkpoint.
    """
    # A checkpoint may come from a stranger: a link could name any file of this machine.
    _check_file(folder / META)
    meta = _parse_meta(folder / META)
    names = [MODEL, OPTIMIZER]
    if meta["format"] == SHARDED:
        # All shards of a folder are read, so one that is not described would be believed unseen.
        names = sorted({*meta["files"], *(path.name for path in folder.glob("*.safetensors"))})
        if strange := [name for name in names if not SHARD.fullmatch(name)]:
            raise InputError(f"{folder}: {strange[0][:80]!r} is no shard of a checkpoint; move it away")
    for name in names:
        _check_file(folder / name)
        described = meta["files"].get(name)
        size = described.get("bytes") if isinstance(described, dict) else None
        if size != (folder / name).stat().st_size or (hashed and described != _fingerprint(folder / name)):
            raise _altered(folder / name)
    return meta


def refuse_others(path: Path) -> None:
    """Raise InputError, saying what to give, for what people take for a checkpoint or a run, and is none.

    A file inside a checkpoint, another file, and an exported network, which has no optimizer's state.
    """
    give = "give a checkpoint's folder, runs/<run>/checkpoints/step-..., or the run's"
    if path.is_file():
        whole = (path.parent / META).is_file()
        give = f"give its folder, {path.parent}" if whole else give
        raise InputError(f"{path}: is {'one file of a checkpoint' if whole else 'a file'}; {give}")
    folders = (path, path / "generator", path / "discriminator")
    exported = any((folder / CONFIG).is_file() and (folder / MODEL).is_file() for folder in folders)
    if exported and not (path / META).is_file() and not (path / RUN_MARK).is_file():
        run = path.parent if (path.parent / RUN_MARK).is_file() else None
        give = f"give its run, {run}" if run else give
        raise InputError(f"{path}: is an exported network, without the state of its training; {give}")


def _check_file(path: Path) -> None:
    if path.is_symlink():
        raise InputError(f"{path}: is a symbolic link, and checkpoints hold none; copy the file itself")
    if not path.is_file():
        raise InputError(f"{path}: is missing; give a whole checkpoint folder (step-...)")


def _altered(path: Path) -> InputError:
    return InputError(f"{path}: does not match its checksum (altered or cut off)")


def _parse_meta(path: Path) -> dict[str, Any]:
    # Before it is parsed, which takes many times its size in memory.
    if path.stat().st_size > LARGEST_META:
        raise InputError(
            f"{path}: has {path.stat().st_size} bytes, more than any of ours; it is no checkpoint"
        )
    try:
        meta = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({error}); the checkpoint is damaged") from error
    kinds = {"format": int, "step": int, "aliases": dict, "files": dict}
    for key, kind in kinds.items():
        if not isinstance(meta, dict) or not isinstance(meta.get(key), kind):
            raise InputError(f"{path}: has no proper {key!r}; it is no checkpoint of ours")
    if meta["format"] not in (FORMAT, SHARDED):
        raise InputError(
            f"{path}: format {meta['format']}, but this version reads {FORMAT} and {SHARDED}; use the "
            "version that wrote it"
        )
    return meta


def load(folder: str | Path, *, leave_shards: bool = False, hashed: bool = True) -> Checkpoint:
    """Read a checkpoint folder whole. Raises InputError when it is damaged or not ours.

    leave_shards: leave the tensors of a sharded one to `shards.load_sharded`; hashed: once all were hashed.
    """
    folder = Path(folder)
    meta = read_meta(folder, hashed=False)
    if meta["format"] == SHARDED:
        read_meta(folder, hashed=hashed)
        if leave_shards:
            return Checkpoint(folder, {}, {}, meta, sharded=True)
        tensors = read_whole(folder)
        weights = {name: tensor for name, tensor in tensors.items() if not of_optimizer(name)}
        optimizer = {name: tensor for name, tensor in tensors.items() if of_optimizer(name)}
    else:
        weights, optimizer = (
            _load_described(folder / name, meta["files"][name]) for name in (MODEL, OPTIMIZER)
        )
    # The same tensor under both names, so that what shared it shares it again.
    for alias, stored in meta["aliases"].items():
        if stored not in weights:
            raise InputError(f"{folder / META}: {alias!r} shares a tensor {stored!r} that is not there")
        weights[alias] = weights[stored]
    return Checkpoint(folder, weights, optimizer, meta)


def _load_described(path: Path, described: dict[str, Any]) -> dict[str, Tensor]:
    """Read a tensor file once: what is used is what was hashed, whoever writes to the file meanwhile."""
    data = path.read_bytes()
    if described != {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}:
        raise _altered(path)
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: no safetensors file can be read there ({error})") from error


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a .safetensors file; raises InputError when it is none."""
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch or export it again") from error


def restore_weights(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy weights into the model; every name must be there, with its shape and dtype.

    Raises InputError naming `source` and the first tensor that does not fit.
    """
    # Checked first: torch's own error comes when half of the weights have been copied.
    described = {name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()}
    check_fit(model.state_dict(), described, source)
    model.load_state_dict(weights)


# --- which ones ---------------------------------------------------------------------------------------


def in_run(run: Path) -> Iterator[Path]:
    """The checkpoint folders of a run, newest first, unchecked."""
    # By the number in the name: times of files change when a run is copied.
    folders = [path for path in (run / CHECKPOINTS).glob("step-*") if STEP_FOLDER.fullmatch(path.name)]
    yield from sorted(folders, key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """The step in a checkpoint folder's name."""
    return int(STEP_FOLDER.fullmatch(folder.name).group(1))


def latest(run: str | Path, hashed: bool = True) -> Path | None:
    """Return the newest whole checkpoint of a run, or None; a broken one is passed over with a warning.

    hashed: see `read_meta`.
    """
    found = _newest_readable(run, lambda folder: read_meta(folder, hashed))
    return found[0] if found else None


def open_at(place: str | Path, read: Callable[[Path], Read]) -> tuple[Path, Read]:
    """The checkpoint at `place`, or a run's newest that `read` takes, as `latest`; and what was read of it.

    Raises InputError where there is none.
    """
    place = Path(place)
    refuse_others(place)
    if (place / META).exists() or STEP_FOLDER.fullmatch(place.name):
        return place, read(place)
    if found := _newest_readable(place, read):
        return found
    if read_object(place / RUN_MARK).get("state", "finished") != "finished" and not any(in_run(place)):
        raise InputError(
            f"{place}: was stopped before its first checkpoint; give the command that began it again"
        )
    raise InputError(f"{place}: holds no whole checkpoint to go on from; start anew in another folder")


def _newest_readable(run: str | Path, read: Callable[[Path], Read]) -> tuple[Path, Read] | None:
    """The first folder, newest first, that can be read, and what was read."""
    broken: list[str] = []
    for folder in in_run(Path(run)):
        try:
            content = read(folder)
        except InputError as error:
            broken.append(str(error))
            continue
        if broken:
            warnings.warn(f"passed over: {'; '.join(broken)}; going on from {folder}", stacklevel=3)
        return folder, content
    if broken:
        warnings.warn(f"passed over: {'; '.join(broken)}; no whole checkpoint is left", stacklevel=3)
    return None


def retain(
    run: Path, *, last: int, best: int, now: Mapping[str, Any], higher_is_better: bool, newest: Path
) -> None:
    """Delete our checkpoints but for the `last` newest and the `best` best by what metadata `now` monitors.

    `newest`, just written, always stays, and so does every folder that is no checkpoint of ours.
    """
    scores = {}
    for folder in in_run(run):
        try:
            scores[folder] = score_of(_parse_meta(folder / META), now)
        except (InputError, OSError):
            continue  # not ours to judge
    # `scores` has the order of `in_run`, newest first.
    retained = {newest, *list(scores)[:last], *best_first(scores, higher_is_better)[:best]}
    for folder in scores.keys() - retained:
        _remove(folder)


def score_of(meta: Mapping[str, Any], now: Mapping[str, Any]) -> Any:
    """The metric that a checkpoint recorded; none where it was another one than that of metadata `now`."""
    return meta.get("metric") if same_score(meta, now) else None


def same_score(meta: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether scores of both can be compared: of one name, and taken of the same (`measured`, where told)."""
    monitors = [told.get("training", {}).get("monitor") for told in (meta, now)]
    takings = [told.get("measured") for told in (meta, now)]
    # What an earlier version does not tell is taken for the same.
    return all(None in (one, other) or one == other for one, other in (monitors, takings))


def best_first(scores: Mapping[Path, Any], higher_is_better: bool) -> list[Path]:
    """The folders that have a number for a score, the best first; of equals the order stays."""
    scored = [folder for folder, score in scores.items() if isinstance(score, float) and not isnan(score)]
    return sorted(scored, key=lambda folder: scores[folder], reverse=higher_is_better)


def more_is_better(monitor: str, mode: str) -> bool:
    """Whether more of a metric is better, by `monitor_mode`: max, min, or by the metric's name (auto)."""
    return mode == "max" or (mode != "min" and not monitor.endswith(("loss", "perplexity")))


def _remove(folder: Path) -> None:
    """Delete the files that are ours, and the folder if nothing else is in it."""
    there = sorted(folder.iterdir())
    ours = [path for path in there if path.name in (META, OPTIMIZER, MODEL) or SHARD.fullmatch(path.name)]
    if ours == there and not folder.is_symlink():
        return storage.remove_folder(folder)
    for path in ours:  # a person keeps something there; meta.json first: then no one takes it for whole
        path.unlink()


def set_aside(run: Path, after: int) -> list[Path]:
    """Rename checkpoints beyond step `after`, so that a resumed run does not mix with its old future."""
    moved = []
    for folder in in_run(run):
        if step_of(folder) > after:
            # A run may have been set back to before this step already, and more than once.
            names = (folder.with_name(f"{folder.name}.aside{number or ''}") for number in itertools.count())
            moved.append(folder.rename(next(name for name in names if not name.exists())))
    return moved


def clear_unfinished(run: Path) -> None:
    """Clear what a killed run left half-written or half-replaced. Call it with the run's lock held."""
    for left in list((run / CHECKPOINTS).glob(".step-*")):
        name = STEP_FOLDER.match(left.name[1:])
        if name:
            recover(run / CHECKPOINTS / name.group())
