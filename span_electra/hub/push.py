"""Exported folders -> repositories of the Hugging Face hub, through its own library (the extra `hub`)."""

from __future__ import annotations

from pathlib import Path

from span_electra.errors import InputError


def push_folders(folders: list[Path], name: str, *, dry_run: bool = False) -> list[str]:
    """Upload each folder as NAME-<folder's name>; returns a line for each file and repository.

    `dry_run`: the lines alone, and nothing leaves the machine. Raises InputError without the library, and for
    what the hub refuses.
    """
    lines = []
    for folder in folders:
        repository = f"{name}-{folder.name}"
        lines.append(f"{repository}{' (dry run: nothing is sent)' if dry_run else ''}")
        lines += [f"  {path.name}  {path.stat().st_size:,} bytes" for path in sorted(folder.iterdir())]
        if not dry_run:
            _upload(folder, repository)
    return lines


def _upload(folder: Path, repository: str) -> None:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise InputError("push_to_hub: needs huggingface_hub; pip install huggingface_hub") from None
    try:
        api = HfApi()
        # A repository that is there gets a commit more, as any push; nothing in it is deleted.
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder))
    # A network that is down, a name or a card that the hub refuses: what is raised changes with its versions.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"push_to_hub {repository}: {reason}; mend that, or log in with `hf auth login`"
        ) from None
