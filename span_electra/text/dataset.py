"""Data sets of the library `datasets`: `hf:NAME[:config][:split]`, of a hub or a folder, read batch by batch.

    hf:wikimedia/wikipedia:20231101.de    the data set's train split
    hf:my-folder:validation               a folder that load_dataset opens, or one of save_to_disk

Nothing is downloaded whole: rows come as a stream, and what save_to_disk left is mapped into memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from span_electra.errors import InputError, reason_of
from span_electra.text.far_files import far_errors, is_url
from span_electra.text.tables import BATCH, check_column, column_texts, parquet_texts

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

PREFIX = "hf:"
HUB_TIMEOUT = 10  # seconds
SAVED = ({"dataset_info.json", "state.json"}, {"dataset_dict.json"})  # what save_to_disk leaves in a folder


@dataclass(frozen=True)
class OpenDataset:
    """One split, ready to be read."""

    path: str  # with the configuration and the split that were chosen
    data: Dataset | IterableDataset
    note: str  # which of several splits was chosen unasked, or ""
    rows: int  # 0: not known
    size: int  # bytes in memory; 0: not known
    parquet_files: tuple[str, ...] = ()  # paths or URLs, where it is made of nothing else

    def texts(self, text_field: str) -> Iterator[tuple[list[str | None], float]]:
        """Yield some rows at a time, and which share of the rows came before their end (0: not known).

        Raises InputError for what the library cannot read, or a column without text.
        """
        passed, errors = 0, _errors()
        try:
            for texts in self._parquet(text_field) if self.parquet_files else self._stream(text_field):
                passed += len(texts)
                yield texts, passed / self.rows if self.rows else 0
        except errors as error:
            raise _refusal(self.path, error) from None

    def _stream(self, text_field: str) -> Iterator[list[str | None]]:
        for table in self.data.with_format("arrow").iter(batch_size=BATCH):
            check_column(self.path, table.schema, text_field)
            yield column_texts(table.column(text_field))

    def _parquet(self, text_field: str) -> Iterator[list[str | None]]:
        """As a stream, but of one column, and without a file's size of memory that the library's takes."""
        import fsspec  # late: few read data sets, and every command would wait for it

        for path in self.parquet_files:
            told = far_errors(path) if is_url(path) else nullcontext()
            with told, fsspec.open(path) as raw:
                for texts, _ in parquet_texts(self.path, raw, text_field):
                    yield texts


def is_dataset(path: str) -> bool:
    """Whether a path is named as a data set, or is a folder that save_to_disk made."""
    # hf:// is a file system of fsspec's.
    return (path.startswith(PREFIX) and not path.startswith(f"{PREFIX}//")) or any(
        all(os.path.isfile(os.path.join(path, name)) for name in names) for names in SAVED
    )


def open_dataset(path: str) -> OpenDataset:
    """Open a split of a data set; one that is not named is train, or the only one.

    Raises InputError when `datasets` is absent, or names neither data nor a split of it.
    """
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"{path}: is read by datasets, which is not installed; pip install datasets"
        ) from None
    named = path.removeprefix(PREFIX)
    # A folder's name may hold colons itself.
    cuts = (named.rsplit(":", words) for words in range(3))
    name, *words = next((cut for cut in cuts if os.path.isdir(cut[0])), named.split(":"))
    if len(words) > 2 or not name:
        raise InputError(f"{path}: is not hf:NAME[:config][:split]")
    try:
        if is_dataset(name):
            return _open_saved(path, name, [word for word in words if word])
        _check_reachable(path, name)
        # One word is the configuration if there is one of that name, else the split.
        first = len(words) == 2 or words and words[0] in datasets.get_dataset_config_names(name)
        config = words[0] if first else ""
        builder = datasets.load_dataset_builder(name, config or None)
        splits = builder.as_streaming_dataset()
        split, note = _select_split(path, list(splits), "" if words == [config] else "".join(words[-1:]))
    except _errors() as error:
        raise _refusal(path, error) from None
    known = (builder.info.splits or {}).get(split)
    full_name = f"{PREFIX}{name}:{builder.config.name}:{split}"
    rows, size = (known.num_examples or 0, known.num_bytes or 0) if known else (0, 0)
    files = builder.config.data_files[split] if builder.name == "parquet" else ()
    return OpenDataset(full_name, splits[split], note, rows=rows, size=size, parquet_files=tuple(files))


def _check_reachable(path: str, name: str) -> None:
    """Raise InputError where a name is no folder's and the hub does not answer.

    The library would find that out too, by asking six times in half a minute.
    """
    from datasets import config
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if os.path.exists(name):
        return
    try:
        HfApi(endpoint=config.HF_ENDPOINT).dataset_info(name, timeout=HUB_TIMEOUT, expand=["sha"])
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled):
        pass  # it answers, or shall not be asked: the library has its cache, or knows what is wrong
    except Exception as error:  # which library asks, and so what it raises, changes with hub's versions
        raise InputError(
            f"{path}: no folder {name} here, and the hub cannot be reached ({error}); check name and network"
        ) from None


def _open_saved(path: str, folder: str, words: list[str]) -> OpenDataset:
    """Open what save_to_disk left; its files are mapped, so that rows come from the disk as they are read."""
    from datasets import DatasetDict, load_from_disk

    data, note, full_name = load_from_disk(folder), "", PREFIX + folder
    if isinstance(data, DatasetDict):
        split, note = _select_split(path, list(data), words[0] if words else "")
        data, full_name = data[split], f"{full_name}:{split}"
    elif words:
        raise InputError(f"{path}: save_to_disk left one data set there without splits; name {full_name}")
    return OpenDataset(full_name, data, note, rows=data.num_rows, size=data.data.nbytes)


def _select_split(path: str, splits: list[str], named: str) -> tuple[str, str]:
    """The split to read, and a note if there are others that nobody ruled out."""
    split = named or ("train" if "train" in splits else splits[0] if len(splits) == 1 else "")
    if split not in splits:
        problem = f"no split {named!r} or configuration" if named else "several splits"
        raise InputError(f"{path}: {problem} (there are {', '.join(splits)}); name one, as in hf:NAME:split")
    # Said where nobody asked for one split: a test set must not be trained on by accident.
    others = [name for name in splits if name != split]
    return split, "" if named or not others else f"{path}: {split} is read, not {', '.join(others)}"


def _errors() -> tuple[type[Exception], ...]:
    """What the library raises for absent, unreachable and damaged data."""
    from datasets.exceptions import DatasetsError

    return DatasetsError, OSError, ValueError, RuntimeError, ImportError, pa.ArrowException


def _refusal(path: str, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    reason = reason_of(error, joined=True)
    return InputError(f"{path}: datasets cannot read it ({reason}); check name, configuration and split")
