"""Trackers: a run's settings, metrics, sentences and report, told to wandb, mlflow or trackio as well.

Each library keeps its own ways: whether it goes online, where it stores, and who one is are its
environment variables (WANDB_MODE=offline, MLFLOW_TRACKING_URI, TRACKIO_DIR). A run without `--track`
imports none of them.
"""

from __future__ import annotations

import importlib
import json
import re
import secrets
from collections.abc import Mapping
from html import escape
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol

from span_electra.errors import InputError, reason_of
from span_electra.schema import flatten
from span_electra.storage import REPORT, read_object, write_text

PROJECT = "span-electra"
IDENTITY = "track.json"  # in the run's folder: under which name the libraries know it
WANDB = "wandb"  # the folder that wandb makes there
LONGEST_VALUE = 500  # characters of a setting; mlflow refuses longer ones


class Tracker(Protocol):
    """Where a run is followed besides its own folder."""

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None: ...

    def log_text(self, step: int, name: str, text: str) -> None: ...

    def close(self, *, failed: bool = False) -> None:
        """Hand over the report and end; `failed`: by an error, where the library has a word for it."""


def open_tracker(name: str, folder: Path, settings: Mapping[str, Any]) -> Tracker:
    """Begin to follow the run of a folder.

    Raises InputError where the library is not installed, or does not begin: nobody is logged in, no server.
    """
    library = find_library(name)
    new = [path for path in (folder / IDENTITY, folder / WANDB) if not path.exists()]
    try:
        return TRACKERS[name](library, folder, flat_settings(settings))
    except Exception as error:  # each library has its own
        for path in new:  # of a run that never was
            if path.is_dir():
                rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        reason = reason_of(error, joined=True)
        raise InputError(
            f"--track {name}: {reason}; see docs/ecosystem.md for following a run offline"
        ) from None


def find_library(name: str) -> Any:
    """The library of that name, imported. Raises InputError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"--track {name}: {error}; pip install {name}, or leave the flag out") from None


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Example: {"model": {"seed": 1}, "out_dir": None} -> {"model.seed": 1, "out_dir": "none"}"""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return json.dumps(value)[:LONGEST_VALUE]
        return "none" if value is None else value

    return {key: plain(value) for key, value in flatten(settings).items()}


def as_table(settings: Mapping[str, Any]) -> str:
    """Settings as a table in Markdown; no settings, no text."""
    rows = [
        f"| {key} | {str(value).replace('|', '&#124;')} |" for key, value in flat_settings(settings).items()
    ]
    return "\n".join(["| setting | value |", "|---|---|", *rows]) if rows else ""


class _WithArtifacts:
    """What wandb and trackio, which copies its interface, have in common."""

    library: Any
    folder: Path

    def close(self, *, failed: bool = False) -> None:
        report = self.folder / REPORT
        if report.is_file():
            artifact = self.library.Artifact(f"report-{identity_of(self.folder)}", type="report")
            artifact.add_file(str(report))
            self.library.log_artifact(artifact)
        self._finish(failed)

    def _finish(self, failed: bool) -> None:
        self.library.finish()  # trackio's knows no failed run


class _Wandb(_WithArtifacts):
    def __init__(self, library: Any, folder: Path, settings: dict[str, Any]) -> None:
        self.library, self.folder = library, folder
        # A resumed run goes on under its id, which is the folder's.
        library.init(
            project=PROJECT,
            name=folder.resolve().name,
            id=identity_of(folder),
            resume="allow",
            config=settings,
            dir=str(folder),
        )

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        # Steps of its own would have to rise from call to call; a resumed run steps back to its checkpoint.
        self.library.log({**values, "step": step})

    def log_text(self, step: int, name: str, text: str) -> None:
        self.library.log({name: self.library.Html(f"<pre>{escape(text)}</pre>"), "step": step})

    def _finish(self, failed: bool) -> None:
        self.library.finish(exit_code=int(failed))


class _Trackio(_WithArtifacts):
    def __init__(self, library: Any, folder: Path, settings: dict[str, Any]) -> None:
        self.library, self.folder = library, folder
        library.init(
            project=PROJECT,
            name=identity_of(folder),
            config=settings,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.library.log(dict(values), step=step)

    def log_text(self, step: int, name: str, text: str) -> None:
        self.library.log({name: self.library.Markdown(text)}, step=step)


class _Mlflow:
    def __init__(self, library: Any, folder: Path, settings: dict[str, Any]) -> None:
        self.library, self.folder = library, folder
        library.set_experiment(PROJECT)
        name = identity_of(folder)
        earlier = library.search_runs(
            experiment_names=[PROJECT],
            filter_string=f"tags.folder = '{name}'",
            max_results=1,
            output_format="list",
        )
        if earlier:  # whose parameters stand already, and mlflow lets nobody change one
            library.start_run(run_id=earlier[0].info.run_id)
            return
        library.start_run(run_name=folder.resolve().name, tags={"folder": name})
        library.log_params({key: str(value)[:LONGEST_VALUE] for key, value in settings.items()})

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.library.log_metrics(dict(values), step=step)

    def log_text(self, step: int, name: str, text: str) -> None:
        self.library.log_text(text, f"{name}/step-{step:08d}.md")

    def close(self, *, failed: bool = False) -> None:
        report = self.folder / REPORT
        if report.is_file():
            self.library.log_artifact(str(report))
        self.library.end_run("FAILED" if failed else "FINISHED")


TRACKERS = {"wandb": _Wandb, "mlflow": _Mlflow, "trackio": _Trackio}


def identity_of(folder: Path) -> str:
    """A name for the run that its resumption finds again, of letters that every library takes.

    It stands in the folder from the first start on: another run of that folder's name is another run.
    """
    known = read_object(folder / IDENTITY).get("id")
    if known:
        return str(known)
    place = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(folder.resolve().parts[-2:])).strip("-.")
    identity = f"{place[-100:] or 'run'}-{secrets.token_hex(4)}"
    write_text(folder / IDENTITY, json.dumps({"id": identity}) + "\n")
    return identity
