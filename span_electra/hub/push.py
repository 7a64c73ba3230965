"""Exported folders -> repositories of the Hugging Face hub, through its own library."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from span_electra.errors import InputError, reason_of


def check_names(name: str, parts: Iterable[str]) -> None:
    """Raise InputError where NAME-<part> of some part is no name of a repository; nothing is asked for."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    for part in parts:
        try:
            validate_repo_id(f"{name}-{part}")
        except HFValidationError as error:
            raise InputError(
                f"push_to_hub: {name}-{part} is no name of a repository ({error}); give another NAME, or "
                "export without it and upload under a name of your own"
            ) from None


def push_folders(folders: list[Path], name: str, *, dry_run: bool = False) -> list[str]:
    """Upload each folder as NAME-<folder's name>; returns a line for each file and repository.

    `dry_run`: the lines alone, and nothing leaves the machine. Raises InputError for what the hub refuses.
    """
    lines = []
    for folder in folders:
        repository = f"{name}-{folder.name}"
        lines.append(f"{repository} (dry run: nothing is sent)" if dry_run else _upload(folder, repository))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        lines += [f"  {path.relative_to(folder)}  {path.stat().st_size:,} bytes" for path in files]
    return lines


def _upload(folder: Path, repository: str) -> str:
    """Upload a folder; returns the repository's name with its owner, who may be left out in `repository`."""
    from huggingface_hub import HfApi  # late: a dry run needs none of it

    try:
        api = HfApi()
        # A repository that is there gets a commit more, as any push; nothing in it is deleted. Its owner is
        # known by the hub alone, where none is named, and asked for by what uploads.
        whole = api.create_repo(repository, exist_ok=True).repo_id
        api.upload_folder(repo_id=whole, folder_path=str(folder))
    # A network that is down, a name or a card that the hub refuses: what is raised changes with its versions.
    except Exception as error:
        raise InputError(
            f"push_to_hub {repository}: {reason_of(error)}; mend that, or log in with `hf auth login`"
        ) from None
    return whole
