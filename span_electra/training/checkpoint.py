"""A run's state <-> folders that can be read, checked and never half-written.

    checkpoints/step-00000123/
      model.safetensors      weights by name, a shared tensor once
      optimizer.safetensors  `<what>:<parameter name>` -> tensor
      meta.json              step, settings, loop state, which names share a tensor, sha256 of both files

A checkpoint is written into a hidden folder beside, synced to disk and renamed; nothing of it is pickle.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from span_electra.errors import InputError
from span_electra.storage import CHECKPOINTS, CONFIG, RUN_MARK, atomic_folder, recover, sha256_of

FORMAT = 1
MODEL, OPTIMIZER, META = "model.safetensors", "optimizer.safetensors", "meta.json"
LARGEST_META = 64 << 20  # bytes; ours have some kilobytes, so more is an attack or an accident
Read = TypeVar("Read")
STEP_FOLDER = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds; every tensor is on the CPU."""

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    meta: dict[str, Any]


# --- writing ------------------------------------------------------------------------------------------


def save(
    run: Path, step: int, weights: dict[str, Tensor], optimizer: dict[str, Tensor], meta: dict[str, Any]
) -> Path:
    """Write `run`/checkpoints/step-<step> and return it; a checkpoint of that step is replaced.

    Raises InputError when the disk is full or may not be written; what was there before stays.
    """
    target = run / CHECKPOINTS / f"step-{step:08d}"
    try:
        with atomic_folder(target) as beside:
            kept, aliases = _shared_once(weights)
            _write_tensors(beside / MODEL, kept)
            _write_tensors(beside / OPTIMIZER, {name: tensor.cpu() for name, tensor in optimizer.items()})
            files = {name: _fingerprint(beside / name) for name in (MODEL, OPTIMIZER)}
            described = {"format": FORMAT, "step": step, "aliases": aliases, "files": files, **meta}
            (beside / META).write_text(json.dumps(described, indent=1), encoding="utf-8")
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{target}: the checkpoint could not be written ({_reason(error)}); earlier ones are untouched: "
            "mend that and go on with --resume"
        ) from error
    return target


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


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": sha256_of(file)}


# --- reading ------------------------------------------------------------------------------------------


def read_meta(folder: Path, hashed: bool = True) -> dict[str, Any]:
    """Return a checkpoint's meta.json after checking that both tensor files are those it describes.

    hashed: read them whole for it; else only their sizes are looked at, for who reads them anyway.

    Raises InputError naming the file that is missing, altered, cut off or a link.
    """
    for name in (META, MODEL, OPTIMIZER):
        path = folder / name
        if path.is_symlink():
            raise InputError(f"{path}: is a symbolic link, and checkpoints hold none; copy the file itself")
        if not path.is_file():
            raise InputError(f"{path}: is missing; give a whole checkpoint folder (step-...)")
    meta = _parse_meta(folder / META)
    for name in (MODEL, OPTIMIZER):
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


def _altered(path: Path) -> InputError:
    return InputError(f"{path}: does not match its checksum (altered or cut off)")


def _parse_meta(path: Path) -> dict[str, Any]:
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
    if meta["format"] != FORMAT:
        raise InputError(
            f"{path}: format {meta['format']}, but this version reads {FORMAT}; use the version that wrote it"
        )
    return meta


def load(folder: str | Path) -> Checkpoint:
    """Read a checkpoint folder whole. Raises InputError when it is damaged or not ours."""
    folder = Path(folder)
    meta = read_meta(folder, hashed=False)
    weights, optimizer = (_load_described(folder / name, meta["files"][name]) for name in (MODEL, OPTIMIZER))
    for alias, stored in meta["aliases"].items():
        if stored not in weights:
            raise InputError(f"{folder / META}: {alias!r} shares a tensor {stored!r} that is not there")
        weights[alias] = weights[stored]
    return Checkpoint(meta["step"], weights, optimizer, meta)


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
        raise InputError(f"{path}: no safetensors file can be read there ({error})") from error


def restore_weights(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy weights into the model; every name must be there, with its shape and dtype.

    Raises InputError naming `source` and the first tensor that does not fit.
    """
    own = model.state_dict()
    if missing := sorted(own.keys() - weights.keys()) or sorted(weights.keys() - own.keys()):
        where = "missing" if missing[0] in own else "unknown to this model"
        raise InputError(f"{source}: tensor {missing[0]!r} is {where}; it was written by another model")
    for name, tensor in weights.items():
        want = own[name]
        if tensor.shape != want.shape or tensor.dtype != want.dtype:
            raise InputError(
                f"{source}: tensor {name!r} is {tuple(tensor.shape)} {tensor.dtype}, the model's "
                f"{tuple(want.shape)} {want.dtype}; train with the settings it was written with"
            )
    model.load_state_dict(weights)


# --- which ones ---------------------------------------------------------------------------------------


def in_run(run: Path) -> Iterator[Path]:
    """The checkpoint folders of a run, newest first, unchecked."""
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


def load_latest(run: str | Path) -> tuple[Path, Checkpoint] | None:
    """Read the newest whole checkpoint of a run, each file once; as `latest` for broken ones."""
    return _newest_readable(run, load)


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


def retain(run: Path, *, last: int, best: int, higher_is_better: bool, newest: Path) -> None:
    """Delete our checkpoints but for the `last` newest and the `best` best by their recorded metric.

    `newest`, just written, always stays, and so does every folder that is no checkpoint of ours.
    """
    scores = {}
    for folder in in_run(run):
        try:
            scores[folder] = _parse_meta(folder / META).get("metric")
        except (InputError, OSError):
            continue  # not ours to judge
    scored = [folder for folder, score in scores.items() if isinstance(score, float)]
    scored.sort(key=lambda folder: scores[folder], reverse=higher_is_better)
    # `scores` has the order of `in_run`, newest first.
    retained = {newest, *list(scores)[:last], *scored[:best]}
    for folder in scores.keys() - retained:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Delete the three files that are ours, and the folder if nothing else is in it."""
    for name in (META, OPTIMIZER, MODEL):  # meta first: from then on no one takes it for whole
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        pass  # somebody keeps something there


def set_aside(run: Path, after: int) -> list[Path]:
    """Rename checkpoints beyond step `after`, so that a resumed run does not mix with its old future."""
    moved = []
    for folder in in_run(run):
        if step_of(folder) > after:
            # A run may have been set back to before this step already, and more than once.
            number = sum(1 for _ in folder.parent.glob(f"{folder.name}.aside*"))
            moved.append(folder.rename(folder.with_name(f"{folder.name}.aside{number or ''}")))
    return moved


def clear_unfinished(run: Path) -> None:
    """Clear what a killed run left half-written or half-replaced. Call it with the run's lock held."""
    for left in list((run / CHECKPOINTS).glob(".step-*")):
        name = STEP_FOLDER.match(left.name[1:])
        if name:
            recover(run / CHECKPOINTS / name.group())
